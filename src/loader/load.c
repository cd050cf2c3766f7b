// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What a session loads: programs by the form of the events, maps by the options. */
#include <errno.h>
#include <string.h>

#include "session.h"

#define MAX_FOLLOWED 65536
#define MIN_HOMES 2048
#define MAX_HOMES 16384
#define ROWS_PER_HOME 2
#define CHARGES_PER_ROW 8
#define MIN_HISTORIES 16
#define MAX_HISTORIES 64
#define MAX_TRACES 32768
#define MAX_STACKS 65536

void session_unload(corelock_session *session)
{
	detach_programs(session);
	detach_program(&session->freed);
	session->attached = false;
	record_free(session);
	ring_buffer__free(session->ring);
	session->ring = NULL;
	mmap_lock_bpf__destroy(session->skel);
	session->skel = NULL;
}

/* Twice as many homes as threads that the rows are for, so that few must share. */
static uint32_t home_count(const corelock_session *session)
{
	uint32_t count = MIN_HOMES;

	while (count < MAX_HOMES && count < session->options.max_rows / ROWS_PER_HOME)
		count *= 2;
	return count;
}

/* One process has one mm at a time, and few over its life. */
static uint32_t history_count(const corelock_session *session)
{
	const struct corelock_options *options = &session->options;

	if (!options->charges)
		return 1;
	return options->target == CORELOCK_TARGET_PROCESS && !options->follow ? MIN_HISTORIES
									      : MAX_HISTORIES;
}

CORELOCK_EXPORT uint32_t corelock_max_charges(const corelock_session *session)
{
	return session->options.charges ? CHARGES_PER_ROW * session->options.max_rows : 0;
}

static void set_variables(corelock_session *session)
{
	const struct corelock_options *options = &session->options;
	struct mmap_lock_bpf__rodata *rodata = session->skel->rodata;

	rodata->target_kind = options->target;
	rodata->target_id = session->host_target_id;
	rodata->pid_namespace = session->pids.address;
	rodata->pid_namespace_level = session->pids.level;
	memcpy((void *)rodata->target_comm, options->target_comm, sizeof(rodata->target_comm));
	rodata->target_cgroup = options->cgroup_id;
	rodata->follow_children = options->follow;
	rodata->self_tgid = session->host_self_tgid;
	session->skel->data->hot.slow_ns[CORELOCK_SLOW_WAIT] = options->slow_ns;
	session->skel->data->hot.slow_ns[CORELOCK_SLOW_HOLD] = options->slow_ns;
	rodata->keep_recent = options->intervals;
	rodata->charge_waits = options->charges;
	rodata->send_examples = options->charges != CHARGES_WITHOUT_EXAMPLES;
	rodata->record_cycles = options->record;
	rodata->mm_from_record = session->form == FORM_RECORD || session->form == FORM_OWN_RECORD;
	rodata->home_mask = home_count(session) - 1;
	rodata->history_mask = history_count(session) - 1;
	rodata->max_rows = options->max_rows;
	rodata->max_mms = options->max_mms;
	rodata->max_chunks = options->max_chunks;
}

static int set_sizes(corelock_session *session)
{
	const struct corelock_options *options = &session->options;
	struct {
		struct bpf_map *map;
		uint32_t entries;
	} sizes[] = {
		{session->skel->maps.rows, options->max_rows},
		{session->skel->maps.row_ids, options->max_rows},
		{session->skel->maps.chunks, options->max_chunks},
		{session->skel->maps.mms, options->max_mms},
		{session->skel->maps.mm_ids, options->max_mms},
		{session->skel->maps.homes, home_count(session)},
		{session->skel->maps.followed, options->follow ? MAX_FOLLOWED : 1},
		{session->skel->maps.slow_ring, options->ring_bytes},
		{session->skel->maps.contentions, options->charges ? options->max_rows : 1},
		{session->skel->maps.histories, history_count(session)},
		{session->skel->maps.charges, corelock_max_charges(session) ?: 1},
		{session->skel->maps.cycle_rings, record_cpus(session)},
		{session->skel->maps.traces, options->record ? MAX_TRACES : 1},
		{session->skel->maps.stack_ids, options->record ? MAX_STACKS : 1},
	};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int error = bpf_map__set_max_entries(sizes[i].map, sizes[i].entries);

		if (error)
			return session_fail(session, CORELOCK_E_LOAD, -error, "",
					    "cannot size map %s", bpf_map__name(sizes[i].map));
	}
	return 0;
}

