/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * thread_exit [ROUNDS [THREADS [CYCLES]]]: threads that lock and end while they are traced.
 *
 * Each of the ROUNDS * THREADS threads makes exactly 2 * CYCLES write
 * acquisitions and CYCLES downgrades. Main creates and joins them, which
 * locks too.
 */
#include "workload.h"

static unsigned long cycles;

static void *lock_and_exit(void *unused)
{
	for (unsigned long i = 0; i < cycles; i++)
		workload_cycle();
	return unused;
}

int main(int argc, char **argv)
{
	unsigned long rounds = workload_arg(argc, argv, 1, 100);
	unsigned long threads = workload_arg(argc, argv, 2, 4);
	pthread_t *running = calloc(threads, sizeof(*running));

	cycles = workload_arg(argc, argv, 3, 100);
	workload_check(!!running, "calloc");
	workload_ready(getpid(), 0);
	while (rounds--) {
		for (unsigned long i = 0; i < threads; i++) {
			int err = pthread_create(&running[i], NULL, lock_and_exit, NULL);

			workload_check(!err, "pthread_create");
		}
		for (unsigned long i = 0; i < threads; i++)
			pthread_join(running[i], NULL);
	}
	workload_done();
	return 0;
}
