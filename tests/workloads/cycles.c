/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cycles [COUNT]: as many mappings as wanted, in as many portions.
 *
 * For each line it reads it makes exactly 2 * COUNT write acquisitions, COUNT of
 * which (munmap) it downgrades, and says "done". The end of the input ends it.
 */
#include "workload.h"

int main(int argc, char **argv)
{
	unsigned long count = workload_arg(argc, argv, 1, 10);
	ssize_t got;
	char c;

	/* Once before the word to go: what is to be copied or touched is, then. */
	workload_cycle();
	workload_ready(getpid(), 0);
	do {
		for (unsigned long i = 0; i < count; i++)
			workload_cycle();
		workload_say("done\n");
		/* The next line, or the end. */
		while ((got = read(STDIN_FILENO, &c, 1)) == 1 && c != '\n')
			;
	} while (got == 1);
	return 0;
}
