# The command `peercache` in an image FROM scratch.
#
#   docker build -t peercache .
#
# deploy/Dockerfile.prebuilt makes the same image from a binary that exists already.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /source
COPY . .
# A target folder of its own, named after the target, so that build scripts are not made static.
RUN target="$(rustc -vV | sed -n 's/^host: //p')" && \
    RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release --target "$target" \
        --package peercache-cli --no-default-features && \
    cp "target/$target/release/peercache" /peercache
# Images FROM scratch have no mkdir and no chown: the folder comes from here.
RUN mkdir --mode 0700 /cache

FROM scratch
COPY --from=build /peercache /peercache
COPY --from=build --chown=65532:65532 /cache /cache
USER 65532:65532
ENV CACHE_DIR=/cache CACHE_HTTP_LISTEN=0.0.0.0:9180
VOLUME /cache
EXPOSE 9180 9100
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["/peercache", "stats", "--url", "http://127.0.0.1:9180"]
ENTRYPOINT ["/peercache"]
CMD ["serve"]
