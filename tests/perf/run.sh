#!/usr/bin/env bash
# Times the inference engine against its peers in one run, and prints a table with ratios.
#
#   tests/perf/run.sh [SECONDS]    seconds for each line; 1 where not said
#
# Peers: ONNX Runtime on the CPU (one thread), and ONNX Runtime's WebGPU backend on lavapipe 25 (Debian backports), on
# which ours runs too: the same adapter for both. Needs a network on the first run; what it fetched stays in
# ~/.cache/penstock/perf. It builds the binary in the release profile, unless PENSTOCK_BIN names one.
# Figures of two runs are not to be compared: ratios within a run are.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-1}
here=tests/perf
cache=${PENSTOCK_CACHE:-$HOME/.cache/penstock}/perf
mkdir -p "$cache"

environment() { # NAME: a Python environment with requirements-NAME.txt
  local stamp
  stamp=$cache/$1/.$(sha256sum "$here/requirements-$1.txt" | cut -c1-16)
  [ -e "$stamp" ] && return
  rm -rf "${cache:?}/$1"
  python3 -m venv "$cache/$1"
  "$cache/$1/bin/pip" install -q -r "$here/requirements-$1.txt"
  touch "$stamp"
}
environment cpu
environment webgpu

# lavapipe 25 beside the system's: the peer refuses Debian 12's own. Apt's lists stay ours.
mesa=25.0.7-2~bpo12+1
icd=$cache/mesa-$mesa.json
if [ ! -e "$icd" ]; then
  apt=$cache/apt
  mkdir -p "$apt/lists/partial" "$cache/mesa"
  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  echo "deb [signed-by=$keyring] http://deb.debian.org/debian bookworm-backports main" >"$apt/sources"
  options=(-o "Dir::Etc::sourcelist=$apt/sources" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$apt/lists"
    -o APT::Sandbox::User=root)
  apt-get -qq "${options[@]}" update
  (cd "$apt" && apt-get -qq "${options[@]}" download "mesa-vulkan-drivers=$mesa")
  dpkg -x "$apt"/mesa-vulkan-drivers_*.deb "$cache/mesa"
  library=$cache/mesa/usr/lib/x86_64-linux-gnu/libvulkan_lvp.so
  [ -e "$library" ]
  printf '{"ICD": {"api_version": "1.4.305", "library_path": "%s"}, "file_format_version": "1.0.0"}\n' "$library" >"$icd"
fi

if [ -z "${PENSTOCK_BIN:-}" ]; then
  export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${cache%/perf}/target}
  cargo build --release --workspace --bin penstock
  PENSTOCK_BIN=$CARGO_TARGET_DIR/release/penstock
fi

models=$cache/models
"$cache/cpu/bin/python" "$here/models.py" "$models"
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

rows() { if [ "$1" = gemm512 ]; then echo 512; else echo 1,64; fi; }
budget=$(awk "BEGIN { print int(1000 * $seconds) }")
for model in gemm512 mlp conv1d cnn transformer; do
  file=$models/$model/model.onnx
  half=$models/$model/exact16.onnx
  "$PENSTOCK_BIN" model set-mode "$file" exact16 --output "$half" >/dev/null
  ours() { "$PENSTOCK_BIN" model bench "$2" --batch "$(rows $model)" --budget "$budget" --json --backend "$1"; }
  peer() { "$cache/$1/bin/python" "$here/peer.py" "$2" "$seconds" "$(rows $model)" "$file"; }
  # Ours and the peer's one after the other, so that the machine's moods meet both.
  ours cpu "$file" >>"$results/exact24-cpu"
  peer cpu CPUExecutionProvider >>"$results/peer-cpu"
  ours cpu "$half" >>"$results/exact16-cpu"
  export VK_DRIVER_FILES=$icd
  ours gpu "$file" >>"$results/exact24-gpu"
  peer webgpu WebGpuExecutionProvider >>"$results/peer-gpu" 2>"$results/peer-gpu.log" \
    || { cat "$results/peer-gpu.log"; exit 1; }
  ours gpu "$half" >>"$results/exact16-gpu"
  unset VK_DRIVER_FILES
done
"$cache/cpu/bin/python" "$here/report.py" "$results"
