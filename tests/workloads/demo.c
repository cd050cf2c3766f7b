/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * demo [SECONDS]: something of everything, to look at rather than to count.
 *
 * Two workers map and unmap, one thread toggles the protection of a large
 * region, one forks, and another process reads this one's smaps. No
 * handshake; runs SECONDS (3), prints nothing. Functions are not static and
 * not inlined so that their names are in the stacks.
 */
#include "workload.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#define NOINLINE __attribute__((noinline))
#define REGION_MEBIBYTES 256
#define BLOCK_BYTES (256 << 10)
#define MS_NS 1000000L

atomic_int stopping;
char *region;

NOINLINE void rest_ms(long ms)
{
	struct timespec time = {.tv_nsec = ms * MS_NS};

	nanosleep(&time, NULL);
}

NOINLINE char *allocate_block(void)
{
	return workload_map(BLOCK_BYTES);
}

NOINLINE void fill_block(char *block)
{
	memset(block, 1, BLOCK_BYTES);
}

NOINLINE void free_block(char *block)
{
	workload_unmap(block, BLOCK_BYTES);
}

NOINLINE void handle_request(void)
{
	char *block = allocate_block();

	fill_block(block);
	free_block(block);
}

NOINLINE void protect_region(int prot)
{
	workload_check(!mprotect(region, REGION_MEBIBYTES << 20, prot), "mprotect");
}

NOINLINE void spawn_helper(void)
{
	pid_t child = fork();

	workload_check(child >= 0, "fork");
	if (!child)
		_exit(0);
	waitpid(child, NULL, 0);
}

NOINLINE void read_smaps(const char *path)
{
	static char text[64 << 10];
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	while (read(fd, text, sizeof(text)) > 0)
		;
	close(fd);
}

NOINLINE void *run_worker(void *unused)
{
	while (!stopping)
		handle_request();
	return unused;
}

NOINLINE void *run_mprotector(void *unused)
{
	while (!stopping) {
		protect_region(PROT_READ);
		protect_region(PROT_READ | PROT_WRITE);
		rest_ms(10);
	}
	return unused;
}

NOINLINE void *run_forker(void *unused)
{
	while (!stopping) {
		rest_ms(200);
		spawn_helper();
	}
	return unused;
}

NOINLINE void run_smaps_reader(pid_t target)
{
	char path[32];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "smaps-reader");
	snprintf(path, sizeof(path), "/proc/%d/smaps", target);
	for (;;) {
		read_smaps(path);
		rest_ms(100);
	}
}

NOINLINE pthread_t start_thread(const char *name, void *(*run)(void *))
{
	pthread_t thread;

	workload_check(!pthread_create(&thread, NULL, run, NULL), "pthread_create");
	pthread_setname_np(thread, name);
	return thread;
}

int main(int argc, char **argv)
{
	unsigned long seconds = workload_arg(argc, argv, 1, 3);
	struct timespec time = {.tv_sec = seconds};
	pid_t target = getpid(), reader;
	pthread_t threads[4];

	reader = fork();
	workload_check(reader >= 0, "fork");
	if (!reader)
		run_smaps_reader(target);
	region = workload_populated(REGION_MEBIBYTES);
	threads[0] = start_thread("worker", run_worker);
	threads[1] = start_thread("worker", run_worker);
	threads[2] = start_thread("mprotector", run_mprotector);
	threads[3] = start_thread("forker", run_forker);

	nanosleep(&time, NULL);
	stopping = 1;
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	kill(reader, SIGKILL);
	waitpid(reader, NULL, 0);
	return 0;
}
