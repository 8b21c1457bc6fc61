// Requests and answers as recorded, against devnets of their own: `>>` lines against `<<` lines, for what only the true
// chain answers. devnet/rpc/tests/fixtures.rs holds the rest, and that no served method is without a line.
//
//   PENSTOCK_BIN=target/debug/penstock node recorded.mjs
//
// PENSTOCK_BLESS=1 writes the answers anew; read the difference. Each file of fixtures/*.io has a devnet of its own, and
// goes over HTTP or, where its name begins with "ws", over WebSocket, with what comes unasked as `<-` lines.
//
// What the clock decides goes by names, in requests and in answers:
//   <hash 3> <state 3> <randao 3>            hash, state root, prevrandao of block 3
//   <time>                                   timestamp of some block: blocks of one second share it
//   <veiled>                                 what hangs on the clock in ways that have no name
//   <block 3>                                block 3 as RLP (in requests)
//   <tx 2> <made 2>                          hash of the second transaction that was sent, and the contract that it made
//   <id 1>                                   the first filter or subscription

import assert from "node:assert/strict";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { WebSocket } from "ws";
import { start } from "./devnet.mjs";
import { artifact, check, finish } from "./lib.mjs";

const FOLDER = join(dirname(fileURLToPath(import.meta.url)), "fixtures");
const bless = process.env.PENSTOCK_BLESS === "1";
/** How long something that must come may take, on a loaded machine. */
const PATIENCE_MS = 60_000;
/** How long to listen for what comes unasked, when it is recorded. */
const LISTEN_MS = 1_500;
const SENDS = new Set(["eth_sendTransaction", "eth_sendRawTransaction", "eth_sendUnsignedTransaction"]);
const NAMED = new Set(["eth_newFilter", "eth_newBlockFilter", "eth_newPendingTransactionFilter", "eth_subscribe", "pipe_subscribe"]);

/** Keys of answers that hang on the clock, by method: nodes of the trie beside the account's, and blocks that never were. */
const VEILED = { eth_getProof: ["accountProof"], eth_simulateV1: ["hash", "stateRoot", "timestamp", "mixHash", "blockHash", "blockTimestamp"] };

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** One devnet, with names for what differs from run to run. */
class Run {
  constructor(devnet, socket) {
    Object.assign(this, { devnet, socket, heights: 0, txs: [], ids: [], names: new Map(), unasked: [] });
    socket?.on("message", (data) => {
      const message = JSON.parse(data);
      if (message.id === undefined) this.unasked.push(message);
      else this.answered(message);
    });
  }

  async ask(body) {
    if (this.socket) {
      const answer = new Promise((resolve) => (this.answered = resolve));
      this.socket.send(body);
      return answer;
    }
    return this.post(body);
  }

  async post(body) {
    const headers = { "content-type": "application/json" };
    return (await fetch(this.devnet.url, { method: "POST", headers, body })).json();
  }

  async rpc(method, ...params) {
    const { result, error } = await this.post(JSON.stringify({ jsonrpc: "2.0", id: 0, method, params }));
    assert.equal(error, undefined, JSON.stringify(error));
    return result;
  }

  /** A request with its names replaced by what they stand for. */
  async resolve(text) {
    await this.learn();
    const kinds = {
      hash: async (n) => (await this.block(n)).hash,
      block: async (n) => this.rpc("debug_getRawBlock", `0x${n.toString(16)}`),
      tx: async (n) => this.txs[n - 1],
      made: async (n) => (await this.rpc("eth_getTransactionReceipt", this.txs[n - 1])).contractAddress,
      id: async (n) => this.ids[n - 1],
      code: async () => artifact("Tracee").bytecode,
    };
    let resolved = text;
    for (const [name, kind, number] of text.matchAll(/<(\w+) (\d+)>/g)) {
      const value = await kinds[kind](Number(number));
      assert.ok(value, `${name} stands for nothing`);
      resolved = resolved.replace(name, value);
    }
    return resolved;
  }

  block(number) {
    return this.rpc("eth_getBlockByNumber", `0x${number.toString(16)}`, false);
  }

