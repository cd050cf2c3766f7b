// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * src/bpf/times.bpf.h on the host, for test_histogram.py. Of what the header
 * takes from the tables, this has one chunk per octave, all handed out.
 */
#include <stdbool.h>
#include <stddef.h>
#include <linux/types.h>

#include "../../src/abi/corelock_abi.h"

#define CORELOCK_TABLES_BPF_H

static struct {
	__u32 interval;
} hot;
static const bool keep_recent = true;
static __u32 next_chunk, max_chunks;
static struct corelock_chunk chunks[CORELOCK_OCTAVES + 1];

static struct corelock_chunk *
	bpf_map_lookup_elem(struct corelock_chunk (*map)[CORELOCK_OCTAVES + 1], const __u32 *index)
{
	return &(*map)[*index];
}

#include "../../src/bpf/octaves.bpf.h"
#include "../../src/bpf/times.bpf.h"

static struct corelock_times times;

/* Empties everything; `octaves` of the histogram have room. */
void times_reset(__u32 octaves)
{
	times = (struct corelock_times){};
	__builtin_memset(chunks, 0, sizeof(chunks));
	next_chunk = 1;
	max_chunks = octaves + 1;
}

/* Counts ns in interval `now`; false when there was no room. */
bool times_count(__u32 now, __u64 ns)
{
	hot.interval = now;
	return times_add(&times, ns);
}

const struct corelock_times *times_read(void)
{
	return &times;
}

__u64 times_bucket(__u32 index)
{
	__u32 chunk = times.chunk[index / CORELOCK_SUB_BUCKETS];

	return chunk ? chunks[chunk].count[index % CORELOCK_SUB_BUCKETS] : 0;
}
