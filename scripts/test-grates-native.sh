#!/usr/bin/env bash
# usage: scripts/test-grates-native.sh
# Builds the logic of the grates in examples/grates for the host, with the address and undefined-behaviour sanitizers, and
# runs its tests: paths, the policies of deny, the file system and the descriptors of fs-mem. CC names another compiler.
set -euo pipefail
cd "$(dirname "$0")/.."

cc=${CC:-cc}
out=$(mktemp -d)
trap 'rm -r "$out"' EXIT
cflags=(-std=c11 -D_GNU_SOURCE -g -O1 -Wall -Wextra -Werror -fsanitize=address,undefined -fno-sanitize-recover=all -Iguests/lind)
common=(guests/lind/lind_host.c guests/lind/lind_text.c guests/lind/lind_path.c guests/lind/lind_calls.c)

# NAME SOURCE...
run() {
	local name=$1
	shift
	"$cc" "${cflags[@]}" -o "$out/$name" "$@" "${common[@]}"
	(cd "$out" && "./$name")
	echo "grates: $name passed"
}

run path guests/lind/path_test.c
run policy examples/grates/deny/{policy_test,policy,fdpaths}.c
run memfs examples/grates/fs-mem/{memfs_test,memfs,cages}.c
