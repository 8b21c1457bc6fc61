// States go from this devnet to anvil and back: a dump of either is loaded by the other, and says the same there.
//
//   PENSTOCK_BIN=target/debug/penstock node anvil.mjs

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { createPublicClient, createTestClient, createWalletClient, http, parseEther } from "viem";
import { mnemonicToAccount } from "viem/accounts";
import { foundry } from "viem/chains";
import { start } from "./devnet.mjs";
import { MNEMONIC, artifact, check, finish } from "./lib.mjs";

const ANVIL = createRequire(import.meta.url).resolve("@foundry-rs/anvil-linux-amd64/bin/anvil");
const READY_MS = 60_000;
const SLOT = "0x5";
const WORD = `0x${"a7".repeat(32)}`;
/** Sits at 0x…c0ffe with a balance, a nonce, code and a slot of its own. */
const NOBODY = "0x00000000000000000000000000000000000c0ffe";
const RETURNS_42 = "0x602a5f5260205ff3";

/** Starts anvil on a port that the system chose. */
async function anvil() {
  const child = spawn(ANVIL, ["--port", "0", "--no-mining"], { stdio: ["ignore", "pipe", "ignore"] });
  process.on("exit", () => child.kill("SIGKILL"));
  const url = await new Promise((resolve, reject) => {
    let said = "";
    const late = setTimeout(() => reject(new Error(`anvil did not get ready: ${said}`)), READY_MS);
    child.stdout.on("data", (bytes) => {
      said += bytes;
      const address = /Listening on ([0-9.]+:[0-9]+)/.exec(said);
      if (address) {
        clearTimeout(late);
        resolve(`http://${address[1]}`);
      }
    });
    child.once("exit", () => reject(new Error(`anvil ended: ${said}`)));
  });
  return { url, stop: () => child.kill("SIGKILL") };
}

function clients(url) {
  const transport = http(url);
  const account = mnemonicToAccount(MNEMONIC, { addressIndex: 1 });
  return {
    account,
    read: createPublicClient({ chain: foundry, transport, pollingInterval: 50, cacheTime: 0 }),
    test: createTestClient({ chain: foundry, mode: "anvil", transport }),
    wallet: createWalletClient({ account, chain: foundry, transport }),
  };
}

/** What an address is on a chain. */
async function account(read, address, slot = SLOT) {
  const [balance, nonce, code, storage] = await Promise.all([
    read.getBalance({ address }),
    read.getTransactionCount({ address }),
    read.getCode({ address }),
    read.getStorageAt({ address, slot }),
  ]);
  return { balance, nonce, code, storage };
}

/** Gives a chain an account of each kind: one that was made by hand, and a contract that was deployed. */
async function fill({ test, wallet, read }) {
  await test.setBalance({ address: NOBODY, value: parseEther("3") });
  await test.setNonce({ address: NOBODY, nonce: 7 });
  await test.setCode({ address: NOBODY, bytecode: RETURNS_42 });
  await test.setStorageAt({ address: NOBODY, index: Number(SLOT), value: WORD });
  const { abi, bytecode } = artifact("Tracee");
  const hash = await wallet.deployContract({ abi, bytecode, gas: 5_000_000n });
  await test.mine({ blocks: 1 });
  const receipt = await read.waitForTransactionReceipt({ hash, timeout: READY_MS });
  assert.equal(receipt.status, "success");
  return receipt.contractAddress;
}

const devnet = await start();
const other = await anvil();
const ours = clients(devnet.url);
const theirs = clients(other.url);

for (const [name, from, to] of [
  ["anvil loads what this devnet dumped", ours, theirs],
  ["this devnet loads what anvil dumped", theirs, ours],
]) {
  await check(name, async () => {
    await to.test.request({ method: "anvil_reset", params: [] });
    const contract = await fill(from);
    const addresses = [NOBODY, contract, from.account.address];
    const before = await Promise.all(addresses.map((address) => account(from.read, address)));
    const [nobody, deployed, sender] = before;
    assert.deepEqual(nobody, { balance: parseEther("3"), nonce: 7, code: RETURNS_42, storage: WORD });
    assert.ok(deployed.code.length > 2 && sender.nonce > 0);

    const state = await from.test.dumpState();
    assert.notDeepEqual(await account(to.read, NOBODY), nobody);
    await to.test.loadState({ state });
    const after = await Promise.all(addresses.map((address) => account(to.read, address)));
    assert.deepEqual(after, before);
    assert.equal(BigInt((await to.read.call({ to: NOBODY })).data), 42n);
  });
}
other.stop();
await devnet.stop();
finish();
