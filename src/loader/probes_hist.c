// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Histograms of events' records, by the programs of hist.bpf.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "probes.h"

#include "hist.skel.h"

#define BANKS 2
#define MAX_KEYS 65536
#define MAX_STARTS (1U << 20)
/* Of each histogram, octaves that its values are in; some have more, most have fewer. */
#define CHUNKS_PER_ROW 4
#define SPARE_CHUNKS 256

enum visible { GROUPS, ROWS, CHUNKS, SUMS, COUNTERS, VISIBLE };

struct hist {
	struct seen tables[VISIBLE];
	uint32_t cpus, groups, rows, chunks;
	uint32_t values; /* rows of a group */
	uint32_t bank;	 /* that is being read */
};

static int hist_load(void *skel)
{
	return hist_bpf__load(skel);
}

static int check_options(corelock_probes *probes)
{
	const struct corelock_hist_options *options = probes->options.hist;

	if (!options || !options->specs || options->key_bytes > CORELOCK_HIST_KEY_BYTES ||
	    options->mark_bytes > CORELOCK_HIST_KEY_BYTES || options->max_keys > MAX_KEYS ||
	    options->max_starts > MAX_STARTS || options->linear_low > options->linear_high)
		return probes_fail(probes, CORELOCK_E_ARGUMENT, 0, "",
				   "options of histograms are out of range");
	return 0;
}

static uint32_t linear_buckets(const struct corelock_hist_options *options)
{
	uint64_t span = (uint64_t)options->linear_high - (uint64_t)options->linear_low;

	if (!options->linear_step)
		return 0;
	return span / options->linear_step + (span % options->linear_step != 0);
}

/* How many of everything there are. */
static void count_entries(const corelock_probes *probes, struct hist *hist)
{
	const struct corelock_hist_options *options = probes->options.hist;
	uint32_t indices = probes->options.indices;

	hist->cpus = libbpf_num_possible_cpus();
	hist->values = 1;
	for (uint32_t i = 0; i < indices; i++)
		if (options->specs[i].value_count > hist->values)
			hist->values = options->specs[i].value_count;
	/* CPUs that met a key at once have each taken a group for it. */
	hist->groups = 1 + (options->key_bytes ? options->max_keys + hist->cpus : indices);
	hist->rows = hist->groups * hist->values;
	hist->chunks = CHUNKS_PER_ROW * hist->rows + SPARE_CHUNKS + hist->cpus;
}

static void set_variables(struct hist_bpf *skel, const corelock_probes *probes,
			  const struct hist *hist)
{
	const struct corelock_hist_options *options = probes->options.hist;
	struct hist_bpf__rodata *rodata = skel->rodata;

	rodata->cpus = hist->cpus;
	rodata->row_room = hist->rows;
	rodata->chunk_room = hist->chunks;
	rodata->group_room = hist->groups;
	rodata->values_of_group = hist->values;
	rodata->has_keys = options->key_bytes;
	rodata->has_pairs = options->mark_bytes;
	rodata->linear_step = options->linear_step;
	rodata->linear_low = options->linear_low;
	rodata->linear_high = options->linear_high;
	rodata->linear_buckets = linear_buckets(options);
	rodata->longest_filter = probes->options.longest_filter;
	rodata->pid_namespace = probes->pids.address;
	rodata->pid_namespace_level = probes->pids.level;
}

static int set_sizes(corelock_probes *probes, struct hist_bpf *skel, const struct hist *hist)
{
	const struct corelock_hist_options *options = probes->options.hist;
	uint64_t regions = (uint64_t)BANKS * hist->cpus;
	struct {
		struct bpf_map *map;
		uint64_t entries;
	} sizes[] = {
		{skel->maps.specs, probes->options.indices},
		{skel->maps.groups, hist->groups},
		{skel->maps.rows, hist->rows},
		{skel->maps.chunks, regions * hist->chunks},
		{skel->maps.sums, regions * hist->rows},
		{skel->maps.counters, regions * probes->options.indices},
		{skel->maps.group_ids, options->key_bytes ? options->max_keys : 1},
		{skel->maps.starts, options->mark_bytes ? options->max_starts : 1},
	};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		if (sizes[i].entries > UINT32_MAX ||
		    bpf_map__set_max_entries(sizes[i].map, sizes[i].entries))
			return probes_fail(probes, CORELOCK_E_ARGUMENT, 0, "Ask for fewer keys.",
					   "there is no room for so many keys on so many CPUs");
	if (bpf_map__set_key_size(skel->maps.group_ids, 8 + options->key_bytes) ||
	    bpf_map__set_key_size(skel->maps.starts, 8 + options->mark_bytes))
		return probes_fail(probes, CORELOCK_E_LOAD, 0, "", "cannot size the keys");
	return 0;
}

