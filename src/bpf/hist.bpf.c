// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Histograms of what tracepoints' records have, and of times between two tracepoints.
 *
 * The kernel runs one program of perf events at a time on a CPU, whatever interrupts it
 * (trace_call_bpf in kernel/trace/bpf_trace.c), and does not preempt it. So what a CPU has for
 * itself is written without atomics. It has two of each: the library reads one while the other
 * is being written.
 */
#include "probe.bpf.h"
#include "octaves.bpf.h"
#include "operands.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define EEXIST 17
#define ENOMEM 12
#define E2BIG 7

#define KEY_BYTES CORELOCK_HIST_KEY_BYTES
#define CHUNK_BITS 3
#define LINEAR_CHUNKS ((CORELOCK_HIST_LINEAR + 2) / CORELOCK_SUB_BUCKETS + 1)
_Static_assert(CORELOCK_HIST_CHUNKS == 2 * CORELOCK_HIST_OCTAVES, "one side after the other");
_Static_assert(LINEAR_CHUNKS <= CORELOCK_HIST_CHUNKS, "a linear histogram has room");

/* Set by the library between open and load. */
const volatile __u32 cpus = 1;
const volatile __u32 row_room = 1;
const volatile __u32 chunk_room = 1;
const volatile __u32 group_room = 1;
const volatile __u32 values_of_group = 1;
const volatile bool has_keys = false;
const volatile bool has_pairs = false;
const volatile __u64 linear_step = 0; /* 0: octaves */
const volatile __s64 linear_low = 0, linear_high = 0;
const volatile __u32 linear_buckets = 0;

/* Which of the two is written, by every CPU. */
__u32 bank;

__u32 next_group = 1;
__u32 next_chunk = 1;

#define VISIBLE_TABLE(name, entry)                 \
	struct {                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY);  \
		__uint(map_flags, BPF_F_MMAPABLE); \
		__uint(max_entries, 1);            \
		__type(key, __u32);                \
		__type(value, entry);              \
	} name SEC(".maps")

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct corelock_hist_spec);
} specs SEC(".maps");

VISIBLE_TABLE(groups, struct corelock_hist_group);
VISIBLE_TABLE(rows, struct corelock_hist_row);
/* Of each bank and CPU, one after the other. */
VISIBLE_TABLE(chunks, struct corelock_chunk);
VISIBLE_TABLE(sums, struct corelock_hist_sums);
VISIBLE_TABLE(counters, struct corelock_hist_counters);

/* Keys as long as they are said to be; hashes as long as events' records need them at once. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(key_size, 8 + KEY_BYTES);
	__uint(value_size, sizeof(__u32));
} group_ids SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(key_size, 8 + KEY_BYTES);
	__uint(value_size, sizeof(__u64));
} starts SEC(".maps");

/* A text is written whole, whatever room it has: the parts behind it come later. */
struct key {
	__u64 owner; /* an event, or a pair */
	__u8 bytes[KEY_BYTES + CORELOCK_TEXT_BYTES];
};

/* A CPU's own. */
struct scratch {
	struct key key;
	/* Taken, and not needed then. */
	__u32 spare_group, spare_chunk;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

/* One event that is being counted. */
struct hit {
	void *ctx;
	const struct corelock_hist_spec *spec;
	struct corelock_hist_counters *counters;
	__u32 index;
	__u32 region; /* what this CPU writes of the bank */
};

static __always_inline struct scratch *scratch_of_cpu(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratches, &zero);
}

/* --- keys ----------------------------------------------------------------------- */

static __noinline int put_part(void *ctx, const struct corelock_operand *operand, struct key *key)
{
	__u32 place = operand->place;

	if (place > KEY_BYTES - 8)
		return 0;
	if (operand->text)
		operand_text(ctx, operand, (struct text *)&key->bytes[place]);
	else
		*(__u64 *)&key->bytes[place] = operand_number(ctx, operand);
	return 0;
}

static __always_inline void make_key(struct key *key, __u64 owner, void *ctx, const __u32 *parts,
				     __u32 count)
{
	key->owner = owner;
	__builtin_memset(key->bytes, 0, KEY_BYTES);
	for (__u32 i = 0; i < CORELOCK_HIST_PARTS && i < count; i++) {
		const struct corelock_operand *operand = operand_at(parts[i]);

		if (operand)
			put_part(ctx, operand, key);
	}
}

