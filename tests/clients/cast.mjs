// Foundry's cast (npm's build of it) against a running devnet.
//
//   node cast.mjs http://127.0.0.1:8545

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createRequire } from "node:module";
import { promisify } from "node:util";
import { INFERENCE, artifact, check, close, finish, number, rows } from "./lib.mjs";

const [url] = process.argv.slice(2);
const CAST = createRequire(import.meta.url).resolve("@foundry-rs/cast-linux-amd64/bin/cast");
// Account 3 of the devnet's well-known mnemonic.
const KEY = "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6";
const ADDRESS = "0x90F79bf6EB2c4f870365E785982E1f101E93b906";
const RISK = rows("risk");
const REQUEST = "request(uint256,(int128,int128)[])";

async function cast(...args) {
  const env = { ...process.env, ETH_RPC_URL: url };
  const { stdout } = await promisify(execFile)(CAST, args, { env, timeout: 60_000 });
  return stdout.trim();
}

const send = async (...args) => JSON.parse(await cast("send", "--json", "--private-key", KEY, ...args));
const tuples = (row) => `[${row.map(number).map(({ value, decimals }) => `(${value},${decimals})`).join(",")}]`;

await check("cast: chain id, client, balance", async () => {
  assert.equal(await cast("chain-id"), "31337");
  assert.ok((await cast("client")).length > 0);
  assert.ok(Number(await cast("balance", "--ether", ADDRESS)) > 1000);
});

await check("cast: send a transfer, read its receipt and the block", async () => {
  const to = "0x00000000000000000000000000000000000c0ffe";
  const before = BigInt(await cast("balance", to));
  const receipt = await send(to, "--value", "123");
  assert.equal(receipt.status, "0x1");
  assert.equal(BigInt(await cast("balance", to)) - before, 123n);
  const again = JSON.parse(await cast("receipt", "--json", receipt.transactionHash));
  assert.equal(again.blockHash, receipt.blockHash);
  const block = JSON.parse(await cast("block", "--json", String(Number(receipt.blockNumber))));
  assert.ok(block.transactions.includes(receipt.transactionHash));
  assert.equal((await cast("tx", receipt.transactionHash, "from")).toLowerCase(), ADDRESS.toLowerCase());
});

const book = await check("cast: create a contract", async () => {
  const { bytecode } = artifact("LoanBook");
  const args = await cast("abi-encode", "constructor(string,string)", "risk", RISK.input);
  const receipt = await send("--create", bytecode + args.slice(2));
  assert.equal(receipt.status, "0x1");
  return receipt.contractAddress;
});

if (book) {
  const row = RISK.rows[7];
  await check("cast: call and estimate with inference", async () => {
    assert.equal(await cast("call", book, `${REQUEST}(uint256)`, "5", tuples(row.input)), "0");
    assert.ok(Number(await cast("estimate", book, REQUEST, "5", tuples(row.input))) > 21_000);
  });

  await check("cast: send with inference, read the result back", async () => {
    const receipt = await send(book, REQUEST, "5", tuples(row.input));
    assert.equal(receipt.status, "0x1");
    const loan = JSON.parse(await cast("call", "--json", book, "loans(uint256)(address,uint64,uint256,int256)", "0"));
    assert.equal(loan[0].toLowerCase(), ADDRESS.toLowerCase());
    assert.ok(close(Number(loan[3]) / 1e6, Number(row.output[0])), `${loan[3]} millionths are not ${row.output[0]}`);
    const logs = JSON.parse(
      await cast("logs", "--json", "--address", INFERENCE, "--from-block", String(Number(receipt.blockNumber))),
    );
    assert.ok(logs.some((log) => log.transactionHash === receipt.transactionHash));
  });
}

await check("cast: storage and code of the predeploys", async () => {
  assert.equal(await cast("code", INFERENCE), "0xfe");
  const multiplier = BigInt(await cast("storage", "0x0000000000000000000000000000000000F40003", "0"));
  assert.equal(BigInt((await cast("call", "0x0000000000000000000000000000000000F40003", "multiplier()(uint256)")).split(" ")[0]), multiplier);
  assert.ok(multiplier > 0n);
});
finish();
