// Connections of a client that costs little: its time is in the wall time of both nodes.

import http from "node:http";
import WebSocket from "ws";

/** One connection over HTTP/1.1, kept alive. */
class Http {
  constructor(port) {
    this.port = port;
    this.agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  }

  /** Sends one body, a request or a batch; gives the answer. */
  ask(body) {
    const bytes = Buffer.from(JSON.stringify(body));
    return new Promise((resolve, reject) => {
      const headers = { "content-type": "application/json", "content-length": bytes.length };
      const options = { host: "127.0.0.1", port: this.port, method: "POST", agent: this.agent, headers };
      const request = http.request(options, (answer) => {
        const parts = [];
        answer.on("data", (part) => parts.push(part));
        answer.on("end", () => resolve(JSON.parse(Buffer.concat(parts))));
        answer.on("error", reject);
      });
      request.on("error", reject);
      request.end(bytes);
    });
  }

  close() {
    this.agent.destroy();
  }
}

/** One connection over WebSocket: one body at a time, as a client that waits for each answer. */
class Ws {
  constructor(socket) {
    this.socket = socket;
    socket.on("message", (data) => this.done?.resolve(JSON.parse(data)));
    socket.on("close", () => this.done?.reject(new Error("the node closed the connection")));
    socket.on("error", (error) => this.done?.reject(error));
  }

  ask(body) {
    return new Promise((resolve, reject) => {
      this.done = { resolve, reject };
      this.socket.send(JSON.stringify(body));
    });
  }

  close() {
    this.done = undefined;
    this.socket.close();
  }
}

/** Opens a connection: `kind` is "http" or "ws". */
export function open(kind, port) {
  if (kind === "http") return Promise.resolve(new Http(port));
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}`, { perMessageDeflate: false });
    socket.once("open", () => resolve(new Ws(socket)));
    socket.once("error", reject);
  });
}
