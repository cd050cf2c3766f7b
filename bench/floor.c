// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Attaches the floor programs, prints "ready", and detaches when stdin ends. */
#include <stdio.h>
#include <unistd.h>

#include "floor.skel.h"

int main(void)
{
	struct floor_bpf *skel = floor_bpf__open_and_load();
	char byte;

	if (!skel || floor_bpf__attach(skel)) {
		fprintf(stderr, "floor: cannot load or attach\n");
		return 1;
	}
	printf("ready\n");
	fflush(stdout);
	while (read(0, &byte, 1) > 0)
		;
	floor_bpf__destroy(skel);
	return 0;
}
