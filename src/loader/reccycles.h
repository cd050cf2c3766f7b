/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A recording's block of cycles in the making. Nothing here is exported. */
#ifndef CORELOCK_RECCYCLES_H
#define CORELOCK_RECCYCLES_H

#include "recfile.h"

struct cycles;

/* NULL when memory is short. */
struct cycles *cycles_new(void);
void cycles_free(struct cycles *cycles);

/* Whether one more fits in; into an empty block every one does. */
bool cycles_fit(const struct cycles *cycles, const struct corelock_cycle *cycle);
void cycles_add(struct cycles *cycles, const struct corelock_cycle *cycle);
uint32_t cycles_count(const struct cycles *cycles);

/* Of a cycle's kind: whether it had when the counting ended. */
static inline bool cycle_has_ended(uint32_t kind)
{
	return (kind & CORELOCK_CYCLE_ENDING) < CORELOCK_ENDING_HOLDING;
}

/* Of these, from that one on, those that had ended. */
uint32_t cycles_ended(const struct cycles *cycles, uint32_t first);

/* Since the first one was added; 0 without any. */
uint64_t cycles_age_ns(const struct cycles *cycles);

/* What the block would take in the file with one more cycle, at the most. */
uint64_t cycles_bytes(const struct cycles *cycles);

/* Makes of so many cycles, from that one on, a block of its own. */
void cycles_copy(struct cycles *to, const struct cycles *from, uint32_t first, uint32_t count);

/* Returns 0 or an errno. */
int cycles_write(struct cycles *cycles, struct recfile *file);
void cycles_clear(struct cycles *cycles);

#endif
