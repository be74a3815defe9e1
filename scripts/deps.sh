#!/usr/bin/env bash
# usage: scripts/deps.sh [--check]
# Installs the Debian packages that building the C guests, checking the .wat guests and the model needs, if any is missing.
# With --check it installs nothing and fails if something is missing. Neither `make build` nor `make run` needs them:
# the guests that are written in C are committed.
set -euo pipefail

# A command or file that must be there, and the package that has it.
needs=(
	clang-14:clang-14
	wasm-ld-14:lld-14
	wat2wasm:wabt
	spin:spin
	/usr/lib/wasm32-wasi/libc.a:wasi-libc
	/usr/lib/llvm-14/lib/clang/14.0.6/lib/wasi/libclang_rt.builtins-wasm32.a:libclang-rt-14-dev-wasm32
)

missing=()
for need in "${needs[@]}"; do
	what=${need%%:*} package=${need##*:}
	if [[ $what == /* ]]; then
		[[ -e $what ]] || missing+=("$package")
	else
		command -v "$what" >/dev/null || missing+=("$package")
	fi
done

if ((${#missing[@]} == 0)); then
	exit 0
fi
if [[ ${1:-} == --check ]]; then
	echo "deps: missing: ${missing[*]} (scripts/deps.sh installs them on Debian 12)" >&2
	exit 1
fi
if ! command -v apt-get >/dev/null; then
	echo "deps: no apt-get here. Install what these Debian 12 packages have: ${missing[*]}" >&2
	exit 1
fi
if ((EUID != 0)); then
	echo "deps: not root. Run: sudo apt-get install ${missing[*]}" >&2
	exit 1
fi
echo "deps: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}"
