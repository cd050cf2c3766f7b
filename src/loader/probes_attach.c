// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Attaching to places, by whichever way this kernel has for each. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/perf_event.h>

#include "probes.h"

#define PERF_DEVICES "/sys/bus/event_source/devices/"
#define PARTS 32
#define HALVES 2
#define SEMAPHORE_SHIFT 32 /* in the config of a perf event: format/ref_ctr_offset there */

/* Part of union bpf_attr since the same commit as BPF_TRACE_UPROBE_MULTI. */
struct uprobe_multi_attr {
	uint32_t prog_fd, target_fd, attach_type, link_flags;
	uint64_t path, offsets, semaphores, cookies;
	uint32_t count, flags, pid, reserved;
};

/* Places of one kind that are not attached yet. */
struct pending {
	struct corelock_place **places;
	uint32_t count;
};

/* Links all of these, or one; the descriptor, or -errno. */
typedef int (*link_places)(corelock_probes *probes, struct corelock_place **places, uint32_t count);
typedef int (*link_place)(corelock_probes *probes, const struct corelock_place *place);

/* What no other place or way would change; ESRCH: the process has exited. */
static bool concerns_all(int sys_errno)
{
	return sys_errno == ENOMEM || sys_errno == ESRCH || no_descriptors(sys_errno);
}

/* What no other place would change: there is no such way, or a policy forbids it. */
static bool concerns_way(int sys_errno)
{
	return sys_errno == EOPNOTSUPP || sys_errno == EPERM;
}

static void mark_attached(struct corelock_place **places, uint32_t count, enum corelock_way way)
{
	for (uint32_t i = 0; i < count; i++) {
		places[i]->way = way;
		places[i]->sys_errno = 0;
	}
}

/* That a way is not there at all says less than why another one failed. */
static void mark_refused(struct corelock_place **places, uint32_t count, enum corelock_way way,
			 int sys_errno)
{
	for (uint32_t i = 0; i < count; i++) {
		places[i]->refusals[way] = sys_errno;
		if (sys_errno != EOPNOTSUPP || !places[i]->sys_errno)
			places[i]->sys_errno = sys_errno;
	}
}

/* What became of a link for these places, its descriptor or -errno; an error concerns all. */
static int keep_link(corelock_probes *probes, int fd, struct corelock_place **places,
		     uint32_t count, enum corelock_way way)
{
	int error;

	if (fd < 0) {
		mark_refused(places, count, way, -fd);
		return concerns_all(-fd) ? fd : 0;
	}
	error = descriptors_add(&probes->links, fd);
	if (!error)
		mark_attached(places, count, way);
	return error;
}

/*
 * One link for all, or, as the kernel refuses all for the sake of one, for parts of them. At first
 * for many, as it goes through all places before it gives a link up; then for halves, as every link
 * that is kept takes it a while to end.
 */
static int link_parts(corelock_probes *probes, struct corelock_place **places, uint32_t count,
		      enum corelock_way way, link_places link, uint32_t parts)
{
	uint32_t each = (count + parts - 1) / parts;
	int fd = link(probes, places, count);
	int error = keep_link(probes, fd, places, count, way);

	if (fd >= 0 || error || count == 1 || concerns_way(-fd))
		return error;
	for (uint32_t from = 0; from < count && !error; from += each)
		error = link_parts(probes, places + from, count - from < each ? count - from : each,
				   way, link, HALVES);
	return error;
}

/* A link for each. */
static int link_each(corelock_probes *probes, struct pending *pending, enum corelock_way way,
		     link_place link)
{
	int error = 0;

	for (uint32_t i = 0; i < pending->count && !error; i++) {
		struct corelock_place **rest = &pending->places[i];
		int fd = link(probes, *rest);
		bool no_way = fd < 0 && concerns_way(-fd);

		error = keep_link(probes, fd, rest, no_way ? pending->count - i : 1, way);
		if (no_way)
			break;
	}
	return error;
}

static int program_fd(const corelock_probes *probes, const char *name)
{
	return bpf_program__fd(probe_program(probes, name));
}

/* --- the kernel's functions ----------------------------------------------------------- */

