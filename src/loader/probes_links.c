// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What is attached, and what the kernel says of it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/membarrier.h>

#include <bpf/btf.h>

#include "probes.h"

int descriptors_add(struct descriptors *all, int fd)
{
	if (all->count == all->room) {
		uint32_t room = all->room ? 2 * all->room : 16;
		int *fds = realloc(all->fds, room * sizeof(*fds));

		if (!fds) {
			close(fd);
			return -ENOMEM;
		}
		all->fds = fds;
		all->room = room;
	}
	all->fds[all->count++] = fd;
	return 0;
}

void descriptors_close(struct descriptors *all)
{
	while (all->count)
		close(all->fds[--all->count]);
	free(all->fds);
	*all = (struct descriptors){};
}

struct bpf_program *probe_program(const corelock_probes *probes, const char *name)
{
	return bpf_object__find_program_by_name(probes->object, name);
}

/* The members of struct bpf_link_info that say what was missed, as newer kernels have it. */
struct link_info {
	uint32_t type, id, program_id, padding;
	union {
		struct {
			uint64_t addresses;
			uint32_t count, flags;
			uint64_t missed;
		} kprobe_multi;
		struct {
			uint32_t type, padding;
			uint64_t name;
			uint32_t name_length, offset;
			uint64_t address, missed;
		} kprobe;
	};
	uint64_t rest[4];
};

#define LINK_TYPE_PERF_EVENT 7
#define LINK_TYPE_KPROBE_MULTI 8
#define PERF_EVENT_KPROBE 3

static uint64_t missed_by_link(int fd)
{
	struct link_info info = {};
	__u32 length = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &length))
		return 0;
	if (info.type == LINK_TYPE_KPROBE_MULTI)
		return info.kprobe_multi.missed;
	if (info.type == LINK_TYPE_PERF_EVENT && info.kprobe.type == PERF_EVENT_KPROBE)
		return info.kprobe.missed;
	return 0;
}

static uint64_t missed_by_program(int fd)
{
	struct bpf_prog_info info = {};
	__u32 length = sizeof(info);

	return fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &length) ? 0 : info.recursion_misses;
}

uint64_t probes_missed(const corelock_probes *probes)
{
	struct bpf_program *program;
	uint64_t missed = 0;

	bpf_object__for_each_program(program, probes->object) missed +=
		missed_by_program(bpf_program__fd(program));
	for (uint32_t i = 0; i < probes->copies.count; i++)
		missed += missed_by_program(probes->copies.fds[i]);
	for (uint32_t i = 0; i < probes->links.count; i++)
		missed += missed_by_link(probes->links.fds[i]);
	return missed;
}

/*
 * An array of arrays does not let its old entries go before programs that may use them have ended
 * (maybe_wait_bpf_programs in kernel/bpf/syscall.c).
 */
static int wait_by_map(void)
{
	int inner = bpf_map_create(BPF_MAP_TYPE_ARRAY, NULL, sizeof(uint32_t), sizeof(uint32_t), 1,
				   NULL);
	LIBBPF_OPTS(bpf_map_create_opts, options, .inner_map_fd = inner);
	int outer = bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, NULL, sizeof(uint32_t),
				   sizeof(uint32_t), 1, &options);
	uint32_t first = 0;
	int error = outer < 0 ? outer : bpf_map_update_elem(outer, &first, &inner, BPF_ANY);

	if (inner >= 0)
		close(inner);
	if (outer >= 0)
		close(outer);
	return error;
}

int programs_wait(corelock_probes *probes)
{
	/* Refused where CPUs do without the timer (nohz_full). */
	int error = syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) ? wait_by_map() : 0;

	return error ? probes_fail(probes, CORELOCK_E_SYSTEM, -error, "",
				   "cannot wait for the programs to end")
		     : 0;
}

int places_by_name(const void *a, const void *b)
{
	const struct corelock_place *const *one = a, *const *other = b;

	return strcmp((*one)->name, (*other)->name);
}
