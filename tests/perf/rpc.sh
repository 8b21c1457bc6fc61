#!/usr/bin/env bash
# Measures the devnet's JSON-RPC beside anvil's in one run: CPU time and wall time of a transaction, with ratios.
#
#   tests/perf/rpc.sh [TRANSACTIONS] [ROUNDS] [SINGLES]    of each case, 2,000 in 4 rounds where not said; 200 one by one
#
# anvil comes from npm (tests/perf/rpc/package.json pins it) and stays in ~/.cache/penstock/perf; so does what signs. It
# builds the binary in the release profile, unless PENSTOCK_BIN names one. tests/perf/rpc/run.mjs says what is measured.
# Figures of two runs are not to be compared: ratios within a run are.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tests/perf/rpc
cache=${PENSTOCK_CACHE:-$HOME/.cache/penstock}/perf/rpc
stamp=$cache/.$(cat "$here"/package*.json | sha256sum | cut -c1-16)
if [ ! -e "$stamp" ]; then
  rm -rf "$cache"
  mkdir -p "$cache"
  cp "$here"/package*.json "$cache"/
  (cd "$cache" && npm ci --no-audit --no-fund --ignore-scripts --silent)
  touch "$stamp"
fi
ln -sfn "$cache/node_modules" "$here/node_modules"

if [ -z "${PENSTOCK_BIN:-}" ]; then
  export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/penstock/target}
  cargo build --release --workspace --bin penstock
  PENSTOCK_BIN=$CARGO_TARGET_DIR/release/penstock
fi
export PENSTOCK_BIN ANVIL_BIN=${ANVIL_BIN:-$cache/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil}
exec node "$here/run.mjs" "$@"