static int link_kprobe_multi(corelock_probes *probes, struct corelock_place **places,
			     uint32_t count)
{
	unsigned long *addresses = calloc(count, sizeof(*addresses));
	const char **names = calloc(count, sizeof(*names));
	__u64 *cookies = calloc(count, sizeof(*cookies));
	LIBBPF_OPTS(bpf_link_create_opts, options, .kprobe_multi.cookies = cookies,
		    .kprobe_multi.cnt = count);
	bool by_address = true;
	int fd = -ENOMEM;

	if (addresses && names && cookies) {
		for (uint32_t i = 0; i < count; i++) {
			addresses[i] = places[i]->address;
			names[i] = places[i]->name;
			cookies[i] = places[i]->index;
			by_address = by_address && addresses[i];
		}
		if (by_address)
			options.kprobe_multi.addrs = addresses;
		else
			options.kprobe_multi.syms = names;
		fd = bpf_link_create(program_fd(probes, "on_kprobe_multi"), 0,
				     BPF_TRACE_KPROBE_MULTI, &options);
	}
	free(addresses);
	free(names);
	free(cookies);
	return fd;
}

/* Without CONFIG_FPROBE the kernel says EOPNOTSUPP. */
static int attach_kprobe_multi(corelock_probes *probes, struct pending *pending)
{
	if (!probes->features.kprobe_multi) {
		mark_refused(pending->places, pending->count, CORELOCK_WAY_KPROBE_MULTI,
			     EOPNOTSUPP);
		return 0;
	}
	return link_parts(probes, pending->places, pending->count, CORELOCK_WAY_KPROBE_MULTI,
			  link_kprobe_multi, PARTS);
}

/* Loads a copy, and links it. The copy is kept as long, as it alone can tell what it missed. */
static int link_copy(corelock_probes *probes, int copy, const char *tracepoint)
{
	int fd = copy < 0 ? copy : bpf_raw_tracepoint_open(tracepoint, copy);
	int error;

	if (fd < 0) {
		if (copy >= 0)
			close(copy);
		return fd;
	}
	error = descriptors_add(&probes->copies, copy);
	if (error)
		close(fd);
	return error ?: fd;
}

static int link_fentry(corelock_probes *probes, const struct corelock_place *place)
{
	if (!place->function_id)
		return -ENOENT;
	return link_copy(
		probes, probe_copy(probes, BPF_PROG_TYPE_TRACING, place->function_id, place->index),
		NULL);
}

static int attach_fentry(corelock_probes *probes, struct pending *pending)
{
	int error = find_function_ids(pending->places, pending->count);

	if (error) {
		mark_refused(pending->places, pending->count, CORELOCK_WAY_FENTRY, -error);
		return concerns_all(-error) ? error : 0;
	}
	return link_each(probes, pending, CORELOCK_WAY_FENTRY, link_fentry);
}

/* The number by which perf knows a kind of event; -EOPNOTSUPP if this kernel has none of it. */
static int perf_type(const char *device)
{
	char path[128];
	FILE *file;
	int type;

	snprintf(path, sizeof(path), PERF_DEVICES "%s/type", device);
	file = fopen(path, "re");
	if (!file)
		return -EOPNOTSUPP;
	if (fscanf(file, "%d", &type) != 1)
		type = -EOPNOTSUPP;
	fclose(file);
	return type;
}

/* Opens a perf event and links a program to it, which keeps the event. */
static int link_perf(const char *program, const corelock_probes *probes,
		     struct perf_event_attr *attr, uint32_t pid, uint32_t index)
{
	LIBBPF_OPTS(bpf_link_create_opts, options, .perf_event.bpf_cookie = index);
	int event, fd;

	attr->size = sizeof(*attr);
	event = syscall(SYS_perf_event_open, attr, pid ? (pid_t)pid : -1, pid ? -1 : 0, -1,
			PERF_FLAG_FD_CLOEXEC);
	if (event < 0)
		return errno == EACCES ? -EPERM : -errno;
	fd = bpf_link_create(program_fd(probes, program), event, BPF_PERF_EVENT, &options);
	close(event);
	return fd;
}

