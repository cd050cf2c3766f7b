/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * two_callers [TIMES]: mmap and munmap by way of first and of second, in turns.
 *
 * Without frame pointers, and with frames of one size, so that all but the return addresses on
 * the stack is the same. What each call leaves in its frame changes every time.
 */
#include "workload.h"

#define CALLER __attribute__((noinline, noclone))

CALLER static int map_once(void)
{
	workload_cycle();
	return getpid();
}

CALLER static int shared(int turn)
{
	volatile int room[64];

	for (int at = 0; at < 64; at++)
		room[at] = turn * at;
	return map_once() + room[turn & 63];
}

CALLER static int first(int turn)
{
	return shared(turn) + 1;
}

CALLER static int second(int turn)
{
	return shared(turn) + 2;
}

static unsigned long times;

static void take_turns(void)
{
	int sum = 0;

	for (unsigned long turn = 0; turn < times; turn++)
		sum += first(turn) + second(turn);
	workload_check(sum != 0, "two_callers");
}

int main(int argc, char **argv)
{
	times = workload_arg(argc, argv, 1, 100);
	workload_create_same(1, take_turns);
	workload_ready(getpid(), 0);
	workload_run();
	workload_done();
	return 0;
}
