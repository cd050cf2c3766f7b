// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * src/bpf/lock_machine.h on the host, for test_lock_machine.py: one thread,
 * driven and counted as mmap_lock.bpf.c does it, without what only a kernel
 * has (tasks, rows, histograms). So held_at_start and foreign releases, which
 * depend on those, are plain unmatched events here.
 */
#include <stddef.h>

#include "../../src/bpf/lock_machine.h"
#include "../../src/loader/corelock.h"

/* All zeros is a new one. */
struct machine {
	struct corelock_totals totals;
	uint64_t wait_ns;
	uint64_t hold_ns;
	struct lock_thread thread;
};

static void lose(struct machine *machine, enum corelock_event event)
{
	machine->totals.counters.seen_without_row[event]++;
	machine->totals.counters.lost[CORELOCK_LOST_MAP_FULL]++;
}

static void unmatch(struct machine *machine, enum corelock_event event,
		    enum corelock_unmatched kind)
{
	machine->totals.counters.seen_without_row[event]++;
	machine->totals.counters.unmatched[kind]++;
}

static void settle_dropped(struct corelock_counters *counters, const struct lock_dropped *dropped)
{
	counters->lost[CORELOCK_LOST_SLOTS_FULL] += dropped->evicted;
	counters->unmatched[CORELOCK_UNMATCHED_START_WITHOUT_ACQUIRE] += dropped->stale_waits;
	counters->unmatched[CORELOCK_UNMATCHED_ACQUIRE_WITHOUT_RELEASE] += dropped->stale_holds;
}

static void end_hold(struct machine *machine, const struct lock_slot *held, uint64_t now)
{
	machine->totals.holds++;
	machine->hold_ns += now - held->since_ns;
}

/* row: where the wait is charged, 0 when there is no room. */
int machine_start(struct machine *machine, uint64_t mm, uint32_t mode, uint32_t row, uint64_t now)
{
	struct lock_dropped dropped = {};
	struct lock_slot *slot = lock_start(&machine->thread, mm, mode, &dropped);

	settle_dropped(&machine->totals.counters, &dropped);
	slot->row = row;
	if (row)
		machine->totals.seen[CORELOCK_EVENT_START_LOCKING]++;
	else
		lose(machine, CORELOCK_EVENT_START_LOCKING);
	slot->since_ns = now;
	return LOCK_STARTED;
}

/* row: where the read hold is charged that a downgrade begins. */
int machine_acquire(struct machine *machine, uint64_t mm, uint32_t mode, uint32_t success,
		    uint32_t row, uint64_t now)
{
	struct lock_dropped dropped = {};
	struct lock_slot closed = {}, *open = NULL;
	enum lock_transition transition =
		lock_acquire(&machine->thread, mm, mode, success, &closed, &open, &dropped);

	if (transition == LOCK_NO_MATCH) {
		unmatch(machine, CORELOCK_EVENT_ACQUIRE_RETURNED,
			success ? CORELOCK_UNMATCHED_ACQUIRE_WITHOUT_START
				: CORELOCK_UNMATCHED_FAILURE_WITHOUT_START);
		return transition;
	}
	settle_dropped(&machine->totals.counters, &dropped);
	if (!closed.row) {
		lose(machine, CORELOCK_EVENT_ACQUIRE_RETURNED);
		return transition;
	}
	machine->totals.seen[CORELOCK_EVENT_ACQUIRE_RETURNED]++;
	if (transition == LOCK_ACQUIRED) {
		open->since_ns = now;
		machine->totals.waits++;
		machine->wait_ns += now - closed.since_ns;
	} else if (transition == LOCK_DOWNGRADED) {
		open->since_ns = now;
		open->row = row;
		end_hold(machine, &closed, now);
		machine->totals.downgrades++;
		machine->totals.counters.lost[CORELOCK_LOST_MAP_FULL] += !row;
	} else {
		machine->totals.failures++;
	}
	return transition;
}

int machine_release(struct machine *machine, uint64_t mm, uint32_t mode, uint64_t now)
{
	struct lock_slot closed;
	enum lock_transition transition = lock_release(&machine->thread, mm, mode, &closed);

	if (transition != LOCK_RELEASED) {
		unmatch(machine, CORELOCK_EVENT_RELEASED,
			transition == LOCK_OTHER_MODE ? CORELOCK_UNMATCHED_RELEASE_OF_OTHER_MODE
						      : CORELOCK_UNMATCHED_RELEASE_WITHOUT_ACQUIRE);
	} else if (!closed.row) {
		lose(machine, CORELOCK_EVENT_RELEASED);
	} else {
		machine->totals.seen[CORELOCK_EVENT_RELEASED]++;
		end_hold(machine, &closed, now);
	}
	return transition;
}
