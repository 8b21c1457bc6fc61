// What the Node clients share: the repository's artifacts and rows, the devnet's accounts, and a counter of checks.

import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");

export const MNEMONIC = "test test test test test test test test test test test junk";
export const INFERENCE = "0x00000000000000000000000000000000000000F4";
export const HUB = "0x8383C9bD7462F12Eb996DD02F78234C0421A6FaE";
export const MODEL_REGISTRY = "0x0000000000000000000000000000000000F40001";

/** A compiled contract of devnet/contracts. */
export function artifact(name) {
  return JSON.parse(readFileSync(join(ROOT, "devnet", "contracts", "artifacts", `${name}.json`), "utf8"));
}

/** Real rows of a built-in model, with ONNX Runtime's outputs. */
export function rows(model) {
  return JSON.parse(readFileSync(join(ROOT, "devnet", "models", `${model}.rows.json`), "utf8"));
}

/** The decimal text "12.50" as a Number of the interface. */
export function number(text) {
  const [whole, fraction = ""] = text.split(".");
  return { value: BigInt(whole + fraction), decimals: BigInt(fraction.length) };
}

/** A Number of the interface as a double. */
export function float({ value, decimals }) {
  return Number(`${value}e${-decimals}`);
}

/** Equal at the tolerance of f32 arithmetic: a few units of its 24 bits. */
export function close(a, b) {
  return Math.abs(a - b) <= 1e-5 * Math.max(1, Math.abs(b));
}

let passed = 0;
let failed = 0;

/** Runs one check and counts it; the rest goes on. Gives what it returns. */
export async function check(name, run) {
  try {
    const value = await run();
    passed += 1;
    console.log(`ok      ${name}`);
    return value;
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}: ${error.stack ?? error}`);
    return undefined;
  }
}

/** Prints the count, and ends the process by it. */
export function finish() {
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed === 0 ? 0 : 1);
}

/** The promise's value, or an error that says what did not come in time. */
export function within(seconds, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come within ${seconds} s`)), seconds * 1000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
