// forge (npm's build of it) against a running devnet: build, create, script, and `cast run` of what they sent.
//
//   node forge.mjs http://127.0.0.1:8545
//
// There is no native solc here: forge is given a wrapper around solc-js, which speaks standard JSON as solc does.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { artifact, check, finish, number, rows } from "./lib.mjs";

const [url] = process.argv.slice(2);
const require = createRequire(import.meta.url);
const FORGE = require.resolve("@foundry-rs/forge-linux-amd64/bin/forge");
const CAST = require.resolve("@foundry-rs/cast-linux-amd64/bin/cast");
const CONTRACTS = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "devnet", "contracts", "src");
// Account 0 of the devnet's well-known mnemonic.
const KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

const project = mkdtempSync(join(tmpdir(), "penstock-forge-"));
process.on("exit", () => rmSync(project, { recursive: true, force: true }));
mkdirSync(join(project, "src"));
mkdirSync(join(project, "script"));
cpSync(join(CONTRACTS, "test", "Tracee.sol"), join(project, "src", "Tracee.sol"));
const solc = join(project, "solc");
writeFileSync(
  solc,
  `#!/usr/bin/env node
const solc = require(${JSON.stringify(require.resolve("solc"))});
if (process.argv.includes("--version")) {
  console.log("solc, the solidity compiler commandline interface\\nVersion: " + solc.version());
} else {
  console.log(solc.compile(require("node:fs").readFileSync(0, "utf8")));
}
`,
);
chmodSync(solc, 0o755);
writeFileSync(
  join(project, "foundry.toml"),
  `[profile.default]\nsrc = "src"\nsolc = ${JSON.stringify(solc)}\noffline = true\nevm_version = "cancun"\n`,
);
writeFileSync(
  join(project, "script", "Bump.s.sol"),
  `// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;
import {Tracee} from "../src/Tracee.sol";
interface Vm { function startBroadcast() external; function stopBroadcast() external; }
contract Bump {
    Vm constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    bool public IS_SCRIPT = true;
    function run() external {
        vm.startBroadcast();
        Tracee made = new Tracee();
        made.bump();
        made.make2{value: 5}(bytes32(uint256(1)));
        vm.stopBroadcast();
        require(made.count() == 1);
    }
}
`,
);

async function run(tool, ...args) {
  const env = { ...process.env, ETH_RPC_URL: url, FOUNDRY_DISABLE_NIGHTLY_WARNING: "1", HOME: project };
  const { stdout } = await promisify(execFile)(tool, args, { cwd: project, env, timeout: 120_000, maxBuffer: 1 << 26 });
  return stdout.trim();
}

const built = await check("forge: build", () => run(FORGE, "build"));
const made = built !== undefined && (await check("forge: create", async () => {
  const out = JSON.parse(await run(FORGE, "create", "--json", "--broadcast", "--private-key", KEY, "src/Tracee.sol:Tracee"));
  assert.match(out.deployedTo, /^0x/);
  return out;
}));

if (made) {
  await check("cast: call, a custom error, and run of a transaction again", async () => {
    assert.equal(await run(CAST, "call", made.deployedTo, "count()(uint256)"), "0");
    await assert.rejects(run(CAST, "call", made.deployedTo, "demand(uint256)", "5"), (error) => /aba4b659|TooFew/.test(error.stderr));
    await assert.rejects(run(CAST, "estimate", made.deployedTo, "refuse()"), (error) => /refused/.test(error.stderr));
    const sent = JSON.parse(await run(CAST, "send", "--json", "--private-key", KEY, made.deployedTo, "survive()"));
    const again = await run(CAST, "run", sent.transactionHash);
    assert.match(again, /Transaction successfully executed/);
    assert.match(again, new RegExp(`Gas used: ${Number(sent.gasUsed)}`));
  });

  await check("cast: proof, access list, storage at a height", async () => {
    const proof = JSON.parse(await run(CAST, "proof", made.deployedTo, "0"));
    assert.ok(proof.accountProof.length > 0);
    assert.match(await run(CAST, "access-list", made.deployedTo, "bump()"), /0x/);
    assert.equal(BigInt(await run(CAST, "storage", made.deployedTo, "0")), 1n);
  });

  if (process.env.PENSTOCK_BIN) {
    await check("forge: a test replays what a devnet answered", async () => {
      const risk = rows("risk");
      cpSync(CONTRACTS, join(project, "src", "penstock"), { recursive: true });
      const from = Number(await run(CAST, "block-number"));
      const bytecode = artifact("LoanBook").bytecode;
      const args = await run(CAST, "abi-encode", "constructor(string,string)", "risk", risk.input);
      const book = JSON.parse(await run(CAST, "send", "--json", "--private-key", KEY, "--create", bytecode + args.slice(2)));
      const row = `[${risk.rows[0].input.map(number).map(({ value, decimals }) => `(${value},${decimals})`).join(",")}]`;
      const request = ["request(uint256,(int128,int128)[])", "5", row];
      const sent = JSON.parse(await run(CAST, "send", "--json", "--private-key", KEY, book.contractAddress, ...request));
      assert.equal(sent.status, "0x1");
      mkdirSync(join(project, "test"), { recursive: true });
      const file = join(project, "test", "RecordedInference.sol");
      const recorded = await run(process.env.PENSTOCK_BIN, "record", "--rpc-url", url, "--from-block", String(from), file);
      assert.match(recorded, /^\d+ answers? /);
      const calldata = await run(CAST, "calldata", ...request);
      const other = await run(CAST, "calldata", request[0], "5", row.replace(/\d/, (digit) => String((Number(digit) + 1) % 10)));
      const score = await run(CAST, "call", book.contractAddress, "loans(uint256)(address,uint64,uint256,int256)", "0");
      writeFileSync(
        join(project, "test", "Loan.t.sol"),
        `// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;
import {LoanBook} from "../src/penstock/demo/LoanBook.sol";
import {RecordedInference} from "./RecordedInference.sol";
interface Vm { function etch(address, bytes calldata) external; }
contract LoanTest {
    Vm constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    LoanBook book;
    function setUp() external {
        vm.etch(address(0xF4), type(RecordedInference).runtimeCode);
        book = new LoanBook("risk", ${JSON.stringify(risk.input)});
    }
    function testTheRecordedScoreIsRead() external {
        (bool done,) = address(book).call(hex"${calldata.slice(2)}");
        require(done, "the loan was refused");
        (, , , int256 score) = book.loans(0);
        require(score == ${score.split("\n")[3].split(" ")[0]}, "another score");
    }
    function testAnotherCallIsNotRecorded() external {
        (bool done, bytes memory why) = address(book).call(hex"${other.slice(2)}");
        require(!done && bytes4(why) == RecordedInference.NotRecorded.selector, "it was answered");
    }
}
`,
      );
      const out = await run(FORGE, "test", "--match-contract", "LoanTest");
      assert.match(out, /2 (tests )?passed/);
    });
  }

  await check("forge: script, simulated and broadcast", async () => {
    await run(FORGE, "script", "script/Bump.s.sol:Bump", "--broadcast", "--private-key", KEY, "--rpc-url", url);
    const folder = join(project, "broadcast", "Bump.s.sol", "31337");
    const latest = readdirSync(folder).find((name) => name.startsWith("run-latest"));
    const { receipts } = JSON.parse(readFileSync(join(folder, latest), "utf8"));
    assert.equal(receipts.length, 3);
    assert.ok(receipts.every((receipt) => receipt.status === "0x1"));
  });
}
finish();
