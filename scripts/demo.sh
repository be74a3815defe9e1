#!/usr/bin/env bash
# usage: scripts/demo.sh LINDBRIDGE
# Runs one program with busy, waiting, reading and sleeping threads, ends it in four ways, and shows the report of each end.
# Exits with 0 if each end was the right one.
set -euo pipefail
cd "$(dirname "$0")/.."

lindbridge=${1:?usage: scripts/demo.sh LINDBRIDGE}
guest=testdata/guests/threads.wasm
work=$(mktemp -d)
child=
trap '[[ -z $child ]] || kill -KILL "$child" 2>/dev/null || true; rm -rf "$work"' EXIT

bold='' dim='' green='' red='' off=''
if [[ -t 1 ]]; then
	bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' off=$'\e[0m'
fi

# Standard input for the reading threads: a pipe that nobody writes to, and that never ends.
mkfifo "$work/input" "$work/output"
exec 3<>"$work/input"

summary=()
failed=0

# end TITLE WANT SIGNAL [FLAG...] -- END: runs the program so that it ends by END; sends it SIGNAL, if that is not
# empty, when its threads are there; wants the exit code WANT.
end() {
	local title=$1 want=$2 signal=$3 flags=() line code=0
	shift 3
	while [[ $1 != -- ]]; do flags+=("$1") && shift; done
	shift
	printf '\n%s%s%s\n' "$bold" "$title" "$off"
	flags+=(--exit-report -)
	printf '%s$ lindbridge run %s threads.wasm %s%s\n' "$dim" "${flags[*]}" "$*" "$off"
	"$lindbridge" run "${flags[@]}" "$guest" "$@" <&3 >"$work/output" 2>&1 &
	child=$!
	while IFS= read -r line; do
		printf '%s\n' "$line"
		if [[ -n $signal && $line == *"threads are there"* ]]; then
			printf '%s$ kill -%s %s%s\n' "$dim" "$signal" "$child" "$off"
			kill "-$signal" "$child"
		fi
	done <"$work/output"
	wait "$child" || code=$?
	child=
	if ((code == want)); then
		summary+=("${green}as it should${off}|$code|$title")
	else
		summary+=("${red}WANTED $want${off}|$code|$title")
		failed=1
	fi
}

echo "One program: 2 threads that are busy, 2 that wait for a notify, 2 that read from a pipe, 2 that sleep."
echo "It is ended in four ways. Each goes the same way out: its threads are stopped first, then everything it has is"
echo "given back, in order, and only then is it reported as ended."
end "1. A thread of the program calls proc_exit(42)" 42 "" -- exit=42
end "2. The host is told to end it: kill -TERM, or Ctrl-C" 143 TERM -- forever
end "3. Its time limit passes" 124 "" --time-limit 300ms -- forever
end "4. A thread traps" 134 "" -- trap

printf '\n%sSummary%s\n' "$bold" "$off"
for row in "${summary[@]}"; do
	IFS='|' read -r verdict code title <<<"$row"
	printf '  exit code %-4s %s  %s\n' "$code" "$verdict" "$title"
done
exit "$failed"
