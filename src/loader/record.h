/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Recording a session's cycles. Nothing here is exported. */
#ifndef CORELOCK_RECORD_H
#define CORELOCK_RECORD_H

#include <stdint.h>

struct corelock_session;
struct recorder;

/* Possible CPUs: entries of the map of cycle rings; 1 if nothing is recorded. */
uint32_t record_cpus(const struct corelock_session *session);

/* After the programs are loaded: a ring for each CPU. Nothing to do if nothing is recorded. */
int record_open(struct corelock_session *session);

/* When recording ended the counting by itself; 0: it did not. */
uint64_t record_ended_ns(const struct corelock_session *session);

/* Ends the thread, in the process that has it, and frees. */
void record_free(struct corelock_session *session);

#endif