static int link_kprobe(corelock_probes *probes, const struct corelock_place *place)
{
	struct perf_event_attr attr = {};
	int type = perf_type("kprobe");

	if (type < 0)
		return type;
	attr.type = type;
	attr.config1 = place->address ? 0 : (uintptr_t)place->name;
	attr.config2 = place->address;
	return link_perf("on_perf_probe", probes, &attr, 0, place->index);
}

static int attach_kprobe(corelock_probes *probes, struct pending *pending)
{
	return link_each(probes, pending, CORELOCK_WAY_KPROBE, link_kprobe);
}

/* --- files ---------------------------------------------------------------------------- */

static int uprobe_multi_create(struct uprobe_multi_attr *attr)
{
	int fd = syscall(SYS_bpf, BPF_LINK_CREATE, attr, sizeof(*attr));

	return fd < 0 ? -errno : fd;
}

/*
 * Whether there are such links, and ones that can be trusted with a pid: before Linux kernel
 * commit 46ba0e49b642 ("bpf: fix multi-uprobe PID filtering logic") in v6.10 one thread's hits
 * came. A folder is refused after everything else; since then a pid below 0 is, before.
 */
static bool has_uprobe_multi(corelock_probes *probes, bool with_pid)
{
	uint64_t offset = 0;
	struct uprobe_multi_attr attr = {
		.prog_fd = program_fd(probes, "on_uprobe_multi"),
		.attach_type = BPF_TRACE_UPROBE_MULTI,
		.path = (uintptr_t) "/",
		.offsets = (uintptr_t)&offset,
		.count = 1,
	};

	if (uprobe_multi_create(&attr) != -EBADF)
		return false;
	attr.pid = -1;
	return !with_pid || uprobe_multi_create(&attr) == -EINVAL;
}

static int link_uprobe_multi(corelock_probes *probes, struct corelock_place **places,
			     uint32_t count)
{
	/* Offsets, semaphores and cookies, one after the other. */
	uint64_t *values = calloc(count, 3 * sizeof(*values));
	struct uprobe_multi_attr attr = {
		.prog_fd = program_fd(probes, "on_uprobe_multi"),
		.attach_type = BPF_TRACE_UPROBE_MULTI,
		.path = (uintptr_t)places[0]->name,
		.offsets = (uintptr_t)values,
		.semaphores = (uintptr_t)(values + count),
		.cookies = (uintptr_t)(values + 2 * count),
		.count = count,
		.pid = probes->options.target_pid,
	};
	int fd;

	if (!values)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		values[i] = places[i]->address;
		values[count + i] = places[i]->semaphore;
		values[2 * count + i] = places[i]->index;
	}
	fd = uprobe_multi_create(&attr);
	free(values);
	return fd;
}

/* A link is for one file. */
static int attach_uprobe_multi(corelock_probes *probes, struct pending *pending)
{
	struct corelock_place **places = pending->places;
	uint32_t first = 0;
	int error = 0;

	if (!has_uprobe_multi(probes, probes->options.target_pid)) {
		mark_refused(places, pending->count, CORELOCK_WAY_UPROBE_MULTI, EOPNOTSUPP);
		return 0;
	}
	qsort(places, pending->count, sizeof(*places), places_by_name);
	for (uint32_t i = 1; i <= pending->count && !error; i++) {
		if (i < pending->count && !strcmp(places[i]->name, places[first]->name))
			continue;
		error = link_parts(probes, places + first, i - first, CORELOCK_WAY_UPROBE_MULTI,
				   link_uprobe_multi, PARTS);
		first = i;
	}
	return error;
}

/* Before the first one: the program tells when the kernel loses sight of the process. */
static int watch_main_thread(corelock_probes *probes)
{
	int fd =
		bpf_raw_tracepoint_open("sched_process_exit", program_fd(probes, "on_thread_exit"));

	return fd < 0 ? fd : descriptors_add(&probes->links, fd);
}

/* Whichever thread the pid is of, the kernel goes by its address space. */
static int link_uprobe(corelock_probes *probes, const struct corelock_place *place)
{
	struct perf_event_attr attr = {};
	int type = perf_type("uprobe");

	if (type < 0)
		return type;
	attr.type = type;
	attr.config = place->semaphore << SEMAPHORE_SHIFT;
	attr.config1 = (uintptr_t)place->name;
	attr.config2 = place->address;
	return link_perf("on_perf_probe", probes, &attr, probes->options.target_pid, place->index);
}

