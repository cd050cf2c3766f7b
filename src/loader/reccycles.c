// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Cycles as columns, as docs/format.md has them. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "reccycles.h"
#include "session.h"

#define MAX_CYCLES 65536

#define LONG_NS UINT32_MAX

/* What is before the columns. */
struct cycles_head {
	uint64_t base_ns;
	uint64_t first_ns;
	uint64_t last_ns;
	int64_t realtime_offset_ns;
	int64_t boottime_offset_ns;
	uint32_t count;
	uint32_t stacked;
	uint32_t longer;
	uint32_t reserved[3];
};

_Static_assert(sizeof(struct cycles_head) == 64, "as docs/format.md has it");

#define CYCLE_BYTES (4 * sizeof(uint32_t) + 1)
#define STACKED_BYTES (3 * sizeof(uint32_t))
#define LONG_BYTES (2 * sizeof(uint64_t) + sizeof(uint32_t))
/* Columns of bytes, of stacked and of long ones are padded. */
#define PADDING_BYTES (3 * BLOCK_ALIGN)

/* Each column has room for what pads it. */
struct cycles {
	struct cycles_head head;
	uint64_t begun_ns;
	uint32_t end[MAX_CYCLES];
	uint32_t wait[MAX_CYCLES];
	uint32_t hold[MAX_CYCLES];
	uint32_t row[MAX_CYCLES];
	uint8_t kind[MAX_CYCLES];
	uint32_t stacked_index[MAX_CYCLES];
	uint32_t wait_stack[MAX_CYCLES];
	uint32_t hold_stack[MAX_CYCLES + 1];
	uint64_t long_wait[MAX_CYCLES];
	uint64_t long_hold[MAX_CYCLES];
	uint32_t long_index[MAX_CYCLES + 1];
};

_Static_assert(MAX_CYCLES % BLOCK_ALIGN == 0, "the last kind needs no padding");

struct cycles *cycles_new(void)
{
	return calloc(1, sizeof(struct cycles));
}

void cycles_free(struct cycles *cycles)
{
	free(cycles);
}

uint32_t cycles_count(const struct cycles *cycles)
{
	return cycles->head.count;
}

uint32_t cycles_ended(const struct cycles *cycles, uint32_t first)
{
	uint32_t ended = 0;

	for (uint32_t at = first; at < cycles->head.count; at++)
		ended += cycle_has_ended(cycles->kind[at]);
	return ended;
}

uint64_t cycles_age_ns(const struct cycles *cycles)
{
	return cycles->head.count ? now_ns() - cycles->begun_ns : 0;
}

uint64_t cycles_bytes(const struct cycles *cycles)
{
	const struct cycles_head *head = &cycles->head;

	return BLOCK_HEAD_BYTES + sizeof(*head) + (head->count + 1) * CYCLE_BYTES +
	       (head->stacked + 1) * STACKED_BYTES + (head->longer + 1) * LONG_BYTES +
	       PADDING_BYTES;
}

bool cycles_fit(const struct cycles *cycles, const struct corelock_cycle *cycle)
{
	const struct cycles_head *head = &cycles->head;

	return !head->count || (head->count < MAX_CYCLES && cycle->end_ns >= head->base_ns &&
				cycle->end_ns - head->base_ns <= UINT32_MAX);
}

static void begin(struct cycles *cycles, uint64_t end_ns)
{
	struct cycles_head *head = &cycles->head;

	/* So that cycles of other CPUs, from before this one, fit in, too. */
	head->base_ns = end_ns > UINT32_MAX / 2 ? end_ns - UINT32_MAX / 2 : 0;
	head->first_ns = head->last_ns = end_ns;
	cycles->begun_ns = now_ns();
}

static void note_end(struct cycles_head *head, uint64_t end_ns)
{
	if (end_ns < head->first_ns)
		head->first_ns = end_ns;
	if (end_ns > head->last_ns)
		head->last_ns = end_ns;
}

static void add_long(struct cycles *cycles, uint32_t index, uint64_t wait_ns, uint64_t hold_ns)
{
	uint32_t at = cycles->head.longer++;

	cycles->long_wait[at] = wait_ns;
	cycles->long_hold[at] = hold_ns;
	cycles->long_index[at] = index;
}