static int hist_open(corelock_probes *probes)
{
	struct hist_bpf *skel;
	struct hist *hist;
	int error = check_options(probes);

	if (error)
		return error;
	skel = probes->skel = hist_bpf__open();
	hist = probes->own = skel ? calloc(1, sizeof(*hist)) : NULL;
	if (!hist)
		return probes_fail(probes, CORELOCK_E_LOAD, errno, "",
				   "cannot open the BPF object");
	probes->object = skel->obj;
	probes->settings = (struct corelock_probe_settings *)&skel->rodata->settings;
	probes->state = &skel->bss->state;
	count_entries(probes, hist);
	set_variables(skel, probes, hist);
	return set_sizes(probes, skel, hist) ?: tables_size(probes);
}

static int hist_ready(corelock_probes *probes)
{
	struct hist_bpf *skel = probes->skel;
	struct hist *hist = probes->own;
	struct bpf_map *maps[VISIBLE] = {
		[GROUPS] = skel->maps.groups,	  [ROWS] = skel->maps.rows,
		[CHUNKS] = skel->maps.chunks,	  [SUMS] = skel->maps.sums,
		[COUNTERS] = skel->maps.counters,
	};
	int error = tables_fill(probes);

	for (int i = 0; i < VISIBLE && !error; i++)
		error = map_see(probes, maps[i], PROT_READ | PROT_WRITE, &hist->tables[i]);
	for (uint32_t i = 0; i < probes->options.indices && !error; i++)
		if (bpf_map_update_elem(bpf_map__fd(skel->maps.specs), &i,
					&probes->options.hist->specs[i], BPF_ANY))
			error = probes_fail(probes, CORELOCK_E_SYSTEM, errno, "",
					    "cannot fill map specs");
	/* The caller's no more. */
	probes->options.hist = NULL;
	return error;
}

static void hist_close(corelock_probes *probes)
{
	struct hist *hist = probes->own;

	for (int i = 0; hist && i < VISIBLE; i++)
		map_forget(&hist->tables[i]);
	free(hist);
	probes->own = NULL;
	hist_bpf__destroy(probes->skel);
}

const struct probe_tool hist_tool = {
	.ways = 1U << CORELOCK_WAY_TP,
	.open = hist_open,
	.load = hist_load,
	.ready = hist_ready,
	.close = hist_close,
};

/* --- reading ------------------------------------------------------------------------ */

static uint32_t handed_out(const uint32_t *next, uint32_t room)
{
	uint32_t count = __atomic_load_n(next, __ATOMIC_ACQUIRE);

	return count < room ? count : room;
}

/* What one CPU has of a bank, of a table with so many entries for each. */
static void *region(const struct hist *hist, enum visible table, uint32_t bank, uint32_t cpu,
		    uint32_t entries, size_t entry_bytes)
{
	uint64_t first = ((uint64_t)bank * hist->cpus + cpu) * entries;

	return hist->tables[table].entries + first * entry_bytes;
}

static struct corelock_chunk *chunks_of(const struct hist *hist, uint32_t bank, uint32_t cpu)
{
	return region(hist, CHUNKS, bank, cpu, hist->chunks, sizeof(struct corelock_chunk));
}

static struct corelock_hist_sums *sums_of(const struct hist *hist, uint32_t bank, uint32_t cpu)
{
	return region(hist, SUMS, bank, cpu, hist->rows, sizeof(struct corelock_hist_sums));
}

static struct corelock_hist_counters *counters_of(const corelock_probes *probes, uint32_t bank,
						  uint32_t cpu)
{
	return region(probes->own, COUNTERS, bank, cpu, probes->options.indices,
		      sizeof(struct corelock_hist_counters));
}

static void clear_bank(const corelock_probes *probes, uint32_t bank)
{
	const struct hist *hist = probes->own;
	const struct hist_bpf *skel = probes->skel;
	uint32_t chunks = handed_out(&skel->data->next_chunk, hist->chunks);

	for (uint32_t cpu = 0; cpu < hist->cpus; cpu++) {
		memset(chunks_of(hist, bank, cpu), 0, chunks * sizeof(struct corelock_chunk));
		memset(sums_of(hist, bank, cpu), 0, hist->rows * sizeof(struct corelock_hist_sums));
		memset(counters_of(probes, bank, cpu), 0,
		       probes->options.indices * sizeof(struct corelock_hist_counters));
	}
}

static int check_reading(corelock_probes *probes)
{
	if (probes->skel && probes->tool == &hist_tool)
		return 0;
	return probes_fail(probes, CORELOCK_E_ARGUMENT, 0, "", "no histograms are being made");
}

CORELOCK_EXPORT int corelock_probes_take_histograms(corelock_probes *probes)
{
	struct hist *hist = probes->own;
	struct hist_bpf *skel = probes->skel;
	int error = check_reading(probes) ?: probes_check_owner(probes);

	if (error)
		return error;
	/* What was read the last time is written next. */
	clear_bank(probes, !skel->bss->bank);
	hist->bank = skel->bss->bank;
	__atomic_store_n(&skel->bss->bank, !hist->bank, __ATOMIC_SEQ_CST);
	if (probes->attached)
		error = programs_wait(probes);
	return error ?: (int)handed_out(&skel->data->next_group, hist->groups);
}

