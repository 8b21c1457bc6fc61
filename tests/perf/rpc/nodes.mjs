// Nodes under measurement: started, stopped, and what the system says of them.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** Longest wait for a node to serve, on a loaded machine. */
const READY_MS = 120_000;

const running = new Set();
const folders = new Set();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

async function serves(port) {
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "eth_chainId", params: [] });
  const headers = { "content-type": "application/json" };
  const answer = await fetch(`http://127.0.0.1:${port}`, { method: "POST", headers, body });
  return (await answer.json()).result === "0x7a69";
}

/** A node with its process. */
class Node {
  constructor(name, port, child) {
    Object.assign(this, { name, port, child });
  }

  /** CPU time of all its threads so far, ended ones included, in ms (the system counts in steps of 10). */
  cpu() {
    const fields = readFileSync(`/proc/${this.child.pid}/stat`, "utf8").replace(/^.*\) /, "").split(" ");
    return (Number(fields[11]) + Number(fields[12])) * 10;
  }

  /** CPU time by names of threads that still run, in ms. */
  threads() {
    const times = new Map();
    for (const id of readdirSync(`/proc/${this.child.pid}/task`)) {
      try {
        const folder = `/proc/${this.child.pid}/task/${id}`;
        const name = readFileSync(`${folder}/comm`, "utf8").trim();
        const ns = Number(readFileSync(`${folder}/schedstat`, "utf8").split(" ")[0]);
        times.set(name, (times.get(name) ?? 0) + ns / 1e6);
      } catch {
        // It ended between listing and reading.
      }
    }
    return times;
  }

  /** Memory that it has now, in MiB. */
  memory() {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${this.child.pid}/status`, "utf8"))[1]) / 1024;
  }

  async stop() {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.kill("SIGKILL");
    await ended;
    running.delete(this.child);
  }
}

async function start(name, binary, args) {
  const port = await freePort();
  const child = spawn(binary, args(port), { stdio: "ignore" });
  const node = new Node(name, port, child);
  running.add(child);
  for (let waited = 0; ; waited += 50) {
    if (await serves(port).catch(() => false)) return node;
    if (waited > READY_MS || child.exitCode !== null) throw new Error(`${name} does not serve: ${binary}`);
    await sleep(50);
  }
}

/** A devnet of ours, made for inference: as `penstock up` starts it, or on a data folder that outlives it ("kept"). */
export async function penstock(binary, kept) {
  const args = ["--quiet", "--backend", "cpu"];
  if (kept) {
    const folder = mkdtempSync(join(tmpdir(), "penstock-perf-"));
    folders.add(folder);
    args.push("--data", join(folder, "data"));
  }
  return start("penstock", binary, (port) => ["up", "--port", String(port), ...args]);
}

/** anvil with its defaults: in memory, blocks as soon as there is a transaction. */
export async function anvil(binary) {
  return start("anvil", binary, (port) => ["--port", String(port), "--silent"]);
}
