/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The state machine of one thread's mmap_locks: which events belong together.
 *
 * Pure: no map, no helper, no clock, so that tests run the same code on the
 * host against a reference model. The BPF programs own the effects.
 *
 * A thread has a small stack of open slots, each waiting for or holding one
 * mm in one mode. "Fits" below means: of the event's mm, in the phase and mode
 * named; of several, the newest pushed (pairing is last in, first out, because
 * what nests comes from interrupts and from fork and exec, which work on two
 * mms). A slot that changes phase keeps its place.
 *
 *   event            fits                    transition
 *   ---------------  ----------------------  ------------------------------------------
 *   start(m)         -                       LOCK_STARTED: push wait(m)
 *   start(m)         - (stack full)          oldest slot given up, then LOCK_STARTED
 *   acquire(m, yes)  wait(m)                 LOCK_ACQUIRED: wait ends, becomes hold(m);
 *                                            m = write: every other slot of this mm is
 *                                            stale (nobody else can be inside) and dropped
 *   acquire(m, no)   wait(m)                 LOCK_FAILED: pop (trylock, or killed)
 *   acquire(r, yes)  no wait(r), hold(w)     LOCK_DOWNGRADED: the write hold ends, becomes
 *                                            hold(r) at the same moment, with no wait
 *   acquire(m, *)    none of these           LOCK_NO_MATCH
 *   release(m)       hold(m)                 LOCK_RELEASED: pop
 *   release(m)       no hold(m), other mode  LOCK_OTHER_MODE: nothing is closed by it
 *   release(m)       neither                 LOCK_NO_MATCH
 *
 * What the driver makes of LOCK_NO_MATCH: held_at_start for a thread and mm
 * that have not started since tracing began, foreign_release for a thread that
 * does not own the mm, else unmatched.
 *
 * exec, exit and reuse need no transition: slots go by the mm's address and
 * stay valid when current->mm changes inside a hold (exec_mmap, exit_mm), and
 * they die with their thread.
 */
#ifndef CORELOCK_LOCK_MACHINE_H
#define CORELOCK_LOCK_MACHINE_H

#include "../abi/corelock_abi.h"
#include "compiler.h"

enum lock_phase {
	LOCK_WAIT = 2, /* | mode */
	LOCK_HOLD = 4, /* | mode */
};

enum lock_transition {
	LOCK_STARTED,
	LOCK_ACQUIRED,
	LOCK_DOWNGRADED,
	LOCK_FAILED,
	LOCK_RELEASED,
	LOCK_OTHER_MODE,
	LOCK_NO_MATCH,
};

struct lock_slot {
	uint64_t mm;
	uint64_t since_ns; /* start of the wait or of the hold */
	uint64_t wait_ns;  /* of a hold: how long its wait was; only where cycles are recorded */
	uint32_t row;	   /* where it is counted, 0: nowhere (no room) */
	uint32_t operation;
	union {
		uint32_t owner_row;  /* of a contended wait: who held the lock when it began */
		uint32_t wait_stack; /* of a hold: the stack of its wait; 0 of either: none */
	};
	uint8_t phase; /* enum lock_phase | enum corelock_mode */
	uint8_t mm_dying;
	uint8_t contended; /* the wait began when the lock could not be had */
	uint8_t no_wait;   /* of a hold: there is no wait_ns */
};

struct lock_thread {
	uint32_t depth;
	uint32_t reserved;
	struct lock_slot slot[CORELOCK_SLOTS];
};

/* Slots that a transition gave up, by what their event then counts as. */
struct lock_dropped {
	uint32_t evicted;     /* by a full stack */
	uint32_t stale_waits; /* overtaken by a write acquisition */
	uint32_t stale_holds; /* likewise */
};

_Static_assert((CORELOCK_SLOTS & (CORELOCK_SLOTS - 1)) == 0, "slots are masked, for the verifier");

static __always_inline struct lock_slot *lock_slot_at(struct lock_thread *thread, uint32_t index)
{
	return &thread->slot[index & (CORELOCK_SLOTS - 1)];
}

/* Index of the newest slot that fits, or CORELOCK_SLOTS. */
static __always_inline uint32_t lock_find(struct lock_thread *thread, uint64_t mm, uint32_t phase)
{
	uint32_t top = thread->depth - 1;

	/* Nearly always the newest slot is the one. */
	if (top < CORELOCK_SLOTS) {
		struct lock_slot *slot = lock_slot_at(thread, top);

		if (likely(slot->mm == mm && slot->phase == phase))
			return top;
	}
	if (likely(thread->depth <= 1))
		return CORELOCK_SLOTS;
	for (uint32_t below = 1; below < CORELOCK_SLOTS; below++) {
		uint32_t index = top - below;

		if (index < CORELOCK_SLOTS) {
			struct lock_slot *slot = lock_slot_at(thread, index);

			if (slot->mm == mm && slot->phase == phase)
				return index;
		}
	}
	return CORELOCK_SLOTS;
}

