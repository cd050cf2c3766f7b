/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * many_processes [PROCESSES [CYCLES]]: more address spaces than any table should be sized for.
 *
 * Each of the PROCESSES children makes exactly 2 * CYCLES write acquisitions
 * and CYCLES downgrades after the word to go, and stays until the end.
 */
#include "workload.h"

#include <sys/wait.h>

/* Parent to children: the word to go, and the end (closed). Children to parent: done. */
static int go_pipe[2], end_pipe[2], done_pipe[2];

static void pass_on(int fd)
{
	workload_check(write(fd, "\n", 1) == 1, "write");
}

/* The end of the pipe is the end of the workload: the other side has been killed. */
static void receive(int fd)
{
	char c;

	if (read(fd, &c, 1) != 1)
		_exit(1);
}

static void run_child(unsigned long cycles)
{
	char c;

	close(go_pipe[1]);
	close(end_pipe[1]);
	/* Once before the word to go: what fork left to be copied is copied then. */
	workload_cycle();
	pass_on(done_pipe[1]);
	receive(go_pipe[0]);
	for (unsigned long i = 0; i < cycles; i++)
		workload_cycle();
	pass_on(done_pipe[1]);
	_exit(read(end_pipe[0], &c, 1) != 0);
}

int main(int argc, char **argv)
{
	unsigned long processes = workload_arg(argc, argv, 1, 1000);
	unsigned long cycles = workload_arg(argc, argv, 2, 10);

	workload_check(!pipe(go_pipe) && !pipe(end_pipe) && !pipe(done_pipe), "pipe");
	for (unsigned long i = 0; i < processes; i++) {
		pid_t child = fork();

		workload_check(child >= 0, "fork");
		if (!child)
			run_child(cycles);
	}
	for (unsigned long i = 0; i < processes; i++)
		receive(done_pipe[0]);
	workload_ready(getpid(), 0);
	for (unsigned long i = 0; i < processes; i++)
		pass_on(go_pipe[1]);
	for (unsigned long i = 0; i < processes; i++)
		receive(done_pipe[0]);
	workload_done();
	close(end_pipe[1]);
	for (unsigned long i = 0; i < processes; i++)
		wait(NULL);
	return 0;
}
