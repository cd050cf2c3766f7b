// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Pids between the caller's pid namespace and the initial one. The kernel gives user space
 * neither, so a program reads them: in milliseconds, and for who is in another namespace only.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "caller.skel.h"
#include "pids.h"

/* Inode of the initial pid namespace, PROC_PID_INIT_INO in include/linux/proc_ns.h. */
#define INIT_PID_NAMESPACE 0xEFFFFFFC

int run_iterator(struct bpf_program *program, const struct bpf_iter_attach_opts *options)
{
	struct bpf_link *link = bpf_program__attach_iter(program, options);
	int fd = link ? bpf_iter_create(bpf_link__fd(link)) : -1;
	int error = fd < 0 ? errno : 0;
	char nothing[64];
	ssize_t got;

	if (fd >= 0) {
		do
			got = read(fd, nothing, sizeof(nothing));
		while (got > 0 || (got < 0 && errno == EAGAIN));
		error = got < 0 ? errno : 0;
		close(fd);
	}
	bpf_link__destroy(link);
	return error;
}

static int read_ids(struct failure *failure, struct caller_bpf *skel, struct pid_space *space,
		    const uint32_t ids[PID_IDS], uint32_t host_ids[PID_IDS])
{
	int error = skel ? caller_bpf__load(skel) : -errno;

	if (error)
		return load_fail(failure, skel ? skel->obj : NULL, -error);
	memcpy(skel->bss->wanted_ids, ids, PID_IDS * sizeof(*ids));
	error = run_iterator(skel->progs.find_ids, NULL);
	if (error || !skel->bss->namespace_address)
		return failure_set(failure, CORELOCK_E_SYSTEM, error,
				   "Run it on the host, with pids as the host sees them.",
				   "cannot tell which pid namespace this is");
	space->level = skel->bss->namespace_level;
	space->address = space->level ? skel->bss->namespace_address : 0;
	for (int i = 0; i < PID_IDS; i++) {
		host_ids[i] = skel->bss->host_ids[i];
		if (ids[i] && !host_ids[i])
			return failure_set(failure, CORELOCK_E_SYSTEM, ESRCH,
					   "It may have exited; see ps -eLf.",
					   "cannot find %u in this pid namespace", ids[i]);
	}
	return 0;
}

int pids_look_up(struct failure *failure, struct pid_space *space, const uint32_t ids[PID_IDS],
		 uint32_t host_ids[PID_IDS])
{
	struct caller_bpf *skel;
	struct stat namespace;
	int error;

	*space = (struct pid_space){};
	memcpy(host_ids, ids, PID_IDS * sizeof(*ids));
	if (!stat("/proc/self/ns/pid", &namespace) && namespace.st_ino == INIT_PID_NAMESPACE)
		return 0;
	skel = caller_bpf__open();
	error = read_ids(failure, skel, space, ids, host_ids);
	caller_bpf__destroy(skel);
	return error;
}
