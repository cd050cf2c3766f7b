/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * reader_convoy [MEBIBYTES [READS [READERS]]]: readers that wait behind a queued writer.
 *
 * Another process, named second in "ready", makes READS passes over smaps of
 * the first, each a long read hold. One thread of the first maps and unmaps,
 * so it queues behind them; the READERS ask mincore about a page, so they queue
 * behind that writer, though the lock is held by a reader as they are.
 */
#include "workload.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>

static atomic_int finished;
static char *region;

static void write_lock(void)
{
	prctl(PR_SET_NAME, "writer");
	while (!finished)
		workload_cycle();
}

static void read_lock(void)
{
	unsigned char resident;

	prctl(PR_SET_NAME, "reader");
	while (!finished)
		workload_check(!mincore(region, 1, &resident), "mincore");
}

static void run_scanner(pid_t target, unsigned long reads, int go, int finish)
{
	static char text[64 << 10];
	char path[32], c;
	ssize_t length;
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "scanner");
	/* The parent's stdout is the handshake: hold no end of it that outlives the parent. */
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	snprintf(path, sizeof(path), "/proc/%d/smaps", target);
	workload_check(read(go, &c, 1) == 1, "read");
	while (reads--) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		workload_check(fd >= 0, path);
		while ((length = read(fd, text, sizeof(text))) > 0)
			;
		workload_check(!length, path);
		close(fd);
	}
	workload_check(write(finish, "f", 1) == 1, "write");
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	size_t mebibytes = workload_arg(argc, argv, 1, 512);
	unsigned long reads = workload_arg(argc, argv, 2, 50);
	unsigned long readers = workload_arg(argc, argv, 3, 3);
	void (**loads)(void) = malloc((readers + 1) * sizeof(*loads));
	pid_t target = getpid(), scanner;
	int go[2], finish[2];
	char c;

	workload_check(loads && !pipe(go) && !pipe(finish), "pipe");
	scanner = fork();
	workload_check(scanner >= 0, "fork");
	if (!scanner)
		run_scanner(target, reads, go[0], finish[1]);
	/* So that a scanner that fails is end of file here, not a wait for ever. */
	close(finish[1]);

	region = workload_populated(mebibytes);
	loads[0] = write_lock;
	for (unsigned long i = 1; i <= readers; i++)
		loads[i] = read_lock;
	workload_create(readers + 1, loads);
	workload_ready(target, scanner);
	workload_meet();
	workload_check(write(go[1], "g", 1) == 1, "write");
	workload_check(read(finish[0], &c, 1) == 1, "scanner");
	finished = 1;
	workload_meet();
	workload_done();
	return 0;
}
