// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A program for one place, where the kernel has no cookie to tell places apart: tracing programs
 * have none before v5.19 (commit 2fcc82411e74), raw tracepoints before v6.10 (68ca5d4eebb8), and
 * the former are loaded for one function each in any case.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/btf.h>

#include "probes.h"

/* The kernel's limit for names. */
#define COPY_NAME "corelock_probe"

static int set_index(struct bpf_insn *insns, size_t count, uint32_t index)
{
	int found = 0;

	for (size_t i = 0; i < count; i++) {
		if (insns[i].code != (BPF_ALU64 | BPF_MOV | BPF_K) ||
		    insns[i].imm != CORELOCK_INDEX_OF_COPY)
			continue;
		insns[i].imm = index;
		found++;
	}
	return found == 1 ? 0 : -EINVAL;
}

int probe_copy(corelock_probes *probes, enum bpf_prog_type type, uint32_t function_id,
	       uint32_t index)
{
	const struct bpf_program *original = probe_program(probes, "on_copied");
	LIBBPF_OPTS(bpf_prog_load_opts, options, .attach_btf_id = function_id);
	size_t count = bpf_program__insn_cnt(original);
	struct bpf_insn *insns = calloc(count, sizeof(*insns));
	int result;

	if (!insns)
		return -ENOMEM;
	memcpy(insns, bpf_program__insns(original), count * sizeof(*insns));
	if (function_id)
		options.expected_attach_type = BPF_TRACE_FENTRY;
	result = set_index(insns, count, index);
	if (!result)
		result = bpf_prog_load(type, COPY_NAME, "Dual BSD/GPL", insns, count, &options);
	free(insns);
	return result;
}

/* The first of the places, in order of their names, whose name is not before this one. */
static uint32_t first_named(struct corelock_place **sorted, uint32_t count, const char *name)
{
	uint32_t low = 0, high = count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (strcmp(sorted[middle]->name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int find_function_ids(struct corelock_place **places, uint32_t count)
{
	struct btf *btf = btf__parse(VMLINUX_BTF, NULL);

	if (!btf)
		return -errno;
	qsort(places, count, sizeof(*places), places_by_name);
	for (uint32_t id = 1; id < btf__type_cnt(btf); id++) {
		const struct btf_type *type = btf__type_by_id(btf, id);
		const char *name;

		if (!btf_is_func(type))
			continue;
		name = btf__name_by_offset(btf, type->name_off);
		for (uint32_t i = first_named(places, count, name);
		     i < count && !strcmp(places[i]->name, name); i++)
			places[i]->function_id = id;
	}
	btf__free(btf);
	return 0;
}
