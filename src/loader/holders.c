// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Who holds which mmap_lock now: runs the two iterators of holders.bpf.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "failure.h"
#include "held.skel.h"
#include "holders.skel.h"
#include "pids.h"

/* The kernel's buffer for an iterator: what one read gives at most. */
#define READ_BYTES (32 * 1024)

_Static_assert(sizeof(struct corelock_lock) <= READ_BYTES / 8, "a record must fit, and several");

struct bytes {
	char *data;
	size_t used, room;
};

struct corelock_holders {
	struct failure failure;
	struct pid_space pids;
	struct holders_bpf *skel;
	struct held_bpf *held; /* NULL until it is first asked for */
	bool failed;
	char *btf_path;
	uint64_t cgroup_id; /* 0: none is asked for */
	struct bytes locks, tasks;
};

CORELOCK_EXPORT corelock_holders *corelock_holders_new(void)
{
	corelock_holders *holders = calloc(1, sizeof(*holders));

	if (holders)
		failure_init(&holders->failure);
	return holders;
}

CORELOCK_EXPORT void corelock_holders_free(corelock_holders *holders)
{
	if (!holders)
		return;
	holders_bpf__destroy(holders->skel);
	held_bpf__destroy(holders->held);
	free(holders->locks.data);
	free(holders->tasks.data);
	free(holders->btf_path);
	failure_free(&holders->failure);
	free(holders);
}

CORELOCK_EXPORT int corelock_holders_use_btf(corelock_holders *holders, const char *path)
{
	free(holders->btf_path);
	holders->btf_path = strdup(path);
	return holders->btf_path
		       ? 0
		       : failure_set(&holders->failure, CORELOCK_E_SYSTEM, ENOMEM, "", "no memory");
}

CORELOCK_EXPORT void corelock_holders_use_cgroup(corelock_holders *holders, uint64_t id)
{
	holders->cgroup_id = id;
}

CORELOCK_EXPORT const struct corelock_error *
corelock_holders_last_error(const corelock_holders *holders)
{
	return &holders->failure.error;
}

static int check_caller(corelock_holders *holders)
{
	const uint32_t none[PID_IDS] = {};
	uint32_t unused[PID_IDS];

	return capabilities_check(&holders->failure)
		       ?: pids_look_up(&holders->failure, &holders->pids, none, unused);
}

static int check_and_load(void *handle)
{
	corelock_holders *holders = handle;
	struct failure *failure = &holders->failure;
	int error = check_caller(holders);

	if (!error)
		error = lock_words_check(failure);
	if (error)
		return error;
	holders->skel = holders_bpf__open();
	if (!holders->skel)
		return failure_set(failure, CORELOCK_E_LOAD, errno, "",
				   "cannot open the BPF object");
	holders->skel->rodata->target_cgroup = holders->cgroup_id;
	holders->skel->rodata->pid_namespace = holders->pids.address;
	holders->skel->rodata->pid_namespace_level = holders->pids.level;
	error = holders_bpf__load(holders->skel);
	return error ? load_fail(failure, holders->skel->obj, -error) : 0;
}

static int check_and_load_held(void *handle)
{
	corelock_holders *holders = handle;
	struct failure *failure = &holders->failure;
	int error = check_caller(holders);

	if (error)
		return error;
	holders->held = held_bpf__open();
	if (!holders->held)
		return failure_set(failure, CORELOCK_E_LOAD, errno, "",
				   "cannot open the BPF object");
	holders->held->rodata->pid_namespace = holders->pids.address;
	holders->held->rodata->pid_namespace_level = holders->pids.level;
	error = held_bpf__load(holders->held);
	if (error) {
		error = load_fail(failure, holders->held->obj, -error);
		held_bpf__destroy(holders->held);
		holders->held = NULL;
	}
	return error;
}

CORELOCK_EXPORT int corelock_holders_load(corelock_holders *holders)
{
	int error;

	if (holders->skel || holders->failed)
		return failure_set(&holders->failure, CORELOCK_E_ARGUMENT, 0, "",
				   "load comes once");
	error = load_with_btf(&holders->failure, holders->btf_path, check_and_load, holders);
	if (error) {
		failure_show_log(&holders->failure);
		holders->failed = true;
		holders_bpf__destroy(holders->skel);
		holders->skel = NULL;
	}
	return error;
}

static bool make_room(struct bytes *bytes, size_t more)
{
	size_t room = bytes->room ?: more;
	char *data;

	while (room - bytes->used < more)
		room *= 2;
	if (room == bytes->room)
		return true;
	data = realloc(bytes->data, room);
	if (!data)
		return false;
	bytes->data = data;
	bytes->room = room;
	return true;
}

static int read_all(int fd, struct bytes *bytes)
{
	ssize_t got;

	do {
		if (!make_room(bytes, READ_BYTES))
			return ENOMEM;
		got = read(fd, bytes->data + bytes->used, READ_BYTES);
		if (got > 0)
			bytes->used += got;
	} while (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR)));
	return got < 0 ? errno : 0;
}

