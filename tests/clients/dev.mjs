// Development methods through real clients, against a devnet of its own: viem's test client in its modes, ethers, cast.
//
//   PENSTOCK_BIN=target/debug/penstock node dev.mjs

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createRequire } from "node:module";
import { promisify } from "node:util";
import { ContractFactory, JsonRpcProvider } from "ethers";
import { createPublicClient, createTestClient, createWalletClient, http, parseEther } from "viem";
import { mnemonicToAccount } from "viem/accounts";
import { foundry } from "viem/chains";
import { start } from "./devnet.mjs";
import { MNEMONIC, artifact, check, finish, number, rows } from "./lib.mjs";

const CAST = createRequire(import.meta.url).resolve("@foundry-rs/cast-linux-amd64/bin/cast");
const NOBODY = "0x00000000000000000000000000000000000c0ffe";
const WAIT_MS = 60_000;
const { abi, bytecode } = artifact("Tracee");

const devnet = await start();
const { url } = devnet;
const transport = http(url);
const client = createPublicClient({ chain: foundry, transport, pollingInterval: 50, cacheTime: 0 });
const account = mnemonicToAccount(MNEMONIC, { addressIndex: 0 });
const wallet = createWalletClient({ account, chain: foundry, transport });
const wait = (hash) => client.waitForTransactionReceipt({ hash, timeout: WAIT_MS });
const latest = () => client.getBlock();
const cast = async (...args) => {
  const { stdout } = await promisify(execFile)(CAST, args, { env: { ...process.env, ETH_RPC_URL: url }, timeout: WAIT_MS });
  return stdout.trim();
};

