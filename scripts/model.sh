#!/usr/bin/env bash
# usage: scripts/model.sh [--large] [NAME...]
# Checks the model of the exit protocol, exitcoord/model/exit.pml: every configuration has to pass, and every mutation
# has to be rejected, for the reason given here. Prints a table. With names, only those rows; with --large the
# configurations that take longer, in place of all the others.
# Two checks run at a time (MODEL_JOBS); each may take MODEL_MB megabytes and MODEL_SECONDS seconds.
set -euo pipefail
cd "$(dirname "$0")/.."

model=$PWD/exitcoord/model/exit.pml
work=$PWD/build/model
large=
if [[ ${1:-} == --large ]]; then
	large=1
	shift
	export MODEL_MB=${MODEL_MB:-4000} MODEL_SECONDS=${MODEL_SECONDS:-200}
fi
export MODEL_MB=${MODEL_MB:-900} MODEL_SECONDS=${MODEL_SECONDS:-60}

# Operations of guest code and of workers, as the model's OP_* and W_*.
wait=1 poll=2 host=4 stuck=8 spawn=16 exit=32 return=64 kill=128 call=256 exec=512
w_spin=1 w_wait=2 w_poll=4 w_exit=8 w_kill=16 w_trap=32

# Groups of cages and threads that more than one row uses. NOTIFIES: whose sleeps may end by themselves.
sleep="-DNT=2 -DNOTIFIES=1 -DN0=2 -DOPS=$((wait + poll + host))"
spawning="-DNT=2 -DSPAWNED=2 -DN0=2 -DKILLS=0 -DKILLERS=1 -DOPS=$((spawn + exit + return + wait))"
mutual="-DNC=2 -DNT=2 -DB=1 -DKILLS=0 -DOPS=$((kill + exit)) -DOPS1=$((kill + exit))"
jam="-DNC=2 -DNT=2 -DB=1 -DKILLS=1 -DOPS=$stuck -DOPS1=$exit"
image="-DNT=2 -DNEXT=1 -DKILLS=0 -DKILLERS=2 -DOPS=$((exec + exit + wait))"
grate="-DNC=2 -DNT=2 -DB=2 -DNW=1 -DKILLS=3 -DOPS=$call"
own="-DNC=2 -DNT=2 -DB=1 -DNW=1 -DKILLS=2 -DOPS=$call"
again="-DNC=2 -DNT=1 -DREUSE -DOPS=$wait"
single="-DNC=2 -DNT=1 -DB=1 -DNW=1 -DKILLS=1 -DOPS=$call"
idlers="-DNC=2 -DNT=2 -DB=2 -DNW=1 -DKILLS=0 -DOPS=$call"
pair="-DNC=2 -DNT=2 -DB=2 -DNW=1 -DKILLS=2 -DOPS=$call"
any=$((w_spin + w_wait + w_poll + w_exit + w_kill + w_trap))

