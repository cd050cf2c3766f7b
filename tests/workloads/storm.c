/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * storm [THREADS [ITERATIONS]]: threads that map, touch, protect and unmap.
 *
 * Each thread makes exactly 3 * ITERATIONS write acquisitions, ITERATIONS of
 * which (munmap) it downgrades.
 */
#include "workload.h"

#define REGION_BYTES (16 << 10)

static unsigned long iterations;

static void storm(void)
{
	for (unsigned long i = 0; i < iterations; i++) {
		char *region = workload_map(REGION_BYTES);

		memset(region, 1, REGION_BYTES);
		workload_check(!mprotect(region, REGION_BYTES, PROT_READ), "mprotect");
		workload_unmap(region, REGION_BYTES);
	}
}

int main(int argc, char **argv)
{
	unsigned long threads = workload_arg(argc, argv, 1, 4);

	iterations = workload_arg(argc, argv, 2, 5000);
	workload_create_same(threads, storm);
	workload_ready(getpid(), 0);
	workload_run();
	workload_done();
	return 0;
}
