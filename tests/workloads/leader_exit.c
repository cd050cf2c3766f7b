/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * leader_exit [CYCLES]: a process whose first thread has ended, and whose other goes on.
 *
 * The other thread makes exactly 2 * CYCLES write acquisitions, CYCLES of which
 * it downgrades.
 */
#include "workload.h"

static unsigned long cycles;
static pthread_t leader;

static void *other(void *unused)
{
	(void)unused;
	pthread_join(leader, NULL);
	workload_ready(getpid(), 0);
	for (unsigned long i = 0; i < cycles; i++)
		workload_cycle();
	workload_done();
	_exit(0);
}

int main(int argc, char **argv)
{
	pthread_t thread;

	cycles = workload_arg(argc, argv, 1, 500);
	leader = pthread_self();
	workload_check(!pthread_create(&thread, NULL, other, NULL), "pthread_create");
	pthread_exit(NULL);
}
