// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Hits of probes one by one, sent by the programs of trace.bpf.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "probes.h"
#include "session.h"

#include "trace.skel.h"

#define DEFAULT_RING_BYTES (8U << 20)
#define LARGEST_RING_BYTES (1U << 30)
#define KERNEL_STACK_BYTES (CORELOCK_KERNEL_STACK_DEPTH * sizeof(uint64_t))

struct tracing {
	struct trace_bpf *skel;
	struct ring_buffer *ring;
	/* While it is being read: the caller's buffer. */
	uint8_t *to;
	uint32_t capacity, taken;
};

static size_t user_stack_at(const struct corelock_trace_options *options)
{
	return sizeof(struct corelock_hit) + options->value_bytes +
	       (options->kernel_stacks ? KERNEL_STACK_BYTES : 0);
}

static size_t record_bytes(const struct corelock_trace_options *options)
{
	return user_stack_at(options) +
	       (options->user_stacks ? sizeof(struct corelock_user_stack) : 0);
}

static int take_hit(void *context, void *data, size_t size)
{
	corelock_probes *probes = context;
	const struct corelock_trace_options *options = &probes->trace;
	struct tracing *tracing = probes->skel;
	size_t bytes = record_bytes(options), user_at = user_stack_at(options);
	uint8_t *to = tracing->to + (size_t)tracing->taken * bytes;
	const uint8_t *from = data;

	if (size < bytes)
		return 0;
	memcpy(to, from, user_at);
	if (options->user_stacks)
		copy_user_stack((void *)(to + user_at), (const void *)(from + user_at));
	/* An error stops the reading behind this record; it is consumed. */
	return ++tracing->taken == tracing->capacity ? -ENOSPC : 0;
}

/* --- the tool ------------------------------------------------------------------------- */

static int check_options(corelock_probes *probes, uint32_t ring_bytes)
{
	const struct corelock_trace_options *options = &probes->trace;

	if (!options->specs || options->value_bytes > CORELOCK_TRACE_VALUES * CORELOCK_TEXT_BYTES ||
	    options->value_bytes % sizeof(uint64_t) || options->most_values > CORELOCK_TRACE_VALUES)
		return probes_fail(probes, CORELOCK_E_ARGUMENT, 0, "",
				   "these are no options to trace with");
	if (options->ring_bytes > LARGEST_RING_BYTES)
		return probes_fail(probes, CORELOCK_E_ARGUMENT, 0, "Ask for less.",
				   "a ring of %u bytes is too large", options->ring_bytes);
	if (ring_bytes < 2 * record_bytes(options))
		return probes_fail(probes, CORELOCK_E_ARGUMENT, 0, "Ask for more (--ring-size).",
				   "a ring of %u bytes is too small for events of %zu bytes",
				   ring_bytes, record_bytes(options));
	return 0;
}

static void set_variables(corelock_probes *probes, struct trace_bpf *skel, uint32_t ring_bytes)
{
	const struct corelock_trace_options *options = &probes->trace;

	skel->rodata->longest_filter = probes->options.longest_filter;
	skel->rodata->pid_namespace = probes->pids.address;
	skel->rodata->pid_namespace_level = probes->pids.level;
	skel->rodata->value_bytes = options->value_bytes;
	skel->rodata->most_values = options->most_values;
	skel->rodata->record_bytes = record_bytes(options);
	skel->rodata->with_kernel_stack = options->kernel_stacks;
	skel->rodata->with_user_stack = options->user_stacks;
	/* The mappings that addresses are in are read of living processes: at once, then. */
	skel->rodata->wake_bytes = options->user_stacks ? 0 : ring_bytes / 4;
}

static int trace_open(corelock_probes *probes)
{
	uint32_t ring_bytes = power_of_two(probes->trace.ring_bytes ?: DEFAULT_RING_BYTES);
	struct tracing *tracing;
	struct trace_bpf *skel;
	int error = check_options(probes, ring_bytes);

	if (error)
		return error;
	tracing = probes->skel = calloc(1, sizeof(*tracing));
	skel = tracing ? tracing->skel = trace_bpf__open() : NULL;
	if (!skel)
		return probes_fail(probes, CORELOCK_E_LOAD, errno, "",
				   "cannot open the BPF object");
	probes->object = skel->obj;
	probes->settings = (struct corelock_probe_settings *)&skel->rodata->settings;
	probes->state = &skel->bss->state;
	set_variables(probes, skel, ring_bytes);
	if (bpf_map__set_max_entries(skel->maps.specs, 2 * probes->options.indices) ||
	    bpf_map__set_max_entries(skel->maps.ring, ring_bytes))
		return probes_fail(probes, CORELOCK_E_LOAD, 0, "", "cannot size the maps");
	return counts_size(probes, skel->maps.counts) ?: tables_size(probes);
}

