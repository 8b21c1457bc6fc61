// Compiles src/**/*.sol and writes one compact JSON per contract to artifacts/: abi, bytecode, deployedBytecode.
//
//   node build.mjs           writes the artifacts, and removes those that have no source any more
//   node build.mjs --check   writes nothing; fails where the checked-in artifacts differ from a fresh build
//
// The same sources give the same bytes on every machine: the compiler's version is pinned in package.json, and the
// metadata trailer (a hash over paths and settings) is left out.

import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import solc from "solc";

const HERE = dirname(fileURLToPath(import.meta.url));
const SOURCES = join(HERE, "src");
const ARTIFACTS = join(HERE, "artifacts");

const SETTINGS = {
  // The oldest hardfork that the devnet can be set to and that has MCOPY and transient storage; later ones run its code.
  evmVersion: "cancun",
  // 200 runs: solc's own default, a balance between deployment and use. The IR pipeline, because the inference types
  // nest too deeply for the stack otherwise.
  optimizer: { enabled: true, runs: 200 },
  viaIR: true,
  metadata: { appendCBOR: false, bytecodeHash: "none" },
  outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "storageLayout"] } },
};

function sources() {
  const files = readdirSync(SOURCES, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(".sol"))
    .map((entry) => join(entry.parentPath, entry.name));
  return Object.fromEntries(
    files.sort().map((file) => [relative(SOURCES, file).replaceAll("\\", "/"), { content: readFileSync(file, "utf8") }]),
  );
}

function compile() {
  const input = { language: "Solidity", sources: sources(), settings: SETTINGS };
  const output = JSON.parse(solc.compile(JSON.stringify(input)));
  const problems = output.errors ?? [];
  for (const problem of problems) console.error(problem.formattedMessage);
  if (problems.length > 0) throw new Error(`solc reports ${problems.length} problem(s); warnings count`);

  const artifacts = new Map();
  for (const [source, contracts] of Object.entries(output.contracts)) {
    for (const [name, { abi, evm, storageLayout }] of Object.entries(contracts)) {
      const file = `${name}.json`;
      if (artifacts.has(file)) throw new Error(`two contracts are called ${name}`);
      const storage = storageLayout.storage.map(({ label, slot, offset, type }) => ({ label, slot, offset, type }));
      const artifact = {
        source,
        abi,
        bytecode: `0x${evm.bytecode.object}`,
        deployedBytecode: `0x${evm.deployedBytecode.object}`,
        storage: storage.map((item) => ({ ...item, type: item.type.replaceAll(/\)\d+_storage/g, ")_storage") })),
      };
      artifacts.set(file, `${JSON.stringify(artifact)}\n`);
    }
  }
  return artifacts;
}

const check = process.argv.includes("--check");
const fresh = compile();
const present = existsSync(ARTIFACTS) ? readdirSync(ARTIFACTS).filter((file) => file.endsWith(".json")) : [];
const stale = present.filter((file) => !fresh.has(file));
const changed = [...fresh].filter(
  ([file, text]) => !present.includes(file) || readFileSync(join(ARTIFACTS, file), "utf8") !== text,
);

if (check) {
  for (const [file] of changed) console.error(`artifacts/${file} differs from a fresh build`);
  for (const file of stale) console.error(`artifacts/${file} has no source`);
  if (changed.length + stale.length > 0) process.exit(1);
  console.log(`${fresh.size} artifacts are equal to a fresh build with solc ${solc.version()}`);
} else {
  mkdirSync(ARTIFACTS, { recursive: true });
  for (const [file, text] of changed) writeFileSync(join(ARTIFACTS, file), text);
  for (const file of stale) rmSync(join(ARTIFACTS, file));
  console.log(`${changed.length} of ${fresh.size} artifacts written, ${stale.length} removed`);
}
