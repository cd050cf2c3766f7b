// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The life of a handle for probes: its options, loading, when it counts. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "options.h"
#include "probes.h"
#include "session.h"

#define MAX_INDICES (1U << 20)

static const struct probe_tool *const tools[] = {
	[CORELOCK_TOOL_COUNT] = &count_tool,
	[CORELOCK_TOOL_HIST] = &hist_tool,
	[CORELOCK_TOOL_TRACE] = &trace_tool,
};

CORELOCK_EXPORT corelock_probes *corelock_probes_new(void)
{
	corelock_probes *probes = calloc(1, sizeof(*probes));

	if (!probes)
		return NULL;
	probes->owner = getpid();
	failure_init(&probes->failure);
	return probes;
}

static void unload(corelock_probes *probes)
{
	descriptors_close(&probes->links);
	descriptors_close(&probes->copies);
	map_forget(&probes->counts);
	if (probes->skel)
		probes->tool->close(probes);
	probes->skel = NULL;
	probes->attached = false;
}

CORELOCK_EXPORT void corelock_probes_free(corelock_probes *probes)
{
	if (!probes)
		return;
	unload(probes);
	failure_free(&probes->failure);
	free(probes);
}

CORELOCK_EXPORT const struct corelock_error *
corelock_probes_last_error(const corelock_probes *probes)
{
	return &probes->error;
}

CORELOCK_EXPORT int corelock_probes_check(corelock_probes *probes)
{
	return capabilities_check(&probes->failure);
}

static int take_options(corelock_probes *probes, const struct corelock_probe_options *given)
{
	struct corelock_probe_options *options = &probes->options;

	if (!options_take(options, sizeof(*options), given))
		return probes_fail(probes, CORELOCK_E_ARGUMENT, 0,
				   "Use the libcorelock that belongs to this package.",
				   "the options have members this library does not know");
	if (options->tool >= sizeof(tools) / sizeof(tools[0]) || options->reserved)
		return probes_fail(probes, CORELOCK_E_ARGUMENT, 0, "", "no such tool: %u",
				   options->tool);
	if (!options->indices || options->indices > MAX_INDICES)
		return probes_fail(probes, CORELOCK_E_ARGUMENT, 0, "Ask for fewer.",
				   "1 to %u probes can be attached, not %u", MAX_INDICES,
				   options->indices);
	probes->tool = tools[options->tool];
	if (options->trace)
		probes->trace = *options->trace;
	return 0;
}

static int load_tool(corelock_probes *probes)
{
	uint32_t ids[PID_IDS] = {probes->options.target_pid, probes->options.self_pid};
	uint32_t host_ids[PID_IDS];
	struct bpf_program *multi;
	int error = corelock_probes_check(probes)
			    ?: pids_look_up(&probes->failure, &probes->pids, ids, host_ids);

	if (error)
		return error;
	probe_features(&probes->features);
	if (!probes->features.cookie)
		return probes_fail(probes, CORELOCK_E_UNSUPPORTED, 0,
				   "It came with Linux 5.15; use a newer kernel.",
				   "this kernel's BPF has no bpf_get_attach_cookie");
	error = probes->tool->open(probes);
	if (error)
		return error;
	probes->settings->target_tgid = host_ids[0];
	probes->settings->self_tgid = host_ids[1];
	probes->settings->cpu = probes->options.cpu;
	probes->settings->indices = probes->options.indices;
	multi = probe_program(probes, "on_uprobe_multi");
	if (multi)
		bpf_program__set_expected_attach_type(multi, BPF_TRACE_UPROBE_MULTI);
	error = probes->tool->load(probes->skel);
	if (error == -ENOMEM)
		return probes_fail(probes, CORELOCK_E_LOAD, ENOMEM, "Ask for fewer probes or keys.",
				   "not enough memory for the BPF maps");
	if (error)
		return load_fail(&probes->failure, probes->object, -error);
	return probes->tool->ready(probes);
}

CORELOCK_EXPORT int corelock_probes_load(corelock_probes *probes,
					 const struct corelock_probe_options *options)
{
	int error;

	if (probes->skel || probes->failed)
		return probes_fail(probes, CORELOCK_E_ARGUMENT, 0, "", "load comes once");
	error = take_options(probes, options);
	if (error)
		return error;
	failure_log_begin(&probes->failure);
	error = load_tool(probes);
	log_end();
	if (error) {
		failure_show_log(&probes->failure);
		probes->failed = true;
		unload(probes);
	}
	return error;
}

static void read_totals(corelock_probes *probes, struct corelock_probe_totals *totals)
{
	*totals = (struct corelock_probe_totals){
		.self = probes->state->self,
		.faults = probes->state->faults,
		.missed = probes_missed(probes),
		.counts_missed = probes->features.counts_misses,
		.main_thread_ended = probes->state->main_thread_ended,
	};
}

CORELOCK_EXPORT int corelock_probes_attach(corelock_probes *probes, struct corelock_place *places,
					   uint32_t count, uint64_t *start_ns)
{
	int error, attached = 0, forbidden = 0;

	if (!probes->skel || probes->attached || probes->end_ns)
		return probes_fail(probes, CORELOCK_E_ARGUMENT, 0, "",
				   "attach comes once, after load");
	failure_log_begin(&probes->failure);
	error = probes_attach_places(probes, places, count);
	log_end();
	for (uint32_t i = 0; i < count; i++) {
		attached += places[i].way != CORELOCK_WAY_NONE;
		forbidden += places[i].sys_errno == EPERM;
	}
	if (!error && !attached && forbidden)
		error = permission_fail(&probes->failure, EPERM, "the kernel refused to attach");
	if (error) {
		failure_show_log(&probes->failure);
		probes->failed = true;
		unload(probes);
		return error;
	}
	probes->attached = true;
	*start_ns = now_ns();
	__atomic_store_n(&probes->state->tracing, attached > 0, __ATOMIC_SEQ_CST);
	return attached;
}

int probes_check_owner(corelock_probes *probes)
{
	/* What programs write and what is taken of it is shared memory, the handle is a copy. */
	if (probes->owner == getpid())
		return 0;
	return probes_fail(probes, CORELOCK_E_ARGUMENT, 0,
			   "Do it there. A process that it forked can only free it.",
			   "process %d is tracing, and this is not it", probes->owner);
}

CORELOCK_EXPORT int corelock_probes_stop(corelock_probes *probes, uint64_t *end_ns)
{
	int error = probes->attached ? probes_check_owner(probes) : 0;

	if (error)
		return error;
	if (probes->attached) {
		__atomic_store_n(&probes->state->tracing, 0, __ATOMIC_SEQ_CST);
		probes->end_ns = now_ns();
		/* Programs that were running then have ended after this. */
		error = programs_wait(probes);
		read_totals(probes, &probes->totals);
		probes->attached = false;
	}
	if (end_ns)
		*end_ns = probes->end_ns;
	return error;
}

CORELOCK_EXPORT int corelock_probes_read_totals(corelock_probes *probes,
						struct corelock_probe_totals *totals)
{
	if (!probes->skel)
		return probes_fail(probes, CORELOCK_E_ARGUMENT, 0, "", "nothing is loaded");
	if (probes->end_ns)
		*totals = probes->totals;
	else
		read_totals(probes, totals);
	return 0;
}
