/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Adding one wait or hold to a row: total, maximum and log-linear histogram. */
#ifndef CORELOCK_TIMES_BPF_H
#define CORELOCK_TIMES_BPF_H

#include "tables.bpf.h"

/* Two banks: the last interval's maximum stays readable while this one's is written. */
static __always_inline void recent_add(struct corelock_times *times, __u64 ns)
{
	__u32 now = hot.interval, bank = now & 1;

	if (unlikely(times->recent_interval[bank] != now)) {
		times->recent_interval[bank] = now;
		times->recent_max_ns[bank] = 0;
	}
	if (ns > times->recent_max_ns[bank])
		times->recent_max_ns[bank] = ns;
}

/* False when there was no room for a new octave; then nothing is added. */
static __always_inline bool times_add(struct corelock_times *times, __u64 ns)
{
	__u32 sub, octave = octave_of(ns, &sub), index;
	struct corelock_chunk *chunk;

	if (unlikely(octave >= CORELOCK_OCTAVES)) {
		octave = CORELOCK_OCTAVES - 1;
		sub = CORELOCK_SUB_BUCKETS - 1;
	}
	index = times->chunk[octave];
	if (unlikely(!index)) {
		index = take_index(&next_chunk, max_chunks);
		times->chunk[octave] = index;
	}
	chunk = index ? bpf_map_lookup_elem(&chunks, &index) : NULL;
	if (unlikely(!chunk))
		return false;
	chunk->count[sub]++;
	times->total_ns += ns;
	if (ns > times->max_ns)
		times->max_ns = ns;
	if (keep_recent)
		recent_add(times, ns);
	return true;
}

#endif
