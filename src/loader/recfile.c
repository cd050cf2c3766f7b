// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Framing, checksums, and what happens when there is no room. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "recfile.h"

#define FORMAT_VERSION 1

/* For the stacks and the accounting of a recording whose disk is full. */
#define KEPT_BYTES (256 << 10)
/* Room is asked for so much at a time. */
#define RESERVE_BYTES (1 << 20)

static const char block_magic[4] = {'\x8b', 'C', 'L', 'K'};

struct file_head {
	char magic[8];
	uint32_t version;
	uint32_t reserved;
};

struct block_head {
	char magic[4];
	uint16_t type;
	uint16_t reserved;
	uint32_t bytes;
	uint32_t sequence;
	uint32_t payload_crc;
	uint32_t head_crc;
};

_Static_assert(sizeof(struct block_head) == BLOCK_HEAD_BYTES, "as docs/format.md has it");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "structs are written as they are");

/* Takes what was written off the front of the parts. */
static void skip_parts(struct iovec **parts, int *count, size_t written)
{
	while (*count && written >= (*parts)->iov_len) {
		written -= (*parts)->iov_len;
		(*parts)++;
		(*count)--;
	}
	if (*count) {
		(*parts)->iov_base = (char *)(*parts)->iov_base + written;
		(*parts)->iov_len -= written;
	}
}

static int write_parts(struct recfile *file, struct iovec *parts, int count)
{
	uint64_t at = file->bytes;

	while (count) {
		ssize_t written = file->regular ? pwritev(file->fd, parts, count, at)
						: writev(file->fd, parts, count);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return errno;
		at += written;
		skip_parts(&parts, &count, written);
	}
	file->bytes = at;
	return 0;
}

int recfile_begin(struct recfile *file, int fd)
{
	struct file_head head = {.magic = "CORELOCK", .version = FORMAT_VERSION};
	struct iovec part = {&head, sizeof(head)};
	struct stat status;

	if (fstat(fd, &status))
		return errno;
	pthread_mutex_init(&file->lock, NULL);
	file->fd = fd;
	file->regular = S_ISREG(status.st_mode);
	return write_parts(file, &part, 1);
}

static bool is_full(int error)
{
	return error == ENOSPC || error == EDQUOT || error == EFBIG;
}

/* fallocate does not heed it everywhere. */
static bool is_over_limit(uint64_t to)
{
	struct rlimit limit;

	return !getrlimit(RLIMIT_FSIZE, &limit) && to > limit.rlim_cur;
}

/* ENOSPC if the disk has no room up to there. Where that cannot be asked, it shows in writing. */
static int reserve(struct recfile *file, uint64_t to)
{
	if (!file->regular)
		return 0;
	if (is_over_limit(to))
		return EFBIG;
	if (to <= file->reserved_to)
		return 0;
	if (fallocate(file->fd, FALLOC_FL_KEEP_SIZE, file->bytes,
		      to + RESERVE_BYTES - file->bytes)) {
		if (!is_full(errno))
			return 0;
		/* The last bytes count. */
		if (fallocate(file->fd, FALLOC_FL_KEEP_SIZE, file->bytes, to - file->bytes))
			return errno;
		file->reserved_to = to;
		return 0;
	}
	file->reserved_to = to + RESERVE_BYTES;
	return 0;
}

/* To the last whole block; what cannot be cut is known by readers not to be one. */
static void cut_back(struct recfile *file)
{
	int ignored = file->regular ? ftruncate(file->fd, file->bytes) : 0;

	/* What was reserved beyond may be cut off, too. */
	file->reserved_to = 0;
	(void)ignored;
}

static int write_block(struct recfile *file, struct block_head *head, struct iovec *parts,
		       int count, bool keep_room)
{
	uint64_t end = file->bytes + sizeof(*head) + head->bytes + BLOCK_ALIGN;
	int error = 0;

	if (keep_room) {
		error = reserve(file, end + KEPT_BYTES);
		/* What only shows in writing leaves nothing: a smaller one would do so, too. */
		file->takes_less = is_full(error);
	}
	head->sequence = file->sequence;
	head->head_crc = crc32(0, (const Bytef *)head, sizeof(*head) - sizeof(head->head_crc));
	if (!error)
		error = write_parts(file, parts, count);
	if (!error)
		file->sequence++;
	else
		cut_back(file);
	return error;
}

int recfile_block(struct recfile *file, enum corelock_block type, const struct iovec *parts,
		  int count, bool keep_room)
{
	static const char zeros[BLOCK_ALIGN];
	struct block_head head = {.type = type};
	struct iovec all[MAX_BLOCK_PARTS + 2] = {{&head, sizeof(head)}};
	uint64_t bytes = 0;
	int error;

	if (count > MAX_BLOCK_PARTS)
		return EINVAL;
	memcpy(head.magic, block_magic, sizeof(block_magic));
	for (int i = 0; i < count; i++) {
		head.payload_crc = crc32_z(head.payload_crc, parts[i].iov_base, parts[i].iov_len);
		bytes += parts[i].iov_len;
		all[1 + i] = parts[i];
	}
	if (bytes > UINT32_MAX)
		return EFBIG;
	head.bytes = bytes;
	all[1 + count] = (struct iovec){(void *)zeros, -bytes % BLOCK_ALIGN};
	pthread_mutex_lock(&file->lock);
	error = write_block(file, &head, all, count + 2, keep_room);
	pthread_mutex_unlock(&file->lock);
	return error;
}

void recfile_end(struct recfile *file)
{
	cut_back(file);
	pthread_mutex_destroy(&file->lock);
}
