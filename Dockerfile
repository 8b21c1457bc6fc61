# The image of penstock: one binary, run by user 10001 on a read-only root file system.
#
#   docker build -t penstock .                        CPU, and GPUs whose driver the host brings
#   docker build -t penstock:lavapipe --target lavapipe .   with Mesa's software Vulkan driver
#
# To build the same again from the same commit, give the bases by digest:
#   --build-arg RUST=docker.io/library/rust@sha256:… --build-arg DEBIAN=docker.io/library/debian@sha256:…
# To pack a binary that is already there: --build-context binary=FOLDER, where FOLDER/penstock is it.
ARG RUST=docker.io/library/rust:1.95-bookworm
ARG DEBIAN=docker.io/library/debian:bookworm-slim

FROM ${RUST} AS build
WORKDIR /src
COPY . .
# --locked: the versions of Cargo.lock, or an error. Paths of the builder are in no panic message.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked \
    && mkdir /out \
    && install -m 0755 --strip target/release/penstock /out/penstock

FROM scratch AS binary
COPY --from=build /out/penstock /penstock

FROM ${DEBIAN} AS base
# The Vulkan loader finds drivers that the host mounts (NVIDIA's container toolkit does); without one, the processor
# computes. Versions are those of the Debian release: security updates are wanted, and old versions leave the mirrors.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libvulkan1 \
    && rm -rf /var/lib/apt/lists/* /var/log/* /var/cache/*
# A number, so that runAsNonRoot can be checked. /var/lib/penstock is the one place that is written to.
RUN groupadd --gid 10001 penstock \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/penstock --create-home --shell /usr/sbin/nologin penstock
COPY --from=binary /penstock /usr/local/bin/penstock
USER 10001:10001
WORKDIR /var/lib/penstock
# NVIDIA's container toolkit brings the Vulkan driver only where `graphics` is asked for.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics \
    PENSTOCK_LOG=info
# JSON-RPC over HTTP and WebSocket; health and metrics.
EXPOSE 8545 9545
ENTRYPOINT ["penstock"]
# A node or shard answers on its health port, `up` on JSON-RPC.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["sh", "-c", "penstock status || penstock model list"]
# The whole devnet in one container: docker run -p 8545:8545 penstock
CMD ["up", "--host", "0.0.0.0", "--data", "/var/lib/penstock/data"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="penstock" \
      org.opencontainers.image.description="An EVM devnet whose contracts call machine-learning models and get the answer in the same transaction" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM base AS lavapipe
USER 0
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends mesa-vulkan-drivers \
    && rm -rf /var/lib/apt/lists/* /var/log/* /var/cache/*
USER 10001:10001
ENV VK_DRIVER_FILES=/usr/share/vulkan/icd.d/lvp_icd.x86_64.json \
    PENSTOCK_INFERENCE__BACKEND=gpu

# The default target stands last.
FROM base AS penstock