/* The group of a key that has none, or 0, counted. */
static __noinline __u32 add_group(struct scratch *scratch, struct corelock_hist_counters *counters)
{
	__u32 group = scratch->spare_group ?: take_index(&next_group, group_room);
	struct corelock_hist_group *entry = bpf_map_lookup_elem(&groups, &group);
	__u32 *found;
	long error;

	if (!group || !entry) {
		counters->keys_full++;
		return 0;
	}
	scratch->spare_group = group;
	entry->event = scratch->key.owner;
	__builtin_memcpy(entry->key, scratch->key.bytes, KEY_BYTES);
	error = bpf_map_update_elem(&group_ids, &scratch->key, &group, BPF_NOEXIST);
	if (!error) {
		scratch->spare_group = 0;
		return group;
	}
	/* Another CPU may have been first. */
	found = bpf_map_lookup_elem(&group_ids, &scratch->key);
	if (found)
		return *found;
	if (error == -E2BIG || error == -ENOMEM)
		counters->keys_full++;
	else
		counters->key_failed++;
	return 0;
}

static __always_inline __u32 find_group(const struct hit *hit)
{
	struct scratch *scratch;
	__u32 *found;

	if (!has_keys)
		return hit->index + 1;
	scratch = scratch_of_cpu();
	if (!scratch)
		return 0;
	make_key(&scratch->key, hit->index, hit->ctx, hit->spec->parts, hit->spec->part_count);
	found = bpf_map_lookup_elem(&group_ids, &scratch->key);
	return found ? *found : add_group(scratch, hit->counters);
}

/* --- values --------------------------------------------------------------------- */

static __always_inline __u32 linear_bucket(__u64 number, bool is_signed)
{
	if (number_order(number, is_signed, linear_low, true) < 0)
		return linear_buckets;
	if (number_order(number, is_signed, linear_high, true) >= 0)
		return linear_buckets + 1;
	return (number - linear_low) / linear_step;
}

static __always_inline __u32 octave_bucket(__u64 number, bool is_signed)
{
	bool negative = is_signed && number >> 63;
	__u32 sub, octave = octave_of(negative ? -number : number, &sub);

	if (negative)
		octave += CORELOCK_HIST_OCTAVES;
	return octave << CHUNK_BITS | sub;
}

/* The chunk of a place in the row, made if it is new; 0 if there is no room. */
static __noinline __u32 add_chunk(struct corelock_hist_row *row, __u32 place)
{
	struct scratch *scratch = scratch_of_cpu();
	__u32 chunk, first;

	if (!scratch || place >= CORELOCK_HIST_CHUNKS)
		return 0;
	chunk = scratch->spare_chunk ?: take_index(&next_chunk, chunk_room);
	if (!chunk)
		return 0;
	first = __sync_val_compare_and_swap(&row->chunk[place], 0, chunk);
	scratch->spare_chunk = first ? chunk : 0;
	return first ?: chunk;
}

static __always_inline void sums_add(struct corelock_hist_sums *sum, __u64 number, bool is_signed)
{
	__u64 in_order = number ^ (__u64)is_signed << 63;

	sum->low += number;
	sum->high += sum->low < number;
	if (is_signed && number >> 63)
		sum->high--;
	if (in_order > sum->most)
		sum->most = in_order;
	if (~in_order > sum->least_lacks)
		sum->least_lacks = ~in_order;
}

/* Not static: verified once, whatever is known of the numbers where it is called. */
__noinline int count_value(__u32 region, __u32 index, __u64 number, bool is_signed)
{
	struct corelock_hist_row *row = bpf_map_lookup_elem(&rows, &index);
	struct corelock_hist_sums *sum;
	struct corelock_chunk *chunk = NULL;
	__u32 bucket, place, entry = region * row_room + index;

	sum = bpf_map_lookup_elem(&sums, &entry);
	if (!row || !sum)
		return 0;
	bucket = linear_step ? linear_bucket(number, is_signed) : octave_bucket(number, is_signed);
	place = bucket >> CHUNK_BITS;
	if (place >= CORELOCK_HIST_CHUNKS)
		return 0;
	entry = row->chunk[place];
	if (unlikely(!entry))
		entry = add_chunk(row, place);
	if (entry) {
		entry += region * chunk_room;
		chunk = bpf_map_lookup_elem(&chunks, &entry);
	}
	if (unlikely(!chunk)) {
		sum->chunks_full++;
		return 0;
	}
	chunk->count[bucket & (CORELOCK_SUB_BUCKETS - 1)]++;
	sums_add(sum, number, is_signed);
	return 0;
}

