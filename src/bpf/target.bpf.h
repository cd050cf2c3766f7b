/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Whether an event is about what is traced. Off the common path: threads remember. */
#ifndef CORELOCK_TARGET_BPF_H
#define CORELOCK_TARGET_BPF_H

#include "tables.bpf.h"

static __always_inline bool comm_is_target(struct task_struct *leader)
{
	__u64 comm[CORELOCK_COMM_LEN / sizeof(__u64)];
	const volatile __u64 *wanted = (const volatile __u64 *)target_comm;

	bpf_probe_read_kernel(comm, sizeof(comm), leader->comm);
	return comm[0] == wanted[0] && comm[1] == wanted[1];
}

static __always_inline bool mm_is_target(struct mm_struct *mm, struct task_struct *task)
{
	struct task_struct *owner = mm_owner(mm, task);
	__u64 address = (__u64)mm;
	__u32 tgid;

	/* Torn down: a target if it was one while it lived. */
	if (!owner)
		return bpf_map_lookup_elem(&mm_ids, &address) != NULL;
	if (target_kind == CORELOCK_TARGET_COMM)
		return is_visible(owner) && comm_is_target(load(owner, group_leader));
	tgid = load(owner, tgid);
	if (follow_children)
		return bpf_map_lookup_elem(&followed, &tgid) != NULL;
	return tgid == target_id && !mm_is_forking(owner, task);
}

static __always_inline bool is_target(struct mm_struct *mm, struct task_struct *task)
{
	bool wanted;

	if (target_kind == CORELOCK_TARGET_ALL)
		wanted = true;
	else if (target_kind == CORELOCK_TARGET_THREAD)
		wanted = (__u32)task->pid == target_id;
	else
		wanted = mm_is_target(mm, task);
	if (wanted && self_tgid && (__u32)task->tgid == self_tgid) {
		count(&counters.self);
		return false;
	}
	return wanted;
}

#endif
