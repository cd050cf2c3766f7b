/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel finds the address space of a process that functions are probed in by its main thread.
 * Once that has ended while others go on, or another one has called execve() and taken its place,
 * the kernel leaves hits of that process out, or new mappings without breakpoints.
 */
#ifndef CORELOCK_MAIN_THREAD_BPF_H
#define CORELOCK_MAIN_THREAD_BPF_H

#include "probe.bpf.h"
#include <bpf/bpf_core_read.h>

/* include/linux/sched/signal.h: all of the process's threads are to end. */
#define SIGNAL_GROUP_EXIT 4

SEC("raw_tp/sched_process_exit")
int on_thread_exit(__u64 *arguments)
{
	struct task_struct *task = (struct task_struct *)arguments[0];
	__u64 id = bpf_get_current_pid_tgid();
	struct signal_struct *signal;

	if ((__u32)id != settings.target_tgid || id >> 32 != settings.target_tgid)
		return 0;
	signal = BPF_CORE_READ(task, signal);
	if (BPF_CORE_READ(signal, live.counter) > 0 &&
	    !(BPF_CORE_READ(signal, flags) & SIGNAL_GROUP_EXIT))
		state.main_thread_ended = 1;
	return 0;
}

#endif
