#!/usr/bin/env bash
# usage: scripts/guests.sh DIR           builds the C guests into DIR, the grates of examples/grates (as grate-NAME) with them
#        scripts/guests.sh --grates DIR  builds the grates alone into DIR, as NAME.wasm
#        scripts/guests.sh --check       builds the guests again and fails if one differs from what testdata/guests has
#
# The binaries in testdata/guests are committed, so that tests need no WebAssembly compiler. Their bytes depend on the
# compiler and on wasi-libc: --check is skipped where these are not the versions that testdata/guests/TOOLCHAIN names.
set -euo pipefail
cd "$(dirname "$0")/.."

committed=testdata/guests
cflags=(--target=wasm32-wasi -O2 -Wall -Wextra -Werror)
# Compiling and linking are two steps, and the link has no -O: clang would run wasm-opt, where that is installed, which
# drops the function names that backtraces show.
ldflags=(--target=wasm32-wasi -Wl,--strip-debug)
thread_cflags=("${cflags[@]}" -matomics -mbulk-memory -ffreestanding -fno-builtin)
thread_ldflags=("${ldflags[@]}" -nostdlib -Wl,--no-entry,--import-memory,--shared-memory,--max-memory=16777216)

toolchain() {
	command -v clang-14 >/dev/null && clang-14 --version | head -1 | sed 's/^/compiler: /' || true
	echo "wasi-libc: $(dpkg-query -W -f '${Version}' wasi-libc 2>/dev/null || echo none)"
}

# The grates: what each is linked of, beside what the Lind ABI's start needs.
grates() {
	local out=$1 prefix=$2 grates=examples/grates lind=guests/lind
	mkdir -p "$out"
	grate() { "$lind/build.sh" --grate --threads "${@:2}" -o "$out/$prefix$1.wasm"; }
	grate geteuid "$grates/geteuid/geteuid.c"
	grate strace "$grates/strace/strace.c" "$lind/lind_calls.c"
	grate chaos "$grates/chaos/chaos.c" "$lind/lind_calls.c"
	grate pipe "$grates/pipe/pipe.c"
	grate deny "$grates"/deny/{deny,policy,fdpaths}.c "$lind/lind_calls.c" "$lind/lind_path.c"
	grate fs-mem "$grates"/fs-mem/{fs-mem,cages,memfs}.c "$lind/lind_path.c"
}

build() {
	local out=$1 objects guest source
	objects=$(mktemp -d)
	mkdir -p "$out"
	for source in guests/c/*.c; do
		guest=$(basename "$source" .c)
		case $guest in
		lind-libc) guests/lind/build.sh --libc "$source" -o "$out/$guest.wasm" && continue ;;
		lind-*) guests/lind/build.sh "$source" -o "$out/$guest.wasm" && continue ;;
		esac
		clang-14 "${cflags[@]}" -c -o "$objects/$guest.o" "$source"
		clang-14 "${ldflags[@]}" -o "$out/$guest.wasm" "$objects/$guest.o"
	done
	clang-14 "${thread_cflags[@]}" -c -o "$objects/rt.o" guests/threads/rt.c
	clang-14 "${thread_cflags[@]}" -c -o "$objects/start.o" guests/threads/start.S
	for guest in threads workers; do
		clang-14 "${thread_cflags[@]}" -c -o "$objects/$guest.o" "guests/threads/$guest.c"
		clang-14 "${thread_ldflags[@]}" -o "$out/$guest.wasm" "$objects/$guest.o" "$objects/rt.o" "$objects/start.o"
	done
	rm -r "$objects"
	grates "$out" grate-
	# As few workers as one: a grate whose memory is not shared.
	guests/lind/build.sh --grate examples/grates/geteuid/geteuid.c -o "$out/grate-geteuid-single.wasm"
	chmod 644 "$out"/*.wasm
}

check() {
	if [[ $(toolchain) != "$(cat "$committed/TOOLCHAIN")" ]]; then
		echo "guests: not checked: other versions here than $committed/TOOLCHAIN names (scripts/deps.sh)"
		return 0
	fi
	local fresh differ=0 file
	fresh=$(mktemp -d)
	build "$fresh"
	for file in "$fresh"/*.wasm; do
		if ! cmp -s "$file" "$committed/$(basename "$file")"; then
			echo "guests: $committed/$(basename "$file") is not what its source builds: run make guests, and commit it" >&2
			differ=1
		fi
	done
	rm -r "$fresh"
	((differ == 0)) && echo "guests: testdata/guests is what guests/ builds"
	return "$differ"
}

case ${1:-} in
--check) check ;;
--grates) grates "${2:?a directory}" "" ;;
"" | -*) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
*)
	build "$1"
	if [[ $1 -ef $committed ]]; then toolchain >"$committed/TOOLCHAIN"; fi
	;;
esac
