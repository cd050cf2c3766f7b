// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A filesystem mounted nowhere but for who asks; and what is to be known of a file's. */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>
#include <linux/mount.h>

#include "failure.h"

#ifndef CEPH_SUPER_MAGIC /* not in the headers that the portable file is made with */
#define CEPH_SUPER_MAGIC 0x00c36400
#endif

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

CORELOCK_EXPORT int corelock_makes_up_devices(int fd)
{
	struct statfs status;

	if (fstatfs(fd, &status))
		return -errno;
	switch ((uint32_t)status.f_type) {
	case BTRFS_SUPER_MAGIC:
	case CEPH_SUPER_MAGIC:
	case OVERLAYFS_SUPER_MAGIC:
		return 1;
	default:
		return 0;
	}
}
