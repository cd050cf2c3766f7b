/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * exec_midway [CYCLES [FROM_THREAD]]: the process changes its mm in the middle of the load.
 *
 * CYCLES of mmap and munmap, an exec of itself, CYCLES more. With FROM_THREAD
 * 1 the exec is by a thread other than the leader, whose tid it then takes
 * over. The new image's loader maps too, so the new mm sees more than that.
 */
#include "workload.h"

static char *next_argv[] = {"exec_midway", NULL, "0", "after", NULL};

static void exec_again(void)
{
	execv("/proc/self/exe", next_argv);
	workload_check(0, "execv");
}

int main(int argc, char **argv)
{
	static char cycles_text[24];
	unsigned long cycles = workload_arg(argc, argv, 1, 20000);
	unsigned long from_thread = workload_arg(argc, argv, 2, 0);
	int before = argc < 4;

	if (before) {
		snprintf(cycles_text, sizeof(cycles_text), "%lu", cycles);
		next_argv[1] = cycles_text;
		workload_create_same(from_thread ? 1 : 0, exec_again);
		workload_ready(getpid(), 0);
	}
	for (unsigned long i = 0; i < cycles; i++)
		workload_cycle();
	if (before) {
		if (from_thread)
			workload_run();
		exec_again();
	}
	/* The new image's first read() makes the dynamic linker fault: not after "done". */
	workload_check(!read(STDIN_FILENO, NULL, 0), "read");
	workload_done();
	return 0;
}
