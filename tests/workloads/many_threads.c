/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * many_threads [THREADS [CYCLES]]: more threads than any table should be sized for.
 *
 * Each thread makes exactly 2 * CYCLES write acquisitions and CYCLES downgrades.
 */
#include "workload.h"

static unsigned long cycles;

static void lock(void)
{
	for (unsigned long i = 0; i < cycles; i++)
		workload_cycle();
}

int main(int argc, char **argv)
{
	unsigned long threads = workload_arg(argc, argv, 1, 10000);

	cycles = workload_arg(argc, argv, 2, 10);
	workload_create_same(threads, lock);
	workload_ready(getpid(), 0);
	workload_run();
	workload_done();
	return 0;
}