# name | what it must find: nothing, or the assertion that must fail | parameters
rows() {
	cat <<-END
		# Exhaustive: every state there is.
		sleepers|pass|$sleep
		crowd|pass|-DNT=3 -DOPS=$wait -DN1=0 -DN2=0
		spawn|pass|$spawning
		rivals|pass|-DNT=2 -DKILLERS=1 -DOPS=$((exit + return)) -DN1=0
		mutual|pass|$mutual
		mutual-steps|pass|-DNC=2 -DNT=2 -DB=1 -DKILLS=1 -DSTEP_KILLS=3 -DOPS=$exit -DOPS1=$kill
		stuck|pass|$jam
		exec|pass|$image
		exec-threads|pass|-DNT=3 -DNEXT=2 -DKILLS=0 -DKILLERS=1 -DOPS=$((exec + wait))
		callers|pass|$pair -DWOPS=$w_wait
		callers-poll|pass|-DNC=2 -DNT=2 -DB=2 -DNW=1 -DKILLS=0 -DOPS=$call -DWOPS=$((w_poll + w_kill))
		callers-end|pass|-DNC=2 -DNT=2 -DB=2 -DNW=1 -DKILLS=0 -DOPS=$call -DWOPS=$((w_exit + w_kill + w_trap))
		one-caller|pass|$single -DWOPS=$any
		stuck-grate|pass|$own -DOPS1=$stuck -DWOPS=$((w_wait + w_poll))
		grate-exits|pass|-DNC=2 -DNT=2 -DB=1 -DNW=1 -DKILLS=0 -DOPS=$call -DOPS1=$exit -DWOPS=$((w_kill + w_trap))
		workers|pass|-DNC=2 -DNT=2 -DB=2 -DNW=2 -DKILLS=2 -DOPS=$call -DWOPS=$w_wait
		reuse|pass|$again
		# Mutations: what is forgotten, and which invariant says so.
		EARLY_CLEANUP|I1|-DMUT_EARLY_CLEANUP $grate -DWOPS=$w_spin
		FREE_WHEN_STUCK|I1|-DMUT_FREE_WHEN_STUCK $jam
		LEAVE_SPLIT|I2|-DMUT_LEAVE_SPLIT -DNT=2 -DOPS=$exit
		FAILED_STEP_STOPS|I[26]|-DMUT_FAILED_STEP_STOPS -DNT=1 -DOPS=$exit
		SPAWN_UNGATED|I3|-DMUT_SPAWN_UNGATED $spawning
		CALL_UNGATED|I3|-DMUT_CALL_UNGATED $grate -DWOPS=$w_wait
		NO_HELP|I3|-DMUT_NO_HELP -DNT=1 -DKILLERS=1 -DOPS=$exit
		NATIVE|I4|-DMUT_NATIVE $grate -DWOPS=$w_wait
		NO_UNPARK_ALL|I4|-DMUT_NO_UNPARK_ALL $idlers -DWOPS=$w_exit
		GRATE_PARK_UNCHECKED|I4|-DMUT_GRATE_PARK_UNCHECKED $pair -DWOPS=$w_wait
		NO_HAND_OVER|I4|-DMUT_NO_HAND_OVER $idlers
		CLAIMED_WAIT|I4|-DMUT_CLAIMED_WAIT $own -DOPS1=$stuck -DWOPS=$((w_wait + w_poll))
		OVERWRITE|I5|-DMUT_OVERWRITE -DNT=1 -DKILLERS=1 -DOPS=$exit
		THREAD_SETS_STATUS|I5|-DMUT_THREAD_SETS_STATUS $spawning
		RESUME_ANYWAY|I5|-DMUT_RESUME_ANYWAY $image
		RESUME_RACE|I[35]|-DMUT_RESUME_RACE $image
		ZOMBIE_EARLY|I6|-DMUT_ZOMBIE_EARLY -DNT=1 -DOPS=$exit
		REUSE_EARLY|I7|-DMUT_REUSE_EARLY $again
		STALE_HANDLE|I7|-DMUT_STALE_HANDLE $again
		ASKER_WAITS|I8|-DMUT_ASKER_WAITS -DNT=1 -DOPS=$exit
		KILLER_WAITS|I8|-DMUT_KILLER_WAITS $mutual
		WORKER_WAITS|I8|-DMUT_WORKER_WAITS $single -DWOPS=$w_kill
		GATE_FIRST|I8|-DMUT_GATE_FIRST -DNT=1 -DOPS=$exit
		NO_EPOCH|I8|-DMUT_NO_EPOCH -DNT=1 -DOPS=$exit
		NO_CANCEL|I8|-DMUT_NO_CANCEL -DNT=1 -DOPS=$host
		NO_MARK|I8|-DMUT_NO_MARK -DNC=2 -DNT=2 -DB=1 -DKILLS=3 -DOPS=$exit
		NO_SWEEP|I8|-DMUT_NO_SWEEP -DNC=2 -DNT=2 -DB=1 -DKILLS=3 -DOPS=$exit
		PARK_UNCHECKED|I8|-DMUT_PARK_UNCHECKED -DNT=1 -DOPS=$wait
		PUBLISH_LATE|I8|-DMUT_PUBLISH_LATE -DNT=1 -DOPS=$wait
		POLL_CHECK_FIRST|I8|-DMUT_POLL_CHECK_FIRST -DNT=1 -DOPS=$poll
		NO_INTERRUPT|I8|-DMUT_NO_INTERRUPT $single -DWOPS=$w_poll
		NO_GRACE|I8|-DMUT_NO_GRACE $single -DWOPS=$w_spin
		SHARED|I9|-DMUT_SHARED $jam
		CLAIM_ALL|I10|-DMUT_CLAIM_ALL -DNC=2 -DNT=2 -DB=1 -DKILLS=1 -DOPS=$wait -DOPS1=$wait
	END
}