  /** Names for what is new. */
  async learn() {
    const head = Number(await this.rpc("eth_blockNumber"));
    for (; this.heights <= head; this.heights += 1) {
      const block = await this.block(this.heights);
      if (this.heights === 0) continue;
      for (const [name, value] of [["hash", block.hash], ["state", block.stateRoot], ["randao", block.mixHash]]) {
        if (!/^0x0*$/.test(value) && !this.names.has(value)) this.names.set(value, `<${name} ${this.heights}>`);
      }
      this.names.set(block.timestamp, "<time>");
    }
  }

  /** An answer with names, and with what `veiled` lists hidden. */
  stable(value, veiled = []) {
    if (Array.isArray(value)) return value.map((item) => this.stable(item, veiled));
    if (value && typeof value === "object") {
      const entries = Object.entries(value).map(([key, item]) => [this.stable(key), veiled.includes(key) ? veil(item) : this.stable(item, veiled)]);
      return Object.fromEntries(entries);
    }
    if (typeof value !== "string") return value;
    if (this.names.has(value)) return this.names.get(value);
    let text = value;
    for (const [known, name] of this.names) {
      // Inside of bytes, whole words alone: a timestamp could be anything, but where RLP has it (four bytes, 0x84).
      if (known.length === 66) text = text.replaceAll(known.slice(2), name);
      else if (known.length === 10) text = text.replaceAll(`84${known.slice(2)}`, `84${name}`);
    }
    return text;
  }

  /** After a transaction was sent: waits until it is in a block. */
  async sent(method, result) {
    if (NAMED.has(method) && typeof result === "string") {
      this.ids.push(result);
      this.names.set(result, `<id ${this.ids.length}>`);
    }
    if (!SENDS.has(method) || typeof result !== "string") return;
    this.txs.push(result);
    this.names.set(result, `<tx ${this.txs.length}>`);
    // Behind a nonce gap, or mined by hand, it stays where it is.
    const automine = await this.rpc("anvil_getAutomine");
    for (let waited = 0; automine && !(await this.rpc("eth_getTransactionReceipt", result)); waited += 20) {
      assert.ok(waited < PATIENCE_MS, "the transaction is in no block");
      await sleep(20);
    }
  }
}

const veil = (value) => (Array.isArray(value) ? value.map(() => "<veiled>") : "<veiled>");

function open(devnet) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://${devnet.address}`);
    socket.once("open", () => resolve(socket));
    socket.once("error", reject);
  });
}

/** Runs one file; gives it as it would be recorded now, and what of it is not as it was recorded. */
async function play(file, lines) {
  const devnet = await start();
  const run = new Run(devnet, file.startsWith("ws") ? await open(devnet) : undefined);
  const recorded = [];
  const wrong = [];
  for (let at = 0; at < lines.length; at += 1) {
    const line = lines[at];
    if (line.startsWith("<")) continue;
    recorded.push(line);
    if (!line.startsWith(">> ")) continue;
    const expected = [];
    for (let next = at + 1; lines[next]?.startsWith("<"); next += 1) expected.push(lines[next]);
    const body = await run.resolve(line.slice(3));
    const { method } = JSON.parse(body);
    const answer = await run.ask(body);
    await run.sent(method, answer.result);
    await run.learn();
    const found = [`<< ${JSON.stringify(run.stable(answer, VEILED[method]))}`];
    const unasked = expected.length - 1;
    if (run.socket) {
      const enough = () => (bless ? false : run.unasked.length >= unasked);
      for (let waited = 0; !enough() && waited < (bless ? LISTEN_MS : PATIENCE_MS); waited += 20) await sleep(20);
      await run.learn();
      found.push(...run.unasked.splice(0).map((message) => `<- ${JSON.stringify(run.stable(message))}`).sort());
    }
    recorded.push(...found);
    if (JSON.stringify(found) !== JSON.stringify(expected)) wrong.push({ request: line, found, expected });
  }
  run.socket?.close();
  await devnet.stop();
  return { recorded, wrong };
}

for (const file of readdirSync(FOLDER).filter((name) => name.endsWith(".io"))) {
  const lines = readFileSync(join(FOLDER, file), "utf8").trimEnd().split("\n");
  const count = lines.filter((line) => line.startsWith(">> ")).length;
  await check(`recorded: ${file}: ${count} requests get their recorded answers`, async () => {
    assert.ok(count > 0);
    const { recorded, wrong } = await play(file, lines);
    if (bless) writeFileSync(join(FOLDER, file), `${recorded.join("\n")}\n`);
    else assert.deepEqual(wrong, []);
  });
}
finish();
