// Bursts of transactions while blocks are made at once: all are included.
//
//   PENSTOCK_BIN=target/debug/penstock node bursts.mjs
//
// PENSTOCK_LONG_TESTS=1 is the long run: 2,000 single requests and 4,000 in batches, 20 times; PENSTOCK_BURST_RUNS says
// how often. One run of a quarter of that is the default, since signing in JavaScript takes longer than all the rest.

import assert from "node:assert/strict";
import { HDNodeWallet } from "ethers";
import { start } from "./devnet.mjs";
import { MNEMONIC, check, finish } from "./lib.mjs";

const LONG = process.env.PENSTOCK_LONG_TESTS === "1" || process.env.PENSTOCK_BURST_RUNS !== undefined;
const RUNS = Number(process.env.PENSTOCK_BURST_RUNS ?? (LONG ? 20 : 1));
/** Transactions of each of the ten accounts, one by one and in batches. */
const [SINGLE, BATCHED] = LONG ? [200, 400] : [50, 100];
/** Receipts that one batch asks for; servers take 1,000. */
const PAGE = 500;
const WAIT_S = 180;

const devnet = await start();
const wallets = Array.from({ length: 10 }, (_, index) => HDNodeWallet.fromPhrase(MNEMONIC, undefined, `m/44'/60'/0'/0/${index}`));

async function post(body) {
  const headers = { "content-type": "application/json" };
  const response = await fetch(devnet.url, { method: "POST", headers, body: JSON.stringify(body) });
  return response.json();
}

const request = (method, params, id = 1) => ({ jsonrpc: "2.0", id, method, params });

function result(answer) {
  assert.equal(answer.error, undefined, JSON.stringify(answer.error));
  return answer.result;
}

/** Signed transfers of every account, by account. */
async function sign(each) {
  return Promise.all(
    wallets.map(async (wallet) => {
      const base = Number(result(await post(request("eth_getTransactionCount", [wallet.address, "latest"]))));
      const tx = { to: wallet.address, gasLimit: 21_000n, maxFeePerGas: 10n ** 11n, maxPriorityFeePerGas: 1n, chainId: 31337n, type: 2 };
      return Promise.all(Array.from({ length: each }, (_, i) => wallet.signTransaction({ ...tx, nonce: base + i })));
    }),
  );
}

/** Waits until all have a receipt; how many have none in time. */
async function settle(hashes) {
  const start = Date.now();
  let missing = hashes;
  while (missing.length > 0 && Date.now() - start < WAIT_S * 1000) {
    const left = [];
    for (let i = 0; i < missing.length; i += PAGE) {
      const page = missing.slice(i, i + PAGE);
      const answers = await post(page.map((hash, id) => request("eth_getTransactionReceipt", [hash], id)));
      left.push(...answers.filter((answer) => !result(answer)).map((answer) => page[answer.id]));
    }
    missing = left;
    if (missing.length > 0) await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return missing.length;
}

for (let run = 1; run <= RUNS; run += 1) {
  await check(`bursts: ${10 * SINGLE} single requests on ten connections, run ${run} of ${RUNS}`, async () => {
    const raws = await sign(SINGLE);
    const start = Date.now();
    const sent = raws.map(async (own) => {
      const hashes = [];
      for (const raw of own) hashes.push(result(await post(request("eth_sendRawTransaction", [raw]))));
      return hashes;
    });
    const hashes = (await Promise.all(sent)).flat();
    assert.equal(await settle(hashes), 0);
    console.log(`        ${hashes.length} in ${Date.now() - start} ms`);
  });

  await check(`bursts: ${10 * BATCHED} in batches of 100, run ${run} of ${RUNS}`, async () => {
    const raws = await sign(BATCHED);
    const start = Date.now();
    const sent = raws.map(async (own) => {
      const hashes = [];
      // A sender's batches follow each other: more than 64 transactions behind a nonce gap are refused, as in geth.
      for (let i = 0; i < own.length; i += 100) {
        const batch = own.slice(i, i + 100).map((raw, id) => request("eth_sendRawTransaction", [raw], id));
        hashes.push(...(await post(batch)).map(result));
      }
      return hashes;
    });
    const hashes = (await Promise.all(sent)).flat();
    assert.equal(await settle(hashes), 0);
    console.log(`        ${hashes.length} in ${Date.now() - start} ms`);
  });
}
await devnet.stop();
finish();
