// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A session's life: configure, load, attach, detach, free. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/membarrier.h>

#include "fingerprint.h"
#include "session.h"

#define DEFAULT_ROWS 16384
#define DEFAULT_MMS 8192
#define CHUNKS_PER_ROW 8
#define DEFAULT_RING_BYTES (8 << 20)
#define MIN_RING_RECORDS 2
#define MAX_ENTRIES (1U << 22)
#define MAX_RING_BYTES (1U << 30)
#define MAX_FOLLOWED 65536
#define MAX_OPTIONS_SIZE 4096
#define MIN_HOMES 2048
#define MAX_HOMES 16384
#define ROWS_PER_HOME 2
#define CHARGES_PER_ROW 8
#define MIN_HISTORIES 16
#define MAX_HISTORIES 64

_Static_assert(sizeof(struct corelock_row) % 8 == 0, "array values are read back to back");
_Static_assert(sizeof(struct corelock_mm) % 8 == 0, "array values are read back to back");

static const struct corelock_handshake handshake = {
	.abi_version = CORELOCK_ABI_VERSION,
	.fingerprint = CORELOCK_FINGERPRINT,
};

CORELOCK_EXPORT const struct corelock_handshake *corelock_handshake(void)
{
	return &handshake;
}

CORELOCK_EXPORT corelock_session *corelock_new(void)
{
	corelock_session *session = calloc(1, sizeof(*session));

	if (!session)
		return NULL;
	session->error.message = session->message;
	session->error.remedy = session->remedy;
	session->error.log = "";
	return session;
}

static void detach_program(struct bpf_link **link)
{
	bpf_link__destroy(*link);
	*link = NULL;
}

static void session_unload(corelock_session *session)
{
	/* In the order of corelock_detach, if that was not called. */
	for (int event = 0; event < CORELOCK_EVENTS; event++)
		detach_program(&session->link[event]);
	detach_program(&session->renamed);
	detach_program(&session->forked);
	detach_program(&session->freed);
	session->attached = false;
	ring_buffer__free(session->ring);
	session->ring = NULL;
	mmap_lock_bpf__destroy(session->skel);
	session->skel = NULL;
}

CORELOCK_EXPORT void corelock_free(corelock_session *session)
{
	if (!session)
		return;
	session_unload(session);
	rows_free(session);
	free(session->btf_path);
	free(session->log);
	free(session);
}

/* Copies options of another size: what this side lacks must be zero there. */
static bool options_copy(struct corelock_options *to, const struct corelock_options *from)
{
	const unsigned char *bytes = (const unsigned char *)from;

	if (from->size < sizeof(from->size) || from->size > MAX_OPTIONS_SIZE)
		return false;
	for (uint64_t at = sizeof(*to); at < from->size; at++)
		if (bytes[at])
			return false;
	memset(to, 0, sizeof(*to));
	memcpy(to, from, from->size < sizeof(*to) ? from->size : sizeof(*to));
	return true;
}

static uint32_t power_of_two(uint32_t value)
{
	uint32_t power = getpagesize();

	while (power < value)
		power *= 2;
	return power;
}

CORELOCK_EXPORT int corelock_configure(corelock_session *session,
				       const struct corelock_options *given)
{
	struct corelock_options *options = &session->options;

	if (session->configured)
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "Use a new session.",
				    "the session is configured already");
	if (!options_copy(options, given))
		return session_fail(session, CORELOCK_E_ARGUMENT, 0,
				    "Use the libcorelock that belongs to this package.",
				    "the options have members this library does not know");
	if (options->target > CORELOCK_TARGET_COMM)
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "",
				    "no such kind of target: %u", options->target);
	if ((options->target == CORELOCK_TARGET_PROCESS ||
	     options->target == CORELOCK_TARGET_THREAD) &&
	    !options->target_id)
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "", "pid 0 cannot be traced");
	if (options->follow && options->target != CORELOCK_TARGET_PROCESS)
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "",
				    "only a process's children can be followed");
	options->max_rows = options->max_rows ?: DEFAULT_ROWS;
	options->max_mms = options->max_mms ?: DEFAULT_MMS;
	options->max_chunks = options->max_chunks ?: CHUNKS_PER_ROW * options->max_rows;
	options->ring_bytes = options->ring_bytes ?: DEFAULT_RING_BYTES;
	if (options->max_rows > MAX_ENTRIES || options->max_mms > MAX_ENTRIES ||
	    options->max_chunks > CHUNKS_PER_ROW * MAX_ENTRIES ||
	    options->ring_bytes > MAX_RING_BYTES)
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "Ask for less.",
				    "table sizes are limited to %u rows and mms and %u ring bytes",
				    MAX_ENTRIES, MAX_RING_BYTES);
	if (options->attach > CORELOCK_ATTACH_TP || options->reserved)
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "",
				    "no such way to attach: %u", options->attach);
	if (options->charges > 1)
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "",
				    "the option charges is 0 or 1");
	if (options->ring_bytes < MIN_RING_RECORDS * sizeof(struct corelock_slow))
		options->ring_bytes = MIN_RING_RECORDS * sizeof(struct corelock_slow);
	options->ring_bytes = power_of_two(options->ring_bytes);
	/* Entry 0 of each table means "none". */
	options->max_rows++;
	options->max_mms++;
	options->max_chunks++;
	if (options->btf_path) {
		session->btf_path = strdup(options->btf_path);
		options->btf_path = NULL;
		if (!session->btf_path)
			return session_fail(session, CORELOCK_E_SYSTEM, ENOMEM, "", "no memory");
	}
	session->configured = true;
	return 0;
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
	rodata->follow_children = options->follow;
	rodata->self_tgid = session->host_self_tgid;
	session->skel->data->hot.slow_ns[CORELOCK_SLOW_WAIT] = options->slow_ns;
	session->skel->data->hot.slow_ns[CORELOCK_SLOW_HOLD] = options->slow_ns;
	rodata->keep_recent = options->intervals;
	rodata->charge_waits = options->charges;
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
}

