// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* When a session counts: attaching, detaching, and what is open in the end. */
#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/membarrier.h>

#include "session.h"

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

void detach_program(struct bpf_link **link)
{
	bpf_link__destroy(*link);
	*link = NULL;
}

void detach_programs(corelock_session *session)
{
	for (int event = 0; event < CORELOCK_EVENTS; event++)
		detach_program(&session->link[event]);
	detach_program(&session->renamed);
	detach_program(&session->moved);
	detach_program(&session->forked);
}

static int attach_program(corelock_session *session, struct bpf_program *program,
			  struct bpf_link **link)
{
	int error;

	*link = bpf_program__attach(program);
	if (*link)
		return 0;
	error = errno;
	if (error == EPERM)
		return permission_fail(&session->failure, error, "the kernel refused to attach");
	return session_fail(session, CORELOCK_E_LOAD, error,
			    bpf_program__type(program) == BPF_PROG_TYPE_TRACEPOINT
				    ? "Attaching by tp needs tracefs: mount -t tracefs none "
				      "/sys/kernel/tracing, readable by the caller."
				    : REFUSAL_REMEDY,
			    "cannot attach %s", bpf_program__name(program));
}

static int attach_programs(corelock_session *session)
{
	int error = 0;

	if (session->options.follow)
		error = attach_program(session, session->skel->progs.forked, &session->forked);
	if (!error)
		error = attach_program(session, session->skel->progs.freed, &session->freed);
	if (!error)
		error = attach_program(session, session->skel->progs.renamed, &session->renamed);
	if (!error && session->options.target == CORELOCK_TARGET_CGROUP)
		error = attach_program(session, session->skel->progs.moved, &session->moved);
	/* A start that is seen must have its end seen: the ends are attached first. */
	for (int event = CORELOCK_EVENTS - 1; event >= 0 && !error; event--)
		error = attach_program(session, session->program[event], &session->link[event]);
	return error;
}

static int attach_logged(corelock_session *session)
{
	int error;

	log_begin(session);
	error = attach_programs(session);
	log_end();
	return error;
}

CORELOCK_EXPORT int corelock_attach(corelock_session *session, uint64_t *start_ns)
{
	int error;

	if (!session->skel || session->attached || session->end_ns)
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "",
				    "attach comes once, after load");
	error = attach_logged(session);
	if (may_fall_back(session, error)) {
		error = load_with_btf(&session->failure, session->btf_path, fall_back, session);
		if (!error)
			error = attach_logged(session);
	}
	session->attached = true;
	if (error) {
		session->error.log = session->log ?: "";
		session->failed = true;
		session_unload(session);
		return error;
	}
	*start_ns = now_ns();
	session->skel->data->hot.since_ns = *start_ns;
	__atomic_store_n(&session->skel->data->hot.tracing, 1, __ATOMIC_SEQ_CST);
	return 0;
}

static int count_open(corelock_session *session)
{
	struct mmap_lock_bpf *skel = session->skel;
	union bpf_iter_link_info info = {.map.map_fd = bpf_map__fd(skel->maps.homes)};
	DECLARE_LIBBPF_OPTS(bpf_iter_attach_opts, options, .link_info = &info,
			    .link_info_len = sizeof(info));
	int error;

	/* Programs that were running when they were detached have ended after this. */
	syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
	log_begin(session);
	error = run_iterator(skel->progs.count_homes, &options);
	if (!error)
		error = run_iterator(skel->progs.count_storage, NULL);
	log_end();
	if (error)
		return session_fail(session, CORELOCK_E_SYSTEM, error, "",
				    "cannot count what is open");
	return 0;
}

CORELOCK_EXPORT int corelock_detach(corelock_session *session, uint64_t *end_ns)
{
	int error = 0;

	/* The variable that ends it is shared memory, the links are not. */
	if (session->attached && session->owner != getpid())
		return session_fail(session, CORELOCK_E_ARGUMENT, 0,
				    "Stop it there. A process that it forked can only free it.",
				    "process %d is tracing, and this is not it", session->owner);
	if (session->attached) {
		session->attached = false;
		__atomic_store_n(&session->skel->data->hot.tracing, 0, __ATOMIC_SEQ_CST);
		session->end_ns = record_ended_ns(session) ?: now_ns();
		session->skel->data->hot.end_ns = session->end_ns;
		detach_programs(session);
		error = count_open(session);
	}
	if (end_ns)
		*end_ns = session->end_ns;
	return error;
}
