# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# What a guest does. It judges nothing: what each check came to goes to the host as a line
# of JSON, with the files it left, and tests/vm/matrix.py says whether it is right.
#
# A check is WHAT[:ARGUMENT...]; its files are in the current directory.

# report CHECK CODE NAME VALUE: one line for the host.
report()
{
	printf '{"check": "%s", "exit": %d, "%s": "%s", "uptime": "%s"}\n' "$@" "$(uptime_s)" >&9
}

uptime_s()
{
	cut -d' ' -f1 /proc/uptime
}

run_check() # CHECK
{
	mkdir "/results/$1" && cd "/results/$1" || return
	(
		# Its parts are a function and its arguments.
		IFS=:
		set -- $1
		unset IFS
		function=check_$1
		shift
		trap clean_up EXIT
		"$function" "$@"
	) 2>guest.err 9>&-
	code=$?
	# Not every busybox has base64; this one begins and ends with a line of its own.
	report "$1" "$code" files "$(tar -c . | gzip -1 | uuencode -m - | sed '1d;$d' | tr -d '\n')"
	cd / && rm -r "/results/$1"
}

# What a check that failed half way has left running.
clean_up()
{
	kill -9 $workload $corelock 2>/dev/null
	[ ! -d "$instance" ] || rmdir "$instance"
}

# --- workloads, by their handshake (tests/workloads/workload.h) -----------------------------

# For what is timed. Of two emulated CPUs one stands still while the other runs, and its clock
# goes on: between two tracers' looks at it, too, which is no fault of either.
one_cpu="taskset 1"
pinned=

# Starts NAME [ARGUMENT...]; pid and extra are what it says, tids what is there then.
start_workload()
{
	mkfifo to from
	$pinned "/programs/$@" <to >from 2>workload.err &
	workload=$!
	exec 3>to 4<from
	rm to from
	word= pid= extra=
	read -r word pid extra <&4
	[ "$word" = ready ] || return 1
	echo "$pid $extra" >pids
	ls "/proc/$pid/task" >tids
}

# Lets it go on; it answers when it is done.
run_workload()
{
	echo >&3
	read -r word <&4 && [ "$word" = done ]
}

finish_workload()
{
	exec 3>&-
	wait "$workload"
	echo "$?" >workload.exit
	workload=
	exec 4<&-
}

# --- corelock -------------------------------------------------------------------------------

# Starts it with these ARGUMENTS; returns when it traces, or has ended without. It has no part in
# the workload's pipes, or that would not see the end of its input.
start_corelock()
{
	mkfifo said
	corelock "$@" >out 2>said </dev/null 3>&- 4<&- &
	corelock=$!
	exec 5<said
	rm said
	while IFS= read -r line <&5; do
		echo "$line" >>err
		case "$line" in
		"Tracing "* | "Recording "*)
			cat <&5 >>err 3>&- 4<&- &
			exec 5<&-
			return 0
			;;
		esac
	done
	exec 5<&-
	return 1
}

finish_corelock()
{
	kill -TERM "$corelock" 2>/dev/null
	wait "$corelock"
	echo "$?" >exit
	corelock=
}

# --- the witness: ftrace, as tests/witness.py has it, and who was preempted ---------------------

tracefs=/sys/kernel/tracing
instance=$tracefs/instances/witness
witnessed="mmap_lock/mmap_lock_start_locking mmap_lock/mmap_lock_acquire_returned
	mmap_lock/mmap_lock_released sched/sched_switch"

start_ftrace()
{
	mkdir "$instance" || return 1
	echo 0 >"$instance/tracing_on"
	echo mono >"$instance/trace_clock"
	echo 32768 >"$instance/buffer_size_kb"
	for event in $witnessed; do
		echo 1 >"$instance/events/$event/enable" || return 1
	done
	echo 1 >"$instance/tracing_on"
}

stop_ftrace()
{
	echo 0 >"$instance/tracing_on"
	mkdir ftrace
	cp "$tracefs/events/header_page" ftrace/
	for event in $witnessed; do
		cp "$tracefs/events/$event/format" "ftrace/${event##*/}"
	done
	for cpu in "$instance"/per_cpu/cpu*; do
		cp "$cpu/stats" "ftrace/${cpu##*/}.stats"
		/programs/drain "$cpu/trace_pipe_raw" >"ftrace/${cpu##*/}.raw"
	done
}

# --- the checks -------------------------------------------------------------------------------

# Of its commands, whether it has this one.
has_command()
{
	corelock --help | grep -q "^ *$1 "
}

# The guest's own exit code is 100 where there is no such command.
check_doctor()
{
	has_command doctor || return 100
	corelock doctor --json >out 2>err
	echo "$?" >exit
	corelock doctor >text 2>&1
	return 0
}

# COMMAND WAY WORKLOAD [ARGUMENT...]: both tracers on one run. corelock is attached first, so
# that what it does before it reads the clock is in neither's times.
check_traced()
{
	command=$1 way=$2
	shift 2
	has_command "$command" || return 100
	[ "$command" != hold-times ] || pinned=$one_cpu
	start_workload "$@" || return 1
	set -- --pid "$pid" --attach "$way" --verbose
	case "$command" in
	hold-times) set -- "$@" --json --slow-us off ;;
	blame) set -- "$@" --json -n 1 ;;
	record) set -- "$@" -o recording --slow-us 100 ;;
	esac
	if ! start_corelock "$command" "$@"; then
		# It was refused, or failed: its exit code and its words say which.
		finish_corelock
		return 0
	fi
	start_ftrace && run_workload && stop_ftrace
	code=$?
	finish_corelock
	finish_workload
	return "$code"
}