static __always_inline void lock_remove(struct lock_thread *thread, uint32_t index)
{
	uint32_t depth = thread->depth;

	if (likely(index + 1 == depth)) {
		thread->depth = index;
		return;
	}
	for (uint32_t at = 0; at < CORELOCK_SLOTS - 1; at++)
		if (at >= index && at + 1 < depth)
			thread->slot[at] = thread->slot[at + 1];
	thread->depth = depth - 1;
}

/* Pushes a wait for the caller to fill in. */
static __always_inline struct lock_slot *lock_start(struct lock_thread *thread, uint64_t mm,
						    uint32_t mode, struct lock_dropped *dropped)
{
	struct lock_slot *slot;

	if (unlikely(thread->depth >= CORELOCK_SLOTS)) {
		dropped->evicted += thread->slot[0].row != 0;
		lock_remove(thread, 0);
	}
	slot = lock_slot_at(thread, thread->depth);
	thread->depth++;
	slot->mm = mm;
	slot->phase = LOCK_WAIT | mode;
	return slot;
}

/* Drops every slot of this mm but the one at *keep, which may move. */
static __always_inline void lock_drop_stale(struct lock_thread *thread, uint64_t mm, uint32_t *keep,
					    struct lock_dropped *dropped)
{
	uint32_t kept = 0, moved = *keep;

	for (uint32_t at = 0; at < CORELOCK_SLOTS; at++) {
		struct lock_slot *slot = &thread->slot[at];

		if (at >= thread->depth)
			break;
		if (at != *keep && slot->mm == mm) {
			if (slot->row && slot->phase & LOCK_WAIT)
				dropped->stale_waits++;
			else if (slot->row)
				dropped->stale_holds++;
			continue;
		}
		if (at == *keep)
			moved = kept;
		*lock_slot_at(thread, kept) = *slot;
		kept++;
	}
	thread->depth = kept;
	*keep = moved;
}

/*
 * On LOCK_ACQUIRED, LOCK_DOWNGRADED and LOCK_FAILED *closed is the slot as it
 * was. After the first two *open is the slot that now holds; its since_ns (and
 * after a downgrade its row) are the caller's to set.
 */
static __always_inline enum lock_transition
lock_acquire(struct lock_thread *thread, uint64_t mm, uint32_t mode, uint32_t success,
	     struct lock_slot *closed, struct lock_slot **open, struct lock_dropped *dropped)
{
	enum lock_transition transition = LOCK_ACQUIRED;
	uint32_t index = lock_find(thread, mm, LOCK_WAIT | mode);

	if (index >= CORELOCK_SLOTS) {
		if (mode == CORELOCK_MODE_WRITE || !success)
			return LOCK_NO_MATCH;
		index = lock_find(thread, mm, LOCK_HOLD | CORELOCK_MODE_WRITE);
		if (index >= CORELOCK_SLOTS)
			return LOCK_NO_MATCH;
		transition = LOCK_DOWNGRADED;
	}
	*closed = *lock_slot_at(thread, index);
	if (!success) {
		lock_remove(thread, index);
		return LOCK_FAILED;
	}
	if (mode == CORELOCK_MODE_WRITE && unlikely(thread->depth > 1))
		lock_drop_stale(thread, mm, &index, dropped);
	*open = lock_slot_at(thread, index);
	(*open)->phase = LOCK_HOLD | mode;
	return transition;
}

/* On LOCK_RELEASED *closed is the slot as it was. */
static __always_inline enum lock_transition lock_release(struct lock_thread *thread, uint64_t mm,
							 uint32_t mode, struct lock_slot *closed)
{
	uint32_t index = lock_find(thread, mm, LOCK_HOLD | mode);

	if (index >= CORELOCK_SLOTS) {
		index = lock_find(thread, mm, LOCK_HOLD | !mode);
		return index >= CORELOCK_SLOTS ? LOCK_NO_MATCH : LOCK_OTHER_MODE;
	}
	*closed = *lock_slot_at(thread, index);
	lock_remove(thread, index);
	return LOCK_RELEASED;
}

#endif
