/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * call_chain [BYTES]: mmap and munmap at the end of a chain of calls, without frame pointers.
 *
 * outer calls inner calls map_once, first in a thread, then in main. inner has
 * BYTES on its stack, and outer a line that nobody but its own process should read.
 */
#include "workload.h"

#include <alloca.h>

static unsigned long bytes;

/* Has something left to do when its callee returns, so that it does not jump there instead. */
#define CALLER __attribute__((noinline, noclone))

CALLER static int map_once(void)
{
	workload_cycle();
	return getpid();
}

CALLER static int inner(void)
{
	volatile char *room = alloca(bytes + 1);

	room[bytes] = 1;
	return map_once() + room[bytes];
}

CALLER static int outer_of(const char *line)
{
	char secret[64];

	snprintf(secret, sizeof(secret), "%s-of-%s", "secret", line);
	__asm__ volatile("" : : "r"(secret) : "memory");
	return inner() + secret[0];
}

CALLER static void outer(void)
{
	workload_check(outer_of("this-stack") > 0, "call_chain");
}

int main(int argc, char **argv)
{
	bytes = workload_arg(argc, argv, 1, 0);
	workload_create_same(1, outer);
	workload_ready(getpid(), 0);
	workload_run();
	outer();
	workload_done();
	return 0;
}
