/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Adding one wait or hold to a row: total, maximum and log-linear histogram. */
#ifndef CORELOCK_TIMES_BPF_H
#define CORELOCK_TIMES_BPF_H

#include "tables.bpf.h"

#define SUB_BUCKET_BITS 3
_Static_assert(1 << SUB_BUCKET_BITS == CORELOCK_SUB_BUCKETS, "octaves are split by shifting");

/* floor(log2(value)), value > 0. BPF has no instruction for it. */
static __always_inline __u32 log2_floor(__u64 value)
{
	__u32 log = 0;

	if (value >> 32) {
		value >>= 32;
		log += 32;
	}
	if (value >> 16) {
		value >>= 16;
		log += 16;
	}
	if (value >> 8) {
		value >>= 8;
		log += 8;
	}
	if (value >> 4) {
		value >>= 4;
		log += 4;
	}
	if (value >> 2) {
		value >>= 2;
		log += 2;
	}
	return log + (value >> 1);
}

/* False when there was no room for a new octave; then nothing is added. */
static __always_inline bool times_add(struct corelock_times *times, __u64 ns)
{
	/* Two banks: the last interval's maximum stays readable while this one's is written. */
	__u32 now = interval, bank = now & 1;
	__u32 octave = 0, sub = ns, index;
	struct corelock_chunk *chunk;

	if (ns >= CORELOCK_SUB_BUCKETS) {
		octave = log2_floor(ns) - (SUB_BUCKET_BITS - 1);
		sub = ns >> (octave - 1);
		if (octave >= CORELOCK_OCTAVES) {
			octave = CORELOCK_OCTAVES - 1;
			sub = CORELOCK_SUB_BUCKETS - 1;
		}
	}
	index = times->chunk[octave];
	if (!index) {
		index = take_index(&next_chunk, max_chunks);
		times->chunk[octave] = index;
	}
	chunk = index ? bpf_map_lookup_elem(&chunks, &index) : NULL;
	if (!chunk)
		return false;
	chunk->count[sub & (CORELOCK_SUB_BUCKETS - 1)]++;
	times->total_ns += ns;
	if (ns > times->max_ns)
		times->max_ns = ns;
	if (times->recent_interval[bank] != now) {
		times->recent_interval[bank] = now;
		times->recent_max_ns[bank] = 0;
	}
	if (ns > times->recent_max_ns[bank])
		times->recent_max_ns[bank] = ns;
	return true;
}

#endif
