// Tracers against a running devnet: `debug_`, `trace_` and `ots_` on cases whose traces are known, and recorded.
//
//   node traces.mjs http://127.0.0.1:8545
//
// PENSTOCK_BLESS=1 writes fixtures/traces.json anew; read the difference. Hashes, gas that depends on the chain's place
// and the like are left out of what is recorded; addresses go by names.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { HDNodeWallet, Interface, JsonRpcProvider, getCreateAddress, id as keccakText } from "ethers";
import { INFERENCE, MNEMONIC, artifact, check, finish, number, rows } from "./lib.mjs";

const [url] = process.argv.slice(2);
const FIXTURE = join(dirname(fileURLToPath(import.meta.url)), "fixtures", "traces.json");
const bless = process.env.PENSTOCK_BLESS === "1";
const recorded = bless ? {} : JSON.parse(readFileSync(FIXTURE, "utf8"));

const provider = new JsonRpcProvider(url, undefined, { cacheTimeout: -1, pollingInterval: 100 });
const wallet = HDNodeWallet.fromPhrase(MNEMONIC, undefined, "m/44'/60'/0'/0/5").connect(provider);
const rpc = (method, ...params) => provider.send(method, params);

const { abi, bytecode } = artifact("Tracee");
const tracee = new Interface(abi);
const HEIR = "0x00000000000000000000000000000000000e1e1e";

const names = new Map([
  [wallet.address.toLowerCase(), "<sender>"],
  [HEIR, "<heir>"],
]);
let target;

