// viem 2 against a running devnet: every flow that an application has, over HTTP and over WebSocket.
//
//   node viem.mjs http://127.0.0.1:8545

import assert from "node:assert/strict";
import {
  BaseError,
  ContractFunctionRevertedError,
  createPublicClient,
  createWalletClient,
  decodeEventLog,
  encodeFunctionData,
  getContract,
  http,
  parseEther,
  webSocket,
} from "viem";
import { mnemonicToAccount } from "viem/accounts";
import { foundry } from "viem/chains";
import { MNEMONIC, artifact, check, close, finish, float, number, rows, within } from "./lib.mjs";

const [url] = process.argv.slice(2);
const { abi, bytecode } = artifact("Tracee");
// A minute is no question of speed on the slowest CI machine.
const WAIT_S = 60;
const POLLING = { pollingInterval: 100, cacheTime: 0 };

/** All methods that run a call take another row's answer for this call's, and name the request where it is not given. */
async function runsOnGivenAnswers(client, call, key, prepare) {
  const { output, score, read } = await prepare();
  const given = { answers: { [key]: output } };
  const request = (method, ...params) => client.request({ method, params });
  const calls = [call, { from: call.from, to: call.to, data: read }];
  const simulated = [{ blockStateCalls: [{ calls }] }, "latest"];
  const bundles = [[{ transactions: calls }], {}, null];
  const [block] = await request("eth_simulateV1", ...simulated, given);
  const read6 = Number(BigInt(`0x${block.calls[1].returnData.slice(2 + 3 * 64, 2 + 4 * 64)}`)) / 1e6;
  assert.ok(close(read6, score) || Math.abs(read6 - score) < 1e-6, `${read6} ${score}`);
  const [[, seen]] = await request("eth_callMany", ...bundles, given);
  assert.equal(seen.value, block.calls[1].returnData);
  const methods = [
    ["eth_call", (options) => [call, "latest", null, null, options]],
    ["eth_estimateGas", (options) => [call, "latest", null, null, options]],
    ["eth_createAccessList", (options) => [call, "latest", null, null, options]],
    ["debug_traceCall", (options) => [call, "latest", { tracer: "callTracer", ...options }]],
    ["trace_call", (options) => [call, ["trace"], "latest", null, null, options]],
    ["eth_simulateV1", (options) => [...simulated, options]],
    ["eth_callMany", (options) => [...bundles, options]],
  ];
  for (const [method, params] of methods) {
    const result = await request(method, ...params(given));
    assert.ok(result && !result.error, method);
    // Nobody is asked: what is not given is an error that names it, although it was answered long ago.
    const lacking = await request(method, ...params({ answers: {} })).catch((error) => error);
    assert.match(lacking.message ?? "", new RegExp(`not given: ${key}`), method);
    // Bytes that are no tensors are no output of a model; the node says something sound.
    const garbage = await request(method, ...params({ answers: { [key]: "0x00" } })).catch((error) => error);
    assert.ok(!/internal/i.test(garbage?.message ?? ""), `${method}: ${garbage?.message}`);
  }
}

