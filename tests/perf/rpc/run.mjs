// The devnet's JSON-RPC beside anvil's, in one run: CPU time and wall time of a transaction.
//
//   PENSTOCK_BIN=... ANVIL_BIN=... node run.mjs [TRANSACTIONS] [ROUNDS]
//
// Each case sends TRANSACTIONS (2,000) transactions over ten connections, one per account. It is cut into ROUNDS (4), in
// which the nodes take turns, so that the machine's moods meet both; the same signed bytes go to both. Each case has nodes
// of its own: what a transaction costs grows with anvil's chain. A round ends
// when all its transactions are in blocks. CPU time is what the system counts for the node's process, from the first
// byte to the last block. Every receipt is checked after the measurement.
// Neither node keeps its chain: that is how both start. Latency is measured with `--data` too, where ours waits for the disk.
// PENSTOCK_PERF_ONLY=text runs the cases whose name holds the text; PENSTOCK_PERF_THREADS=1 prints time by thread;
// PENSTOCK_PERF_DATA=1 gives ours a data folder in all cases.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { AbiCoder, HDNodeWallet, Interface, getCreateAddress } from "ethers";
import solc from "solc";
import { open } from "./connection.mjs";
import { anvil, penstock } from "./nodes.mjs";

const COUNT = Number(process.argv[2] ?? 2_000);
const ROUNDS = Number(process.argv[3] ?? 4);
/** Transactions whose way to a receipt is timed one by one. */
const LATENCIES = Number(process.argv[4] ?? 200);
const ACCOUNTS = 10;
const BATCH = 50;
/** A round that has not ended by then is a stall; what is missing is told. */
const STALL_MS = 20_000;
const MNEMONIC = "test test test test test test test test test test test junk";
const FEES = { maxFeePerGas: 10n ** 11n, maxPriorityFeePerGas: 10n ** 9n, chainId: 31337n, type: 2 };

const wallets = Array.from({ length: ACCOUNTS }, (_, index) => HDNodeWallet.fromPhrase(MNEMONIC, undefined, `m/44'/60'/0'/0/${index}`));
const nonces = new Array(ACCOUNTS).fill(0);

const request = (method, params, id = 1) => ({ jsonrpc: "2.0", id, method, params });
const result = (answer) => {
  assert.equal(answer.error, undefined, JSON.stringify(answer.error));
  return answer.result;
};

function compiled() {
  const content = readFileSync(new URL("Workload.sol", import.meta.url), "utf8");
  const settings = { optimizer: { enabled: true, runs: 200 }, outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } } };
  const input = { language: "Solidity", sources: { "Workload.sol": { content } }, settings };
  return JSON.parse(solc.compile(JSON.stringify(input))).contracts["Workload.sol"].Workload;
}

