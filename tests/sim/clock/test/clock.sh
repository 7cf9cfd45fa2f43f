#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# clock.sh LIBRARY_DIR PLAY CLAIM: one claim about the virtual clock, on a machine of its own.
set -eu
libraries=$1 play=$2 claim=$3
dir=$(mktemp -d)
mkdir "$dir/machine"
export TRANCHE_SIM="$dir/machine" TRANCHE_SIM_CLOCK=virtual TRANCHE_SIM_LINGER_MS=200 \
	TRANCHE_SIM_KERNEL="$libraries/sim-kernel" LOG="$dir/log"
started=
rank=
finish() {
	for pid in $started; do
		kill -KILL "$pid" 2>/dev/null || true
	done
	rm -rf "$dir"
}
trap finish EXIT

play() {
	LD_PRELOAD="$libraries/libsimtime.so" "$play" "$@"
}

# Starts PLAY with $rank in the background; its pid is in $pid.
begin() {
	TRANCHE_SIM_RANK=$rank LD_PRELOAD="$libraries/libsimtime.so" "$play" "$@" &
	pid=$!
	started="$started $pid"
}

fail() {
	echo "$1" >&2
	[ ! -f "$LOG" ] || tail -n 40 "$LOG" >&2
	exit 1
}

# The log must be what standard input says.
log_is() {
	cat >"$dir/want"
	diff -u "$dir/want" "$LOG" >&2 || fail "the log is another one"
}

# The machine's process, and how many ticks of 10 ms it has run.
pidof_kernel() {
	for each in /proc/[0-9]*; do
		name=
		{ read -r name <"$each/comm"; } 2>/dev/null || :
		[ "$name" = sim-kernel ] || continue
		! tr '\0' ' ' <"$each/cmdline" | grep -q -- "--dir $TRANCHE_SIM " || echo "${each#/proc/}"
	done
}
ticks() {
	sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'
}

# Looks until the log has COUNT lines that match PATTERN; real time, bounded.
await() {
	n=0
	until [ -f "$LOG" ] && [ "$(grep -c "$1" "$LOG")" -ge "$2" ]; do
		n=$((n + 1))
		[ $n -lt 400 ] || fail "$1 never came"
		sleep 0.02
	done
}

case $claim in
order)
	# by time; at the same time by rank, whoever came first
	export TRANCHE_SIM_HOLD=3
	rank=3 && begin sleeps c 3 2000
	a=$pid
	rank=2 && begin sleeps b 3 2000
	b=$pid
	rank=1 && begin sleeps a 2 3000
	wait "$a" "$b" "$pid"
	log_is <<-END
		b slept 2000
		c slept 2000
		a slept 3000
		b slept 4000
		c slept 4000
		a slept 6000
		b slept 6000
		c slept 6000
	END
	;;
hold)
	# nobody runs, nor does the engine
	export TRANCHE_SIM_HOLD=2
	begin sleeps a 1 1000
	a=$pid
	sleep 0.2
	kernel=$(pidof_kernel)
	before=$(ticks "$kernel")
	sleep 0.5
	[ ! -f "$LOG" ] || fail "the clock moved before the second process came"
	[ $(($(ticks "$kernel") - before)) -lt 25 ] || fail "the engine does not sleep"
	begin sleeps b 1 1000
	wait "$a" "$pid"
	[ "$(wc -l <"$LOG")" -eq 2 ] || fail "not both went on"
	;;
stands)
	# what comes from outside is seen while the clock stands, at its time
	mkfifo "$dir/pipe"
	exec 3<>"$dir/pipe"
	begin hears a
	await 'a listens' 1
	sleep 0.3
	echo x >&3
	wait "$pid"
	log_is <<-END
		a listens 0
		a heard 0
		a slept 1000
	END
	;;
hold_ends)
	export TRANCHE_SIM_HOLD=3 TRANCHE_SIM_HOLD_MS=300
	begin sleeps a 1 1000
	a=$pid
	begin sleeps b 1 1000
	wait "$a" "$pid"
	[ "$(wc -l <"$LOG")" -eq 2 ] || fail "not both went on"
	grep -q '^hold: 2 of 3 programs came' "$TRANCHE_SIM/clock.error" || fail "nobody told"
	;;
outside)
	# pipes, locks, signals and ends of others come at times of the clock, the same each time
	for run in 1 2 3; do
		export LOG="$dir/log$run" TRANCHE_SIM="$dir/machine$run"
		mkdir "$TRANCHE_SIM"
		play outside parent
	done
	[ "$(wc -l <"$dir/log1")" -eq 5 ] || fail "not everything ran"
	awk '$3 < 3000 || $3 > 30000 { exit 1 }' "$dir/log1" || fail "$(cat "$dir/log1")"
	for again in 2 3; do
		diff -u "$dir/log1" "$dir/log$again" >&2 || fail "runs differ"
	done
	;;