/*
 * A pass over the tasks of process pid, or (0) over all. Since Linux kernel commit f0d74c4da1f0
 * ("bpf: Parameterize task iterators.") in v6.1 the kernel can leave out the others by itself;
 * before, it ignores the wish or refuses it as too long, and the program leaves them out.
 */
static struct bpf_link *attach_pass(struct bpf_program *program, uint32_t pid)
{
	union bpf_iter_link_info info = {.task.pid = pid};
	DECLARE_LIBBPF_OPTS(bpf_iter_attach_opts, options, .link_info = &info,
			    .link_info_len = sizeof(info));
	struct bpf_link *link = NULL;

	if (pid)
		link = bpf_program__attach_iter(program, &options);
	return link ?: bpf_program__attach_iter(program, NULL);
}

static int run_pass(corelock_holders *holders, struct bpf_program *program, uint32_t pid,
		    struct bytes *bytes)
{
	struct bpf_link *link;
	int error = 0, fd;

	bytes->used = 0;
	failure_log_begin(&holders->failure);
	link = attach_pass(program, pid);
	log_end();
	fd = link ? bpf_iter_create(bpf_link__fd(link)) : -1;
	if (fd < 0)
		error = errno;
	else {
		error = read_all(fd, bytes);
		close(fd);
	}
	bpf_link__destroy(link);
	if (error)
		return failure_set(&holders->failure, CORELOCK_E_SYSTEM, error, "",
				   "cannot look at the tasks (%s)", bpf_program__name(program));
	return 0;
}

/* Empties a table of the last snapshot: the next one may see other tasks at its addresses. */
static void clear(struct bpf_map *map)
{
	uint64_t key[2], next[2];
	bool more = !bpf_map_get_next_key(bpf_map__fd(map), NULL, next);

	while (more) {
		memcpy(key, next, sizeof(key));
		more = !bpf_map_get_next_key(bpf_map__fd(map), key, next);
		bpf_map_delete_elem(bpf_map__fd(map), key);
	}
}

static int find_locks(corelock_holders *holders, uint32_t pid, uint32_t self_tgid, bool waiters)
{
	struct holders_bpf__bss *bss;

	if (!holders->skel)
		return failure_set(&holders->failure, CORELOCK_E_ARGUMENT, 0, "",
				   "nothing is loaded");
	bss = holders->skel->bss;
	bss->wanted_tgid = pid;
	bss->self_tgid = self_tgid;
	bss->name_waiters = waiters;
	bss->wanted_host_tgid = 0;
	bss->mms_seen = bss->tasks_seen = bss->self_mms = bss->not_kept = 0;
	clear(holders->skel->maps.locks);
	clear(holders->skel->maps.roles);
	clear(holders->skel->maps.processes);
	return run_pass(holders, holders->skel->progs.find_locks, pid, &holders->locks);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

CORELOCK_EXPORT int corelock_holders_snapshot(corelock_holders *holders, uint32_t pid,
					      uint32_t self_tgid, uint32_t with_waiters,
					      struct corelock_held *held)
{
	uint64_t taken_ns = now_ns();
	int error = find_locks(holders, pid, self_tgid, with_waiters);

	holders->tasks.used = 0;
	if (!error && holders->locks.used)
		error = run_pass(holders, holders->skel->progs.name_tasks, 0, &holders->tasks);
	if (error)
		return error;
	*held = (struct corelock_held){
		.taken_ns = taken_ns,
		.mms = holders->skel->bss->mms_seen,
		.tasks = holders->skel->bss->tasks_seen,
		.self_mms = holders->skel->bss->self_mms,
		.not_kept = holders->skel->bss->not_kept,
		.lock_count = holders->locks.used / sizeof(struct corelock_lock),
		.task_count = holders->tasks.used / sizeof(struct corelock_lock_task),
		.host_pid = holders->skel->bss->wanted_host_tgid,
		.whole_host = !holders->pids.address,
		.locks = (const struct corelock_lock *)holders->locks.data,
		.tasks_named = (const struct corelock_lock_task *)holders->tasks.data,
	};
	return 0;
}

CORELOCK_EXPORT int corelock_holders_is_held(corelock_holders *holders, uint32_t pid)
{
	struct bytes nothing = {};
	int error = 0;

	if (!holders->held) {
		error = load_with_btf(&holders->failure, holders->btf_path, check_and_load_held,
				      holders);
		if (error) {
			failure_show_log(&holders->failure);
			return error;
		}
	}
	holders->held->bss->wanted_tgid = pid;
	holders->held->bss->held = false;
	error = run_pass(holders, holders->held->progs.look_at_lock, pid, &nothing);
	free(nothing.data);
	return error ?: holders->held->bss->held;
}
