/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * fork_large [MEBIBYTES [FORKS]]: forks of a process with much to copy.
 *
 * Makes exactly FORKS write acquisitions of its own mm, each held while the
 * page tables are copied, and inside each of them one of the child's mm.
 */
#include "workload.h"

#include <sys/wait.h>

int main(int argc, char **argv)
{
	size_t mebibytes = workload_arg(argc, argv, 1, 128);
	unsigned long forks = workload_arg(argc, argv, 2, 20);

	workload_populated(mebibytes);
	workload_ready(getpid(), 0);
	for (unsigned long i = 0; i < forks; i++) {
		pid_t child = fork();

		workload_check(child >= 0, "fork");
		if (!child)
			_exit(0);
		workload_check(waitpid(child, NULL, 0) == child, "waitpid");
	}
	workload_done();
	return 0;
}
