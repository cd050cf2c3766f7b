// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Arrays that the library reads as the programs write them, without a system call. */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "probes.h"

int map_see(corelock_probes *probes, const struct bpf_map *map, int protection, struct seen *seen)
{
	size_t page = getpagesize();
	size_t bytes = (size_t)bpf_map__max_entries(map) * bpf_map__value_size(map);
	void *entries;

	/* Whole pages, as the kernel maps them. */
	bytes = (bytes + page - 1) / page * page;
	entries = mmap(NULL, bytes, protection, MAP_SHARED, bpf_map__fd(map), 0);
	if (entries == MAP_FAILED)
		return probes_fail(probes, CORELOCK_E_SYSTEM, errno, "", "cannot see map %s",
				   bpf_map__name(map));
	*seen = (struct seen){entries, bytes};
	return 0;
}

void map_forget(struct seen *seen)
{
	if (seen->entries)
		munmap(seen->entries, seen->bytes);
	*seen = (struct seen){};
}

uint64_t counts_entries(const corelock_probes *probes)
{
	return (uint64_t)libbpf_num_possible_cpus() * probes->options.indices;
}

int counts_size(corelock_probes *probes, struct bpf_map *map)
{
	uint64_t entries = counts_entries(probes);

	if (entries <= UINT32_MAX && !bpf_map__set_max_entries(map, entries))
		return 0;
	return probes_fail(probes, CORELOCK_E_ARGUMENT, 0, "Ask for fewer.",
			   "%u probes are too many for this machine's CPUs",
			   probes->options.indices);
}

int counts_see(corelock_probes *probes, const struct bpf_map *map)
{
	return map_see(probes, map, PROT_READ, &probes->counts);
}
