// ethers 6 against a running devnet: deploy, call, send, wait, logs, over HTTP and over WebSocket.
//
//   node ethers.mjs http://127.0.0.1:8545

import assert from "node:assert/strict";
import { Contract, ContractFactory, HDNodeWallet, Interface, JsonRpcProvider, WebSocketProvider, parseEther } from "ethers";
import { HUB, INFERENCE, MNEMONIC, MODEL_REGISTRY, artifact, check, close, finish, float, number, rows, within } from "./lib.mjs";

const [url] = process.argv.slice(2);
const RISK = rows("risk");
const INFERENCE_ABI = new Interface(artifact("IInference").abi);
const ERRORS = artifact("IInferenceErrors").abi;

// A receipt within a minute: inference on the slowest CI machine takes milliseconds, so a minute is no question of speed.
const WAIT_S = 60;

/** The answers of the precompile in a receipt, in order. */
function answers(receipt) {
  return receipt.logs
    .filter((log) => log.address.toLowerCase() === INFERENCE.toLowerCase())
    .map((log) => INFERENCE_ABI.parseLog(log).args);
}

/** The first number of an answer. (`values` is a method of ethers' results, so the field goes by its name.) */
function first(answer) {
  return float(answer.response.numbers[0].getValue("values")[0]);
}

async function suite(transport, provider, index) {
  // Each transport has an account of its own, so that nonces do not depend on the order of the suites.
  const wallet = HDNodeWallet.fromPhrase(MNEMONIC, undefined, `m/44'/60'/0'/0/${index}`).connect(provider);
  const named = (name, run) => check(`ethers over ${transport}: ${name}`, run);

  await named("chain id, block number and a funded account", async () => {
    assert.equal((await provider.getNetwork()).chainId, 31337n);
    assert.ok((await provider.getBlockNumber()) >= 0);
    assert.ok((await provider.getBalance(wallet.address)) > parseEther("1000"));
  });

  await named("a plain transfer", async () => {
    const to = HDNodeWallet.createRandom().address;
    const sent = await wallet.sendTransaction({ to, value: 7n });
    const receipt = await sent.wait(1, WAIT_S * 1000);
    assert.equal(receipt.status, 1);
    assert.equal(receipt.gasUsed, 21000n);
    assert.equal(await provider.getBalance(to), 7n);
  });

  const book = await named("a contract is deployed", async () => {
    const { abi, bytecode } = artifact("LoanBook");
    const made = await new ContractFactory([...abi, ...ERRORS], bytecode, wallet).deploy("risk", RISK.input);
    await made.waitForDeployment();
    assert.equal(await made.model(), "risk");
    return made;
  });
  if (!book) return;

  const features = RISK.rows[index].input.map(number);
  const expected = Number(RISK.rows[index].output[0]);

  await named("eth_call and eth_estimateGas run real inference", async () => {
    assert.equal(await book.request.staticCall(1000n, features), 0n);
    assert.ok((await book.request.estimateGas(1000n, features)) > 21000n);
    assert.equal(await book.count(), 0n);
  });

  await named("a transaction reads its answer in the block that includes it, the next one", async () => {
    const before = await provider.getBlockNumber();
    const heard = new Promise((resolve) => book.once("LoanPriced", (...args) => resolve(args)));
    const sent = await book.request(1000n, features);
    const receipt = await sent.wait(1, WAIT_S * 1000);
    assert.equal(receipt.status, 1);
    // Where blocks come by time, one may come while the client still asks and signs.
    if (process.env.PENSTOCK_TIMED_BLOCKS) assert.ok(receipt.blockNumber > before);
    else assert.equal(receipt.blockNumber, before + 1);

    const [answer, ...others] = answers(receipt);
    assert.equal(others.length, 0);
    assert.equal(answer.response.is_simulation_result, false);
    const score = first(answer);
    assert.ok(close(score, expected), `${score} is not ${expected}`);

    const priced = receipt.logs.map((log) => book.interface.parseLog(log)).find((log) => log?.name === "LoanPriced");
    assert.ok(Math.abs(Number(priced.args.score) / 1e6 - score) <= 1e-6);
    const loan = await book.loans(0n);
    assert.equal(loan.score, priced.args.score);
    assert.equal(loan.borrower, wallet.address);
    assert.ok(loan.rate > 200n && loan.rate <= 3000n);

    const [id, borrower] = await within(WAIT_S, "the event LoanPriced", heard);
    assert.equal(id, 0n);
    assert.equal(borrower, wallet.address);
  });

  await named("logs are found by filter", async () => {
    const logs = await book.queryFilter(book.filters.LoanPriced(null, wallet.address));
    assert.equal(logs.length, 1);
    const all = await provider.getLogs({ address: INFERENCE, fromBlock: logs[0].blockNumber, toBlock: "latest" });
    assert.ok(all.some((log) => log.transactionHash === logs[0].transactionHash));
  });

  await named("a typed error of the precompile reaches the client", async () => {
    const { abi, bytecode } = artifact("LoanBook");
    const made = await new ContractFactory([...abi, ...ERRORS], bytecode, wallet).deploy("nonesuch", "x");
    await made.waitForDeployment();
    await assert.rejects(made.request.staticCall(1n, features), (error) => {
      assert.equal(error.revert?.name, "UnknownModel");
      assert.equal(error.revert.args[0], "nonesuch");
      return true;
    });
    await assert.rejects(book.request.staticCall(1n, features.slice(1)), (error) => {
      assert.equal(error.revert?.name, "ModelFailed");
      assert.equal(error.revert.args[0], 1n);
      return true;
    });
  });

  await named("four transactions of one sender are included in order", async () => {
    const nonce = await wallet.getNonce();
    const sent = await Promise.all(
      [0, 1, 2, 3].map((i) =>
        book.request(i, RISK.rows[20 * index + i].input.map(number), { nonce: nonce + i, gasLimit: 3_000_000n }),
      ),
    );
    const receipts = await Promise.all(sent.map((tx) => tx.wait(1, WAIT_S * 1000)));
    const places = receipts.map((receipt) => receipt.blockNumber * 1e6 + receipt.index);
    assert.deepEqual(places, [...places].sort((a, b) => a - b));
    receipts.forEach((receipt, i) => {
      const [answer] = answers(receipt);
      const output = Number(RISK.rows[20 * index + i].output[0]);
      assert.ok(close(first(answer), output), `${first(answer)} is not ${output}`);
    });
    assert.equal(await book.count(), 5n);
  });
}

