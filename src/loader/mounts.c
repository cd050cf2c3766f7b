// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A filesystem of the kernel's that is mounted nowhere but for who asks. */
#include <errno.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/mount.h>

#include "failure.h"

CORELOCK_EXPORT int corelock_mount_detached(const char *filesystem)
{
	int context = syscall(SYS_fsopen, filesystem, FSOPEN_CLOEXEC);
	int fd = -1, error;

	if (context < 0)
		return -errno;
	if (!syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		fd = syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC,
			     MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	error = errno;
	close(context);
	return fd < 0 ? -error : fd;
}