# The same for --large.
large_rows() {
	cat <<-END
		# Exhaustive.
		sleepers-3|pass|-DNT=3 -DNOTIFIES=1 -DOPS=$((wait + poll + host))
		exec-any|pass|-DNT=2 -DNEXT=1 -DKILLS=1 -DKILLERS=2 -DOPS=$((exec + exit + wait + host))
		# Bitstate: as many states as there is time for.
		crowd-4|bitstate|-DNT=4 -DOPS=$wait -DN1=0 -DN2=0 -DN3=0
		callers-3|bitstate|-DNC=2 -DNT=3 -DB=3 -DNW=2 -DKILLS=2 -DOPS=$call -DWOPS=$w_wait
		workers-any|bitstate|-DNC=2 -DNT=2 -DB=2 -DNW=2 -DKILLS=3 -DOPS=$call -DWOPS=$any
		large|bitstate|-DNC=2 -DNT=4 -DB=3 -DNW=2 -DKILLS=3 -DSTEP_KILLS=1 -DNOTIFIES=1 -DN0=2 -DOPS=$((call + wait + exit + kill)) -DOPS1=$((stuck + exit)) -DWOPS=$any
		large-exec|bitstate|-DNT=4 -DNEXT=3 -DSPAWNED=4 -DKILLS=1 -DKILLERS=2 -DN0=2 -DOPS=$((exec + exit + wait + poll + host + spawn + return))
	END
}

# Runs one row in a directory of its own, and writes its line of the table to `row`.
check() {
	local name=$1 expected=$2 flags=$3 search=(-DCOLLAPSE) depth=20000 optimize=-O0
	mkdir -p "$work/$name"
	cd "$work/$name"
	rm -f ./*
	case $expected in
	pass) optimize=-O1 ;;
	bitstate) optimize=-O1 search=(-DBITSTATE) ;;
	esac
	# shellcheck disable=SC2086 # the flags are words
	if ! spin $flags -a "$model" >spin.log 2>&1; then
		printf 'FAILED\t%s\tspin: %s\t\t\t\n' "$name" "$(tail -n 1 spin.log)" >row
		return
	fi
	# -w: the checker's own code has warnings. An end of a process anywhere is fine: the Judge says what is not.
	cc -w $optimize -DSAFETY -DNOFAIR "${search[@]}" -DMEMLIM="$MODEL_MB" -o pan pan.c
	local arguments=(-E "-m$depth")
	if [[ $expected == bitstate ]]; then
		arguments+=(-w30 -k2)
	fi
	local over=
	timeout -s INT "$MODEL_SECONDS" ./pan "${arguments[@]}" >out 2>&1 || over=$?
	local error states seconds verdict found
	error=$(sed -n 's/^pan:[0-9]*: \(.*\) (at depth.*/\1/p' out | head -n 1)
	states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' out)
	seconds=$(sed -n 's/.*elapsed time \([0-9.]*\).*/\1/p' out)
	found=${error:-nothing}
	verdict=FAILED
	case $expected in
	pass)
		if [[ -z $error && -n $states ]] && ! grep -q 'Search not completed\|max search depth too small' out; then
			verdict=ok
		fi
		[[ -z $over || $over == 0 ]] || found="$found, and not all was searched"
		;;
	bitstate)
		# Out of time is how it ends.
		if [[ -z $error && -n $states ]] && ! grep -q 'max search depth too small' out; then
			verdict=ok
		fi
		;;
	*)
		if [[ $error == "assertion violated "*$expected* ]]; then
			verdict=ok
		fi
		;;
	esac
	found=${found#assertion violated }
	printf '%s\t%s\t%s\t%s\t%s\n' "$verdict" "$name" "${states:--}" "${seconds:--}" "$found" >row
}

if [[ ${1:-} == --row ]]; then
	check "$2" "$3" "$4"
	exit
fi

names=$(IFS='|' && echo "$*")
for tool in spin cc timeout; do
	command -v "$tool" >/dev/null || { echo "model: $tool is missing: see scripts/deps.sh" >&2; exit 1; }
done
list=$(if [[ -n $large ]]; then large_rows; else rows; fi | grep -v '^#' | grep -E "^(${names:-[^|]*})\|")
mkdir -p "$work"

while IFS='|' read -r name expected flags; do
	printf '%s\0%s\0%s\0' "$name" "$expected" "$flags"
done <<<"$list" | xargs -0 -n 3 -P "${MODEL_JOBS:-2}" "$PWD/scripts/model.sh" --row

failed=0
printf '%-7s %-22s %12s %8s  %s\n' verdict name states seconds found
while IFS='|' read -r name expected _; do
	IFS=$'\t' read -r verdict _ states seconds found <"$work/$name/row"
	printf '%-7s %-22s %12s %8s  %s\n' "$verdict" "$name" "$states" "$seconds" "$found"
	[[ $verdict == ok ]] || failed=1
done <<<"$list"
if ((failed)); then
	echo "model: failed. To see how: cd $work/NAME && spin -t -p FLAGS $model" >&2
	exit 1
fi
echo "model: every configuration passes, every mutation is rejected"
