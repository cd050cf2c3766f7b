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

/*
 * What a pid namespace at this level calls it, 0 if it is not in there. Since Linux kernel commit
 * b69f0aeb0689 ("pid: Replace struct pid 1-element array with flex-array") in v6.5, and in stable
 * kernels, `numbers` has no element that BTF knows of: so by its offset.
 */
static __always_inline __u32 pid_number(struct pid *pid, __u64 namespace, __u32 level)
{
	struct upid *upid;

	if (!pid || BPF_CORE_READ(pid, level) < level)
		return 0;
	upid = (void *)pid + bpf_core_field_offset(pid->numbers) +
	       level * bpf_core_type_size(struct upid);
	return (__u64)BPF_CORE_READ(upid, ns) == namespace ? BPF_CORE_READ(upid, nr) : 0;
}

/* A thread's tid for the caller, 0 if it is outside of the caller's pid namespace. */
static __always_inline __u32 visible_tid(struct task_struct *task)
{
	if (!pid_namespace)
		return BPF_CORE_READ(task, pid);
	return pid_number(BPF_CORE_READ(task, thread_pid), pid_namespace, pid_namespace_level);
}

/* The same for its process. */
static __always_inline __u32 visible_pid(struct task_struct *task)
{
	if (!pid_namespace)
		return BPF_CORE_READ(task, tgid);
	return pid_number(BPF_CORE_READ(task, group_leader, thread_pid), pid_namespace,
			  pid_namespace_level);
}

static __always_inline bool is_visible(struct task_struct *task)
{
	return !pid_namespace || visible_pid(task);
}

#endif
