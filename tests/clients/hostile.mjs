// Hostile input: the node goes on serving, its memory stays bounded, and each request gets the right error code.
//
//   PENSTOCK_BIN=target/debug/penstock node hostile.mjs
//
// PENSTOCK_LONG_TESTS=1 for the long run of a million; 20,000 is the default. PENSTOCK_HOSTILE_REQUESTS says how many,
// PENSTOCK_HOSTILE_SEED repeats a run.

import assert from "node:assert/strict";
import { connect } from "node:net";
import { start } from "./devnet.mjs";
import { check, finish } from "./lib.mjs";

const REQUESTS = Number(process.env.PENSTOCK_HOSTILE_REQUESTS ?? (process.env.PENSTOCK_LONG_TESTS === "1" ? 1_000_000 : 20_000));
let seed = Number(process.env.PENSTOCK_HOSTILE_SEED ?? Date.now() % 2 ** 31);
console.log(`        seed ${seed}`);
/** Requests of one batch, and clients that send them. */
const BATCH = 100;
const CLIENTS = 8;
/**
 * What the node may take on top of what it had when it was warm, in MiB. 120,000 blocks took 121, and then no more
 * (devnet/docs/performance.md); the rest is for answers on their way and what an allocator keeps.
 */
const GROWTH_MIB = 192;
/** Codes that a generated request may get. */
const CODES = new Set([3, 4, -32000, -32005, -32600, -32601, -32602, -32603]);
// Those of simulations.
for (let code = -38026; code <= -38010; code += 1) CODES.add(code);

/** Numerical Recipes' generator: the same requests for the same seed. */
function random(below) {
  seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
  return Math.floor((seed / 2 ** 32) * below);
}
const pick = (list) => list[random(list.length)];

const METHODS = [
  "eth_getBalance", "eth_getCode", "eth_getStorageAt", "eth_getTransactionCount", "eth_call", "eth_estimateGas", "eth_getLogs",
  "eth_getBlockByNumber", "eth_getBlockByHash", "eth_getBlockReceipts", "eth_getTransactionByHash", "eth_getTransactionReceipt",
  "eth_sendRawTransaction", "eth_sendTransaction", "eth_signTransaction", "eth_fillTransaction", "eth_sign", "eth_signTypedData_v4",
  "eth_feeHistory", "eth_getProof", "eth_createAccessList", "eth_newFilter", "eth_getFilterChanges", "eth_uninstallFilter",
  "eth_getStorageValues", "debug_traceTransaction", "debug_traceCall", "debug_traceBlock", "debug_traceBlockByNumber",
  "debug_getRawBlock", "trace_block", "trace_filter", "trace_call", "trace_rawTransaction", "trace_get", "ots_getBlockTransactions",
  "ots_searchTransactionsBefore", "ots_getTransactionBySenderAndNonce", "ots_getContractCreator", "pipe_getTransactionStatus",
  "pipe_getWitness", "pipe_getAnswer", "pipe_getInferenceReceipt", "pipe_getCertificate", "pipe_estimate", "pipe_feeHistory",
  "eth_simulateV1", "eth_config", "eth_sendUnsignedTransaction", "anvil_setBalance", "anvil_setNonce", "anvil_setCode",
  "anvil_setStorageAt", "anvil_loadState", "anvil_mine", "anvil_dropTransaction", "hardhat_impersonateAccount", "hardhat_reset",
  "evm_mine", "evm_snapshot", "evm_revert", "evm_increaseTime", "evm_setNextBlockTimestamp", "evm_setBlockGasLimit",
  "txpool_contentFrom", "web3_sha3", "personal_sign", "eth_nonesuch", "", "rpc.nothing",
];
const ADDRESS = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266";

function value(depth) {
  const leaf = [
    () => null,
    () => random(2) === 0,
    () => random(2 ** 31),
    () => -1,
    () => 1e308,
    () => 2 ** 53,
    () => "",
    () => "0x",
    () => "0x0",
    () => `0x${"f".repeat(1 + random(130))}`,
    () => "latest",
    () => "pending",
    () => "earliest",
    () => ADDRESS,
    () => `0x${"ab".repeat(32)}`,
    () => "x".repeat(random(2_000)),
    () => "\u0000\ud800",
  ];
  const tree = [
    () => Array.from({ length: random(4) }, () => value(depth - 1)),
    () => ({ to: value(depth - 1), data: value(depth - 1), gas: value(depth - 1) }),
    () => ({ from: ADDRESS, to: ADDRESS, value: value(depth - 1), input: value(depth - 1), accessList: value(depth - 1) }),
    () => ({ fromBlock: value(depth - 1), toBlock: value(depth - 1), topics: value(depth - 1), address: value(depth - 1) }),
    () => ({ tracer: pick(["callTracer", "prestateTracer", "nonesuch", "{}"]), tracerConfig: value(depth - 1) }),
    () => ({ blockStateCalls: value(depth - 1), validation: value(depth - 1), traceTransfers: value(depth - 1) }),
    () => [{ calls: value(depth - 1), stateOverrides: value(depth - 1), blockOverrides: value(depth - 1) }],
    () => ({ [ADDRESS]: { balance: value(depth - 1), state: value(depth - 1), code: value(depth - 1) } }),
  ];
  return pick(depth > 0 ? [...leaf, ...tree, ...tree] : leaf)();
}