static void choose_programs(corelock_session *session)
{
	__auto_type progs = &session->skel->progs;
	struct bpf_program *by_form[FORM_NONE][CORELOCK_EVENTS] = {
		[FORM_ARGUMENTS] = {progs->start_locking, progs->acquire_returned, progs->released},
		[FORM_ARGUMENTS_WITH_PATH] = {progs->start_locking_path,
					      progs->acquire_returned_path, progs->released_path},
		[FORM_RECORD] = {progs->start_locking_record, progs->acquire_returned_record,
				 progs->released_record},
		[FORM_OWN_RECORD] = {progs->start_locking_own_record,
				     progs->acquire_returned_record, progs->released_own_record},
	};

	for (enum event_form form = 0; form < FORM_NONE; form++)
		for (int event = 0; event < CORELOCK_EVENTS; event++)
			bpf_program__set_autoload(by_form[form][event], false);
	for (int event = 0; event < CORELOCK_EVENTS; event++) {
		session->program[event] = by_form[session->form][event];
		bpf_program__set_autoload(session->program[event], true);
	}
	bpf_program__set_autoload(progs->forked, session->options.follow);
	bpf_program__set_autoload(progs->moved, session->options.target == CORELOCK_TARGET_CGROUP);
}

/*
 * Before Linux kernel commit 34dd3bad1a6f ("bpf: Relax the requirement to use preallocated hash
 * maps in tracing progs.") in v6.1, one that a tp program uses had to be, or the kernel warned.
 * With PREEMPT_RT a thread provides new elements, later: several at once would not be had.
 */
static void preallocate(corelock_session *session)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map,
				 session->skel->obj) if (bpf_map__type(map) == BPF_MAP_TYPE_HASH)
		bpf_map__set_map_flags(map, 0);
}

static int load_programs(corelock_session *session)
{
	int error;

	session->skel = mmap_lock_bpf__open();
	if (!session->skel)
		return session_fail(session, CORELOCK_E_LOAD, errno, "",
				    "cannot open the BPF object");
	set_variables(session);
	choose_programs(session);
	error = set_sizes(session);
	if (error)
		return error;
	if (session->skel->rodata->mm_from_record || session->real_time)
		preallocate(session);
	error = mmap_lock_bpf__load(session->skel);
	if (error == -ENOMEM)
		return session_fail(session, CORELOCK_E_LOAD, ENOMEM, "Ask for fewer rows.",
				    "not enough memory for the BPF maps");
	return error ? load_fail(&session->failure, session->skel->obj, -error) : 0;
}

static int follow_target(corelock_session *session)
{
	uint8_t yes = 1;
	int error;

	if (!session->options.follow)
		return 0;
	error = bpf_map__update_elem(session->skel->maps.followed, &session->host_target_id,
				     sizeof(uint32_t), &yes, sizeof(yes), BPF_ANY);
	if (error)
		return session_fail(session, CORELOCK_E_LOAD, -error, "",
				    "cannot follow the target");
	return 0;
}

static int translate_ids(corelock_session *session)
{
	uint32_t ids[PID_IDS] = {session->options.target_id, session->options.self_tgid};
	uint32_t host_ids[PID_IDS];
	int error = pids_look_up(&session->failure, &session->pids, ids, host_ids);

	session->host_target_id = host_ids[0];
	session->host_self_tgid = host_ids[1];
	return error;
}

CORELOCK_EXPORT uint32_t corelock_host_target_id(const corelock_session *session)
{
	return session->host_target_id;
}

static int load_form(corelock_session *session, enum event_form form)
{
	int error;

	session->form = form;
	error = load_programs(session);
	if (!error)
		error = follow_target(session);
	if (!error)
		error = slow_open(session);
	if (!error)
		error = record_open(session);
	return error;
}

bool may_fall_back(const corelock_session *session, int error)
{
	int sys_errno = session->error.sys_errno;

	return error == -CORELOCK_E_LOAD && sys_errno != ENOMEM && !no_descriptors(sys_errno) &&
	       session->form != session->forms.by_record && session->forms.by_record != FORM_NONE;
}

int fall_back(void *handle)
{
	corelock_session *session = handle;

	session_unload(session);
	return load_form(session, session->forms.by_record);
}

static int check_and_load(void *handle)
{
	corelock_session *session = handle;
	struct event_forms *forms = &session->forms;
	int error = features_check(session) ?: translate_ids(session);

	if (error)
		return error;
	error = load_form(session, forms->by_arguments == FORM_NONE ? forms->by_record
								    : forms->by_arguments);
	return may_fall_back(session, error) ? fall_back(session) : error;
}

CORELOCK_EXPORT int corelock_load(corelock_session *session)
{
	int error;

	if (!session->configured || session->skel || session->failed)
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "",
				    "load comes once, after configure");
	error = load_with_btf(&session->failure, session->btf_path, check_and_load, session);
	if (error) {
		session->error.log = session->log ?: "";
		session->failed = true;
		session_unload(session);
	}
	return error;
}

CORELOCK_EXPORT uint32_t corelock_attached_by(const corelock_session *session)
{
	if (!session->skel)
		return CORELOCK_ATTACH_ANY;
	return session->skel->rodata->mm_from_record ? CORELOCK_ATTACH_TP : CORELOCK_ATTACH_TP_BTF;
}
