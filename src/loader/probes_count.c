// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Counting hits of probes, by the programs of count.bpf.c. */
#include <errno.h>
#include <string.h>

#include "probes.h"

#include "count.skel.h"

static int count_open(corelock_probes *probes)
{
	struct count_bpf *skel = count_bpf__open();

	if (!skel)
		return probes_fail(probes, CORELOCK_E_LOAD, errno, "",
				   "cannot open the BPF object");
	probes->skel = skel;
	probes->object = skel->obj;
	probes->settings = (struct corelock_probe_settings *)&skel->rodata->settings;
	probes->state = &skel->bss->state;
	return counts_size(probes, skel->maps.counts);
}

static int count_load(void *skel)
{
	return count_bpf__load(skel);
}

static int count_ready(corelock_probes *probes)
{
	struct count_bpf *skel = probes->skel;

	return counts_see(probes, skel->maps.counts);
}

static void count_close(corelock_probes *probes)
{
	count_bpf__destroy(probes->skel);
}

const struct probe_tool count_tool = {
	.ways = ~0U,
	.open = count_open,
	.load = count_load,
	.ready = count_ready,
	.close = count_close,
};

CORELOCK_EXPORT int corelock_probes_read_counts(corelock_probes *probes, uint64_t *counts)
{
	const uint64_t *seen = probes->counts.entries;
	uint32_t indices = probes->options.indices;
	uint64_t end;

	if (!seen || probes->tool != &count_tool)
		return probes_fail(probes, CORELOCK_E_ARGUMENT, 0, "", "nothing is being counted");
	end = counts_entries(probes);
	memset(counts, 0, indices * sizeof(*counts));
	for (uint64_t from = 0; from < end; from += indices)
		for (uint32_t index = 0; index < indices; index++)
			counts[index] += __atomic_load_n(&seen[from + index], __ATOMIC_RELAXED);
	return 0;
}
