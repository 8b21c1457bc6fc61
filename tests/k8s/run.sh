#!/usr/bin/env bash
# Checks everything in k8s/, and runs the local overlay, with keys of its own, as processes in network namespaces.
#
#   PENSTOCK_BIN=target/debug/penstock PENSTOCK_VENV=... PENSTOCK_NATS_SERVER=... PENSTOCK_KUBECTL=... tests/k8s/run.sh
#
# PENSTOCK_TEST_ROLLOUT=1 restarts each role of a testnet of three NATS servers under load, and kills, pauses and cuts off
# pods (8 minutes more). The last line is "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")" || exit 1
: "${PENSTOCK_BIN:?is the penstock binary}" "${PENSTOCK_VENV:?is the environment of tests/requirements.txt}"
: "${PENSTOCK_NATS_SERVER:?is a nats-server}" "${PENSTOCK_KUBECTL:?is kubectl}"
bin=$PENSTOCK_VENV/bin
passed=0 failed=0

# tool NAME COMMAND...: one check.
tool() {
  local name=$1 output
  shift
  if output=$("$@" 2>&1); then
    passed=$((passed + 1)); echo "ok      $name"
  else
    failed=$((failed + 1)); echo "FAILED  $name"; echo "$output"
  fi
}
# tests COMMAND...: many checks, that count themselves.
tests() {
  local output=$scratch/output
  "$@" 2>&1 | tee "$output" | grep --line-buffered -vE '^[0-9]+ passed, [0-9]+ failed$'
  if read -r p _ f _ < <(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$output"); then
    passed=$((passed + p)) failed=$((failed + f))
  else
    failed=$((failed + 1)); echo "FAILED  $* ended before its end"
  fi
}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

tool "yamllint" "$bin/yamllint" --strict --config-file yamllint.yaml ../../k8s ../../compose.yaml crds
tool "hadolint" "$bin/hadolint" ../../Dockerfile
tests "$bin/python" static.py --kubectl "$PENSTOCK_KUBECTL" --penstock "$PENSTOCK_BIN"
live=("$bin/python" live.py --kubectl "$PENSTOCK_KUBECTL" --penstock "$PENSTOCK_BIN" --nats "$PENSTOCK_NATS_SERVER")
if [ "$(id -u)" -ne 0 ]; then
  echo "        live: only root can make network namespaces"
elif [ -n "${PENSTOCK_TEST_ROLLOUT:-}" ]; then
  tests "${live[@]}" --component keys
  tests "${live[@]}" --overlay base --roll-out --faults
else
  tests "${live[@]}" --component keys --replicas 2 --roll-out
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
