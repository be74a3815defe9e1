#!/usr/bin/env bash
# usage: guests/lind/build.sh [OPTION]... SOURCE.c... -o OUT.wasm
#   --grate             export what the runtime needs of a grate (the program uses LIND_GRATE)
#   --threads           with threads: shared memory and atomics; a grate then serves several calls at once
#   --libc              with wasi-libc; not together with --threads, since Debian's wasi-libc has none
#   --max-memory BYTES  the largest that a shared memory can grow to, a multiple of 65536 (1 GiB if not said)
#   -I..., -D...        for the compiler
#
# Builds a program or grate of the Lind ABI with Debian's clang. Without --libc it is freestanding: lind_start.c is linked
# in. CC and LD name other tools than clang-14 and wasm-ld-14.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usage() {
	sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
	exit 2
}

sources=() extra=() out='' grate=0 threads=0 libc=0 max_memory=$((1 << 30))
while (($#)); do
	case $1 in
	--grate) grate=1 ;;
	--threads) threads=1 ;;
	--libc) libc=1 ;;
	--max-memory) max_memory=${2:?} && shift ;;
	-o) out=${2:?} && shift ;;
	-I* | -D*) extra+=("$1") ;;
	-*) usage ;;
	*) sources+=("$1") ;;
	esac
	shift
done
if [[ -z $out ]] || ((${#sources[@]} == 0 || threads && libc)); then usage; fi

cflags=(-std=c11 -O2 -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror -mbulk-memory
	-mmutable-globals
	-I"$here" "${extra[@]}")
ldflags=()
if ((libc)); then
	cflags+=(--target=wasm32-wasi)
else
	cflags+=(--target=wasm32-unknown-unknown -ffreestanding)
	sources+=("$here/lind_start.c" "$here/lind_text.c")
fi
if ((threads)); then
	cflags+=(-matomics)
	ldflags+=(--import-memory --shared-memory "--max-memory=$max_memory")
fi
if ((grate)); then
	# The workers of a grate: the function to enter them by, a stack of their own, and the table of handlers.
	ldflags+=(--export=pass_fptr_to_wt --export=__stack_pointer --export-table)
	# And a copy of its own of every thread-local variable, of which a program without threads has one for all.
	if ((threads)); then ldflags+=(--export=__wasm_init_tls --export=__tls_size --export=__tls_align); fi
fi

objects=$(mktemp -d)
trap 'rm -r "$objects"' EXIT
compiled=()
for source in "${sources[@]}"; do
	object=$objects/${#compiled[@]}.o
	case $source in
	# Loops there are what the functions of their names are made of.
	"$here/lind_start.c") "${CC:-clang-14}" "${cflags[@]}" -fno-builtin -c -o "$object" "$source" ;;
	*) "${CC:-clang-14}" "${cflags[@]}" -c -o "$object" "$source" ;;
	esac
	compiled+=("$object")
done
# Names of functions stay, for backtraces. Compiling and linking are two steps, so that clang runs no wasm-opt.
if ((libc)); then
	# crt1.o calls the constructors in _start. With the usual crt1-command.o the linker wraps every export in a call of all
	# constructors and destructors: each call that a grate serves would start and end the C library.
	"${CC:-clang-14}" --target=wasm32-wasi -nostartfiles -Wl,--strip-debug "${ldflags[@]/#/-Wl,}" -o "$out" \
		"$("${CC:-clang-14}" --target=wasm32-wasi -print-file-name=crt1.o)" "${compiled[@]}"
else
	"${LD:-wasm-ld-14}" --strip-debug --stack-first "${ldflags[@]}" -o "$out" "${compiled[@]}"
fi
chmod 644 "$out"