blocked_outside)
	# a participant in a call that the clock does not know does not stop the others for long
	begin blocks b
	await 'b blocks' 1
	begin sleeps a 5 1000
	wait "$pid"
	[ "$(grep -c 'a slept' "$LOG")" -eq 5 ] || fail "the clock stands"
	;;
ways)
	play ways w
	awk '{ print $2, int(($3 - last) / 1000); last = $3 }' "$LOG" >"$dir/got"
	printf '%s\n' "sleep 1000" "usleep 1" "clock_nanosleep 2" "absolute 1000" "poll 3" "select 4" "loop 1" >"$dir/want"
	diff -u "$dir/want" "$dir/got" >&2 || fail "a sleep took another time"
	;;
kill_running)
	export TRANCHE_SIM_HOLD=2
	begin sleeps a 5 1000
	a=$pid
	begin computes b
	await 'b computes' 1
	kill -KILL "$pid"
	wait "$a" || fail "the one that stayed failed"
	[ "$(grep -c 'a slept' "$LOG")" -eq 5 ] || fail "the clock stands"
	;;
kill_blocked)
	begin waits b
	b=$pid
	await 'b waits' 1
	kill -KILL "$b"
	wait "$b" || true
	rm -f "$TRANCHE_SIM/clock.error"
	begin sleeps a 5 1000
	a=$pid
	begin sleeps c 5 1000
	wait "$a" "$pid"
	[ "$(grep -c slept "$LOG")" -eq 10 ] || fail "the clock stands"
	[ ! -e "$TRANCHE_SIM/clock.error" ] || fail "$(cat "$TRANCHE_SIM/clock.error")"
	;;
kill_moving)
	# one that dies while it moves the clock takes the machine along, but nobody waits for ever
	torn=0
	for run in 1 2 3 4 5 6 7 8 9 10 11 12; do
		export LOG="$dir/log$run" TRANCHE_SIM="$dir/machine$run" TRANCHE_SIM_HOLD=3
		mkdir "$TRANCHE_SIM"
		begin sleeps a 100 5000
		a=$pid
		begin sleeps b 100 7000
		b=$pid
		begin naps 100000000 2
		await 'b slept' 1
		sleep "0.00$run"
		kill -KILL "$pid"
		wait "$a" || fail "a failed in run $run"
		wait "$b" || fail "b failed in run $run"
		[ "$(grep -c '[ab] slept' "$LOG")" -eq 200 ] || fail "not everything ran in run $run"
		if [ -e "$TRANCHE_SIM/clock.error" ]; then
			grep -q '^a process was killed while it moved the clock' "$TRANCHE_SIM/clock.error" ||
				fail "$(cat "$TRANCHE_SIM/clock.error")"
			torn=$((torn + 1))
		fi
	done
	echo "$torn of 12 machines ended"
	;;
stopped)
	# a process that is stopped does not stop the others for long
	begin computes b
	b=$pid
	await 'b computes' 1
	kill -STOP "$b"
	begin sleeps a 5 1000
	wait "$pid"
	[ "$(grep -c 'a slept' "$LOG")" -eq 5 ] || fail "the clock stands"
	;;
fork)
	play forks parent
	log_is <<-END
		child forked 1000
		parent beside 2000
		image slept 2500
		image slept 3500
		parent after 3500
	END
	;;
becomes)
	# the clock waits for an image, whatever the one before it computed
	export TRANCHE_SIM_HOLD=2
	rank=1 && begin becomes a
	a=$pid
	rank=2 && begin sleeps b 3 1500
	wait "$a" "$pid"
	log_is <<-END
		a becomes 1000
		b slept 1500
		a slept 2000
		a slept 3000
		b slept 3000
		b slept 4500
	END
	;;
threads)
	play threads
	log_is <<-END
		a took 1000
		b took 2000
		a took 3000
		b took 4000
		a took 5000
		b took 6000
		main joined 6300
		main timed-out 5006300
	END
	;;
steps)
	# who sleeps for an hour and a second wakes a second after a jump by an hour
	export TRANCHE_SIM_HOLD=2
	rank=1 && begin sleeps b 1 3601000000
	b=$pid
	rank=2 && begin steps a
	wait "$b" "$pid"
	log_is <<-END
		a jumped 3600001000
		a slept 3600002000
		a set 3600002000
		b slept 3601000000
	END
	;;
