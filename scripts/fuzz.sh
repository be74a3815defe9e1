#!/usr/bin/env bash
# usage: scripts/fuzz.sh TIME [NAME...]
# Runs each fuzz target of the tree, or those with the names, for TIME (as go test -fuzztime has it: 10s, 5m, 1000x), one
# after the other. The targets are those that `go test -list` finds. What fails is left in testdata/fuzz beside the
# target, as a seed: with a fix it becomes the regression test.
set -euo pipefail
cd "$(dirname "$0")/.."

time=${1:?say for how long: scripts/fuzz.sh 10s}
shift
wanted=" $* "

# go test -list prints the names of a package, and then a line with the package.
targets=$(go test -list '^Fuzz' ./... | awk '/^Fuzz/ { names = names " " $1 } /^ok/ { n = split(names, list, " "); for (i = 1; i <= n; i++) print list[i], $2; names = "" }')
if [[ -z $targets ]]; then
	echo "fuzz: no target was found" >&2
	exit 1
fi
ran=0 failed=()
while read -r name package; do
	[[ $wanted == "  " || $wanted == *" $name "* ]] || continue
	echo "=== $name in $package"
	ran=$((ran + 1))
	# Where threads race, what an input covers is not the same each time: to make such a one smaller would take all the time.
	go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" -fuzzminimizetime 10x "$package" || failed+=("$name")
done <<<"$targets"
if ((${#failed[@]})); then
	echo "fuzz: failed: ${failed[*]}" >&2
	exit 1
fi
if ((ran == 0)); then
	echo "fuzz: no target is called$wanted" >&2
	exit 1
fi
echo "fuzz: $ran targets, $time each: nothing was found"
