# The test image: builds lindbridge from a clean copy of the tree and runs everything that must pass.
#   docker build -t lindbridge-test .
FROM docker.io/library/rust:1.95-bookworm AS rust

FROM docker.io/library/golang:1.26-bookworm
COPY --from=rust /usr/local/rustup /usr/local/rustup
COPY --from=rust /usr/local/cargo /usr/local/cargo
ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:$PATH

WORKDIR /src
COPY scripts/deps.sh scripts/
RUN scripts/deps.sh

# Dependencies first: they change less often than the sources.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN make build
CMD ["make", "test"]