/** Signed transactions of every account: `each` per account, in order. */
async function sign(each, make) {
  const signed = [];
  for (const [index, wallet] of wallets.entries()) {
    const own = [];
    for (let i = 0; i < each; i += 1) own.push(await wallet.signTransaction({ ...FEES, ...make(index), nonce: nonces[index] + i }));
    nonces[index] += each;
    signed.push(own);
  }
  return signed;
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A node took transactions and has no block for them, however often it is told to mine. */
class Lost extends Error {
  constructor(name, missing) {
    super(`${name} lost ${missing} transactions`);
    this.node = name;
  }
}

/** Sends all and waits until the accounts' nonces say that all are in blocks. */
async function round(node, kind, batch, signed) {
  const connections = await Promise.all(wallets.map(() => open(kind, node.port)));
  const watch = await open("http", node.port);
  // What is behind: nonces before the round.
  const target = await included(watch);
  for (const [index, own] of signed.entries()) target[index] += own.length;
  const [cpu, wall, threads] = [node.cpu(), performance.now(), node.threads()];
  const hashes = await Promise.all(
    connections.map(async (connection, index) => {
      const got = [];
      const raws = signed[index];
      for (let i = 0; i < raws.length; i += batch) {
        const bodies = raws.slice(i, i + batch).map((raw, id) => request("eth_sendRawTransaction", [raw], id));
        const answer = await connection.ask(batch === 1 ? bodies[0] : bodies);
        got.push(...[answer].flat().map(result));
      }
      return got;
    }),
  );
  let missing;
  do {
    const now = await included(watch);
    missing = target.reduce((sum, want, index) => sum + want - now[index], 0);
    if (missing > 0) await sleep(2);
  } while (missing > 0 && performance.now() - wall < STALL_MS);
  const stalled = missing;
  const spent = { cpu: node.cpu() - cpu, wall: performance.now() - wall, stalled, threads: new Map() };
  for (const [name, ms] of node.threads()) spent.threads.set(name, ms - (threads.get(name) ?? 0));
  // What stalled is mined by hand, so that the next round begins clean.
  for (let tries = 0; missing > 0 && tries < 1_000; tries += 1) {
    await watch.ask(request("evm_mine", []));
    const now = await included(watch);
    missing = target.reduce((sum, want, index) => sum + want - now[index], 0);
  }
  if (missing > 0) throw new Lost(node.name, missing);
  for (const hash of hashes.flat()) {
    const receipt = result(await watch.ask(request("eth_getTransactionReceipt", [hash])));
    assert.equal(receipt.status, "0x1", `${node.name}: ${hash}`);
  }
  for (const connection of [...connections, watch]) connection.close();
  return spent;
}

/** Nonces of the accounts at the head. */
async function included(watch) {
  const batch = wallets.map(({ address }, id) => request("eth_getTransactionCount", [address, "latest"], id));
  const counts = new Array(ACCOUNTS);
  for (const answer of await watch.ask(batch)) counts[answer.id] = Number(result(answer));
  return counts;
}

/**
 * Sends one after the other; of each, the time until its receipt is there: asked for again and again, or awaited by
 * eth_sendRawTransactionSync.
 */
async function latency(node, kind, sync, signed) {
  const connection = await open(kind, node.port);
  const times = [];
  const cpu = node.cpu();
  for (const raw of signed) {
    const start = performance.now();
    let receipt;
    if (sync) {
      receipt = result(await connection.ask(request("eth_sendRawTransactionSync", [raw])));
    } else {
      const hash = result(await connection.ask(request("eth_sendRawTransaction", [raw])));
      while (!receipt) receipt = result(await connection.ask(request("eth_getTransactionReceipt", [hash])));
    }
    times.push(performance.now() - start);
    assert.equal(receipt.status, "0x1");
  }
  connection.close();
  return { times, cpu: node.cpu() - cpu };
}

const at = (sorted, part) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];

const { abi, evm } = compiled();
const workload = new Interface(abi);
const holders = wallets.map(({ address }) => address);
const code = `0x${evm.bytecode.object}${new AbiCoder().encode(["address[]"], [holders]).slice(2)}`;
const contract = getCreateAddress({ from: wallets[0].address, nonce: 0 });

/** Nodes that run now. */
let running = [];

/**
 * Runs a case to its end. anvil loses transactions of bursts now and then: that is said, and the case is begun anew with
 * fresh nodes, since nothing can be measured on that one any more. Where ours does, the run ends.
 */
async function measured(title, run) {
  for (;;) {
    try {
      return await run();
    } catch (error) {
      if (!(error instanceof Lost) || error.node !== "anvil") throw error;
      console.log(`        ${title} is begun anew: ${error.message}`);
      await stop(running);
    }
  }
}

/** Both nodes, with the contract at one address, warm: caches, this client's compiler, and pages of both. */
async function fresh(kept = process.env.PENSTOCK_PERF_DATA === "1") {
  nonces.fill(0);
  const nodes = [await penstock(process.env.PENSTOCK_BIN, kept), await anvil(process.env.ANVIL_BIN)];
  running = nodes;
  const deployment = await wallets[0].signTransaction({ ...FEES, data: code, gasLimit: 2_000_000n, nonce: 0 });
  nonces[0] += 1;
  const first = await sign(20, KINDS[0][1]);
  for (const node of nodes) {
    await latency(node, "http", false, [deployment]);
    await round(node, "http", 1, first);
  }
  return nodes;
}

async function stop(nodes) {
  for (const node of nodes) await node.stop();
}

const to = "0x00000000000000000000000000000000000b0b00";
const KINDS = [
  ["transfer", () => ({ to, value: 1n, gasLimit: 21_000n })],
  ["token transfer", () => ({ to: contract, data: workload.encodeFunctionData("transfer", [to, 1n]), gasLimit: 80_000n })],
  ["counter", () => ({ to: contract, data: workload.encodeFunctionData("increment"), gasLimit: 60_000n })],
];
const only = process.env.PENSTOCK_PERF_ONLY ?? "";
const rows = [];
const byThread = new Map();

