/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the files of the library share about probes. Nothing here is exported. */
#ifndef CORELOCK_PROBES_H
#define CORELOCK_PROBES_H

#include "failure.h"
#include "pids.h"

/* Since Linux kernel commit 89ae89f53d20 ("bpf: Add multi uprobe link") in v6.6. */
#define BPF_TRACE_UPROBE_MULTI 48

/* One kind of probing: a skeleton, and what is read of it. */
struct probe_tool {
	uint32_t ways; /* 1 << enum corelock_way, of those that its programs are made for */
	/* Sets skel, object, settings and state, and the sizes of its maps. */
	int (*open)(corelock_probes *probes);
	int (*load)(void *skel); /* 0 or -errno */
	/* Once loaded, before anything is attached: what it keeps of its own. */
	int (*ready)(corelock_probes *probes);
	void (*close)(corelock_probes *probes);
};

extern const struct probe_tool count_tool, hist_tool, trace_tool;

/* What this kernel has for probes. */
struct probe_features {
	/* Since Linux kernel commit 0dcac2725406 ("bpf: Add multi kprobe link") in v5.18. */
	bool kprobe_multi;
	/* Since commit 7adfc6c9b315 ("bpf: Add bpf_get_attach_cookie() BPF helper") in v5.15. */
	bool cookie;
	/* What it keeps from perf events' programs is counted, too: commit dd8657894c11 in v6.7. */
	bool counts_misses;
};

/* An array of BPF's that the library sees; NULL: it does not. */
struct seen {
	void *entries;
	size_t bytes;
};

/* Descriptors, which closing detaches or unloads. */
struct descriptors {
	int *fds;
	uint32_t count, room;
};

struct corelock_probes {
	union {
		struct failure failure;
		struct failure; /* its members are the handle's own */
	};
	struct corelock_probe_options options;
	struct corelock_trace_options trace; /* a copy */
	struct pid_space pids;
	struct probe_features features;
	const struct probe_tool *tool;
	void *skel; /* the tool's */
	struct bpf_object *object;
	struct corelock_probe_settings *settings;
	struct corelock_probe_state *state;
	struct seen counts;		     /* of a tool that counts by index and CPU */
	void *own;			     /* what else the tool keeps; freed by its close */
	struct descriptors links, copies;    /* attached; of on_copied, one for each place */
	struct corelock_probe_totals totals; /* when it was detached */
	bool failed, attached;
	pid_t owner;	 /* the process that made it, not a fork of that */
	uint64_t end_ns; /* 0: not detached */
};

#define probes_fail(probes, ...) failure_set(&(probes)->failure, __VA_ARGS__)

/* Takes over a descriptor; -ENOMEM, and it is closed, if there is no room to remember it. */
int descriptors_add(struct descriptors *all, int fd);
void descriptors_close(struct descriptors *all);

/* 0 in the process that made the handle, a failure in one that it forked. */
int probes_check_owner(corelock_probes *probes);

/* A program of the object by its name, NULL if the tool has none. */
struct bpf_program *probe_program(const corelock_probes *probes, const char *name);

/*
 * A copy of the program on_copied of that type, with the index in it, for the function that the
 * kernel's BTF has by that id (0: for none). A descriptor of the caller's, or -errno.
 */
int probe_copy(corelock_probes *probes, enum bpf_prog_type type, uint32_t function_id,
	       uint32_t index);

/* For qsort: pointers to places, by their names. */
int places_by_name(const void *a, const void *b);

/* Sets the id that the kernel's BTF has each of these functions by, 0 if by none; 0 or -errno. */
int find_function_ids(struct corelock_place **places, uint32_t count);

/* For tools with the tables of operands.bpf.h: in their open, and in their ready. 0 or a failure.
 */
int tables_size(corelock_probes *probes);
int tables_fill(corelock_probes *probes);

/* Lets the library see an array as the programs do, from when it is loaded on; 0 or a failure. */
int map_see(corelock_probes *probes, const struct bpf_map *map, int protection, struct seen *seen);
void map_forget(struct seen *seen);

/*
 * For tools that count by index and CPU, those of the first CPU, of the second, and so on: in their
 * open, in their ready (0 or a failure), and how many there are.
 */
int counts_size(corelock_probes *probes, struct bpf_map *map);
int counts_see(corelock_probes *probes, const struct bpf_map *map);
uint64_t counts_entries(const corelock_probes *probes);

/* Attaches to what can be attached to; 0, or a failure that concerns all. */
int probes_attach_places(corelock_probes *probes, struct corelock_place *places, uint32_t count);

/* Looks at the kernel's BTF; where there is none, only what is certain is true. */
void probe_features(struct probe_features *features);

/* Until programs that were running when this was called have ended; 0 or a failure. */
int programs_wait(corelock_probes *probes);

/* What the kernel kept from the programs so far. */
uint64_t probes_missed(const corelock_probes *probes);

#endif
