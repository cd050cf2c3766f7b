/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * hold_long [GIBIBYTES]: a write hold follows the other, each of a good part of a second.
 *
 * From the first line on until the next, with as many entries of the page table
 * as fit the region, all of the zero page: it takes page tables and no memory.
 */
#include "workload.h"

#include <poll.h>

/* Since Linux 5.14; the headers may be older. */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

int main(int argc, char **argv)
{
	size_t bytes = workload_arg(argc, argv, 1, 8) << 30;
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	char *region = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	workload_check(region != MAP_FAILED, "mmap");
	madvise(region, bytes, MADV_NOHUGEPAGE);
	workload_check(!madvise(region, bytes, MADV_POPULATE_READ), "madvise");
	workload_ready(getpid(), 0);
	for (int i = 0; !poll(&input, 1, 0); i++) {
		int prot = i % 2 ? PROT_READ | PROT_WRITE : PROT_READ;

		workload_check(!mprotect(region, bytes, prot), "mprotect");
	}
	workload_await_line();
	workload_done();
	return 0;
}
