#!/usr/bin/env bash
# usage: scripts/suite.sh LINDBRIDGE DIR [TIMES]
# Runs the wasi-threads proposal's own tests from DIR (test/testsuite of its repository), TIMES times each (once if not
# said), and compares exit codes with the .json beside each program. Programs that are there as C only are left out, unless
# they are built as .wasm beside their source.
set -euo pipefail

if (($# < 2)); then
	sed -n '2s/^# //p' "$0" >&2
	exit 2
fi
lindbridge=$1 dir=$2 times=${3:-1}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkfifo "$work/input"
exec 3<>"$work/input" # some programs read standard input, which must block

passed=0 failed=0
for program in "$dir"/*.wat "$dir"/*.wasm; do
	[[ -e $program ]] || continue
	[[ $program == *.wasm && -e ${program%.wasm}.wat ]] && continue
	want=0 expected=${program%.*}.json
	if [[ -e $expected ]]; then
		want=$(sed -n 's/.*"exit_code"[^0-9]*\([0-9]*\).*/\1/p' "$expected")
	fi
	for ((i = 0; i < times; i++)); do
		code=0
		"$lindbridge" run --time-limit 30s "$program" <&3 || code=$?
		if ((code == ${want:-0})); then
			passed=$((passed + 1))
		else
			failed=$((failed + 1))
			echo "$(basename "$program"): exit code $code, want ${want:-0}" >&2
		fi
	done
done
echo "$passed passed, $failed failed"
((failed == 0 && passed > 0))
