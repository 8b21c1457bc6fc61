// A devnet of a test's own: it may be flooded, and killed.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Longest wait for a devnet to be ready, on a loaded machine. */
const READY_S = 120;

/** Starts the binary on a free port and a folder of its own, and waits until it serves. */
export async function start(...args) {
  const folder = mkdtempSync(join(tmpdir(), "penstock-client-"));
  const ready = join(folder, "ready");
  const data = ["--data", join(folder, "data"), "--ready-file", ready];
  const child = spawn(process.env.PENSTOCK_BIN, ["up", "--port", "0", "--quiet", "--backend", "cpu", ...data, ...args], { stdio: "ignore" });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  process.once("SIGTERM", () => process.exit(1));
  process.on("exit", () => {
    child.kill("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  });
  for (let waited = 0; !(existsSync(ready) && readFileSync(ready, "utf8").endsWith("\n")); waited += 20) {
    assert.ok(waited < READY_S * 1000 && child.exitCode === null, "the devnet did not get ready");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const address = readFileSync(ready, "utf8").trim();
  return {
    address,
    url: `http://${address}`,
    /** Whether the process is there. */
    alive: () => child.exitCode === null && child.signalCode === null,
    /** Memory that it has now, in MiB. */
    memory: () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))[1]) / 1024,
    async stop() {
      child.kill("SIGKILL");
      await ended;
    },
  };
}