for (const [name, make] of KINDS) {
  for (const kind of ["http", "ws"]) {
    for (const batch of [1, BATCH]) {
      const title = `${name}, ${kind === "ws" ? "WebSocket" : "HTTP"}, ${batch === 1 ? "singles" : `batches of ${batch}`}`;
      if (!title.includes(only)) continue;
      const { nodes, sums } = await measured(title, () => rounds(kind, batch, make));
      const row = [title, ...sums.map(({ cpu }) => (cpu * 1000) / COUNT), ...sums.map(({ wall }) => (wall * 1000) / COUNT), sums];
      rows.push(row);
      const note = sums.flatMap(({ stalled }, index) => (stalled > 0 ? [`${nodes[index].name} left ${stalled} out until it was told to mine`] : []));
      print(row, note);
      await stop(nodes);
    }
  }
}

/** What both nodes spent on one case, in rounds. */
async function rounds(kind, batch, make) {
  const nodes = await fresh();
  const sums = nodes.map(() => ({ cpu: 0, wall: 0, stalled: 0, threads: [] }));
  for (let number = 0; number < ROUNDS; number += 1) {
    const signed = await sign(COUNT / ROUNDS / ACCOUNTS, make);
    // They take turns at being first.
    for (const index of number % 2 === 0 ? [0, 1] : [1, 0]) {
      const spent = await round(nodes[index], kind, batch, signed);
      for (const key of ["cpu", "wall", "stalled"]) sums[index][key] += spent[key];
      sums[index].threads.push(...spent.threads);
    }
  }
  for (const [thread, ms] of sums[0].threads) byThread.set(thread, (byThread.get(thread) ?? 0) + ms);
  return { nodes, sums };
}

function print([title, ours, theirs, wallOurs, wallTheirs], notes) {
  const cell = (value) => value.toFixed(0).padStart(6);
  const ratio = (a, b) => (a / b).toFixed(2);
  if (rows.length === 1) {
    console.log("us per transaction                               |  CPU: ours, anvil, ratio  | wall: ours, anvil, ratio");
  }
  console.log(`${title.padEnd(48)} | ${cell(ours)} ${cell(theirs)}   ${ratio(ours, theirs)}     | ${cell(wallOurs)} ${cell(wallTheirs)}   ${ratio(wallOurs, wallTheirs)}  ${notes.join("; ")}`);
}

/** One row for each way to send and to wait, each node in turn. */
async function latencies(kept) {
  const nodes = await fresh(kept);
  for (const kind of ["http", "ws"]) {
    for (const sync of [false, true]) {
      const signed = await sign(LATENCIES / ACCOUNTS, KINDS[0][1]);
      const seen = [];
      for (const node of nodes) seen.push(await latency(node, kind, sync, signed.flat()));
      const sorted = seen.map(({ times }) => times.toSorted((a, b) => a - b));
      const [ours, theirs] = sorted.map((times) => [at(times, 0.5), at(times, 0.95)]);
      const cpu = seen.map((one) => (one.cpu * 1000) / LATENCIES);
      const title = `${kind === "ws" ? "WebSocket" : "HTTP"}, ${sync ? "eth_sendRawTransactionSync" : "polled"}${kept ? ", --data" : ""}`;
      const both = ([a, b]) => `${a.toFixed(2)} ${b.toFixed(2)}`.padStart(11);
      console.log(
        `${title.padEnd(54)} | ${both(ours)}           | ${both(theirs)} | ${(ours[0] / theirs[0]).toFixed(2)}         | ` +
          `${cpu[0].toFixed(0)} ${cpu[1].toFixed(0)} ${(cpu[0] / cpu[1]).toFixed(2)}`,
      );
    }
  }
  await stop(nodes);
}

if ("latency".includes(only)) {
  console.log("\nfrom sending until the receipt is there, one at a time | ms, p50 and p95: ours | anvil      | ratio of p50 | CPU us: ours, anvil, ratio");
  for (const kept of [false, true]) await measured(kept ? "latency with --data" : "latency", () => latencies(kept));
}
if (process.env.PENSTOCK_PERF_THREADS) {
  for (const [thread, ms] of [...byThread].sort((a, b) => b[1] - a[1])) console.log(`        ${thread.padEnd(16)} ${ms.toFixed(0)} ms`);
}
process.exit(0);
