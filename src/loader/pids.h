/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The caller's pid namespace. Nothing here is exported. */
#ifndef CORELOCK_PIDS_H
#define CORELOCK_PIDS_H

#include "failure.h"

#define PID_IDS 2 /* that one look-up translates */

/* As pid_namespace and pid_namespace_level of the programs; zeros: the initial one. */
struct pid_space {
	uint64_t address;
	uint32_t level;
};

/*
 * Finds the caller's pid namespace, and of ids of threads there (0: none) those in the initial
 * one. Fails if there is no such thread.
 */
int pids_look_up(struct failure *failure, struct pid_space *space, const uint32_t ids[PID_IDS],
		 uint32_t host_ids[PID_IDS]);

/* Runs an iterator that writes nothing to its end; 0 or an errno. */
int run_iterator(struct bpf_program *program, const struct bpf_iter_attach_opts *options);

#endif