async function send(to, data, value = 0n, gasLimit = 2_000_000n) {
  const tx = await wallet.sendTransaction({ to, data, value, gasLimit });
  for (;;) {
    const receipt = await rpc("eth_getTransactionReceipt", tx.hash);
    if (receipt) return receipt;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** What is the same in every run: no hashes, no heights, and names for addresses. */
function stable(value) {
  if (Array.isArray(value)) return value.map(stable);
  if (value && typeof value === "object") {
    return Object.fromEntries(
      Object.entries(value)
        .filter(([key]) => !["blockHash", "blockNumber", "transactionHash", "transactionPosition", "txHash", "time"].includes(key))
        .map(([key, item]) => [stable(key), stable(item)]),
    );
  }
  if (typeof value !== "string") return value;
  let text = value.toLowerCase();
  for (const [address, name] of names) {
    text = text.replaceAll(address, name).replaceAll(address.slice(2), name);
  }
  return text === value.toLowerCase() ? value : text;
}

function hold(name, value) {
  const found = JSON.parse(JSON.stringify(stable(value)));
  if (bless) recorded[name] = found;
  else assert.deepEqual(found, recorded[name], `${name} is not what was recorded: ${JSON.stringify(found)}`);
}

const call = (name, ...args) => tracee.encodeFunctionData(name, args);
const CALLS = { tracer: "callTracer", tracerConfig: { withLog: true } };

/** The ten cases: a name, what is sent, and what else of the trace is certain. */
const CASES = [
  ["transfer", () => send(HEIR, "0x", 5n), (trace) => assert.equal(trace.gasUsed, "0x5208")],
  ["event", () => send(target, call("bump")), (trace) => assert.equal(trace.logs.length, 1)],
  ["custom error", () => send(target, call("demand", 1000)), (trace) => assert.equal(trace.error, "execution reverted")],
  ["reason", () => send(target, call("refuse")), (trace) => assert.equal(trace.revertReason, "refused")],
  [
    "inner revert",
    () => send(target, call("survive")),
    (trace) => {
      assert.equal(trace.error, undefined);
      assert.equal(trace.calls[0].error, "execution reverted");
      assert.equal(trace.calls[0].logs, undefined, "logs of a reverted frame are not shown");
    },
  ],
  ["delegatecall", () => send(target, call("delegate")), (trace) => assert.equal(trace.calls[0].type, "DELEGATECALL")],
  ["staticcall", () => send(target, call("look")), (trace) => assert.equal(trace.calls[0].type, "STATICCALL")],
  ["inner value", () => send(target, call("pay", HEIR), 7n), (trace) => assert.equal(trace.calls[0].value, "0x7")],
  ["create", () => send(target, call("make"), 9n), (trace) => assert.equal(trace.calls[0].type, "CREATE")],
  ["create2", () => send(target, call("make2", keccakText("salt")), 9n), (trace) => assert.equal(trace.calls[0].type, "CREATE2")],
  [
    "selfdestruct",
    () => send(target, call("makeAndEnd", HEIR), 3n),
    (trace) => assert.equal(trace.calls[0].calls[0].type, "SELFDESTRUCT"),
  ],
  ["out of gas", () => send(target, call("burn"), 0n, 60_000n), (trace) => assert.equal(trace.error, "out of gas")],
];

const made = await check("traces: a contract to trace is made", async () => {
  const receipt = await send(undefined, bytecode);
  target = receipt.contractAddress;
  names.set(target.toLowerCase(), "<tracee>");
  const trace = await rpc("debug_traceTransaction", receipt.transactionHash, { tracer: "callTracer" });
  assert.equal(trace.type, "CREATE");
  assert.equal(trace.to.toLowerCase(), target.toLowerCase());
  return receipt;
});
if (!made) finish();

const receipts = new Map();
for (const [name, run, certain] of CASES) {
  await check(`traces: ${name}: callTracer, prestateTracer, 4byteTracer, flatCallTracer, trace_, ots_`, async () => {
    const receipt = await run();
    const hash = receipt.transactionHash;
    receipts.set(name, receipt);
    for (let nonce = 1; nonce < 6; nonce += 1) {
      names.set(getCreateAddress({ from: target, nonce }).toLowerCase(), `<made ${nonce}>`);
    }
    const trace = await rpc("debug_traceTransaction", hash, CALLS);
    if (name === "create2") names.set(trace.calls[0].to.toLowerCase(), "<made by salt>");
    certain(trace);
    assert.equal(trace.gasUsed, receipt.gasUsed, "the root uses what the receipt says");
    hold(`${name}: callTracer`, trace);
    hold(`${name}: onlyTopCall`, await rpc("debug_traceTransaction", hash, { tracer: "callTracer", tracerConfig: { onlyTopCall: true } }));
    const before = await rpc("debug_traceTransaction", hash, { tracer: "prestateTracer" });
    assert.ok(before[wallet.address.toLowerCase()].balance);
    const diff = await rpc("debug_traceTransaction", hash, { tracer: "prestateTracer", tracerConfig: { diffMode: true } });
    assert.deepEqual(Object.keys(diff).sort(), ["post", "pre"]);
    hold(`${name}: prestateTracer, accounts`, Object.keys(before).sort());
    hold(`${name}: prestateTracer diff, storage`, Object.values(diff.post).map((account) => account.storage).filter(Boolean));
    hold(`${name}: 4byteTracer`, await rpc("debug_traceTransaction", hash, { tracer: "4byteTracer" }));
    const flat = await rpc("debug_traceTransaction", hash, { tracer: "flatCallTracer" });
    hold(`${name}: flatCallTracer`, flat);
    const parity = await rpc("trace_transaction", hash);
    assert.equal(parity[0].transactionHash, hash);
    hold(`${name}: trace_transaction`, parity);
    const replay = await rpc("trace_replayTransaction", hash, ["trace", "stateDiff"]);
    assert.equal(replay.trace.length, parity.length);
    assert.ok(replay.stateDiff[wallet.address.toLowerCase()]);
    hold(`${name}: ots_traceTransaction`, await rpc("ots_traceTransaction", hash));
    hold(`${name}: ots_getInternalOperations`, await rpc("ots_getInternalOperations", hash));
    hold(`${name}: ots_getTransactionError`, await rpc("ots_getTransactionError", hash));
    const steps = await rpc("debug_traceTransaction", hash);
    assert.equal(steps.failed, receipt.status === "0x0");
    assert.equal(BigInt(steps.gas), BigInt(receipt.gasUsed));
    if (name !== "out of gas") hold(`${name}: struct logs`, steps.structLogs.map(({ op, depth }) => `${depth} ${op}`).slice(-40));
  });
}

await check("traces: a transaction with inference is traced from its witness, its call of F4 among the calls", async () => {
  const risk = rows("risk");
  const book = artifact("LoanBook");
  const types = new Interface(book.abi);
  const args = types.encodeDeploy(["risk", risk.input]).slice(2);
  const contract = (await send(undefined, book.bytecode + args, 0n, 8_000_000n)).contractAddress;
  const data = types.encodeFunctionData("request", [1n, risk.rows[3].input.map(number)]);
  const receipt = await send(contract, data, 0n, 8_000_000n);
  assert.equal(receipt.status, "0x1");
  const trace = await rpc("debug_traceTransaction", receipt.transactionHash, { tracer: "callTracer" });
  assert.equal(trace.gasUsed, receipt.gasUsed);
  const inference = (trace.calls ?? []).find((inner) => inner.to.toLowerCase() === INFERENCE.toLowerCase());
  assert.ok(inference && inference.output.length > 2);
  const asCall = await rpc("debug_traceCall", { from: wallet.address, to: contract, data }, "latest", { tracer: "callTracer" });
  assert.equal(asCall.type, "CALL");
  assert.equal(asCall.error, undefined);
});

await check("traces: mux, noop, unknown tracers, and struct logs with memory", async () => {
  const hash = receipts.get("event").transactionHash;
  const mux = await rpc("debug_traceTransaction", hash, { tracer: "muxTracer", tracerConfig: { callTracer: {}, "4byteTracer": null } });
  assert.deepEqual(Object.keys(mux).sort(), ["4byteTracer", "callTracer"]);
  assert.deepEqual(await rpc("debug_traceTransaction", hash, { tracer: "noopTracer" }), {});
  await assert.rejects(rpc("debug_traceTransaction", hash, { tracer: "nonesuchTracer" }));
  await assert.rejects(rpc("debug_traceTransaction", `0x${"77".repeat(32)}`), /transaction not found/);
  const steps = await rpc("debug_traceTransaction", hash, { enableMemory: true, disableStack: true });
  assert.ok(steps.structLogs.some((step) => step.memory?.length > 0));
  assert.ok(steps.structLogs.every((step) => step.stack == null));
});

await check("traces: whole blocks by number, by hash and by their bytes", async () => {
  const { blockNumber, blockHash, transactionHash } = receipts.get("delegatecall");
  const options = { tracer: "callTracer" };
  const byNumber = await rpc("debug_traceBlockByNumber", blockNumber, options);
  assert.ok(byNumber.some((item) => item.txHash === transactionHash && item.result.type === "CALL"));
  assert.deepEqual(await rpc("debug_traceBlockByHash", blockHash, options), byNumber);
  const raw = await rpc("debug_getRawBlock", blockNumber);
  assert.deepEqual(await rpc("debug_traceBlock", raw, options), byNumber);
  const flat = await rpc("trace_block", blockNumber);
  assert.ok(flat.some((trace) => trace.transactionHash === transactionHash));
  const replayed = await rpc("trace_replayBlockTransactions", blockNumber, ["trace"]);
  assert.ok(replayed.some((item) => item.transactionHash === transactionHash));
  const filtered = await rpc("trace_filter", { fromBlock: blockNumber, toBlock: blockNumber, fromAddress: [wallet.address] });
  assert.ok(filtered.length > 0 && filtered.every((trace) => trace.action.from === wallet.address.toLowerCase()));
  assert.equal((await rpc("debug_getRawReceipts", blockNumber)).length, byNumber.length);
  assert.ok((await rpc("debug_getRawHeader", blockNumber)).startsWith("0xf9"));
  assert.deepEqual(await rpc("debug_getRawTransaction", transactionHash), await rpc("eth_getRawTransactionByHash", transactionHash));
});

await check("traces: trace_call and overrides", async () => {
  const data = call("bump");
  const result = await rpc("trace_call", { from: wallet.address, to: target, data }, ["trace", "vmTrace", "stateDiff"], "latest");
  assert.equal(result.trace.length, 1);
  assert.ok(result.vmTrace.ops.length > 0);
  assert.ok(result.stateDiff[target.toLowerCase()]);
  const poor = "0x00000000000000000000000000000000000000b0";
  const rich = await rpc(
    "debug_traceCall",
    { from: poor, to: HEIR, value: "0x5" },
    "latest",
    { tracer: "callTracer", stateOverrides: { [poor]: { balance: "0xffff" } } },
  );
  assert.equal(rich.value, "0x5");
  await assert.rejects(rpc("debug_traceCall", { from: poor, to: HEIR, value: "0x5" }, "latest", {}), /insufficient funds/);
});

await check("otterscan: its call set", async () => {
  assert.ok((await rpc("ots_getApiLevel")) >= 8);
  const { blockNumber, blockHash, transactionHash } = receipts.get("create");
  const height = Number(blockNumber);
  assert.equal((await rpc("erigon_getHeaderByNumber", blockNumber)).hash, blockHash);
  assert.equal((await rpc("ots_getHeaderByNumber", height)).hash, blockHash);
  assert.equal(await rpc("ots_hasCode", target, "latest"), true);
  assert.equal(await rpc("ots_hasCode", HEIR, "latest"), false);
  const details = await rpc("ots_getBlockDetails", height);
  assert.equal(details.block.hash, blockHash);
  assert.ok(details.block.transactionCount >= 1);
  assert.ok(BigInt(details.totalFees) > 0n);
  assert.deepEqual(await rpc("ots_getBlockDetailsByHash", blockHash), details);
  const page = await rpc("ots_getBlockTransactions", height, 0, 25);
  assert.equal(page.fullblock.transactionCount, page.receipts.length);
  assert.ok(page.receipts.every((receipt) => receipt.logs === null && receipt.logsBloom === null));
  const nonce = Number((await rpc("eth_getTransactionByHash", transactionHash)).nonce);
  assert.equal(await rpc("ots_getTransactionBySenderAndNonce", wallet.address, nonce), transactionHash);
  assert.equal(await rpc("ots_getTransactionBySenderAndNonce", wallet.address, 1_000_000), null);
  const creator = await rpc("ots_getContractCreator", target);
  assert.deepEqual(creator, { hash: made.transactionHash, creator: wallet.address.toLowerCase() });
  const [child] = (await rpc("trace_transaction", transactionHash)).filter((trace) => trace.type === "create");
  assert.deepEqual(await rpc("ots_getContractCreator", child.result.address), {
    hash: transactionHash,
    creator: target.toLowerCase(),
  });
  assert.equal(await rpc("ots_getContractCreator", HEIR), null);
  const newest = await rpc("ots_searchTransactionsBefore", HEIR, 0, 25);
  assert.equal(newest.firstPage, true);
  const inner = receipts.get("inner value").transactionHash;
  assert.ok(newest.txs.some((tx) => tx.hash === inner), "a call inside is found");
  assert.ok(newest.txs.some((tx) => tx.hash === receipts.get("transfer").transactionHash));
  const oldest = await rpc("ots_searchTransactionsAfter", wallet.address, 0, 2);
  assert.equal(oldest.lastPage, true);
  assert.ok(oldest.txs.length >= 2);
});

await check("proofs: an account and its slots, present and absent", async () => {
  const proof = await rpc("eth_getProof", target, ["0x0", `0x${"11".repeat(32)}`], "latest");
  assert.ok(proof.accountProof.length > 0);
  assert.equal(proof.storageProof[0].key, "0x0");
  assert.ok(BigInt(proof.storageProof[0].value) > 0n);
  assert.ok(proof.storageProof[0].proof.length > 0);
  assert.equal(BigInt(proof.storageProof[1].value), 0n);
  await assert.rejects(rpc("eth_getProof", target, [`0x${"11".repeat(33)}`], "latest"));
});

await check("access lists: what a call touches, and what it fails with", async () => {
  const listed = await rpc("eth_createAccessList", { from: wallet.address, to: target, data: call("bump") });
  const own = listed.accessList.find((item) => item.address.toLowerCase() === target.toLowerCase());
  assert.deepEqual(own.storageKeys, [`0x${"00".repeat(32)}`]);
  assert.ok(BigInt(listed.gasUsed) > 21000n);
  const failing = await rpc("eth_createAccessList", { from: wallet.address, to: target, data: call("demand", 100_000) });
  assert.ok(failing.error);
});

if (bless) writeFileSync(FIXTURE, `${JSON.stringify(recorded, null, 1)}\n`);
provider.destroy();
finish();
