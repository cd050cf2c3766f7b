// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * src/bpf/blame.bpf.h on the host, for test_charging.py: the charging rule as
 * the kernel runs it, with arrays for its maps. What it is given is what the
 * lock machine would give it: rows, holds that ended in somebody's way, waits
 * that ended. Reading the owner word needs a kernel and is never called here.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../../src/bpf/lock_machine.h"

typedef uint8_t __u8;
typedef uint32_t __u32;
typedef uint64_t __u64;

/* The loops say how clang is to unroll them, and not all of the file is called. */
#pragma GCC diagnostic ignored "-Wunknown-pragmas"
#pragma GCC diagnostic ignored "-Wunused-function"

#define __noinline __attribute__((noinline))
#define SEC(name)
#define __uint(name, value) int name
#define __type(name, type) type *name

enum { BPF_NOEXIST = 1, RWSEM_WRITER_LOCKED = 1 };

/* --- what slow.bpf.h and all below it have, as far as it is used ---------------- */

#define CORELOCK_SLOW_BPF_H

struct task_struct {
	__u32 pid, tgid;
	char comm[CORELOCK_COMM_LEN];
};

struct mm_struct {
	int unused;
};

struct thread_state {
	__u64 task;
	__u64 regs;
	__u64 unstarted_since_ns;
	struct lock_thread lock;
};

struct row_key {
	__u32 mm_id, task_id, operation, mode;
};

static struct {
	__u64 since_ns;
} hot;
struct corelock_counters counters;
static __u32 next_row, max_rows, history_mask;
static const bool send_examples = true;
static char rows, row_ids, contentions; /* only their addresses are looked at */
__u64 examples_sent[2];			/* by enum corelock_slow_kind */

static void *bpf_map_lookup_elem(const void *map, const void *key);
static int bpf_map_update_elem(const void *map, const void *key, const void *value, int flags);

static void count(__u64 *counter)
{
	++*counter;
}

static int send_slow(void *ctx, __u32 index, __u32 kind, __u64 start_ns, __u64 duration_ns)
{
	(void)ctx, (void)index, (void)start_ns, (void)duration_ns;
	examples_sent[kind]++;
	return 1;
}

static __u32 visible_pid(struct task_struct *task)
{
	return task->tgid;
}

static __u32 visible_tid(struct task_struct *task)
{
	return task->pid;
}

static long bpf_probe_read_kernel(void *to, __u32 size, const void *from)
{
	memcpy(to, from, size);
	return 0;
}

#define bpf_ktime_get_ns() 0
#define bpf_get_current_task_btf() NULL
#define write_owner(mm) ((void)(mm), 0)
#define lock_count(mm) ((void)(mm), 0)
#define lock_is_wanted(mm) ((void)(mm), 0)
#define lock_is_reader_owned(mm) ((void)(mm), 0)
#define thread_home(owner) ((void)(owner), (struct thread_state *)NULL)
#define thread_create(task) ((void)(task), (struct thread_state *)NULL)
#define take_index(next, most) ((void)(next), (void)(most), 0)
#define task_operation(task, regs) ((void)(task), (void)(regs), 0)
#define row_intern(thread, task, mm, operation, mode) \
	((void)(thread), (void)(task), (void)(mm), (void)(operation), (void)(mode), 0)

#include "../../src/bpf/blame.bpf.h"

/* --- the maps ------------------------------------------------------------------- */

#define ROWS 64
#define CHARGES 512

struct kept_charge {
	struct corelock_charge_key key;
	struct corelock_charge charge;
};

static struct hold_history history;
static struct corelock_row row_table[ROWS];
static struct corelock_contention contention_table[ROWS];
struct kept_charge kept[CHARGES];
__u32 kept_count, kept_room;

static void *find_charge(const void *key)
{
	for (__u32 at = 0; at < kept_count; at++)
		if (!memcmp(&kept[at].key, key, sizeof(kept[at].key)))
			return &kept[at].charge;
	return NULL;
}

static void *bpf_map_lookup_elem(const void *map, const void *key)
{
	__u32 index;

	if (map == &charges)
		return find_charge(key);
	if (map == &row_ids)
		return NULL;
	memcpy(&index, key, sizeof(index));
	if (map == &histories)
		return index ? NULL : &history;
	if (index >= ROWS)
		return NULL;
	return map == &rows ? (void *)&row_table[index] : (void *)&contention_table[index];
}

static int bpf_map_update_elem(const void *map, const void *key, const void *value, int flags)
{
	if (map != &charges || flags != BPF_NOEXIST || find_charge(key) || kept_count >= kept_room)
		return -1;
	memcpy(&kept[kept_count].key, key, sizeof(kept[0].key));
	memcpy(&kept[kept_count].charge, value, sizeof(kept[0].charge));
	kept_count++;
	return 0;
}

/* --- driven by the test --------------------------------------------------------- */

void charging_reset(__u32 room)
{
	memset(&history, 0, sizeof(history));
	memset(row_table, 0, sizeof(row_table));
	memset(contention_table, 0, sizeof(contention_table));
	memset(kept, 0, sizeof(kept));
	memset(&counters, 0, sizeof(counters));
	memset(examples_sent, 0, sizeof(examples_sent));
	kept_count = 0;
	kept_room = room;
}

void charging_row(__u32 index, __u32 thread, __u32 mm_id, __u32 mode)
{
	row_table[index].task_id = thread;
	row_table[index].mm_id = mm_id;
	row_table[index].mode = mode;
}

int charging_hold(__u32 row, __u64 start_ns, __u64 end_ns)
{
	return record_hold(NULL, row, start_ns, end_ns, CORELOCK_CERTAINTY_OBSERVED);
}

/* A contended wait begins. */
void charging_begin(void)
{
	history.epoch++;
}

int charging_wait(__u32 row, __u32 owner_row, __u64 start_ns, __u64 end_ns)
{
	struct lock_slot waited = {.row = row, .owner_row = owner_row, .since_ns = start_ns};

	return charge_wait(NULL, &row_table[row], &waited, end_ns);
}

struct corelock_contention *charging_contention(__u32 row)
{
	return &contention_table[row];
}

__u64 charging_forgotten(void)
{
	return history.forgotten_ns;
}
