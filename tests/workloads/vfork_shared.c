/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * vfork_shared [CHILDREN [CYCLES]]: other processes that live in this one's mm.
 *
 * Each child makes exactly 2 * CYCLES write acquisitions and CYCLES
 * downgrades; the parent, which waits meanwhile, makes none.
 */
#include "workload.h"

#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

static char stack[WORKLOAD_STACK_BYTES] __attribute__((aligned(16)));

static int lock_and_exit(void *cycles)
{
	for (unsigned long i = 0; i < *(unsigned long *)cycles; i++)
		workload_cycle();
	_exit(0);
}

int main(int argc, char **argv)
{
	unsigned long children = workload_arg(argc, argv, 1, 200);
	unsigned long cycles = workload_arg(argc, argv, 2, 100);

	workload_ready(getpid(), 0);
	while (children--) {
		pid_t child = clone(lock_and_exit, stack + sizeof(stack),
				    CLONE_VM | CLONE_VFORK | SIGCHLD, &cycles);

		workload_check(child >= 0, "clone");
		workload_check(waitpid(child, NULL, 0) == child, "waitpid");
	}
	workload_done();
	return 0;
}
