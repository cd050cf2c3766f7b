/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * drain FILE: what is in it now, to stdout.
 *
 * cat would wait for more at the end of a trace_pipe_raw.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	static char page[64 << 10]; /* The largest page of any architecture: one read, one page. */
	int fd = open(argc > 1 ? argv[1] : "", O_RDONLY | O_NONBLOCK);
	ssize_t length;

	if (fd < 0)
		goto fail;
	while ((length = read(fd, page, getpagesize())) > 0)
		if (write(STDOUT_FILENO, page, length) != length)
			goto fail;
	/* An empty buffer would block. */
	if (!length || errno == EAGAIN)
		return 0;
fail:
	perror(argv[1]);
	return 1;
}
