/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Values that programs find by a table: numbers and texts of an event, of a place's arguments,
 * of the task; and filters of them. The library makes the tables before it loads a program.
 *
 * ctx is whatever the program is given: a tracepoint's record, struct pt_regs, or an array of
 * arguments. Where an operand lies in it is known when the program runs, and verifiers allow
 * loads from it at offsets that they know; so it is read as any memory of the kernel.
 *
 * Nothing is kept per CPU: programs on user code can be preempted by one another.
 */
#ifndef CORELOCK_OPERANDS_BPF_H
#define CORELOCK_OPERANDS_BPF_H

#include "filter.h"
#include "pids.bpf.h"
#include "probe.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct corelock_operand);
} operands SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct corelock_test);
} tests SEC(".maps");

/* Constant ones. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct text);
} texts SEC(".maps");

/* Tests of the longest filter; set before loading. What no filter needs is not even verified. */
const volatile __u32 longest_filter = 0;

static __always_inline const struct corelock_operand *operand_at(__u32 index)
{
	return bpf_map_lookup_elem(&operands, &index);
}

/* What came of reading a value. */
enum value_state {
	VALUE_READ,
	VALUE_NULL,   /* a text whose address is 0: no text */
	VALUE_UNREAD, /* it is taken for 0 or no text, and counted */
};

static __always_inline enum value_state value_unread(void)
{
	__sync_fetch_and_add(&state.faults, 1);
	return VALUE_UNREAD;
}

/* --- numbers -------------------------------------------------------------------- */

/* The number that the low bytes of another are. */
static __always_inline __u64 low_bytes(__u64 number, __u8 size, __u8 is_signed)
{
	__u8 spare_bits = (64 - 8 * size) & 63;

	number <<= spare_bits;
	return is_signed ? (__u64)((__s64)number >> spare_bits) : number >> spare_bits;
}

static __always_inline enum value_state read_context(void *ctx, __u16 offset, __u8 size,
						     __u64 *number)
{
	*number = 0;
	if (size > sizeof(*number) || bpf_probe_read_kernel(number, size, ctx + offset))
		return value_unread();
	return VALUE_READ;
}

/* What is there in any case, as registers are. */
static __always_inline __u64 context_at(void *ctx, __u16 offset, __u8 size)
{
	__u64 number;

	read_context(ctx, offset, size, &number);
	return number;
}

/* 0 in place of a register that there is none of. */
static __always_inline __u64 register_at(void *ctx, __u16 offset)
{
	return offset == CORELOCK_NO_REGISTER ? 0 : context_at(ctx, offset, 8);
}

static __always_inline enum value_state
read_memory(void *ctx, const struct corelock_operand *operand, __u64 *number)
{
	__u64 address = operand->constant + register_at(ctx, operand->offset);
	__u8 size = operand->size;

	*number = 0;
	address += low_bytes(register_at(ctx, operand->index), operand->index_size,
			     operand->index_signed)
		   << (operand->index_shift & 63);
	if (size > sizeof(*number) || bpf_probe_read_user(number, size, (void *)address))
		return value_unread();
	return VALUE_READ;
}

static __always_inline __u32 current_pid(void)
{
	return pid_namespace ? visible_pid((struct task_struct *)bpf_get_current_task())
			     : bpf_get_current_pid_tgid() >> 32;
}

static __always_inline __u32 current_tid(void)
{
	return pid_namespace ? visible_tid((struct task_struct *)bpf_get_current_task())
			     : (__u32)bpf_get_current_pid_tgid();
}

static __always_inline enum value_state
find_number(void *ctx, const struct corelock_operand *operand, __u64 *number)
{
	switch (operand->source) {
	case CORELOCK_SOURCE_CONTEXT:
		return read_context(ctx, operand->offset, operand->size, number);
	case CORELOCK_SOURCE_MEMORY:
		return read_memory(ctx, operand, number);
	case CORELOCK_SOURCE_PID:
		*number = current_pid();
		return VALUE_READ;
	case CORELOCK_SOURCE_TID:
		*number = current_tid();
		return VALUE_READ;
	case CORELOCK_SOURCE_CPU:
		*number = bpf_get_smp_processor_id();
		return VALUE_READ;
	default:
		*number = operand->constant;
		return VALUE_READ;
	}
}

/* An operand's number, with its sign: an enum value_state. */
static __noinline int read_number(void *ctx, const struct corelock_operand *operand, __u64 *number)
{
	__u64 found;
	int result = find_number(ctx, operand, &found);

	*number = low_bytes(found, operand->size, operand->is_signed);
	return result;
}

/* The same, where 0 will do for what cannot be read. */
static __always_inline __u64 operand_number(void *ctx, const struct corelock_operand *operand)
{
	__u64 number = 0;

	read_number(ctx, operand, &number);
	return number;
}