same)
	# threads, processes and work by chance, but the same each time
	for run in 1 2 3; do
		seed=7
		[ $run -lt 3 ] || seed=8
		export LOG="$dir/log$run" TRANCHE_SIM="$dir/machine$run"
		mkdir "$TRANCHE_SIM"
		play mix $seed
		await ends 2
	done
	[ "$(wc -l <"$dir/log1")" -eq 242 ] || fail "not everything ran"
	diff -u "$dir/log1" "$dir/log2" >&2 || fail "two runs differ"
	! diff -q "$dir/log1" "$dir/log3" >/dev/null || fail "another seed is no other run"
	;;
apart)
	# where nobody may map all of time, the machine's process takes every step: the same ones
	# (it is looked for among all processes for as long as that takes; without its folder it ends)
	export TRANCHE_SIM_LINGER_MS=100000
	for run in 1 2; do
		export LOG="$dir/log$run" TRANCHE_SIM="$dir/machine$run"
		mkdir "$TRANCHE_SIM"
		# shellcheck disable=SC3045 # the shells that are sh here know it
		[ $run -eq 1 ] || ulimit -v 1000000000
		play mix 7 &
		pid=$!
		await ends 2
		mapped=$(grep -c '^200000000000-' "/proc/$(pidof_kernel)/maps" || true)
		[ "$mapped" -eq $((2 - run)) ] || fail "run $run: all of time is mapped $mapped times"
		wait "$pid" || fail "run $run failed"
	done
	[ "$(wc -l <"$dir/log1")" -eq 242 ] || fail "not everything ran"
	diff -u "$dir/log1" "$dir/log2" >&2 || fail "the runs differ"
	;;
kernels)
	# two processes take turns of 2 ms; each kernel of 1 ms is half of one
	export TRANCHE_SIM_HOLD=2
	rank=1 && begin kernels a 4 1000
	a=$pid
	rank=2 && begin kernels b 4 1000
	wait "$a" "$pid"
	sort -s -k3n "$LOG" | tail -n 1 | grep -q '8000$' || fail "eight kernels of 1 ms are not 8 ms"
	;;
record)
	# what the machine writes down is what one sees who wakes up for every step
	export TRANCHE_SIM_HOLD=4
	watch() {
		rank=$1
		shift
		TRANCHE_SIM_RANK=$rank LD_PRELOAD="$libraries/libsimtime.so" "$libraries/sim-watch" "$@" \
			--every-us 7100 --for-us 2500000 >"$dir/watch$rank" &
		started="$started $!"
		watched="$watched $!"
	}
	watched=
	rank=1 && begin kernels a 2000 1300
	rank=4 && begin kernels b 1500 2700
	watch 2 --looks
	watch 3
	for each in $watched; do
		wait "$each" || fail "sim-watch failed"
	done
	[ "$(wc -l <"$dir/watch2")" -eq 353 ] || fail "$(wc -l <"$dir/watch2") steps"
	[ "$(grep -c '"processes":\[{.*},{' "$dir/watch2")" -gt 300 ] || fail "not both were seen"
	diff -u "$dir/watch2" "$dir/watch3" >&2 || fail "what was written down is something else"
	;;
deadlock)
	begin waits a
	await 'a waits' 1
	n=0
	until [ -s "$TRANCHE_SIM/clock.error" ]; do
		n=$((n + 1))
		[ $n -lt 100 ] || fail "nobody told"
		sleep 0.02
	done
	grep -q '^deadlock at .* 1 threads wait' "$TRANCHE_SIM/clock.error" || fail "told otherwise"
	[ "$(wc -l <"$TRANCHE_SIM/clock.error")" -eq 1 ] || fail "told twice"
	;;
real)
	# without such a machine the library is not there
	unset TRANCHE_SIM_CLOCK
	before=$(date +%s%N)
	LD_PRELOAD="$libraries/libsimtime.so" sleep 0.2
	[ $(($(date +%s%N) - before)) -ge 200000000 ] || fail "a real sleep was none"
	[ ! -e "$TRANCHE_SIM/socket" ] || fail "it started a machine"
	# and without the library there is no time on a machine with a virtual clock
	export TRANCHE_SIM_CLOCK=virtual
	! "$play" kernels a 1 1000 2>"$dir/why" || fail "it has time without the library"
	grep -q rm_time_open "$dir/why" || fail "$(cat "$dir/why")"
	;;
speed)
	# the bound is far, for loaded machines
	export TRANCHE_SIM_HOLD=2
	before=$(date +%s%N)
	begin sleeps a 100 10000
	a=$pid
	begin sleeps b 100 10000
	wait "$a" "$pid"
	took=$((($(date +%s%N) - before) / 1000000))
	echo "1 s of two processes with 100 sleeps each took $took ms"
	[ $took -lt 1000 ] || fail "slower than the real clock"
	;;
*)
	fail "no claim $claim"
	;;
esac
