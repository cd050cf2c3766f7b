/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Adding one wait or hold to a row: total, maximum and log-linear histogram. */
#ifndef CORELOCK_TIMES_BPF_H
#define CORELOCK_TIMES_BPF_H

#include "tables.bpf.h"

#define SUB_BUCKET_BITS 3
_Static_assert(1 << SUB_BUCKET_BITS == CORELOCK_SUB_BUCKETS, "octaves are split by shifting");

/* 1 if value > limit, for values below 2^63: a comparison that is no branch. */
static __always_inline __u32 above(__u64 value, __u64 limit)
{
	return (limit - value) >> 63;
}

/*
 * floor(log2(value)), value > 0. BPF has no instruction for it, and branches on
 * times are mispredicted half of the time.
 */
static __always_inline __u32 log2_floor(__u64 value)
{
	__u32 log = 0, more;

	if (unlikely(value >> 32)) {
		value >>= 32;
		log = 32;
	}
	more = above(value, 0xffff) << 4;
	value >>= more;
	log += more;
	more = above(value, 0xff) << 3;
	value >>= more;
	log += more;
	more = above(value, 0xf) << 2;
	value >>= more;
	log += more;
	more = above(value, 0x3) << 1;
	value >>= more;
	return log + more + (value >> 1);
}

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
	__u32 octave = 0, sub = ns, index;
	struct corelock_chunk *chunk;

	if (likely(ns >= CORELOCK_SUB_BUCKETS)) {
		octave = log2_floor(ns) - (SUB_BUCKET_BITS - 1);
		sub = ns >> (octave - 1);
		if (unlikely(octave >= CORELOCK_OCTAVES)) {
			octave = CORELOCK_OCTAVES - 1;
			sub = CORELOCK_SUB_BUCKETS - 1;
		}
	}
	index = times->chunk[octave];
	if (unlikely(!index)) {
		index = take_index(&next_chunk, max_chunks);
		times->chunk[octave] = index;
	}
	chunk = index ? bpf_map_lookup_elem(&chunks, &index) : NULL;
	if (unlikely(!chunk))
		return false;
	chunk->count[sub & (CORELOCK_SUB_BUCKETS - 1)]++;
	times->total_ns += ns;
	if (ns > times->max_ns)
		times->max_ns = ns;
	if (keep_recent)
		recent_add(times, ns);
	return true;
}

#endif
