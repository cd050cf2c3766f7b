// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Keeps what its operands find at each event of one process, for test_operands.py. */
#include "operands.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define EVENTS 64
#define NUMBERS 8
#define TEXTS 4

struct found {
	__u64 accepted;
	__u64 number[NUMBERS];
	struct text text[TEXTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, EVENTS);
	__type(key, __u32);
	__type(value, struct found);
} events SEC(".maps");

const volatile __u32 target_tgid = 0; /* 0: every process */
const volatile __u32 number_count = 0;
const volatile __u32 text_count = 0;
__u32 seen = 0;

/* The first operands are the numbers, then come the texts. */
static __always_inline void keep(void *ctx)
{
	const struct corelock_operand *operand;
	struct found *found;
	__u32 index = seen;

	if (target_tgid && bpf_get_current_pid_tgid() >> 32 != target_tgid)
		return;
	found = bpf_map_lookup_elem(&events, &index);
	if (!found)
		return;
	seen++;
	found->accepted = filter_accepts(ctx, 0);
	for (__u32 i = 0; i < NUMBERS && i < number_count; i++) {
		operand = operand_at(i);
		if (operand)
			found->number[i] = operand_number(ctx, operand);
	}
	for (__u32 i = 0; i < TEXTS && i < text_count; i++) {
		operand = operand_at(number_count + i);
		if (operand)
			operand_text(ctx, operand, &found->text[i]);
	}
}

SEC("tp")
int on_record(void *ctx)
{
	keep(ctx);
	return 0;
}

SEC("kprobe")
int on_registers(void *ctx)
{
	keep(ctx);
	return 0;
}

SEC("raw_tp")
int on_arguments(void *ctx)
{
	keep(ctx);
	return 0;
}

SEC("tp_btf/task_rename")
int on_typed_arguments(void *ctx)
{
	keep(ctx);
	return 0;
}