# KIND WAY WORKLOAD [ARGUMENT...]: what is traced, by other words than --pid; with blame, which
# takes the verifier to its limits.
check_target()
{
	kind=$1 way=$2
	shift 2
	start_workload "$@" || return 1
	case "$kind" in
	all) set -- --all ;;
	comm) set -- --comm "$(cat "/proc/$pid/comm")" ;;
	cgroup)
		mkdir -p /cgroup
		mount -t cgroup2 none /cgroup 2>/dev/null
		mkdir -p /cgroup/outer/inner
		echo "$pid" >/cgroup/outer/inner/cgroup.procs || return 1
		set -- --cgroup /cgroup/outer
		;;
	esac
	set -- "$@" --attach "$way" --json --verbose --blame --slow-us off
	if ! start_corelock hold-times "$@"; then
		finish_corelock
		return 0
	fi
	run_workload
	code=$?
	finish_corelock
	finish_workload
	return "$code"
}

# WAY PROGRAM [ARGUMENT...]: in a pid namespace, of which the kernel is to make the pids.
check_namespace()
{
	way=$1
	shift
	export way
	printf '\n\n' | unshare --mount --pid --fork sh -c '
		mount -t proc none /proc
		corelock hold-times --attach "$way" --json --verbose --blame --slow-us off \
			-o out -- /programs/"$@" >workload.out 2>err
		echo "$?" >exit' sh "$@"
}

# A lock is held for as long as it takes (lock_chain), and a writer and a reader wait for it.
hold_and_queue()
{
	run_workload || return 1
	for waiter in chain-1 chain-2; do
		echo >&3
		# If it does not come to wait, the host finds it missing.
		until_queued "$waiter"
	done
}

# MODE: of the hold.
check_holders()
{
	start_workload lock_chain "$1" wr && hold_and_queue || return 1
	corelock holders --pid "$pid" --waiters --json >out 2>err </dev/null
	echo "$?" >exit
	finish_workload
}

# WAY MODE: who is to blame for both waits is known, and both are long.
check_chain()
{
	pinned=$one_cpu
	start_workload lock_chain "$2" wr || return 1
	if ! start_corelock blame --pid "$pid" --attach "$1" --json --verbose; then
		finish_corelock
		return 0
	fi
	start_ftrace && hold_and_queue
	code=$?
	finish_workload
	stop_ftrace
	finish_corelock
	return "$code"
}

# Until the thread of this name sleeps for the lock: its state is D then.
until_queued() # THREAD
{
	for attempt in $(seq 100); do
		for task in "/proc/$pid/task"/*; do
			if [ "$(cat "$task/comm")" = "$1" ]; then
				read -r stat <"$task/stat"
				case "${stat##*) }" in
				D*) return 0 ;;
				esac
			fi
		done
		usleep 10000
	done
	echo "$1 does not come to wait for the lock:" >&2
	cat "/proc/$pid/task"/*/stat >&2
	return 1
}

# Everything that is known of known_calls, at once; ftrace's own counts of the system call, where
# this kernel keeps such.
check_count()
{
	start_workload known_calls 500 2 || return 1
	trigger=$tracefs/events/syscalls/sys_enter_lseek
	if ! start_corelock count --pid "$pid" --json --verbose null_lseek \
		/programs/known_calls:known_function 'u:/programs/known_calls:*' \
		t:syscalls:sys_enter_lseek t:sched:sched_process_exit; then
		finish_corelock
		return 0
	fi
	echo 'hist:keys=common_pid' >"$trigger/trigger" 2>/dev/null
	run_workload
	code=$?
	finish_workload
	[ ! -e "$trigger/hist" ] || cat "$trigger/hist" >hist
	echo '!hist:keys=common_pid' >"$trigger/trigger" 2>/dev/null
	finish_corelock
	return "$code"
}

# Each value of known_calls' probes, with stacks; and the arguments of a function of the kernel.
check_trace()
{
	start_workload known_calls 200 2 || return 1
	if ! start_corelock trace --pid "$pid" --json --verbose -K -U --ring-size 256M \
		--fields 'arg1,arg2,arg3,arg4,str(arg5),arg6,arg7,offset,whence,s32(whence)' \
		null_lseek 'u:/programs/known_calls:*' t:syscalls:sys_enter_lseek; then
		finish_corelock
		return 0
	fi
	run_workload
	code=$?
	# Mappings are read of living processes.
	for attempt in $(seq 600); do
		[ "$(grep -c '"event"' out)" -lt 1600 ] || break
		usleep 100000
	done
	finish_workload
	finish_corelock
	return "$code"
}

# A thousand functions at once, none of which may bring the kernel down.
check_many()
{
	corelock count --max-probes 5000 --json --verbose -d 1 \
		'vfs_*' 'blk_*' 'tcp_*' 'ip_*' 'sock_*' 'skb_*' 'inet_*' 'kmem_*' 'do_*' 't:sched:*' \
		't:kmem:*' >out 2>err </dev/null
	echo "$?" >exit
}

# Times and a field of known_calls at once, by a text and a number, with a filter.
check_hist()
{
	start_workload known_calls 500 2 || return 1
	if ! start_corelock hist --pid "$pid" --json --verbose \
		--latency t:syscalls:sys_enter_lseek t:syscalls:sys_exit_lseek \
		t:sched:sched_process_exit:prio --by comm,tid \
		--filter 'comm == "known_calls" && tid > 1 && !(cpu & 0x100)'; then
		finish_corelock
		return 0
	fi
	run_workload
	code=$?
	finish_workload
	finish_corelock
	return "$code"
}

# --- what goes wrong with a guest, to see that it is told ---------------------------------------

check_hang()
{
	echo "as if for ever" >/dev/console
	while :; do :; done
}

check_panic()
{
	echo c >/proc/sysrq-trigger
}

check_poweroff()
{
	poweroff -f
}
