/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Pids as the caller sees them. The programs tell tasks apart by what they are
 * called in the initial pid namespace (tgid, pid); that is translated where a
 * name is written down, and never on the common path.
 */
#ifndef CORELOCK_PIDS_BPF_H
#define CORELOCK_PIDS_BPF_H

#include "kernel.bpf.h"

/* The caller's pid namespace, set by the library. 0: the initial one, where nothing differs. */
const volatile __u64 pid_namespace;
const volatile __u32 pid_namespace_level;

/* A function of its own: programs have little stack left. */
static __noinline __u32 number_for_caller(struct pid *pid)
{
	return pid_number(pid, pid_namespace, pid_namespace_level);
}

/* A thread's tid for the caller, 0 if it is outside of the caller's pid namespace. */
static __always_inline __u32 visible_tid(struct task_struct *task)
{
	return pid_namespace ? number_for_caller(BPF_CORE_READ(task, thread_pid))
			     : BPF_CORE_READ(task, pid);
}

/* The same for its process. */
static __always_inline __u32 visible_pid(struct task_struct *task)
{
	return pid_namespace ? number_for_caller(BPF_CORE_READ(task, group_leader, thread_pid))
			     : BPF_CORE_READ(task, tgid);
}

static __always_inline bool is_visible(struct task_struct *task)
{
	return !pid_namespace || visible_pid(task);
}

#endif