static int attach_uprobe(corelock_probes *probes, struct pending *pending)
{
	return link_each(probes, pending, CORELOCK_WAY_UPROBE, link_uprobe);
}

/* --- tracepoints ---------------------------------------------------------------------- */

static int link_raw_tp(corelock_probes *probes, const struct corelock_place *place)
{
	return link_copy(probes, probe_copy(probes, BPF_PROG_TYPE_RAW_TRACEPOINT, 0, place->index),
			 place->name);
}

static int attach_raw_tp(corelock_probes *probes, struct pending *pending)
{
	return link_each(probes, pending, CORELOCK_WAY_RAW_TP, link_raw_tp);
}

static int link_tp(corelock_probes *probes, const struct corelock_place *place)
{
	struct perf_event_attr attr = {.type = PERF_TYPE_TRACEPOINT, .config = place->address};

	if (!place->address)
		return -ENOENT;
	return link_perf("on_tp", probes, &attr, 0, place->index);
}

static int attach_tp(corelock_probes *probes, struct pending *pending)
{
	return link_each(probes, pending, CORELOCK_WAY_TP, link_tp);
}

/* --- all of them ---------------------------------------------------------------------- */

/* In the order in which they are tried: many at once, then what costs least, then the rest. */
static const struct {
	enum corelock_place_kind kind;
	enum corelock_way way;
	int (*attach)(corelock_probes *probes, struct pending *pending);
} ways[] = {
	{CORELOCK_PLACE_FUNCTION, CORELOCK_WAY_KPROBE_MULTI, attach_kprobe_multi},
	{CORELOCK_PLACE_FUNCTION, CORELOCK_WAY_FENTRY, attach_fentry},
	{CORELOCK_PLACE_FUNCTION, CORELOCK_WAY_KPROBE, attach_kprobe},
	{CORELOCK_PLACE_USER, CORELOCK_WAY_UPROBE_MULTI, attach_uprobe_multi},
	{CORELOCK_PLACE_USER, CORELOCK_WAY_UPROBE, attach_uprobe},
	{CORELOCK_PLACE_TRACEPOINT, CORELOCK_WAY_RAW_TP, attach_raw_tp},
	{CORELOCK_PLACE_TRACEPOINT, CORELOCK_WAY_TP, attach_tp},
};

static int all_fail(corelock_probes *probes, int sys_errno)
{
	if (sys_errno == ESRCH)
		return probes_fail(probes, CORELOCK_E_SYSTEM, 0, "Trace one that lives on.",
				   "process %u has exited meanwhile", probes->options.target_pid);
	return probes_fail(probes, CORELOCK_E_SYSTEM, sys_errno, "Ask for fewer probes.",
			   "cannot attach");
}

static bool is_any_of_a_file(const struct corelock_place *places, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (places[i].kind == CORELOCK_PLACE_USER)
			return true;
	return false;
}

int probes_attach_places(corelock_probes *probes, struct corelock_place *places, uint32_t count)
{
	struct pending pending = {calloc(count ?: 1, sizeof(*pending.places)), 0};
	int error = pending.places ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < count; i++) {
		places[i].way = CORELOCK_WAY_NONE;
		places[i].sys_errno = 0;
		places[i].function_id = 0;
		memset(places[i].refusals, 0, sizeof(places[i].refusals));
	}
	if (!error && probes->options.target_pid && is_any_of_a_file(places, count))
		error = watch_main_thread(probes);
	for (size_t way = 0; way < sizeof(ways) / sizeof(ways[0]) && !error; way++) {
		if (!(probes->tool->ways & 1U << ways[way].way))
			continue;
		pending.count = 0;
		for (uint32_t i = 0; i < count; i++)
			if (places[i].kind == ways[way].kind &&
			    places[i].way == CORELOCK_WAY_NONE &&
			    places[i].ways & 1U << ways[way].way)
				pending.places[pending.count++] = &places[i];
		if (pending.count)
			error = ways[way].attach(probes, &pending);
	}
	free(pending.places);
	return error ? all_fail(probes, -error) : 0;
}
