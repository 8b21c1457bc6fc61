#!/usr/bin/env bash
# Runs real clients against a devnet of its own.
#
#   PENSTOCK_BIN=target/debug/penstock PENSTOCK_VENV=.venv PENSTOCK_VENV_WEB3_8=.venv8 tests/clients/run.sh
#
# With PENSTOCK_RPC_URL set, it uses that devnet and starts none; PENSTOCK_TIMED_BLOCKS says that its blocks come by time,
# so that one may come while a client still asks and signs. The last line is "N passed, M failed".
set -uo pipefail
cd "$(dirname "$0")" || exit 1

devnet='' scratch=$(mktemp -d)
stop() {
  # The devnet that this script started, by its id: first asked, then made to.
  if [ -n "$devnet" ] && kill -0 "$devnet" 2>/dev/null; then
    kill -INT "$devnet"
    for _ in $(seq 100); do
      kill -0 "$devnet" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL "$devnet" 2>/dev/null
  fi
  rm -rf "$scratch"
}
trap stop EXIT

url=${PENSTOCK_RPC_URL:-}
if [ -z "$url" ]; then
  : "${PENSTOCK_BIN:?is the penstock binary}"
  "$PENSTOCK_BIN" up --port 0 --quiet --backend cpu --ready-file "$scratch/ready" >"$scratch/log" 2>&1 &
  devnet=$!
  for _ in $(seq 600); do
    [ -s "$scratch/ready" ] && break
    if ! kill -0 "$devnet" 2>/dev/null; then break; fi
    sleep 0.1
  done
  if [ ! -s "$scratch/ready" ]; then
    echo "the devnet did not get ready:"
    cat "$scratch/log"
    echo "0 passed, 1 failed"
    exit 1
  fi
  url=$(head -n 1 "$scratch/ready")
fi
case $url in http*) ;; *) url=http://$url ;; esac
python=${PENSTOCK_VENV:+$PENSTOCK_VENV/bin/}python3

passed=0 failed=0
client() {
  local output status
  output=$("$@" 2>&1)
  status=$?
  echo "$output" | grep -vE '^[0-9]+ passed, [0-9]+ failed$'
  local counts
  counts=$(echo "$output" | grep -E '^[0-9]+ passed, [0-9]+ failed$' | tail -n 1)
  if [ -z "$counts" ]; then
    echo "FAILED  $* ended with $status before its end"
    failed=$((failed + 1))
    return
  fi
  read -r ok _ bad _ <<<"$counts"
  passed=$((passed + ok)) failed=$((failed + bad))
}
client node ethers.mjs "$url"
client node cast.mjs "$url"
client node viem.mjs "$url"
client node wallets.mjs "$url"
client node traces.mjs "$url"
client node forge.mjs "$url"
client "$python" sdk.py "$url"
client "$python" flows.py "$url" 9
client "${PENSTOCK_VENV_WEB3_8:+$PENSTOCK_VENV_WEB3_8/bin/}python3" flows.py "$url" 9
# These start devnets of their own, to flood them.
if [ -n "${PENSTOCK_BIN:-}" ]; then
  client node bursts.mjs
  client node hostile.mjs
  client node recorded.mjs
  client node dev.mjs
  client node anvil.mjs
fi

if [ "$failed" -gt 0 ] && [ -s "$scratch/log" ]; then
  echo "the end of the devnet's log:"
  tail -n 40 "$scratch/log"
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