CORELOCK_EXPORT int corelock_probes_read_group(corelock_probes *probes, uint32_t group,
					       struct corelock_hist_group *read)
{
	const struct hist *hist = probes->own;
	int error = check_reading(probes);

	if (error)
		return error;
	if (group >= hist->groups)
		return probes_fail(probes, CORELOCK_E_ARGUMENT, 0, "", "no such group: %u", group);
	memcpy(read, hist->tables[GROUPS].entries + group * sizeof(*read), sizeof(*read));
	return 0;
}

/* What all CPUs have counted in one bucket. */
static uint64_t bucket_count(const struct hist *hist, uint32_t chunk, uint32_t sub)
{
	uint64_t count = 0;

	for (uint32_t cpu = 0; cpu < hist->cpus; cpu++)
		count += chunks_of(hist, hist->bank, cpu)[chunk].count[sub];
	return count;
}

static void add_sums(const struct hist *hist, uint32_t row, struct corelock_hist_reading *reading)
{
	struct corelock_hist_sums all = {};

	for (uint32_t cpu = 0; cpu < hist->cpus; cpu++) {
		const struct corelock_hist_sums *one = &sums_of(hist, hist->bank, cpu)[row];

		all.low += one->low;
		all.high += one->high + (all.low < one->low);
		all.chunks_full += one->chunks_full;
		if (one->most > all.most)
			all.most = one->most;
		if (one->least_lacks > all.least_lacks)
			all.least_lacks = one->least_lacks;
	}
	*reading = (struct corelock_hist_reading){
		.low = all.low,
		.high = all.high,
		.least = ~all.least_lacks,
		.most = all.most,
		.chunks_full = all.chunks_full,
	};
}

CORELOCK_EXPORT int corelock_probes_read_histogram(corelock_probes *probes, uint32_t group,
						   uint32_t value,
						   struct corelock_hist_reading *reading,
						   struct corelock_bucket *buckets,
						   uint32_t capacity)
{
	const struct hist *hist = probes->own;
	uint32_t row = group * (hist ? hist->values : 0) + value, found = 0;
	const struct corelock_hist_row *chunks;
	int error = check_reading(probes);

	if (error)
		return error;
	if (group >= hist->groups || value >= hist->values)
		return probes_fail(probes, CORELOCK_E_ARGUMENT, 0, "", "no such histogram: %u, %u",
				   group, value);
	add_sums(hist, row, reading);
	chunks = hist->tables[ROWS].entries + row * sizeof(*chunks);
	for (uint32_t place = 0; place < CORELOCK_HIST_CHUNKS; place++) {
		uint32_t chunk = chunks->chunk[place];

		for (uint32_t sub = 0; chunk && sub < CORELOCK_SUB_BUCKETS; sub++) {
			uint64_t count = bucket_count(hist, chunk, sub);

			if (!count || found == capacity)
				continue;
			buckets[found++] = (struct corelock_bucket){
				.index = place * CORELOCK_SUB_BUCKETS + sub, .count = count};
			reading->count += count;
		}
	}
	return found;
}

CORELOCK_EXPORT int corelock_probes_read_hist_counters(corelock_probes *probes, uint32_t index,
						       struct corelock_hist_counters *counters)
{
	const struct hist *hist = probes->own;
	int error = check_reading(probes);

	if (error)
		return error;
	if (index >= probes->options.indices)
		return probes_fail(probes, CORELOCK_E_ARGUMENT, 0, "", "no such index: %u", index);
	memset(counters, 0, sizeof(*counters));
	/* All of its members are counts. */
	for (uint32_t cpu = 0; cpu < hist->cpus; cpu++) {
		const uint64_t *one = (void *)&counters_of(probes, hist->bank, cpu)[index];

		for (size_t i = 0; i < sizeof(*counters) / sizeof(*one); i++)
			((uint64_t *)counters)[i] += one[i];
	}
	return 0;
}

CORELOCK_EXPORT int corelock_probes_count_open(corelock_probes *probes, uint32_t pair)
{
	struct hist_bpf *skel = probes->skel;
	struct {
		uint64_t pair;
		uint8_t bytes[CORELOCK_HIST_KEY_BYTES];
	} key;
	int fd, count = 0, error = check_reading(probes);

	if (error)
		return error;
	if (!probes->end_ns)
		return probes_fail(probes, CORELOCK_E_ARGUMENT, 0, "",
				   "what is open is counted after the end");
	fd = bpf_map__fd(skel->maps.starts);
	for (void *before = NULL; !bpf_map_get_next_key(fd, before, &key); before = &key)
		count += key.pair == pair;
	return count;
}