function request(id) {
  const params = pick([() => Array.from({ length: random(5) }, () => value(3)), () => value(2), () => undefined])();
  return { jsonrpc: "2.0", id, method: pick(METHODS), params };
}

const devnet = await start();

async function post(body) {
  const headers = { "content-type": "application/json" };
  const response = await fetch(devnet.url, { method: "POST", headers, body });
  return [response.status, await response.text()];
}

async function serves() {
  const [status, text] = await post(JSON.stringify({ jsonrpc: "2.0", id: 1, method: "eth_chainId" }));
  assert.equal(status, 200);
  assert.equal(JSON.parse(text).result, "0x7a69");
}

/** Writes bytes to the port, and gives what comes back until it is closed or `wait` ms have passed. */
function raw(bytes, wait) {
  return new Promise((resolve) => {
    const [host, port] = devnet.address.split(":");
    const socket = connect(Number(port), host, () => socket.write(bytes));
    let answer = "";
    const done = () => {
      socket.destroy();
      resolve(answer);
    };
    socket.on("data", (data) => (answer += data));
    socket.on("close", done);
    socket.on("error", done);
    setTimeout(done, wait);
  });
}

await serves();
await check(`hostile: ${REQUESTS} generated requests each get an answer with a known code`, async () => {
  let warm;
  let sent = 0;
  let told = 0;
  const counts = new Map();
  // Some clients at once: an order that waits for a block keeps the others' batches going.
  const client = async () => {
    while (sent < REQUESTS) {
      sent += BATCH;
      const batch = Array.from({ length: BATCH }, (_, id) => request(id));
      const [status, text] = await post(JSON.stringify(batch));
      assert.equal(status, 200, text.slice(0, 200));
      const answers = JSON.parse(text);
      assert.equal(answers.length, BATCH);
      for (const { id, error, result } of answers) {
        const code = error?.code ?? 0;
        counts.set(code, (counts.get(code) ?? 0) + 1);
        assert.ok(error ? CODES.has(code) : result !== undefined, `${code}: ${JSON.stringify(batch[id])}`);
        assert.notEqual(code, -32603, `internal error at ${JSON.stringify(batch[id])}: ${JSON.stringify(error)}`);
      }
      warm ??= devnet.memory();
      if (sent >= told + 100_000) {
        told = sent;
        console.log(`        ${sent} requests, ${Math.round(devnet.memory())} MiB`);
      }
    }
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
  await serves();
  const growth = devnet.memory() - warm;
  console.log(`        codes ${JSON.stringify(Object.fromEntries(counts))}, memory +${Math.round(growth)} MiB`);
  assert.ok(growth < GROWTH_MIB, `${growth} MiB`);
});

await check("hostile: what is no JSON-RPC is told so", async () => {
  const code = async (body) => {
    const answer = JSON.parse((await post(body))[1]);
    return [answer].flat()[0].error.code;
  };
  assert.equal(await code("{"), -32700);
  assert.equal(await code("[]"), -32600);
  assert.equal(await code('{"id":1}'), -32600);
  assert.equal(await code("[1,2]"), -32600);
  // An array that holds an array is a batch with one request, which is none.
  assert.equal(await code(`${"[".repeat(100_000)}${"]".repeat(100_000)}`), -32600);
  const params = `${"[".repeat(50_000)}${"]".repeat(50_000)}`;
  assert.equal(await code(`{"jsonrpc":"2.0","id":1,"method":"eth_call","params":${params}}`), -32602);
  // What begins like no JSON document at all is refused by HTTP already.
  assert.equal((await post("nonsense"))[0], 400);
  await serves();
});

await check("hostile: batches and bodies beyond their limits are refused", async () => {
  const one = { jsonrpc: "2.0", id: 1, method: "eth_chainId" };
  const [, many] = await post(JSON.stringify(Array.from({ length: 1_001 }, () => one)));
  assert.ok(JSON.parse(many).error.code < 0);
  // The connection may be closed before all of it is written.
  const [status] = await post(JSON.stringify({ ...one, params: ["x".repeat(17 << 20)] })).catch(() => [413]);
  assert.equal(status, 413);
  await serves();
});

await check("hostile: truncated requests, frames and slow bodies keep nobody else waiting", async () => {
  const head = `POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n`;
  const upgrade = `GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n`;
  const slow = [
    ...Array.from({ length: 100 }, () => raw(`${head}{"json`, 3_000)),
    ...Array.from({ length: 20 }, () => raw(`${upgrade}\x81\xfe\xff\xff`, 3_000)),
    raw("\x00\xff\x00\xff", 3_000),
    raw("GET / HTTP/9.9\r\n\r\n", 3_000),
  ];
  for (let i = 0; i < 50; i += 1) await serves();
  await Promise.all(slow);
  await serves();
  assert.ok(devnet.alive());
});

await devnet.stop();
finish();