// ethers keeps answers for 250 ms by default, the nonce among them: too long for blocks that come sooner.
const OPTIONS = { cacheTimeout: -1, pollingInterval: 200 };
const http = new JsonRpcProvider(url, undefined, OPTIONS);
await suite("HTTP", http, 1);

await check("ethers: predeploys are there", async () => {
  for (const address of [INFERENCE, HUB, MODEL_REGISTRY]) assert.notEqual(await http.getCode(address), "0x");
  const registry = new Contract(MODEL_REGISTRY, artifact("ModelRegistry").abi, http);
  assert.equal(await registry.has("risk"), true);
  assert.equal(await registry.has("nonesuch"), false);
});

const socket = new WebSocketProvider(url.replace(/^http/, "ws"), undefined, OPTIONS);
await suite("WebSocket", socket, 2);

await check("ethers over WebSocket: new blocks and pending transactions are announced", async () => {
  const wallet = HDNodeWallet.fromPhrase(MNEMONIC, undefined, "m/44'/60'/0'/0/2").connect(socket);
  const blocks = [];
  await socket.on("block", (block) => blocks.push(block));
  let hash;
  const pending = new Promise((resolve) => socket.on("pending", (seen) => (!hash || seen === hash) && resolve(seen)));
  const sent = await wallet.sendTransaction({ to: wallet.address, value: 0n });
  hash = sent.hash;
  const receipt = await sent.wait(1, WAIT_S * 1000);
  await within(WAIT_S, "a pending transaction", pending);
  assert.ok(blocks.includes(receipt.blockNumber) || (await socket.getBlockNumber()) >= receipt.blockNumber);
});
await socket.destroy();
http.destroy();
finish();