static void add_stacked(struct cycles *cycles, uint32_t index, uint32_t wait_stack,
			uint32_t hold_stack)
{
	uint32_t at = cycles->head.stacked++;

	cycles->wait_stack[at] = wait_stack;
	cycles->hold_stack[at] = hold_stack;
	cycles->stacked_index[at] = index;
}

void cycles_add(struct cycles *cycles, const struct corelock_cycle *cycle)
{
	struct cycles_head *head = &cycles->head;
	uint32_t at = head->count;

	if (!at)
		begin(cycles, cycle->end_ns);
	head->count++;
	cycles->end[at] = cycle->end_ns - head->base_ns;
	cycles->wait[at] = cycle->wait_ns < LONG_NS ? cycle->wait_ns : LONG_NS;
	cycles->hold[at] = cycle->hold_ns < LONG_NS ? cycle->hold_ns : LONG_NS;
	cycles->row[at] = cycle->row;
	cycles->kind[at] = cycle->kind;
	if (cycle->wait_ns >= LONG_NS || cycle->hold_ns >= LONG_NS)
		add_long(cycles, at, cycle->wait_ns, cycle->hold_ns);
	if (cycle->wait_stack || cycle->hold_stack)
		add_stacked(cycles, at, cycle->wait_stack, cycle->hold_stack);
	note_end(head, cycle->end_ns);
}

void cycles_copy(struct cycles *to, const struct cycles *from, uint32_t first, uint32_t count)
{
	uint64_t base_ns = from->head.base_ns;
	size_t bytes = count * sizeof(uint32_t);

	to->head = (struct cycles_head){.base_ns = base_ns, .first_ns = UINT64_MAX, .count = count};
	memcpy(to->end, from->end + first, bytes);
	memcpy(to->wait, from->wait + first, bytes);
	memcpy(to->hold, from->hold + first, bytes);
	memcpy(to->row, from->row + first, bytes);
	memcpy(to->kind, from->kind + first, count);
	for (uint32_t at = 0; at < count; at++)
		note_end(&to->head, base_ns + to->end[at]);
	/* Of one from before the first, the difference is larger than any count. */
	for (uint32_t at = 0; at < from->head.stacked; at++)
		if (from->stacked_index[at] - first < count)
			add_stacked(to, from->stacked_index[at] - first, from->wait_stack[at],
				    from->hold_stack[at]);
	for (uint32_t at = 0; at < from->head.longer; at++)
		if (from->long_index[at] - first < count)
			add_long(to, from->long_index[at] - first, from->long_wait[at],
				 from->long_hold[at]);
}

static int64_t clock_offset(clockid_t clock)
{
	struct timespec there;
	uint64_t here = now_ns();

	clock_gettime(clock, &there);
	return there.tv_sec * 1000000000LL + there.tv_nsec - (int64_t)here;
}

int cycles_write(struct cycles *cycles, struct recfile *file)
{
	struct cycles_head *head = &cycles->head;
	uint32_t count = head->count, stacked = head->stacked, longer = head->longer;
	uint32_t kind_bytes = (count + BLOCK_ALIGN - 1) & ~(BLOCK_ALIGN - 1);
	struct iovec parts[] = {
		{head, sizeof(*head)},
		{cycles->end, count * sizeof(uint32_t)},
		{cycles->wait, count * sizeof(uint32_t)},
		{cycles->hold, count * sizeof(uint32_t)},
		{cycles->row, count * sizeof(uint32_t)},
		{cycles->kind, kind_bytes},
		{cycles->stacked_index, stacked * sizeof(uint32_t)},
		{cycles->wait_stack, stacked * sizeof(uint32_t)},
		{cycles->hold_stack, (stacked + stacked % 2) * sizeof(uint32_t)},
		{cycles->long_wait, longer * sizeof(uint64_t)},
		{cycles->long_hold, longer * sizeof(uint64_t)},
		{cycles->long_index, (longer + longer % 2) * sizeof(uint32_t)},
	};

	memset(cycles->kind + count, 0, kind_bytes - count);
	cycles->hold_stack[stacked] = 0;
	cycles->long_index[longer] = 0;
	head->realtime_offset_ns = clock_offset(CLOCK_REALTIME);
	head->boottime_offset_ns = clock_offset(CLOCK_BOOTTIME);
	return recfile_block(file, CORELOCK_BLOCK_CYCLES, parts, sizeof(parts) / sizeof(parts[0]),
			     true);
}

void cycles_clear(struct cycles *cycles)
{
	cycles->head = (struct cycles_head){};
}
