// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Counts hits of probes, each by its index. */
#include "main_thread.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/*
 * The counts of all probes on the first CPU, those on the second, and so on. Not a per-CPU array:
 * this one can be read without a system call, which would keep programs from running meanwhile.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static __always_inline void count_hit(void *ctx, __u64 index)
{
	__u64 *count;
	__u32 key;

	if (!hit_is_wanted() || index >= settings.indices)
		return;
	key = bpf_get_smp_processor_id() * settings.indices + index;
	count = bpf_map_lookup_elem(&counts, &key);
	/* Another task may come in between on the same CPU: most of these programs can be
	 * preempted. */
	if (count)
		__sync_fetch_and_add(count, 1);
}

PROBE_PROGRAMS(count_hit)
