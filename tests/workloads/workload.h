/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the workloads share: the handshake, and threads that keep still around it.
 *
 *	workload			tracer
 *	prints "ready PID ..."
 *	reads a line			attaches, writes a line
 *	runs its load
 *	prints "done"
 *	reads until a line or EOF	detaches, closes the pipe
 *	exits 0
 *
 * Between "ready" and the load, and between the load and the exit, nothing may
 * take the mmap_lock. So no stdio and no malloc there, and threads are
 * created before "ready" and stay parked when their load is over.
 *
 * Include this before anything else: it says which interfaces libc is to show.
 */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define WORKLOAD_STACK_BYTES (64 << 10)

static pthread_barrier_t workload_barrier;

static inline void workload_check(int ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	_exit(1);
}

/* The number in argv[index], or preset when there is none. */
static inline unsigned long workload_arg(int argc, char **argv, int index, unsigned long preset)
{
	char *end;
	unsigned long value;

	if (index >= argc)
		return preset;
	value = strtoul(argv[index], &end, 10);
	if (*argv[index] && !*end)
		return value;
	dprintf(STDERR_FILENO, "%s: not a number: '%s'\n", argv[0], argv[index]);
	_exit(2);
}

static inline void workload_say(const char *text)
{
	size_t length = strlen(text);

	workload_check(write(STDOUT_FILENO, text, length) == (ssize_t)length, "write");
}

static inline void workload_await_line(void)
{
	char c;

	while (read(STDIN_FILENO, &c, 1) == 1 && c != '\n')
		;
}

/* Name the traced process (and a second one, unless it is 0), then wait for the word to go. */
static inline void workload_ready(pid_t pid, pid_t other)
{
	char text[64];

	if (other)
		snprintf(text, sizeof(text), "ready %d %d\n", pid, other);
	else
		snprintf(text, sizeof(text), "ready %d\n", pid);
	workload_say(text);
	workload_await_line();
}

static inline void workload_done(void)
{
	workload_say("done\n");
	workload_await_line();
}

/* All threads and main come together here: created, going, finished. */
static inline void workload_meet(void)
{
	pthread_barrier_wait(&workload_barrier);
}

static inline void *workload_thread(void *load)
{
	workload_meet();
	workload_meet();
	((void (*)(void))load)();
	workload_meet();
	for (;;)
		pause();
	return NULL;
}

/* Create threads for the loads, one each; return when all of them stand waiting. */
static inline void workload_create(unsigned long threads, void (*const *loads)(void))
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_barrier_init(&workload_barrier, NULL, threads + 1);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, WORKLOAD_STACK_BYTES);
	while (threads--) {
		int err = pthread_create(&thread, &attr, workload_thread, (void *)loads[threads]);

		workload_check(!err, "pthread_create");
	}
	workload_meet();
}

/* As workload_create, with the same load for all. */
static inline void workload_create_same(unsigned long threads, void (*load)(void))
{
	void (**loads)(void) = malloc(threads * sizeof(*loads));

	workload_check(!!loads, "malloc");
	for (unsigned long i = 0; i < threads; i++)
		loads[i] = load;
	workload_create(threads, loads);
	free(loads);
}

/* Let the threads run their loads; return when all have finished and parked. */
static inline void workload_run(void)
{
	workload_meet();
	workload_meet();
}

static inline char *workload_map(size_t bytes)
{
	char *region =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	workload_check(region != MAP_FAILED, "mmap");
	return region;
}

static inline void workload_unmap(char *region, size_t bytes)
{
	workload_check(!munmap(region, bytes), "munmap");
}

/* One mmap and one munmap: two write acquisitions, one of them downgraded. */
static inline void workload_cycle(void)
{
	workload_unmap(workload_map(4096), 4096);
}

/* A region with every page in place, in small pages so that walking it takes long. */
static inline char *workload_populated(size_t mebibytes)
{
	size_t bytes = mebibytes << 20;
	char *region = workload_map(bytes);

	/* A kernel without huge pages refuses this, and has none to be rid of. */
	madvise(region, bytes, MADV_NOHUGEPAGE);
	memset(region, 1, bytes);
	return region;
}

#endif
