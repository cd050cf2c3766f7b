/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A recording as a file: blocks, as docs/format.md has them. Nothing here is exported. */
#ifndef CORELOCK_RECFILE_H
#define CORELOCK_RECFILE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "corelock.h"

#define BLOCK_HEAD_BYTES 24
#define BLOCK_ALIGN 8
#define MAX_BLOCK_PARTS 12

struct recfile {
	pthread_mutex_t lock;
	int fd;	      /* the caller's */
	bool regular; /* can be cut back to its last whole block */
	uint64_t bytes;
	uint64_t reserved_to; /* there is room on the disk up to here */
	uint32_t sequence;
	bool takes_less; /* the last block with keep_room was refused; a smaller one may not be */
};

/* Writes the file's head. Returns 0 or an errno, as the others do. */
int recfile_begin(struct recfile *file, int fd);

/*
 * Writes a block of these parts, whole or not at all. keep_room: refuses while there would still
 * be room for the tables and the accounting that come last. May be called by several threads.
 */
int recfile_block(struct recfile *file, enum corelock_block type, const struct iovec *parts,
		  int count, bool keep_room);

/* Gives back the room that was kept, and what else was made by recfile_begin; not the fd. */
void recfile_end(struct recfile *file);

#endif
