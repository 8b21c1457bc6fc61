// What wallets ask when a network is added and an account is shown: MetaMask's set, in its order.
//
//   node wallets.mjs http://127.0.0.1:8545

import assert from "node:assert/strict";
import { check, finish } from "./lib.mjs";

const [url] = process.argv.slice(2);
const ALICE = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266";
const QUANTITY = /^0x(0|[1-9a-f][0-9a-f]*)$/;

async function rpc(method, ...params) {
  const headers = { "content-type": "application/json", origin: "chrome-extension://nkbihfbeogaeaoehlefnkodbefgpgknn" };
  const response = await fetch(url, { method: "POST", headers, body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }) });
  assert.equal(response.headers.get("access-control-allow-origin"), "*");
  const { result, error } = await response.json();
  assert.equal(error, undefined, JSON.stringify(error));
  return result;
}

await check("MetaMask: a network is added", async () => {
  assert.equal(await rpc("eth_chainId"), "0x7a69");
  assert.equal(await rpc("net_version"), "31337");
  const preflight = await fetch(url, {
    method: "OPTIONS",
    headers: { origin: "https://example.org", "access-control-request-method": "POST", "access-control-request-headers": "content-type" },
  });
  assert.ok(preflight.ok);
});

await check("MetaMask: blocks are polled and an account is shown", async () => {
  const number = await rpc("eth_blockNumber");
  assert.match(number, QUANTITY);
  const block = await rpc("eth_getBlockByNumber", number, false);
  assert.match(block.baseFeePerGas, QUANTITY);
  for (const field of ["hash", "parentHash", "timestamp", "gasLimit", "miner", "transactions"]) assert.ok(block[field] !== undefined, field);
  assert.ok(BigInt(await rpc("eth_getBalance", ALICE, number)) > 0n);
  assert.equal(await rpc("eth_getCode", ALICE, "latest"), "0x");
  assert.match(await rpc("eth_getTransactionCount", ALICE, "pending"), QUANTITY);
});

await check("MetaMask: a transfer is priced", async () => {
  assert.match(await rpc("eth_gasPrice"), QUANTITY);
  const history = await rpc("eth_feeHistory", "0x5", "latest", [10, 20, 30]);
  assert.equal(history.baseFeePerGas.length, history.gasUsedRatio.length + 1);
  const gas = Number(await rpc("eth_estimateGas", { from: ALICE, to: ALICE, value: "0x1" }));
  assert.equal(gas, 21_000);
  assert.equal(await rpc("eth_call", { to: ALICE, data: "0x70a08231" }, "latest"), "0x");
  assert.equal(await rpc("eth_getTransactionReceipt", `0x${"11".repeat(32)}`), null);
});
finish();
