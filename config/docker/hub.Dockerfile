# The hub in a container: `docker build -f config/docker/hub.Dockerfile -t fieldlog-hub .`
#
# NEVER BUILT SO FAR: there was no Docker engine where it was written. Remove this notice when it has been.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --locked --release -p fieldlog-hub

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
RUN useradd --system --no-create-home --uid 997 fieldlog
COPY --from=build /src/target/release/fieldlog-hub /usr/bin/fieldlog-hub
USER fieldlog
EXPOSE 8090
ENTRYPOINT ["fieldlog-hub"]
CMD ["run", "--config", "/etc/fieldlog/hub.toml"]
