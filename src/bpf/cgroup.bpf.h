/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whether a task is in the traced cgroup or in one below it. Tasks come as plain addresses:
 * what is behind them is read by probing, so that it does not matter where they came from.
 */
#ifndef CORELOCK_CGROUP_BPF_H
#define CORELOCK_CGROUP_BPF_H

#include "kernel.bpf.h"

/* How deep the traced cgroup may lie; the library's caller makes sure of it. */
#define MAX_CGROUP_LEVEL 128

const volatile __u64 target_cgroup; /* its id; 0: none is asked for */

/*
 * The level at which the traced cgroup is found, plus 1; 0: it has not been met. Who is in a
 * cgroup namespace does not see how far below the root it is.
 */
__u32 target_cgroup_level = 0;

struct cgroup___ids {
	__u64 ancestor_ids[1];
} __attribute__((preserve_access_index));

/* The id of a cgroup's ancestor at a level, which must not be below the cgroup's own. */
static __always_inline __u64 cgroup_ancestor_id(struct cgroup *cgroup, __u32 level)
{
	struct cgroup___ids *with_ids = (void *)cgroup;
	struct cgroup *ancestor = NULL;
	__u64 id = 0;

	/*
	 * Since Linux kernel commit 7f203bc89eb6 ("cgroup: Replace cgroup->ancestor_ids[] with
	 * ->ancestors[]") in v6.1.
	 */
	if (bpf_core_field_exists(cgroup->ancestors)) {
		bpf_probe_read_kernel(&ancestor, sizeof(ancestor),
				      (void *)cgroup + bpf_core_field_offset(cgroup->ancestors) +
					      level * sizeof(ancestor));
		return BPF_CORE_READ(ancestor, kn, id);
	}
	bpf_probe_read_kernel(&id, sizeof(id),
			      (void *)cgroup + bpf_core_field_offset(with_ids->ancestor_ids) +
				      level * sizeof(id));
	return id;
}

/* Whether it is the traced cgroup or below it. A global function is verified once. */
__noinline int cgroup_is_target(__u64 address)
{
	struct cgroup *cgroup = (struct cgroup *)address;
	__u32 own_level = BPF_CORE_READ(cgroup, level), level = target_cgroup_level;

	/* Cgroups stay where they are made, so that it is at this level of all that are below it.
	 */
	if (level)
		return level - 1 <= own_level &&
		       cgroup_ancestor_id(cgroup, level - 1) == target_cgroup;
	for (level = 0; level <= MAX_CGROUP_LEVEL; level++) {
		if (level > own_level)
			return false;
		if (cgroup_ancestor_id(cgroup, level) == target_cgroup) {
			target_cgroup_level = level + 1;
			return true;
		}
	}
	return false;
}

static __always_inline bool task_is_in_target_cgroup(__u64 task)
{
	return cgroup_is_target(
		(__u64)BPF_CORE_READ((struct task_struct *)task, cgroups, dfl_cgrp));
}

#endif
