// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * src/bpf/operands.bpf.h on the host, for test_filter_machine.py: arrays in place of its maps,
 * and a context, a task and memory that the test makes. What is outside of these faults.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../../src/abi/corelock_abi.h"

typedef uint8_t __u8;
typedef uint16_t __u16;
typedef uint32_t __u32;
typedef uint64_t __u64;
typedef int64_t __s64;

#pragma GCC diagnostic ignored "-Wunused-function"

#define __noinline __attribute__((noinline))
#define SEC(name)
#define __uint(name, value) int name
#define __type(name, type) type *name

/* --- what the kernel has -------------------------------------------------------- */

#define CORELOCK_PIDS_BPF_H
#define CORELOCK_PROBE_BPF_H

static struct corelock_probe_state state;

/* Memory from an address on. Kernel memory is the context, too. */
struct memory {
	uint64_t address;
	uint32_t size;
	uint8_t bytes[256];
};

struct memory user, kernel;
uint8_t context[256];
uint32_t task_pid, task_tid, task_cpu;
char task_comm[CORELOCK_COMM_LEN];

struct task_struct {
	int unused;
};

static const __u64 pid_namespace = 0;

static void *bpf_map_lookup_elem(const void *map, const void *key);

static __u32 visible_pid(struct task_struct *task)
{
	(void)task;
	return 0;
}

#define visible_tid visible_pid
#define bpf_get_current_task() 0
#define bpf_get_current_pid_tgid() ((__u64)task_pid << 32 | task_tid)
#define bpf_get_smp_processor_id() task_cpu

static const uint8_t *readable(const struct memory *memory, __u64 address, __u64 size)
{
	__u64 first = address - memory->address;

	return first <= memory->size && size <= memory->size - first ? memory->bytes + first : NULL;
}

static const uint8_t *readable_by_kernel(__u64 address, __u64 size)
{
	__u64 first = address - (__u64)context;

	if (first <= sizeof(context) && size <= sizeof(context) - first)
		return context + first;
	return readable(&kernel, address, size);
}

static long copy(void *to, __u32 size, const uint8_t *from)
{
	if (from)
		memcpy(to, from, size);
	else
		memset(to, 0, size);
	return from ? 0 : -14;
}

static long bpf_probe_read_kernel(void *to, __u32 size, const void *from)
{
	return copy(to, size, readable_by_kernel((__u64)from, size));
}

static long bpf_probe_read_user(void *to, __u32 size, const void *from)
{
	return copy(to, size, readable(&user, (__u64)from, size));
}

static long copy_text(char *to, __u32 size, __u64 from, bool of_user)
{
	for (__u32 at = 0; at < size; at++) {
		const uint8_t *byte =
			of_user ? readable(&user, from + at, 1) : readable_by_kernel(from + at, 1);

		if (!byte) {
			memset(to, 0, size);
			return -14;
		}
		to[at] = at == size - 1 ? 0 : *byte;
		if (!to[at])
			return at + 1;
	}
	return 0;
}

static long bpf_probe_read_kernel_str(void *to, __u32 size, const void *from)
{
	return copy_text(to, size, (__u64)from, false);
}

static long bpf_probe_read_user_str(void *to, __u32 size, const void *from)
{
	return copy_text(to, size, (__u64)from, true);
}

static long bpf_get_current_comm(void *to, __u32 size)
{
	memcpy(to, task_comm, size);
	return 0;
}

/* What the library sets before it loads a program is set here before each filter. */
#define const
#include "../../src/bpf/operands.bpf.h"
#undef const

/* --- the maps ------------------------------------------------------------------- */

#define ROOM 256

struct corelock_operand operand_table[ROOM];
struct corelock_test test_table[ROOM];
struct text text_table[ROOM];

static void *bpf_map_lookup_elem(const void *map, const void *key)
{
	__u32 index = *(const __u32 *)key;

	if (index >= ROOM)
		return NULL;
	if (map == &operands)
		return &operand_table[index];
	return map == &tests ? (void *)&test_table[index] : (void *)&text_table[index];
}

/* --- what the test calls -------------------------------------------------------- */

uint64_t machine_faults(void)
{
	return state.faults;
}

uint64_t machine_number(uint32_t operand)
{
	return operand_number(context, operand_at(operand));
}

void machine_text(uint32_t operand, struct text *text)
{
	memset(text, 0xee, sizeof(*text));
	operand_text(context, operand_at(operand), text);
}

int machine_accepts(uint32_t first, uint32_t longest)
{
	longest_filter = longest;
	return filter_accepts(context, first);
}

int machine_order(uint64_t left, uint8_t left_signed, uint64_t right, uint8_t right_signed)
{
	return number_order(left, left_signed, right, right_signed);
}