async function suite(transport, over, index) {
  const named = (name, run) => check(`viem over ${over}: ${name}`, run);
  const account = mnemonicToAccount(MNEMONIC, { addressIndex: index });
  const client = createPublicClient({ chain: foundry, transport, ...POLLING });
  const wallet = createWalletClient({ account, chain: foundry, transport, ...POLLING });
  const wait = (hash) => client.waitForTransactionReceipt({ hash, timeout: WAIT_S * 1000 });

  await named("connect and balances", async () => {
    assert.equal(await client.getChainId(), foundry.id);
    assert.ok((await client.getBlockNumber()) >= 0n);
    assert.ok((await client.getBalance({ address: account.address })) > parseEther("1000"));
    assert.ok((await client.getBlock({ blockTag: "pending" })).number !== null);
  });

  const made = await named("deploy", async () => {
    const receipt = await wait(await wallet.deployContract({ abi, bytecode }));
    assert.equal(receipt.status, "success");
    return getContract({ address: receipt.contractAddress, abi, client: { public: client, wallet } });
  });
  if (!made) return;
  const { address } = made;

  await named("send, wait, call", async () => {
    const receipt = await wait(await made.write.bump({ value: 3n }));
    assert.equal(receipt.status, "success");
    assert.equal(await made.read.count(), 1n);
    assert.equal(await client.getBalance({ address }), 3n);
    const [log] = receipt.logs;
    assert.equal(decodeEventLog({ abi, ...log }).args.count, 1n);
  });

  await named("custom errors and estimates of a reverting call", async () => {
    const expect = (error) => {
      const revert = error instanceof BaseError && error.walk((inner) => inner instanceof ContractFunctionRevertedError);
      assert.equal(revert.data?.errorName, "TooFew");
      assert.deepEqual(revert.data.args, [1n, 99n]);
      return true;
    };
    await assert.rejects(made.read.demand([99n]), expect);
    await assert.rejects(made.estimateGas.refuse({ account }), /refused/);
    await assert.rejects(made.read.panic([0n]), /division or modulo by zero|Panic|divide/i);
  });

  await named("logs and filters", async () => {
    const filter = await client.createContractEventFilter({ address, abi, eventName: "Counted" });
    const blocks = await client.createBlockFilter();
    const receipt = await wait(await made.write.bump());
    const changes = await client.getFilterChanges({ filter });
    assert.equal(changes.length, 1);
    assert.equal(changes[0].args.count, 2n);
    assert.ok((await client.getFilterChanges({ filter: blocks })).includes(receipt.blockHash));
    assert.equal((await client.getFilterLogs({ filter })).length, 1);
    assert.equal(await client.uninstallFilter({ filter }), true);
    const all = await client.getContractEvents({ address, abi, eventName: "Counted", fromBlock: 0n });
    assert.deepEqual(all.map((log) => log.args.count), [1n, 2n]);
  });

  await named("new blocks and events are watched", async () => {
    let stop = [];
    const seen = new Promise((resolve, reject) => {
      const got = { block: false, event: false };
      const note = (kind) => {
        got[kind] = true;
        if (got.block && got.event) resolve();
      };
      stop.push(client.watchBlocks({ onBlock: () => note("block"), onError: reject }));
      stop.push(client.watchContractEvent({ address, abi, eventName: "Counted", onLogs: () => note("event"), onError: reject }));
    });
    // Watching begins when its filter or subscription is there, which viem does not tell: transactions until it is.
    let done = false;
    const sending = (async () => {
      while (!done) await wait(await made.write.bump());
    })();
    await within(WAIT_S, "a block and an event", seen);
    done = true;
    await sending;
    stop.forEach((end) => end());
  });

  await named("fee history, proof, access list, simulation", async () => {
    const history = await client.getFeeHistory({ blockCount: 4, rewardPercentiles: [25, 75] });
    assert.equal(history.baseFeePerGas.length, history.gasUsedRatio.length + 1);
    assert.ok(history.reward.every((row) => row.length === 2));
    const fees = await client.estimateFeesPerGas();
    assert.ok(fees.maxFeePerGas > fees.maxPriorityFeePerGas);
    const proof = await client.getProof({ address, storageKeys: [`0x${"00".repeat(32)}`] });
    assert.ok(proof.accountProof.length > 0);
    assert.equal(proof.storageProof[0].value, await made.read.count());
    const { request, result } = await client.simulateContract({ account, address, abi, functionName: "bump" });
    assert.equal(result, (await made.read.count()) + 1n);
    const { accessList, gasUsed } = await client.createAccessList({ account, to: address, data: "0x68110b2f" });
    assert.ok(accessList.some((item) => item.address.toLowerCase() === address.toLowerCase()) && gasUsed > 21000n);
    await wait(await wallet.writeContract(request));
  });

  await named("blocks of calls are simulated, with overrides, reverts and transfers", async () => {
    const rich = "0x00000000000000000000000000000000000051c4";
    const [first, second] = await client.simulateBlocks({
      traceTransfers: true,
      blocks: [
        {
          stateOverrides: [{ address: rich, balance: 1000n }],
          calls: [
            { account: rich, to: account.address, value: 400n },
            { account: rich, to: address, abi, functionName: "bump", value: 1n },
          ],
        },
        { blockOverrides: { time: (await client.getBlock()).timestamp + 500n }, calls: [{ account: rich, to: address, abi, functionName: "demand", args: [999n] }] },
      ],
    });
    assert.deepEqual(first.calls.map((call) => call.status), ["success", "success"]);
    assert.equal(first.calls[0].logs.length, 1);
    assert.equal(first.calls[1].result, (await made.read.count()) + 1n);
    assert.equal(second.calls[0].status, "failure");
    assert.equal(second.parentHash, first.hash);
    assert.equal(second.number, first.number + 1n);
    const simulated = await client.simulateCalls({ account, calls: [{ to: address, abi, functionName: "bump" }] });
    assert.equal(simulated.results[0].status, "success");
  });

  await named("the chain says what its rules are", async () => {
    const { current, next, last } = await client.request({ method: "eth_config" });
    assert.equal(BigInt(current.chainId), 31337n);
    assert.match(current.forkId, /^0x[0-9a-f]{8}$/);
    assert.equal(current.precompiles.ECREC, `0x${"0".repeat(39)}1`);
    assert.ok(current.systemContracts.HISTORY_STORAGE_ADDRESS);
    assert.equal(next, null);
    assert.equal(last, null);
    const document = await client.request({ method: "rpc.discover" });
    assert.ok(document.methods.some((method) => method.name === "eth_simulateV1"));
  });

  await named("one request sends and waits", async () => {
    const request = await wallet.prepareTransactionRequest({ to: address, data: "0x68110b2f" });
    const serializedTransaction = await wallet.signTransaction(request);
    const receipt = await client.sendRawTransactionSync({ serializedTransaction });
    assert.equal(receipt.status, "success");
    const trace = await client.request({ method: "debug_traceTransaction", params: [receipt.transactionHash, { tracer: "callTracer" }] });
    assert.equal(BigInt(trace.gasUsed), receipt.gasUsed);
  });

  await named("a contract reads a model's answer in its transaction", async () => {
    const risk = rows("risk");
    const book = artifact("LoanBook");
    const deployed = await wait(await wallet.deployContract({ ...book, args: ["risk", risk.input] }));
    const loans = getContract({ address: deployed.contractAddress, abi: book.abi, client: { public: client, wallet } });
    const row = risk.rows[index];
    const receipt = await wait(await loans.write.request([1000n, row.input.map(number)]));
    assert.equal(receipt.status, "success");
    const [, , , score] = await loans.read.loans([0n]);
    assert.ok(close(Number(score) / 1e6, Number(row.output[0])) || Math.abs(Number(score) / 1e6 - Number(row.output[0])) < 1e-6);
    assert.ok(float({ value: score, decimals: 6n }) >= 0);
    const inference = await client.request({ method: "pipe_getInferenceReceipt", params: [receipt.transactionHash] });
    assert.equal(inference.requests.length, 1);
    assert.equal(inference.requests[0].cid, "risk");
    assert.ok(inference.requests[0].attestations.length > 0);
    assert.ok(BigInt(inference.igas) > 0n);
    assert.equal(BigInt(inference.multiplier) * BigInt(inference.igas), BigInt(inference.inferenceGasUsed));
    assert.ok(inference.history.some((step) => step.stage === "included"));
    const data = encodeFunctionData({ abi: book.abi, functionName: "request", args: [1000n, row.input.map(number)] });
    const call = { from: account.address, to: loans.address, data };
    const estimate = await client.request({ method: "pipe_estimate", params: [call] });
    assert.equal(estimate.rounds.length, 1);
    assert.equal(estimate.requests[0].requestKey, inference.requests[0].requestKey);
    assert.ok(BigInt(estimate.gas) > BigInt(estimate.inferenceGas));
    // With other answers, nobody is asked, and another one is read.
    const given = { answers: { [estimate.rounds[0][0]]: inference.requests[0].output } };
    const again = await client.request({ method: "pipe_estimate", params: [call, "latest", given] });
    assert.equal(again.igas, estimate.igas);
    await assert.rejects(client.request({ method: "pipe_estimate", params: [call, "latest", { answers: {} }] }), /not given/);
    await runsOnGivenAnswers(client, call, estimate.rounds[0][0], async () => {
      const other = risk.rows.find((one) => one.output[0] !== row.output[0]);
      const data = encodeFunctionData({ abi: book.abi, functionName: "request", args: [1000n, other.input.map(number)] });
      const { rounds } = await client.request({ method: "pipe_estimate", params: [{ ...call, data }] });
      const { output } = await client.request({ method: "pipe_getAnswer", params: [rounds[0][0]] });
      const read = encodeFunctionData({ abi: book.abi, functionName: "loans", args: [1n] });
      return { output, score: Number(other.output[0]), read };
    });
    const fees = await client.request({ method: "pipe_feeHistory", params: ["0x4", "latest"] });
    assert.equal(fees.multiplier.length, fees.igasUsed.length + 1);
    const certificate = await client.request({ method: "pipe_getCertificate", params: ["latest"] });
    assert.match(certificate.producer, /^0x[0-9a-f]{40}$/i);
  });

  await named("typed data and messages are signed by the wallet, and verified", async () => {
    const signature = await wallet.signMessage({ message: "penstock" });
    assert.equal(await client.verifyMessage({ address: account.address, message: "penstock", signature }), true);
  });
}

await suite(http(url), "HTTP", 6);
await suite(http(url, { batch: true }), "HTTP in batches", 7);
await suite(webSocket(url.replace(/^http/, "ws")), "WebSocket", 8);

finish();
