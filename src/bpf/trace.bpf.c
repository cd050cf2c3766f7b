// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Sends each hit of probes with values of its own: an event's fields, a function's arguments. */
#include "operands.bpf.h"
#include "main_thread.bpf.h"
#include "probe.bpf.h"
#include "stacks.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Of all records, set before loading. What is not asked for is not even verified. */
const volatile __u32 value_bytes = 0;
const volatile __u32 most_values = 0; /* of any spec */
const volatile __u32 record_bytes = sizeof(struct corelock_hit);
const volatile bool with_kernel_stack = false;
const volatile bool with_user_stack = false;

/* The reader is woken when so much waits; before, it looks by itself every now and then. */
const volatile __u64 wake_bytes = 0;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

/* Of each index: what is sent of it, by registers and records; then the same by arguments. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct corelock_trace_spec);
} specs SEC(".maps");

/* Of all probes on the first CPU, those on the second, and so on: see counts of count.bpf.c. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct corelock_hit_counts);
} counts SEC(".maps");

static __always_inline struct corelock_hit_counts *counts_of(__u32 index)
{
	__u32 key = bpf_get_smp_processor_id() * settings.indices + index;

	return bpf_map_lookup_elem(&counts, &key);
}

/* --- values ---------------------------------------------------------------------- */

/* What came of a value, an enum value_state; it is put where its operand says. */
static __noinline int put_value(void *ctx, const struct corelock_operand *operand, void *values)
{
	__u64 place = operand->place;

	if (operand->text) {
		if (value_bytes < sizeof(struct text) || place > value_bytes - sizeof(struct text))
			return VALUE_UNREAD;
		return operand_text(ctx, operand, values + place);
	}
	if (value_bytes < sizeof(__u64) || place > value_bytes - sizeof(__u64))
		return VALUE_UNREAD;
	return read_number(ctx, operand, values + place);
}

static __always_inline void put_values(void *ctx, const struct corelock_trace_spec *spec,
				       struct corelock_hit *hit)
{
	hit->unread = hit->null = 0;
	for (__u32 i = 0; i < CORELOCK_TRACE_VALUES; i++) {
		const struct corelock_operand *operand;
		int result;

		if (i >= most_values || i >= spec->count)
			break;
		operand = operand_at(spec->operands[i]);
		if (!operand)
			break;
		result = put_value(ctx, operand, hit + 1);
		/* In memory, as a verifier would go through all combinations of what it knows. */
		if (result == VALUE_UNREAD)
			hit->unread |= 1ULL << i;
		else if (result == VALUE_NULL)
			hit->null |= 1ULL << i;
	}
}

/* --- stacks ---------------------------------------------------------------------- */

static __always_inline void put_kernel_stack(void *ctx, struct corelock_hit *hit)
{
	hit->kernel_stack_bytes = 0;
	if (with_kernel_stack)
		hit->kernel_stack_bytes =
			bpf_get_stack(ctx, (void *)(hit + 1) + value_bytes,
				      CORELOCK_KERNEL_STACK_DEPTH * sizeof(__u64), 0);
}

static __always_inline void put_user_stack(void *ctx, struct corelock_hit *hit)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct corelock_user_stack *user = (void *)(hit + 1) + value_bytes;

	if (with_kernel_stack)
		user = (void *)user + CORELOCK_KERNEL_STACK_DEPTH * sizeof(__u64);
	no_user_stack(user);
	hit->operation = task_operation(task, bpf_task_pt_regs(task));
	if (hit->operation != CORELOCK_OPERATION_KERNEL_THREAD &&
	    hit->operation != CORELOCK_OPERATION_EXIT)
		take_user_stack(ctx, user);
}

/* --- hits ------------------------------------------------------------------------ */

static __always_inline void name_task(struct corelock_hit *hit)
{
	__u64 both = bpf_get_current_pid_tgid();

	hit->host_pid = both >> 32;
	hit->host_tid = both;
	hit->pid = current_pid();
	hit->tid = current_tid();
	bpf_get_current_comm(hit->comm, sizeof(hit->comm));
}

/* Whether there was room for it. */
static __noinline int send_hit(void *ctx, const struct corelock_trace_spec *spec, __u32 index)
{
	struct corelock_hit *hit = bpf_ringbuf_reserve(&ring, record_bytes, 0);

	if (!hit)
		return 0;
	hit->time_ns = bpf_ktime_get_ns();
	hit->index = index;
	hit->cpu = bpf_get_smp_processor_id();
	hit->operation = 0;
	name_task(hit);
	put_values(ctx, spec, hit);
	put_kernel_stack(ctx, hit);
	if (with_user_stack)
		put_user_stack(ctx, hit);
	/* Waking somebody is an event, too, and may be one that is traced. */
	bpf_ringbuf_submit(hit, bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) < wake_bytes
					? BPF_RB_NO_WAKEUP
					: BPF_RB_FORCE_WAKEUP);
	return 1;
}

/* The spec's row is another one where ctx is something else. */
static __always_inline void trace_hit(void *ctx, __u64 index, __u32 first_spec)
{
	const struct corelock_trace_spec *spec;
	struct corelock_hit_counts *result;
	__u32 row = first_spec + index;

	if (!hit_is_wanted() || index >= settings.indices)
		return;
	result = counts_of(index);
	spec = bpf_map_lookup_elem(&specs, &row);
	if (!result || !spec)
		return;
	__sync_fetch_and_add(&result->hits, 1);
	if (!filter_accepts(ctx, spec->first_test))
		__sync_fetch_and_add(&result->filtered, 1);
	else if (!send_hit(ctx, spec, index))
		__sync_fetch_and_add(&result->ring_full, 1);
}

static __always_inline void on_registers(void *ctx, __u64 index)
{
	trace_hit(ctx, index, 0);
}

static __always_inline void on_arguments(void *ctx, __u64 index)
{
	trace_hit(ctx, index, settings.indices);
}

COOKIE_PROGRAMS(on_registers)
COPIED_PROGRAM(on_arguments)
