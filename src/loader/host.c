// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What can be said of a host before anything is traced on it. */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bpf/btf.h>

#include "session.h"

/* A program that does nothing: return 0. */
static const struct bpf_insn nothing[] = {
	{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0},
	{.code = BPF_JMP | BPF_EXIT},
};

static int load_nothing(void)
{
	return bpf_prog_load(BPF_PROG_TYPE_SOCKET_FILTER, "nothing", "GPL", nothing,
			     sizeof(nothing) / sizeof(nothing[0]), NULL);
}

static int bpf_call_check(struct failure *failure)
{
	int fd = load_nothing();

	if (fd < 0)
		return permission_fail(failure, -fd, "the kernel refused an empty BPF program");
	close(fd);
	return 0;
}

/* libbpf's own probe of this type is by fentry, which is not needed and may be forbidden. */
static int tracing_program_check(struct failure *failure)
{
	LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = BPF_TRACE_RAW_TP);
	int fd = libbpf_find_vmlinux_btf_id("mmap_lock_released", BPF_TRACE_RAW_TP);

	if (fd > 0) {
		options.attach_btf_id = fd;
		fd = bpf_prog_load(BPF_PROG_TYPE_TRACING, "nothing", "GPL", nothing,
				   sizeof(nothing) / sizeof(nothing[0]), &options);
	}
	if (fd < 0)
		return failure_set(failure, CORELOCK_E_UNSUPPORTED, -fd,
				   "The kernel must be built with CONFIG_BPF_EVENTS=y.",
				   "the kernel refused an empty BPF program of type tracing");
	close(fd);
	return 0;
}

static int program_types_check(struct failure *failure)
{
	if (libbpf_probe_bpf_map_type(BPF_MAP_TYPE_TASK_STORAGE, NULL) != 1)
		return failure_set(failure, CORELOCK_E_UNSUPPORTED, 0,
				   "It came with Linux 5.11 and needs CONFIG_BPF_LSM or, since "
				   "5.12, CONFIG_BPF_SYSCALL=y; use a newer kernel.",
				   "this kernel has no BPF task storage");
	if (libbpf_probe_bpf_map_type(BPF_MAP_TYPE_RINGBUF, NULL) != 1)
		return failure_set(failure, CORELOCK_E_UNSUPPORTED, 0,
				   "It came with Linux 5.8; use a newer kernel.",
				   "this kernel has no BPF ring buffer");
	return tracing_program_check(failure);
}

/*
 * With a file of the caller's, what loads is compared with the kernel's own BTF, which the kernel
 * has ready once a program has needed it.
 */
static int btf_and_use_check(corelock_session *session)
{
	int error = btf_check(&session->failure);

	return error || !session->btf_path ? error : tracing_program_check(&session->failure);
}

struct check {
	corelock_session *session;
	enum corelock_check which;
};

static int run_check(void *handle)
{
	const struct check *check = handle;
	corelock_session *session = check->session;
	struct failure *failure = &session->failure;

	switch (check->which) {
	case CORELOCK_CHECK_CAPABILITIES:
		return capabilities_check(failure);
	case CORELOCK_CHECK_BPF:
		return bpf_call_check(failure);
	case CORELOCK_CHECK_BTF:
		return btf_and_use_check(session);
	case CORELOCK_CHECK_TRACEPOINTS:
		return tracepoints_check(session);
	case CORELOCK_CHECK_PROGRAM_TYPES:
		return program_types_check(failure);
	case CORELOCK_CHECK_LOCK_WORDS:
		return lock_words_check(failure);
	}
	return failure_set(failure, CORELOCK_E_ARGUMENT, 0, "", "no such check: %u", check->which);
}

CORELOCK_EXPORT int corelock_check(corelock_session *session, uint32_t which)
{
	struct check check = {session, which};
	bool by_btf = which != CORELOCK_CHECK_CAPABILITIES && which != CORELOCK_CHECK_BPF;
	int error;

	if (!session->configured)
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "",
				    "check comes after configure");
	error = load_with_btf(&session->failure, by_btf ? session->btf_path : NULL, run_check,
			      &check);
	if (error)
		failure_show_log(&session->failure);
	return error;
}

/* By what became of a program: the sysctl that says so is root's to read. */
static int32_t jit_state(void)
{
	struct bpf_prog_info info = {};
	uint32_t size = sizeof(info);
	int fd = load_nothing();
	int error;

	if (fd < 0)
		return -1;
	error = bpf_obj_get_info_by_fd(fd, &info, &size);
	close(fd);
	return error ? -1 : info.jited_prog_len > 0;
}

CORELOCK_EXPORT void corelock_look_at_host(corelock_session *session, struct corelock_host *host)
{
	const struct event_forms *forms = &session->forms;

	log_begin(session);
	*host = (struct corelock_host){
		.capabilities = effective_capabilities(),
		.memcg_path = forms->by_arguments == FORM_ARGUMENTS_WITH_PATH ||
			      forms->by_record == FORM_OWN_RECORD,
		.jit = jit_state(),
	};
	log_end();
}

CORELOCK_EXPORT int corelock_take_locks(uint32_t times)
{
	size_t size = getpagesize();
	char *page = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int failed = 0;

	if (page == MAP_FAILED)
		return -errno;
	for (uint32_t i = 0; i < times && !failed; i++)
		if (munlock(page, size) || msync(page, size, MS_ASYNC))
			failed = -errno;
	munmap(page, size);
	return failed;
}
