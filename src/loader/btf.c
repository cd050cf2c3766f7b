// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Loading with the kernel's BTF from a file of the caller's.
 *
 * libbpf has the types of what it attaches to from /sys/kernel/btf/vmlinux, and
 * cannot be told otherwise. So what is in the file is put there, in a mount
 * namespace that one thread has to itself, and that thread loads.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bpf/btf.h>

#include "failure.h"

struct job {
	struct failure *failure;
	const char *path;
	const struct btf *btf; /* what is in it */
	int (*load)(void *handle);
	void *handle;
	int result;
};

/* Covers the first of these folders that there is by an empty one, with the place for the file. */
static int open_place(void)
{
	static const char *const folders[] = {"/sys/kernel/btf", "/sys/kernel", "/sys"};
	struct stat status;

	for (size_t at = 0; at < sizeof(folders) / sizeof(folders[0]); at++) {
		if (stat(folders[at], &status))
			continue;
		if (mount("none", folders[at], "tmpfs", 0, NULL))
			return -1;
		mkdir("/sys/kernel", 0700);
		mkdir("/sys/kernel/btf", 0700);
		break;
	}
	return open(VMLINUX_BTF, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
}

static int write_place(const struct btf *btf)
{
	__u32 size = 0, written = 0;
	const char *data = btf__raw_data(btf, &size);
	int fd = open_place();
	ssize_t got = 0;

	if (fd < 0)
		return -1;
	while (written < size && (got = write(fd, data + written, size - written)) > 0)
		written += got;
	close(fd);
	return got < 0 ? -1 : 0;
}

static int show(struct failure *failure, const char *path, const struct btf *btf)
{
	if (!unshare(CLONE_NEWNS) && !mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
	    !write_place(btf))
		return 0;
	if (errno == EPERM)
		return failure_set(failure, CORELOCK_E_PRIVILEGE, EPERM,
				   "That takes CAP_SYS_ADMIN.",
				   "cannot show what is in %s as " VMLINUX_BTF, path);
	return failure_set(failure, CORELOCK_E_SYSTEM, errno, "There must be a folder /sys.",
			   "cannot show what is in %s as " VMLINUX_BTF, path);
}

/*
 * The kernel's own, as it gives it to who has CAP_SYS_ADMIN, once a program has needed it. NULL
 * where there is none, or errno says why it cannot be had.
 */
static struct btf *kernels_own(void)
{
	char name[16];
	__u32 id = 0;

	while (!bpf_btf_get_next_id(id, &id)) {
		struct bpf_btf_info info = {.name = (uintptr_t)name, .name_len = sizeof(name)};
		__u32 length = sizeof(info);
		int fd = bpf_btf_get_fd_by_id(id);
		int error;

		if (fd < 0 && no_descriptors(errno))
			return NULL;
		error = bpf_obj_get_info_by_fd(fd, &info, &length);
		close(fd);
		if (!error && info.kernel_btf && !strcmp(name, "vmlinux"))
			return btf__load_from_kernel_by_id(id);
	}
	return NULL;
}

/* Types of another kernel would be read at the wrong places, in silence. */
static int compare(struct failure *failure, const char *path, const struct btf *given)
{
	struct btf *own = kernels_own();
	int sys_errno = own ? 0 : errno;
	__u32 given_bytes = 0, own_bytes = 1;
	const void *given_data = btf__raw_data(given, &given_bytes);
	const void *own_data = own ? btf__raw_data(own, &own_bytes) : NULL;
	bool same = given_data && own_data && given_bytes == own_bytes &&
		    !memcmp(given_data, own_data, own_bytes);
	bool has_own = own;

	btf__free(own);
	if (same)
		return 0;
	if (no_descriptors(sys_errno))
		return failure_set(failure, CORELOCK_E_SYSTEM, sys_errno, "",
				   "cannot compare %s with the kernel's own BTF", path);
	return failure_set(failure, CORELOCK_E_UNSUPPORTED, 0,
			   has_own ? "Use the vmlinux of exactly this build of the kernel."
				   : "It must be built with CONFIG_DEBUG_INFO_BTF=y.",
			   has_own ? "%s is the BTF of another kernel than the one that runs"
				   : "with %s nothing can be loaded: this kernel has no BTF",
			   path);
}

static int load_logged(struct failure *failure, int (*load)(void *handle), void *handle)
{
	int error;

	failure_log_begin(failure);
	error = load(handle);
	log_end();
	return error;
}

static void *show_and_load(void *argument)
{
	struct job *job = argument;

	job->result = show(job->failure, job->path, job->btf)
			      ?: load_logged(job->failure, job->load, job->handle);
	/* Wrong types are the reason of a refusal, too. */
	if (!job->result || job->result == -CORELOCK_E_LOAD) {
		failure_log_begin(job->failure);
		job->result = compare(job->failure, job->path, job->btf) ?: job->result;
		log_end();
	}
	return NULL;
}

/* What is in the file; NULL, and a failure, if that is no BTF. */
static struct btf *read_btf(struct failure *failure, const char *path)
{
	const char *remedy =
		"Give a file like " VMLINUX_BTF ", or an ELF file with a .BTF section, "
		"whole.";
	/* Whoever opens a FIFO otherwise waits for its other end. */
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct btf *btf = NULL;
	struct stat status;
	bool regular;

	if (fd < 0 || fstat(fd, &status)) {
		failure_set(failure, CORELOCK_E_ARGUMENT, errno, remedy, "cannot read BTF from %s",
			    path);
		return NULL;
	}
	close(fd);
	regular = S_ISREG(status.st_mode);
	if (regular) {
		failure_log_begin(failure);
		btf = btf__parse(path, NULL);
		log_end();
	}
	if (!btf)
		failure_set(failure, CORELOCK_E_ARGUMENT, 0, remedy,
			    "cannot read BTF from %s: it has none%s", path,
			    regular ? ", or not the whole" : ", as it is no regular file");
	return btf;
}

int load_with_btf(struct failure *failure, const char *path, int (*load)(void *handle),
		  void *handle)
{
	struct job job = {failure, path, NULL, load, handle, 0};
	struct btf *btf;
	pthread_t thread;
	int error;

	if (!path)
		return load_logged(failure, load, handle);
	btf = read_btf(failure, path);
	if (!btf)
		return -failure->error.code;
	job.btf = btf;
	error = pthread_create(&thread, NULL, show_and_load, &job);
	if (error)
		job.result =
			failure_set(failure, CORELOCK_E_SYSTEM, error, "", "cannot start a thread");
	else
		pthread_join(thread, NULL);
	btf__free(btf);
	return job.result;
}
