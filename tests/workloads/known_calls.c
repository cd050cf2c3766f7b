/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * known_calls [TIMES [THREADS]]: probes that are hit a known number of times.
 *
 * Each thread TIMES times, i from 0 on:
 *
 *	known_function(i)	one call
 *	lseek()			one system call, of a file: null_lseek() in the kernel
 *	known_calls:turn	one hit, if its semaphore is raised; arguments below
 *	known_calls:place	one hit: of its first location if i is even, else of its second
 *
 * Arguments of turn, as compilers make them of these types:
 *
 *	1  signed char		-1
 *	2  uint8_t		i modulo 256
 *	3  int16_t		-i, cut to 16 bits
 *	4  int64_t		-i * 10,000,000,000
 *	5  const char *		"even" or "odd"
 *	6  uint32_t		3 * (i modulo 8), an element of an array
 *	7  int			42, a constant
 *
 * Those of place are i (uint64_t), and 1 or 2 (int) for the location.
 */
#include "workload.h"
#include <fcntl.h>
#include <stdint.h>
#include <sys/syscall.h>

#if __has_include(<sys/sdt.h>)

#define _SDT_HAS_SEMAPHORES 1
#include <sys/sdt.h>

#define SEMAPHORE __attribute__((section(".probes"))) volatile unsigned short

SEMAPHORE known_calls_turn_semaphore;
SEMAPHORE known_calls_place_semaphore;

static unsigned long times;
static int file;
static uint32_t thrice[8];

__attribute__((noinline, noclone)) unsigned long known_function(unsigned long i)
{
	__asm__ volatile("" : "+r"(i));
	return i;
}

static void take_turn(unsigned long i)
{
	signed char minus_one = -1;
	uint8_t low = i;
	int16_t back = -i;
	int64_t far = -(int64_t)i * 10000000000;
	const char *parity = i & 1 ? "odd" : "even";

	/* As probes are meant to be guarded: no hit but if the tracer raises it. */
	if (known_calls_turn_semaphore)
		STAP_PROBE7(known_calls, turn, minus_one, low, back, far, parity, thrice[i & 7],
			    42);
	if (i & 1)
		STAP_PROBE2(known_calls, place, i, 2);
	else
		STAP_PROBE2(known_calls, place, i, 1);
}

static void take_turns(void)
{
	for (unsigned long i = 0; i < times; i++) {
		take_turn(known_function(i));
		syscall(SYS_lseek, file, 0, SEEK_SET);
	}
}

int main(int argc, char **argv)
{
	times = workload_arg(argc, argv, 1, 1000);
	file = open("/dev/null", O_RDONLY | O_CLOEXEC);
	for (uint32_t i = 0; i < 8; i++)
		thrice[i] = 3 * i;
	workload_create_same(workload_arg(argc, argv, 2, 4), take_turns);
	workload_ready(getpid(), 0);
	workload_run();
	workload_done();
	return 0;
}

#else /* whoever cannot install it runs the other tests */

int main(void)
{
	dprintf(STDERR_FILENO, "known_calls: built without sys/sdt.h (systemtap-sdt-dev)\n");
	return 1;
}

#endif
