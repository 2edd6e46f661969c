# A static binary in an otherwise empty image.
#
#   docker build --tag faas-gateway .
#   docker buildx build --platform linux/amd64,linux/arm64 --tag faas-gateway .
#
# The image is for gateways in front of an OpenFaaS provider (faas-netes,
# faasd): it holds no command that the process provider could run. To use that
# one in a container, copy /faas-gateway into an image that has your commands.

# The one version: at least rust-version in Cargo.toml.
ARG RUST_VERSION=1.95

# Alpine's Rust targets musl, so what it builds is static. Each platform builds
# for itself (natively or emulated): no cross compiler has to be kept working.
FROM rust:${RUST_VERSION}-alpine AS build
ARG TARGETARCH
# cc and make for the C parts of the build: the allocator and the cryptography.
RUN apk add --no-cache build-base ca-certificates
# Already musl's default; said here because the last stage depends on it. With
# --target below it does not reach build scripts and macros.
ENV RUSTFLAGS="-C target-feature=+crt-static"
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=faas-gateway-target-${TARGETARCH} \
    set -eu; \
    case "${TARGETARCH:-$(uname -m)}" in \
        amd64 | x86_64) target=x86_64-unknown-linux-musl ;; \
        arm64 | aarch64) target=aarch64-unknown-linux-musl ;; \
        *) echo "no build for TARGETARCH=${TARGETARCH}: amd64 or arm64" >&2; exit 1 ;; \
    esac; \
    cargo build --release --locked --bin faas-gateway --target "$target"; \
    cp "target/$target/release/faas-gateway" /faas-gateway

FROM scratch
LABEL org.opencontainers.image.title="faas-gateway" \
      org.opencontainers.image.description="API gateway for serverless functions, compatible with OpenFaaS" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/LICENSE /LICENSE
COPY --from=build /faas-gateway /faas-gateway
# A number, so that orchestrators can see that it is not root.
USER 65532:65532
# 8080: API, functions and portal; 8082: metrics
EXPOSE 8080 8082
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 \
    CMD ["/faas-gateway", "healthcheck", "--timeout", "2s"]
ENTRYPOINT ["/faas-gateway"]
CMD ["serve"]
