/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * smaps_reader [MEBIBYTES [READS [WRITERS [READERS [FILE]]]]]: another process locks this one's mm.
 *
 * The reader, named second in "ready", takes the mmap_lock of the first at
 * least once in each of its READS passes over /proc/PID/FILE, never for writing.
 * (FILE is smaps; newer kernels lock single mappings for that, and the whole for
 * smaps_rollup.) The first process's WRITERS map and unmap meanwhile, so they queue
 * behind it; its READERS ask mincore about a page, so they queue behind a
 * writer though the lock is held by a reader as they are.
 */
#include "workload.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>

static atomic_int finished;
static char *region;
static pthread_barrier_t all_began;

static void write_lock(void)
{
	workload_cycle();
	pthread_barrier_wait(&all_began);
	while (!finished)
		workload_cycle();
}

static void read_lock(void)
{
	unsigned char resident;

	pthread_barrier_wait(&all_began);
	while (!finished)
		workload_check(!mincore(region, 1, &resident), "mincore");
}

static void read_smaps(const char *path)
{
	static char text[64 << 10];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length;

	workload_check(fd >= 0, path);
	while ((length = read(fd, text, sizeof(text))) > 0)
		;
	workload_check(!length, path);
	close(fd);
}

static void run_reader(pid_t target, const char *file, unsigned long reads, int go, int finish)
{
	char path[32], c;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* The parent's stdout is the handshake: hold no end of it that outlives the parent. */
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	snprintf(path, sizeof(path), "/proc/%d/%s", target, file);
	workload_check(read(go, &c, 1) == 1, "read");
	while (reads--)
		read_smaps(path);
	workload_check(write(finish, "f", 1) == 1, "write");
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	size_t mebibytes = workload_arg(argc, argv, 1, 256);
	unsigned long reads = workload_arg(argc, argv, 2, 50);
	unsigned long writers = workload_arg(argc, argv, 3, 2);
	unsigned long readers = workload_arg(argc, argv, 4, 0);
	void (**loads)(void) = malloc((writers + readers) * sizeof(*loads));
	pid_t target = getpid(), reader;
	int go[2], finish[2];
	char c;

	workload_check(loads && !pipe(go) && !pipe(finish), "pipe");
	reader = fork();
	workload_check(reader >= 0, "fork");
	if (!reader)
		run_reader(target, argc > 5 ? argv[5] : "smaps", reads, go[0], finish[1]);
	/* So that a reader that fails is end of file here, not a wait for ever. */
	close(finish[1]);

	region = workload_populated(mebibytes);
	pthread_barrier_init(&all_began, NULL, writers + readers + 1);
	for (unsigned long i = 0; i < writers + readers; i++)
		loads[i] = i < writers ? write_lock : read_lock;
	workload_create(writers + readers, loads);
	free(loads);
	workload_ready(target, reader);
	workload_meet();
	/* Each has locked before the first read, however soon the last one ends. */
	pthread_barrier_wait(&all_began);
	workload_check(write(go[1], "g", 1) == 1, "write");
	workload_check(read(finish[0], &c, 1) == 1, "reader");
	finished = 1;
	workload_meet();
	workload_done();
	return 0;
}
