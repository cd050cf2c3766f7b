/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * killed_waiter [MEBIBYTES [WAITERS]]: a process killed while its threads queue for the lock.
 *
 * "ready" names the child, which is the target. One of its threads holds the
 * lock for mprotect of a large region; the others want it for mmap and
 * munmap, which give up when killed: at least one acquisition fails.
 */
#include "workload.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

static char *region;
static size_t mebibytes;
static int cpu;

static void pin(void)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	workload_check(!sched_setaffinity(0, sizeof(cpus), &cpus), "sched_setaffinity");
}

/*
 * On the killer's CPU, and behind the others: while the killer runs the holder
 * stands still, and those that the kill wakes come before it.
 */
static void hold(void)
{
	prctl(PR_SET_NAME, "holder");
	pin();
	workload_check(!setpriority(PRIO_PROCESS, 0, 10), "setpriority");
	for (unsigned long i = 0;; i++) {
		int prot = i % 2 ? PROT_READ | PROT_WRITE : PROT_READ;

		workload_check(!mprotect(region, mebibytes << 20, prot), "mprotect");
	}
}

static void queue_up(void)
{
	for (;;)
		workload_cycle();
}

static void run_target(unsigned long waiters, int created, int go)
{
	void (**loads)(void) = malloc((waiters + 1) * sizeof(*loads));
	char c;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	workload_check(!!loads, "malloc");
	loads[0] = hold;
	for (unsigned long i = 1; i <= waiters; i++)
		loads[i] = queue_up;
	region = workload_populated(mebibytes);
	workload_create(waiters + 1, loads);
	workload_check(write(created, "c", 1) == 1, "write");
	workload_check(read(go, &c, 1) == 1, "read");
	workload_run();
}

/* Whether it is one of the waiters, asleep for the lock (state D). */
static int is_queued_waiter(int tasks, const char *tid)
{
	char path[32], text[128];
	const char *state;
	ssize_t length;
	int fd;

	snprintf(path, sizeof(path), "%.16s/stat", tid);
	fd = openat(tasks, path, O_RDONLY);
	workload_check(fd >= 0, path);
	length = read(fd, text, sizeof(text) - 1);
	workload_check(length > 0, path);
	close(fd);
	text[length] = '\0';
	state = strstr(text, ") ");
	return state && state[2] == 'D' && !strstr(text, "(holder)");
}

static unsigned long count_queued_waiters(pid_t target)
{
	unsigned long queued = 0;
	struct dirent *entry;
	char path[32];
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", target);
	tasks = opendir(path);
	workload_check(!!tasks, path);
	while ((entry = readdir(tasks)))
		if (entry->d_name[0] != '.')
			queued += is_queued_waiter(dirfd(tasks), entry->d_name);
	closedir(tasks);
	return queued;
}

int main(int argc, char **argv)
{
	unsigned long waiters = workload_arg(argc, argv, 2, 4);
	int created[2], go[2];
	pid_t target;
	char c;

	mebibytes = workload_arg(argc, argv, 1, 256);
	cpu = sched_getcpu();
	workload_check(!pipe(created) && !pipe(go), "pipe");
	target = fork();
	workload_check(target >= 0, "fork");
	if (!target)
		run_target(waiters, created[1], go[0]);
	/* So that a target that fails is end of file here, not a wait for ever. */
	close(created[1]);
	workload_check(read(created[0], &c, 1) == 1, "target");
	pin();
	workload_ready(target, 0);
	workload_check(write(go[1], "g", 1) == 1, "write");
	/* All of them queued: so it is the holder that has the lock. */
	while (count_queued_waiters(target) < waiters)
		usleep(100);
	workload_check(!kill(target, SIGKILL), "kill");
	workload_check(waitpid(target, NULL, 0) == target, "waitpid");
	workload_done();
	return 0;
}