/*
 * Before Linux kernel commit 34dd3bad1a6f ("bpf: Relax the requirement to use preallocated hash
 * maps in tracing progs.") in v6.1, one that a tp program uses had to be, or the kernel warned.
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
	if (session->skel->rodata->mm_from_record)
		preallocate(session);
	error = mmap_lock_bpf__load(session->skel);
	if (error == -EPERM)
		return features_fail_permission(session, "the kernel refused the BPF programs");
	if (error == -ENOMEM)
		return session_fail(session, CORELOCK_E_LOAD, ENOMEM, "Ask for fewer rows.",
				    "not enough memory for the BPF maps");
	if (error)
		return session_fail(
			session, CORELOCK_E_LOAD, -error,
			"Please report this with the log (-v) and the kernel's version.",
			"the kernel refused the BPF programs");
	return 0;
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
	return error;
}

/* Whether what was refused may go better with the events' records. */
static bool may_fall_back(const corelock_session *session, int error)
{
	return error == -CORELOCK_E_LOAD && session->error.sys_errno != ENOMEM &&
	       session->form != session->forms.by_record && session->forms.by_record != FORM_NONE;
}

static int fall_back(corelock_session *session)
{
	session_unload(session);
	return load_form(session, session->forms.by_record);
}

static int check_and_load(corelock_session *session)
{
	struct event_forms *forms = &session->forms;
	int error = features_check(session, forms) ?: translate_ids(session);

	if (error)
		return error;
	error = load_form(session, forms->by_arguments == FORM_NONE ? forms->by_record
								    : forms->by_arguments);
	return may_fall_back(session, error) ? fall_back(session) : error;
}

static int load_logged(void *handle)
{
	corelock_session *session = handle;
	int error;

	log_begin(session);
	error = check_and_load(session);
	log_end();
	return error;
}

CORELOCK_EXPORT int corelock_load(corelock_session *session)
{
	int error;

	if (!session->configured || session->skel || session->failed)
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "",
				    "load comes once, after configure");
	error = load_with_btf(&session->failure, session->btf_path, load_logged, session);
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

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
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
		return features_fail_permission(session, "the kernel refused to attach");
	return session_fail(
		session, CORELOCK_E_LOAD, error,
		bpf_program__type(program) == BPF_PROG_TYPE_TRACEPOINT
			? "Attaching by tp needs tracefs: mount -t tracefs none "
			  "/sys/kernel/tracing, readable by the caller."
			: "Please report this with the log (-v) and the kernel's version.",
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

static int fall_back_logged(void *handle)
{
	corelock_session *session = handle;
	int error;

	log_begin(session);
	error = fall_back(session);
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
		error = load_with_btf(&session->failure, session->btf_path, fall_back_logged,
				      session);
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

	if (session->attached) {
		session->attached = false;
		__atomic_store_n(&session->skel->data->hot.tracing, 0, __ATOMIC_SEQ_CST);
		session->end_ns = now_ns();
		for (int event = 0; event < CORELOCK_EVENTS; event++)
			detach_program(&session->link[event]);
		detach_program(&session->renamed);
		detach_program(&session->forked);
		error = count_open(session);
	}
	if (end_ns)
		*end_ns = session->end_ns;
	return error;
}