static int trace_load(void *handle)
{
	struct tracing *tracing = handle;

	return trace_bpf__load(tracing->skel);
}

static int fill_specs(corelock_probes *probes, const struct trace_bpf *skel)
{
	int fd = bpf_map__fd(skel->maps.specs);

	for (uint32_t row = 0; row < 2 * probes->options.indices; row++)
		if (bpf_map_update_elem(fd, &row, &probes->trace.specs[row], BPF_ANY))
			return probes_fail(probes, CORELOCK_E_SYSTEM, errno, "",
					   "cannot fill map specs");
	return 0;
}

static int trace_ready(corelock_probes *probes)
{
	struct tracing *tracing = probes->skel;
	int error = tables_fill(probes)
			    ?: fill_specs(probes, tracing->skel)
			    ?: counts_see(probes, tracing->skel->maps.counts);

	if (error)
		return error;
	tracing->ring =
		ring_buffer__new(bpf_map__fd(tracing->skel->maps.ring), take_hit, probes, NULL);
	if (tracing->ring)
		return 0;
	return probes_fail(probes, CORELOCK_E_SYSTEM, errno, "", "cannot map the ring buffer");
}

static void trace_close(corelock_probes *probes)
{
	struct tracing *tracing = probes->skel;

	ring_buffer__free(tracing->ring);
	trace_bpf__destroy(tracing->skel);
	free(tracing);
}

const struct probe_tool trace_tool = {
	/* A raw tracepoint's arguments are not what its fields are. */
	.ways = ~(1U << CORELOCK_WAY_RAW_TP),
	.open = trace_open,
	.load = trace_load,
	.ready = trace_ready,
	.close = trace_close,
};

/* --- reading -------------------------------------------------------------------------- */

/* What traces, or NULL and a failure. */
static struct tracing *tracing_of(corelock_probes *probes)
{
	if (probes->skel && probes->tool == &trace_tool && probes->counts.entries)
		return probes->skel;
	probes_fail(probes, CORELOCK_E_ARGUMENT, 0, "", "nothing is being traced");
	return NULL;
}

CORELOCK_EXPORT int corelock_probes_record_bytes(corelock_probes *probes)
{
	return tracing_of(probes) ? (int)record_bytes(&probes->trace) : -CORELOCK_E_ARGUMENT;
}

CORELOCK_EXPORT int corelock_probes_fd(corelock_probes *probes)
{
	struct tracing *tracing = tracing_of(probes);

	return tracing ? ring_buffer__epoll_fd(tracing->ring) : -CORELOCK_E_ARGUMENT;
}

CORELOCK_EXPORT int corelock_probes_read_hits(corelock_probes *probes, void *records,
					      uint32_t capacity)
{
	struct tracing *tracing = tracing_of(probes);
	int got;

	if (!tracing)
		return -CORELOCK_E_ARGUMENT;
	got = probes_check_owner(probes);
	if (got || !capacity)
		return got;
	tracing->to = records;
	tracing->capacity = capacity;
	tracing->taken = 0;
	got = ring_buffer__consume(tracing->ring);
	if (got < 0 && got != -ENOSPC)
		return probes_fail(probes, CORELOCK_E_SYSTEM, -got, "", "cannot read the hits");
	return tracing->taken;
}

CORELOCK_EXPORT int corelock_probes_read_hit_counts(corelock_probes *probes,
						    struct corelock_hit_counts *counts)
{
	const struct corelock_hit_counts *seen = probes->counts.entries;
	uint32_t indices = probes->options.indices;
	uint64_t end = counts_entries(probes);

	if (!tracing_of(probes))
		return -CORELOCK_E_ARGUMENT;
	memset(counts, 0, indices * sizeof(*counts));
	for (uint64_t from = 0; from < end; from += indices)
		for (uint32_t index = 0; index < indices; index++) {
			const struct corelock_hit_counts *one = &seen[from + index];

			counts[index].hits += __atomic_load_n(&one->hits, __ATOMIC_RELAXED);
			counts[index].filtered += __atomic_load_n(&one->filtered, __ATOMIC_RELAXED);
			counts[index].ring_full +=
				__atomic_load_n(&one->ring_full, __ATOMIC_RELAXED);
		}
	return 0;
}
