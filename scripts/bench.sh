#!/usr/bin/env bash
# usage: scripts/bench.sh [OPTION ...]
# Builds all contestants of the benchmarks into build/bench, and runs them; the options are those of bench/main.go. The shim
# must have been built (make shim), and CARGO_TARGET_DIR say where. LIND_WASM, if set, is a clone of Lind-Project/lind-wasm
# to be measured beside.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD out=$PWD/build/bench
mkdir -p "$out"

# The floor: plain Rust on Wasmtime. cargo says what it has built as JSON.
floor=$(cargo bench --locked --manifest-path rust-shim/Cargo.toml --bench floor --no-run --message-format json-render-diagnostics |
	sed -n 's/.*"name":"floor".*"executable":"\([^"]*\)".*/\1/p')
install -C -m 755 "$floor" "$out/floor"

# Lind's tables, if there is a clone of Lind-Project/lind-wasm: LIND_WASM names it. It is no registry's crate, so nothing
# fetches it. What is built is HEAD.
if [[ -n ${LIND_WASM:-} ]]; then
	rm -rf "$out/lind-wasm"
	mkdir -p "$out/lind-wasm"
	git -C "$LIND_WASM" archive HEAD src/cage src/fdtables src/sysdefs src/threei src/typemap | tar -x -C "$out/lind-wasm"
	RUSTFLAGS=-Awarnings CARGO_TARGET_DIR=$out/lind cargo build --quiet --release --locked --manifest-path bench/peers/lind/Cargo.toml
	install -C -m 755 "$out/lind/release/lind-peer" "$out/lind-peer"
	git -C "$LIND_WASM" log -1 --format='lind-wasm %h of %cs' >"$out/lind-peer.version"
fi

# Processes of the host.
cc=${CC:-cc}
"$cc" -std=c11 -O2 -static -Wall -Wextra -Werror -o "$out/native" bench/peers/native.c
"$cc" -O2 -static -pthread -o "$out/threads" testdata/native/threads.c

# Ours, wazero and the harness; ours without cgo; and the benchmarks of packages.
(
	cd bench
	CGO_ENABLED=1 go build -o "$out/bench" .
	CGO_ENABLED=0 go build -o "$out/bench-nocgo" .
)
for package in threei fdtables; do
	go test -c -o "$out/$package.test" "./$package"
done

exec "$out/bench" --root "$root" "$@"
