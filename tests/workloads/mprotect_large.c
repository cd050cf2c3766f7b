/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mprotect_large [MEBIBYTES [TOGGLES]]: long write holds, and a thread that waits for them.
 *
 * The first thread makes exactly TOGGLES write acquisitions and no downgrade;
 * the second maps and unmaps until the first is through.
 */
#include "workload.h"

#include <stdatomic.h>

static char *region;
static size_t mebibytes;
static unsigned long toggles;
static atomic_int finished;

static void toggle(void)
{
	for (unsigned long i = 0; i < toggles; i++) {
		int prot = i % 2 ? PROT_READ | PROT_WRITE : PROT_READ;

		workload_check(!mprotect(region, mebibytes << 20, prot), "mprotect");
	}
	finished = 1;
}

static void wait_for_it(void)
{
	while (!finished)
		workload_cycle();
}

int main(int argc, char **argv)
{
	void (*const loads[])(void) = {toggle, wait_for_it};

	mebibytes = workload_arg(argc, argv, 1, 256);
	toggles = workload_arg(argc, argv, 2, 100);
	region = workload_populated(mebibytes);
	workload_create(2, loads);
	workload_ready(getpid(), 0);
	workload_run();
	workload_done();
	return 0;
}