static __always_inline void count_fields(const struct hit *hit)
{
	__u32 group, row;

	if (!filter_accepts(hit->ctx, hit->spec->first_test)) {
		hit->counters->filtered++;
		return;
	}
	group = find_group(hit);
	if (!group)
		return;
	row = group * values_of_group;
	for (__u32 i = 0; i < CORELOCK_HIST_VALUES && i < hit->spec->value_count; i++) {
		const struct corelock_operand *operand = operand_at(hit->spec->values[i]);

		if (operand)
			count_value(hit->region, row + i, operand_number(hit->ctx, operand),
				    operand->is_signed);
	}
}

/* --- times between two events --------------------------------------------------- */

/* Not a thread's id in the caller's namespace: outside of it all have the same. */
static __always_inline __u64 current_thread(void)
{
	__u64 id = bpf_get_current_pid_tgid();

	/* Each CPU has an idle thread, and all of them have the same id. */
	return id ?: 1ULL << 63 | bpf_get_smp_processor_id();
}

static __always_inline struct key *make_mark(const struct hit *hit)
{
	struct scratch *scratch = scratch_of_cpu();

	if (!scratch)
		return NULL;
	make_key(&scratch->key, hit->spec->pair, hit->ctx, hit->spec->marks, hit->spec->mark_count);
	if (!hit->spec->mark_count)
		*(__u64 *)scratch->key.bytes = current_thread();
	return &scratch->key;
}

static __always_inline void keep_start(const struct hit *hit)
{
	struct key *key = make_mark(hit);
	__u64 now = bpf_ktime_get_ns();
	__u64 *start;

	if (!key)
		return;
	start = bpf_map_lookup_elem(&starts, key);
	if (start) {
		*start = now;
		hit->counters->replaced++;
	} else if (bpf_map_update_elem(&starts, key, &now, BPF_NOEXIST)) {
		hit->counters->starts_full++;
	}
}

static __always_inline void count_time(const struct hit *hit, bool all_starts)
{
	__u64 now = bpf_ktime_get_ns(), ns = 0;
	struct key *key = make_mark(hit);
	__u64 *start = key ? bpf_map_lookup_elem(&starts, key) : NULL;
	__u32 group;

	if (start)
		ns = now - *start;
	if (!start || bpf_map_delete_elem(&starts, key)) {
		/* Where not every start is kept, this may be any of the others' ends. */
		hit->counters->seen += all_starts;
		hit->counters->without_start += all_starts;
		return;
	}
	hit->counters->seen++;
	hit->counters->ended++;
	if (!filter_accepts(hit->ctx, hit->spec->first_test)) {
		hit->counters->filtered++;
		return;
	}
	/* CPUs' clocks may differ by less than it takes to tell. */
	if ((__s64)ns < 0)
		ns = 0;
	group = find_group(hit);
	if (group)
		count_value(hit->region, group * values_of_group, ns, false);
}

/* Whose start was kept ends wherever the end comes, unless a thread ends what it began. */
static __always_inline bool end_is_wanted(const struct corelock_hist_spec *spec)
{
	return state.tracing && (spec->mark_count || process_is_wanted());
}

static __always_inline void on_pair(struct hit *hit)
{
	bool all_starts = !settings.target_tgid && settings.cpu == CORELOCK_EVERY_CPU;

	if (hit->spec->role == CORELOCK_HIST_END) {
		if (end_is_wanted(hit->spec))
			count_time(hit, all_starts);
	} else if (hit_is_wanted()) {
		hit->counters->seen++;
		keep_start(hit);
	}
}

SEC("tp")
int on_tp(void *ctx)
{
	struct hit hit = {.ctx = ctx, .index = bpf_get_attach_cookie(ctx)};
	__u32 entry;

	hit.spec = bpf_map_lookup_elem(&specs, &hit.index);
	hit.region = *(volatile __u32 *)&bank * cpus + bpf_get_smp_processor_id();
	entry = hit.region * settings.indices + hit.index;
	hit.counters = bpf_map_lookup_elem(&counters, &entry);
	if (!hit.spec || !hit.counters)
		return 1;
	if (has_pairs && hit.spec->role != CORELOCK_HIST_FIELDS) {
		on_pair(&hit);
	} else if (hit_is_wanted()) {
		hit.counters->seen++;
		count_fields(&hit);
	}
	return 1;
}
