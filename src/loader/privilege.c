// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What the caller may do, and why the kernel refused it bpf(). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/seccomp.h>

#include "failure.h"

/* Inode of the initial user namespace, PROC_USER_INIT_INO in include/linux/proc_ns.h. */
#define INIT_USER_NAMESPACE 0xEFFFFFFD
/* The kernel's own, which gets out with programs that only the JIT can run. */
#define ENOTSUPP 524
#define LOCKDOWN "/sys/kernel/security/lockdown"

static bool in_user_namespace(void)
{
	struct stat namespace;

	return !stat("/proc/self/ns/user", &namespace) && namespace.st_ino != INIT_USER_NAMESPACE;
}

/* Outside of a user namespace, what one has inside is nothing. */
uint64_t effective_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {};

	if (in_user_namespace())
		return 0;
	/* Where it cannot be asked, trying will tell. */
	if (syscall(SYS_capget, &header, data))
		return ~0ULL;
	return (uint64_t)data[1].effective << 32 | data[0].effective;
}

static bool has(uint64_t capabilities, unsigned int capability)
{
	return capabilities >> capability & 1;
}

/* Which of the capabilities tracing needs the caller lacks, as words; "" if none. */
static const char *missing_capabilities(void)
{
	uint64_t capabilities = effective_capabilities();

	if (has(capabilities, CAP_SYS_ADMIN))
		return "";
	if (!has(capabilities, CAP_BPF) && !has(capabilities, CAP_PERFMON))
		return "CAP_BPF and CAP_PERFMON";
	if (!has(capabilities, CAP_BPF))
		return "CAP_BPF";
	return has(capabilities, CAP_PERFMON) ? "" : "CAP_PERFMON";
}

int capabilities_check(struct failure *failure)
{
	const char *missing = missing_capabilities();

	if (!*missing)
		return 0;
	if (in_user_namespace())
		return failure_set(failure, CORELOCK_E_PRIVILEGE, 0,
				   "Run it on the host, or in a container without a user namespace "
				   "(not a rootless one).",
				   "BPF is not permitted in a user namespace: capabilities that it "
				   "gives do not count outside");
	return failure_set(failure, CORELOCK_E_PRIVILEGE, 0,
			   "Run as root, or give it CAP_BPF and CAP_PERFMON (setcap, "
			   "systemd AmbientCapabilities=, or a container's cap_add).",
			   "missing capability: %s", missing);
}

/* Whether a filter answers for the kernel, which knows no such command and would say EINVAL. */
static bool seccomp_forbids_bpf(void)
{
	union bpf_attr nothing = {};

	if (prctl(PR_GET_SECCOMP) != SECCOMP_MODE_FILTER)
		return false;
	return syscall(SYS_bpf, -1, &nothing, sizeof(nothing)) < 0 && errno != EINVAL;
}

static bool locked_down(void)
{
	FILE *file = fopen(LOCKDOWN, "re");
	char line[128] = "";
	bool is;

	if (!file)
		return false;
	is = fgets(line, sizeof(line), file) && strstr(line, "[confidentiality]");
	fclose(file);
	return is;
}

int permission_fail(struct failure *failure, int sys_errno, const char *what)
{
	int error = capabilities_check(failure);

	if (error)
		return error;
	if (seccomp_forbids_bpf())
		return failure_set(
			failure, CORELOCK_E_PRIVILEGE, sys_errno,
			"Let that filter pass it: a container's cap_add of CAP_BPF and CAP_PERFMON "
			"or its seccomp profile, a systemd unit's SystemCallFilter=.",
			"a seccomp filter forbids bpf()");
	if (locked_down())
		return failure_set(
			failure, CORELOCK_E_PRIVILEGE, 0,
			"Boot it with lockdown=integrity, or without: in this mode BPF programs "
			"may not read the kernel's memory.",
			"%s: " LOCKDOWN " is [confidentiality]", what);
	if (sys_errno == ENOSYS)
		return failure_set(failure, CORELOCK_E_UNSUPPORTED, sys_errno,
				   "Use one with CONFIG_BPF_SYSCALL=y.",
				   "this kernel has no bpf() system call");
	return failure_set(failure, CORELOCK_E_PRIVILEGE, sys_errno,
			   "The capabilities are there, so a policy forbids it: see what an LSM "
			   "(SELinux, AppArmor, BPF LSM) says of bpf in the kernel's log.",
			   "%s", what);
}

/* More than libbpf has open for a moment while it loads. */
#define PASSING_DESCRIPTORS 8

/*
 * libbpf takes a question that it had no descriptor to ask with for a no of the kernel, and says
 * something else then. It has given back by now what it had: whether there is enough can be tried.
 */
static bool lacks_descriptors(const struct bpf_object *object)
{
	int taken[128], count = 0, wanted = PASSING_DESCRIPTORS;
	struct bpf_program *program;
	struct bpf_map *map;
	bool lacks = false;

	bpf_object__for_each_map(map, object) wanted++;
	bpf_object__for_each_program(program, object) wanted += bpf_program__autoload(program);
	while (count < wanted && count < 128 && !lacks) {
		taken[count] = open("/", O_PATH | O_CLOEXEC);
		lacks = taken[count] < 0;
		count += !lacks;
	}
	lacks = lacks && no_descriptors(errno);
	while (count)
		close(taken[--count]);
	return lacks;
}

int load_fail(struct failure *failure, const struct bpf_object *object, int sys_errno)
{
	const char *what = "the kernel refused the BPF programs";

	if (object && lacks_descriptors(object))
		sys_errno = EMFILE;
	/* For the verifier, locked-down helpers are unknown ones. A filter may say anything. */
	if (sys_errno == EPERM || sys_errno == ENOSYS || seccomp_forbids_bpf() ||
	    (sys_errno == EINVAL && locked_down()))
		return permission_fail(failure, sys_errno, what);
	if (sys_errno == ENOTSUPP)
		return failure_set(failure, CORELOCK_E_LOAD, 0,
				   "Let it compile them: sysctl net.core.bpf_jit_enable=1, on a "
				   "kernel with CONFIG_BPF_JIT=y.",
				   "%s: it would have to interpret them, and cannot", what);
	return failure_set(failure, CORELOCK_E_LOAD, sys_errno, REFUSAL_REMEDY, "%s", what);
}