for (const mode of ["anvil", "hardhat"]) {
  const test = createTestClient({ chain: foundry, mode, transport });
  const named = (name, run) => check(`viem as ${mode}: ${name}`, run);

  await named("balance, nonce, code and storage are what they are set to", async () => {
    await test.setBalance({ address: NOBODY, value: parseEther("3") });
    assert.equal(await client.getBalance({ address: NOBODY }), parseEther("3"));
    await test.setNonce({ address: NOBODY, nonce: 7 });
    assert.equal(await client.getTransactionCount({ address: NOBODY }), 7);
    await test.setCode({ address: NOBODY, bytecode: "0x602a5f5260205ff3" });
    assert.equal(BigInt((await client.call({ to: NOBODY })).data), 42n);
    await test.setStorageAt({ address: NOBODY, index: 1, value: `0x${"11".repeat(32)}` });
    assert.equal(await client.getStorageAt({ address: NOBODY, slot: "0x1" }), `0x${"11".repeat(32)}`);
    await test.setCode({ address: NOBODY, bytecode: "0x" });
  });

  await named("blocks are mined by hand, many at once, at their times", async () => {
    const before = await latest();
    await test.mine({ blocks: 1 });
    assert.equal((await latest()).number, before.number + 1n);
    await test.mine({ blocks: 5, interval: 60 });
    const after = await latest();
    assert.equal(after.number, before.number + 6n);
    const back = await client.getBlock({ blockNumber: after.number - 3n });
    assert.equal(after.timestamp - back.timestamp, 180n);
    // Time goes on from there.
    await test.mine({ blocks: 1 });
    assert.ok((await latest()).timestamp >= after.timestamp);
    assert.ok((await latest()).timestamp < after.timestamp + 60n);
  });

  await named("time travels", async () => {
    const before = await latest();
    await test.increaseTime({ seconds: 3600 });
    await test.mine({ blocks: 1 });
    const later = (await latest()).timestamp;
    assert.ok(later >= before.timestamp + 3600n && later < before.timestamp + 3700n);
    await test.setNextBlockTimestamp({ timestamp: later + 1000n });
    // A change in between does not use it up.
    await test.setBalance({ address: NOBODY, value: 5n });
    const { blockNumber } = await wait(await wallet.sendTransaction({ to: NOBODY, value: 1n }));
    assert.equal((await client.getBlock({ blockNumber })).timestamp, later + 1000n);
    await assert.rejects(test.setNextBlockTimestamp({ timestamp: later }), /before the last block/);
    await test.setBlockTimestampInterval({ interval: 7 });
    await test.mine({ blocks: 3 });
    const stepped = await latest();
    const parent = await client.getBlock({ blockNumber: stepped.number - 1n });
    assert.equal(stepped.timestamp - parent.timestamp, 7n);
    await test.removeBlockTimestampInterval();
  });

  await named("without automining transactions wait for the block that is asked for", async () => {
    assert.equal(await test.getAutomine(), true);
    await test.setAutomine(false);
    assert.equal(await test.getAutomine(), false);
    const nonce = await client.getTransactionCount({ address: account.address });
    const hashes = [];
    for (let at = 0; at < 3; at += 1) {
      hashes.push(await wallet.sendTransaction({ to: NOBODY, value: 1n, nonce: nonce + at, gas: 21000n }));
    }
    const head = await latest();
    const { pending } = await test.getTxpoolStatus();
    assert.equal(pending, 3);
    await test.dropTransaction({ hash: hashes[2] });
    await test.mine({ blocks: 1 });
    const block = await latest();
    assert.equal(block.number, head.number + 1n);
    assert.deepEqual(block.transactions, hashes.slice(0, 2));
    await assert.rejects(client.getTransaction({ hash: hashes[2] }), /could not be found/i);
    await test.setAutomine(true);
  });

  await named("an interval mines by itself", async () => {
    await test.setIntervalMining({ interval: mode === "hardhat" ? 0.001 : 1 });
    const head = (await latest()).number;
    for (let waited = 0; (await latest()).number < head + 2n; waited += 100) {
      assert.ok(waited < WAIT_MS, "no block came");
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    await test.setAutomine(true);
  });

  await named("a snapshot is gone back to, numbers go on, and the same transaction is possible again", async () => {
    const contract = (await wait(await wallet.deployContract({ abi, bytecode }))).contractAddress;
    const call = { address: contract, abi, functionName: "count" };
    const before = await latest();
    const nonce = await client.getTransactionCount({ address: account.address });
    const id = await test.snapshot();
    await test.increaseTime({ seconds: 100_000 });
    const bump = { address: contract, abi, functionName: "bump", nonce, gas: 200_000n, maxFeePerGas: 9_000_000_000n, maxPriorityFeePerGas: 1n };
    const hash = await wallet.writeContract(bump);
    const first = await wait(hash);
    assert.equal(await client.readContract(call), 1n);
    await test.revert({ id });
    const after = await latest();
    assert.ok(after.number > first.blockNumber);
    assert.equal(after.timestamp, before.timestamp);
    assert.equal(await client.readContract(call), 0n);
    assert.equal(await client.getTransactionCount({ address: account.address }), nonce);
    // Nothing in the log is undone: the block of then is still there.
    assert.ok((await client.getBlock({ blockNumber: first.blockNumber })).transactions.includes(hash));
    assert.equal(await wallet.writeContract(bump), hash);
    const second = await wait(hash);
    assert.ok(second.blockNumber > after.number);
    assert.ok((await client.getBlock({ blockNumber: second.blockNumber })).timestamp < before.timestamp + 50_000n);
    assert.equal(await client.readContract(call), 1n);
    assert.equal(await client.request({ method: "evm_revert", params: [id] }), false);
  });

  await named("anybody is impersonated, a contract too", async () => {
    const whale = mode === "anvil" ? "0x1111111111111111111111111111111111111111" : "0x2222222222222222222222222222222222222222";
    await test.setBalance({ address: whale, value: parseEther("2") });
    await test.setCode({ address: whale, bytecode: "0x00" });
    const send = () => client.request({ method: "eth_sendTransaction", params: [{ from: whale, to: NOBODY, value: "0x5" }] });
    await assert.rejects(send(), /unknown account/);
    await test.impersonateAccount({ address: whale });
    const receipt = await wait(await send());
    assert.equal(receipt.from, whale);
    assert.equal(receipt.status, "success");
    const tx = await client.getTransaction({ hash: receipt.transactionHash });
    assert.equal(tx.from, whale);
    const trace = await client.request({ method: "debug_traceTransaction", params: [receipt.transactionHash, { tracer: "callTracer" }] });
    assert.equal(trace.from, whale);
    // Its form is of no use to others.
    const raw = await client.request({ method: "eth_getRawTransactionByHash", params: [receipt.transactionHash] });
    await assert.rejects(client.request({ method: "eth_sendRawTransaction", params: [raw] }), /invalid signature/);
    await test.stopImpersonatingAccount({ address: whale });
    await assert.rejects(send(), /unknown account/);
    const unsigned = await test.sendUnsignedTransaction({ from: whale, to: NOBODY, value: 1n });
    assert.equal((await wait(unsigned)).status, "success");
  });

  await named("fees, coinbase and gas limit of the next block", async () => {
    await test.setNextBlockBaseFeePerGas({ baseFeePerGas: 0n });
    await test.setCoinbase({ address: NOBODY });
    const { blockNumber } = await wait(await wallet.sendTransaction({ to: NOBODY, gasPrice: 0n, type: "legacy" }));
    const block = await client.getBlock({ blockNumber });
    assert.equal(block.baseFeePerGas, 0n);
    assert.equal(block.miner.toLowerCase(), NOBODY);
    await test.setNextBlockBaseFeePerGas({ baseFeePerGas: 1_000_000_000n });
    await test.setBlockGasLimit({ gasLimit: 50_000_000n });
    await test.mine({ blocks: 1 });
    assert.equal((await latest()).gasLimit, 50_000_000n);
    assert.equal((await latest()).baseFeePerGas, 1_000_000_000n);
    await test.setBlockGasLimit({ gasLimit: 1_000_000_000n });
  });

  await named("a state is dumped, changed, and loaded again", async () => {
    await test.setBalance({ address: NOBODY, value: 77n });
    const state = await test.dumpState();
    await test.setBalance({ address: NOBODY, value: 78n });
    await test.loadState({ state });
    assert.equal(await client.getBalance({ address: NOBODY }), 77n);
  });

  await named("everything goes back to genesis", async () => {
    const before = await latest();
    await test.reset();
    assert.equal(await client.getBalance({ address: NOBODY }), 0n);
    assert.equal(await client.getTransactionCount({ address: account.address }), 0);
    assert.ok((await latest()).number > before.number);
    const receipt = await wait(await wallet.sendTransaction({ to: NOBODY, value: 1n }));
    assert.equal(receipt.status, "success");
  });
}

await check("ethers: snapshot, time and impersonation by provider.send", async () => {
  const provider = new JsonRpcProvider(url, undefined, { polling: true, pollingInterval: 50, cacheTimeout: -1 });
  const id = await provider.send("evm_snapshot", []);
  await provider.send("evm_increaseTime", [86_400]);
  await provider.send("evm_mine", []);
  const there = (await provider.getBlock("latest")).timestamp;
  await provider.send("hardhat_setBalance", [NOBODY, "0xde0b6b3a7640000"]);
  await provider.send("hardhat_impersonateAccount", [NOBODY]);
  const signer = await provider.getSigner(NOBODY);
  const receipt = await (await signer.sendTransaction({ to: account.address, value: 3n })).wait();
  assert.equal(receipt.from.toLowerCase(), NOBODY);
  const tx = await provider.getTransaction(receipt.hash);
  assert.equal(tx.from.toLowerCase(), NOBODY);
  const made = await new ContractFactory(abi, bytecode, signer).deploy();
  await made.waitForDeployment();
  assert.equal(await provider.send("evm_revert", [id]), true);
  assert.ok((await provider.getBlock("latest")).timestamp < there);
  assert.equal(await provider.getCode(await made.getAddress()), "0x");
  provider.destroy();
});

await check("a model's answer is in the block that is mined by hand", async () => {
  const risk = rows("risk");
  const book = artifact("LoanBook");
  const deployed = await wait(await wallet.deployContract({ ...book, args: ["risk", risk.input] }));
  await client.request({ method: "evm_setAutomine", params: [false] });
  const input = risk.rows[0].input.map(number);
  const hash = await wallet.writeContract({
    address: deployed.contractAddress,
    abi: book.abi,
    functionName: "request",
    args: [1000n, input],
  });
  await client.request({ method: "evm_mine", params: [] });
  const block = await latest();
  assert.deepEqual(block.transactions, [hash]);
  const witness = await client.request({ method: "pipe_getWitness", params: ["latest"] });
  assert.equal(witness.entries.length, 1);
  await client.request({ method: "evm_setAutomine", params: [true] });
});

await check("cast: rpc, and what it asks of a development node", async () => {
  await cast("rpc", "anvil_setBalance", NOBODY, "0x10");
  assert.equal(await cast("balance", NOBODY), "16");
  const number = Number(await cast("block-number"));
  await cast("rpc", "anvil_mine", "0x3");
  assert.equal(Number(await cast("block-number")), number + 3);
  const info = JSON.parse(await cast("rpc", "anvil_nodeInfo"));
  assert.equal(info.environment.chainId, 31337);
  await cast("rpc", "anvil_impersonateAccount", account.address);
  const receipt = JSON.parse(await cast("send", "--json", "--unlocked", "--from", account.address, NOBODY, "--value", "1"));
  assert.equal(receipt.status, "0x1");
});

await devnet.stop();
finish();