/* --- texts ---------------------------------------------------------------------- */

/* Both end what they read with a zero, and write nothing behind it. */
static __always_inline long read_kernel_text(struct text *text, __u32 room, const void *address)
{
	return bpf_probe_read_kernel_str(text, room > sizeof(*text) ? sizeof(*text) : room,
					 address);
}

static __always_inline long read_user_text(struct text *text, __u32 room, const void *address)
{
	return bpf_probe_read_user_str(text, room > sizeof(*text) ? sizeof(*text) : room, address);
}

/* Of what __data_loc and __rel_loc say: 16 bits of offset, and 16 of length. */
static __always_inline long read_located(struct text *text, void *ctx,
					 const struct corelock_operand *operand)
{
	__u32 located = context_at(ctx, operand->offset, 4);
	__u32 room = located >> 16;
	__u16 offset = located;
	void *from = ctx;

	if (operand->text == CORELOCK_TEXT_REL_LOC)
		from += operand->offset + 4;
	if (room > operand->length)
		room = operand->length;
	return room ? read_kernel_text(text, room, from + offset) : 0;
}

/*
 * Whose address it is, its value does not tell on all machines; each read refuses the other's.
 * The user's own say is never enough to have the kernel's memory read.
 */
static __always_inline int pointed_text(void *ctx, const struct corelock_operand *operand,
					struct text *text)
{
	__u64 address;
	long result;

	if (read_number(ctx, operand, &address) != VALUE_READ)
		return VALUE_UNREAD;
	if (!address)
		return VALUE_NULL;
	result = read_user_text(text, operand->length, (void *)address);
	if (result < 0 && operand->text == CORELOCK_TEXT_POINTED)
		result = read_kernel_text(text, operand->length, (void *)address);
	return result < 0 ? value_unread() : VALUE_READ;
}

static __always_inline bool is_pointed(__u16 text)
{
	return text == CORELOCK_TEXT_POINTED || text == CORELOCK_TEXT_OF_USER;
}

/*
 * An operand's text, cut where its room ends: an enum value_state. Written to 8-byte boundaries,
 * all of it: a key has no stray bytes.
 */
static __noinline int operand_text(void *ctx, const struct corelock_operand *operand,
				   struct text *text)
{
	long result;

	__builtin_memset(text, 0, sizeof(*text));
	if (is_pointed(operand->text))
		return pointed_text(ctx, operand, text);
	if (operand->source == CORELOCK_SOURCE_COMM) {
		result = bpf_get_current_comm(text, CORELOCK_COMM_LEN);
	} else if (operand->text == CORELOCK_TEXT_INLINE) {
		result = read_kernel_text(text, operand->length, ctx + operand->offset);
	} else {
		result = read_located(text, ctx, operand);
	}
	return result < 0 ? value_unread() : VALUE_READ;
}

/* --- filters -------------------------------------------------------------------- */

/* Constants are texts of the right side alone. */
static __noinline bool text_test_passes(void *ctx, const struct corelock_test *test,
					const struct corelock_operand *left,
					const struct corelock_operand *right)
{
	__u32 index = right->constant;
	const struct text *constant = bpf_map_lookup_elem(&texts, &index);
	struct text text;

	operand_text(ctx, left, &text);
	return constant && texts_pass(test, &text, constant);
}

static __noinline bool test_passes(void *ctx, const struct corelock_test *test)
{
	const struct corelock_operand *left = operand_at(test->left);
	const struct corelock_operand *right = operand_at(test->right);

	if (!left || !right)
		return false;
	if (left->text)
		return text_test_passes(ctx, test, left, right);
	return numbers_pass(test, operand_number(ctx, left), left->is_signed,
			    operand_number(ctx, right), right->is_signed);
}

/* A function of its own, as programs have little stack left. */
static __noinline bool tests_accept(void *ctx, __u32 first)
{
	__u32 next = 0;

	/* Tests lead forward, so there are no more steps than tests. */
	for (__u32 step = 0; step < longest_filter; step++) {
		__u32 index = first + next;
		const struct corelock_test *test = bpf_map_lookup_elem(&tests, &index);

		if (!test)
			return false;
		next = test_passes(ctx, test) ? test->on_true : test->on_false;
		if (next >= CORELOCK_ACCEPT)
			return next == CORELOCK_ACCEPT;
	}
	return false;
}

/* Whether the filter whose tests begin there wants this event. */
static __always_inline bool filter_accepts(void *ctx, __u32 first_test)
{
	return !longest_filter || first_test == CORELOCK_NO_FILTER || tests_accept(ctx, first_test);
}

#endif
