/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The octave of a value, and tables of what is handed out as it is needed: octaves among others. */
#ifndef CORELOCK_OCTAVES_BPF_H
#define CORELOCK_OCTAVES_BPF_H

#include "../abi/corelock_abi.h"
#include "compiler.h"

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

/* Of any value, and in *sub which of its buckets. */
static __always_inline __u32 octave_of(__u64 value, __u32 *sub)
{
	__u32 octave = 0;

	*sub = value;
	if (likely(value >= CORELOCK_SUB_BUCKETS)) {
		octave = log2_floor(value) - (SUB_BUCKET_BITS - 1);
		*sub = value >> (octave - 1);
	}
	*sub &= CORELOCK_SUB_BUCKETS - 1;
	return octave;
}

/* Takes the next index of a table of `max` entries, or 0. */
static __always_inline __u32 take_index(__u32 *next, __u32 max)
{
	__u32 index;

	if (*next >= max)
		return 0;
	index = __sync_fetch_and_add(next, 1);
	return index < max ? index : 0;
}

#endif
