# syntax=docker/dockerfile:1
# Rowcast is the last stage, so that `docker build .` makes it. The others are named targets for docker-compose.yml.

# Postgres with the output plugin that Rowcast reads by default.
FROM postgres:17-bookworm AS postgres
RUN apt-get update \
 && apt-get install -y --no-install-recommends postgresql-17-wal2json \
 && rm -rf /var/lib/apt/lists/*
# A logical slot needs wal_level. Minor releases since November 2026 use only the plugins that output_plugin_libraries
# names; older ones do not start with a setting that they do not know, hence the question. The image's own entry point,
# called again with `postgres`, does the rest.
CMD ["bash", "-c", "set -- -c wal_level=logical; if postgres --describe-config | grep -q ^output_plugin_libraries; then set -- \"$@\" -c output_plugin_libraries=pgoutput,test_decoding,wal2json; fi; exec docker-entrypoint.sh postgres \"$@\""]

# The demos: the pages' bundles and the backend that serves them.
FROM node:20-bookworm-slim AS demo
WORKDIR /app
COPY examples/package.json examples/package-lock.json examples/.npmrc ./
RUN npm ci
COPY examples/ ./
RUN npm run build
ENV HOST=0.0.0.0 PORT=3000
EXPOSE 3000
USER node
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=6 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/healthz`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "server.mjs"]

# The caches keep the compiled dependencies between builds; the binary is copied out because they are not in the image.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin rowcast && cp target/release/rowcast /rowcast

FROM debian:bookworm-slim AS rowcast
# The certificates are for Postgres over TLS and for JWKS documents over HTTPS.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --no-create-home rowcast
COPY --from=build /rowcast /usr/local/bin/rowcast
ENV PORT=4000
EXPOSE 4000
USER rowcast
# bash speaks enough HTTP for this, so the image needs no client. It speaks no TLS: there it looks whether somebody listens.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=6 \
  CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/$PORT && { [ -n \"$ROWCAST_LISTEN_TLS_CERTIFICATE\" ] || { printf 'GET /healthcheck HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [ \"$status\" = 200 ]; }; }"]
ENTRYPOINT ["rowcast"]
CMD ["serve"]
