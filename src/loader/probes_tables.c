// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The tables of operands.bpf.h: sized before the programs are loaded, filled before they run. */
#include <errno.h>

#include "probes.h"

struct table {
	const char *name;
	const void *entries;
	uint32_t count;
	size_t entry_bytes;
};

#define TABLES 3

static void list_tables(const struct corelock_probe_options *options, struct table tables[TABLES])
{
	tables[0] = (struct table){"operands", options->operands, options->operand_count,
				   sizeof(struct corelock_operand)};
	tables[1] = (struct table){"tests", options->tests, options->test_count,
				   sizeof(struct corelock_test)};
	tables[2] =
		(struct table){"texts", options->texts, options->text_count, CORELOCK_TEXT_BYTES};
}

int tables_size(corelock_probes *probes)
{
	struct table tables[TABLES];

	list_tables(&probes->options, tables);
	for (int i = 0; i < TABLES; i++) {
		struct bpf_map *map = bpf_object__find_map_by_name(probes->object, tables[i].name);

		if (!map || bpf_map__set_max_entries(map, tables[i].count ?: 1))
			return probes_fail(probes, CORELOCK_E_LOAD, 0, "", "cannot size map %s",
					   tables[i].name);
	}
	return 0;
}

int tables_fill(corelock_probes *probes)
{
	struct table tables[TABLES];

	list_tables(&probes->options, tables);
	for (int i = 0; i < TABLES; i++) {
		int fd = bpf_object__find_map_fd_by_name(probes->object, tables[i].name);

		for (uint32_t at = 0; at < tables[i].count; at++) {
			const char *entry =
				(const char *)tables[i].entries + at * tables[i].entry_bytes;

			if (bpf_map_update_elem(fd, &at, entry, BPF_ANY))
				return probes_fail(probes, CORELOCK_E_SYSTEM, errno, "",
						   "cannot fill map %s", tables[i].name);
		}
	}
	return 0;
}
