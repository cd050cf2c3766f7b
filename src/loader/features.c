// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What this kernel offers and this caller may do, asked before anything is loaded. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <bpf/btf.h>

#include "probes.h"
#include "session.h"

#define MAX_ARGUMENTS 8

/* Of a type: p, a pointer; b, a bool; ?, another. */
static char letter_of(const struct btf *btf, __u32 id)
{
	const struct btf_type *type = btf__type_by_id(btf, btf__resolve_type(btf, id));

	if (type && btf_is_ptr(type))
		return 'p';
	return type && btf_is_int(type) && btf_int_encoding(type) & BTF_INT_BOOL ? 'b' : '?';
}

/* The letters of a tracepoint's arguments; none if there is no such tracepoint. */
static void tracepoint_letters(const struct btf *btf, const char *name,
			       char letters[MAX_ARGUMENTS + 1])
{
	const struct btf_type *type;
	int id = btf__find_by_name_kind(btf, name, BTF_KIND_TYPEDEF);

	memset(letters, 0, MAX_ARGUMENTS + 1);
	type = id < 0 ? NULL : btf__type_by_id(btf, btf__type_by_id(btf, id)->type);
	type = type && btf_is_ptr(type) ? btf__type_by_id(btf, type->type) : NULL;
	if (!type || !btf_is_func_proto(type))
		return;
	/* The first parameter is the probe's own. */
	for (int i = 1; i < btf_vlen(type) && i <= MAX_ARGUMENTS; i++)
		letters[i - 1] = letter_of(btf, btf_params(type)[i].type);
}

static struct btf *open_btf(struct failure *failure)
{
	/* Only this one is certain to be of the kernel that runs: libbpf would take others, too. */
	struct btf *btf = btf__parse(VMLINUX_BTF, NULL);

	if (btf)
		return btf;
	if (errno != ENOENT)
		failure_set(failure, CORELOCK_E_UNSUPPORTED, errno,
			    "It must be the running kernel's, whole and readable: see what is "
			    "mounted there, or name another file (--btf).",
			    "cannot use the kernel's BTF in " VMLINUX_BTF);
	else if (access("/sys/kernel", F_OK))
		failure_set(failure, CORELOCK_E_UNSUPPORTED, 0,
			    "mount -t sysfs sysfs /sys, or name a file that has it (--btf).",
			    "no kernel BTF in " VMLINUX_BTF ": /sys is not mounted");
	else
		failure_set(failure, CORELOCK_E_UNSUPPORTED, ENOENT,
			    "The kernel must be built with CONFIG_DEBUG_INFO_BTF=y (distribution "
			    "kernels since about 2020 are); or name a file that has it (--btf).",
			    "no kernel BTF in " VMLINUX_BTF);
	return NULL;
}

int btf_check(struct failure *failure)
{
	struct btf *btf = open_btf(failure);

	btf__free(btf);
	return btf ? 0 : -failure->error.code;
}

static bool has_member(const struct btf *btf, const char *name, const char *member)
{
	int id = btf__find_by_name_kind(btf, name, BTF_KIND_STRUCT);
	const struct btf_type *type = id < 0 ? NULL : btf__type_by_id(btf, id);

	for (int i = 0; type && i < btf_vlen(type); i++)
		if (!strcmp(btf__name_by_offset(btf, btf_members(type)[i].name_off), member))
			return true;
	return false;
}

/* (mm, write), up to Linux 6.13 with a path between them. */
static enum event_form form_by_arguments(const char *letters)
{
	return !strcmp(letters, "pb")	 ? FORM_ARGUMENTS
	       : !strcmp(letters, "ppb") ? FORM_ARGUMENTS_WITH_PATH
					 : FORM_NONE;
}

static enum event_form form_by_record(const struct btf *btf)
{
	if (!has_member(btf, "trace_event_raw_mmap_lock_acquire_returned", "success"))
		return FORM_NONE;
	if (has_member(btf, "trace_event_raw_mmap_lock", "write"))
		return FORM_RECORD;
	return has_member(btf, "trace_event_raw_mmap_lock_released", "write") ? FORM_OWN_RECORD
									      : FORM_NONE;
}

static bool has_enumerator(const struct btf *btf, const char *name, const char *enumerator)
{
	int id = btf__find_by_name_kind(btf, name, BTF_KIND_ENUM);
	const struct btf_type *type = id < 0 ? NULL : btf__type_by_id(btf, id);

	for (int i = 0; type && i < btf_vlen(type); i++)
		if (!strcmp(btf__name_by_offset(btf, btf_enum(type)[i].name_off), enumerator))
			return true;
	return false;
}

/* What the programs cannot do without came last with Linux v5.15 (commit dd6e10fbd9fb). */
static int helpers_check(struct failure *failure, const struct btf *btf)
{
	if (has_enumerator(btf, "bpf_func_id", "BPF_FUNC_task_pt_regs"))
		return 0;
	return failure_set(failure, CORELOCK_E_UNSUPPORTED, 0,
			   "It came with Linux 5.15; use a newer kernel.",
			   "this kernel's BPF has no bpf_task_pt_regs");
}

/* PREEMPT_RT has other locks behind the name, which do not say who holds them. */
static bool has_lock_words(const struct btf *btf)
{
	return has_member(btf, "rw_semaphore", "count") && has_member(btf, "rw_semaphore", "owner");
}

/* Which of the two, if any, the options let one try. */
int tracepoints_check(corelock_session *session)
{
	struct event_forms *forms = &session->forms;
	struct failure *failure = &session->failure;
	struct btf *btf = open_btf(failure);
	char letters[MAX_ARGUMENTS + 1];
	bool has_helpers;

	if (!btf)
		return -failure->error.code;
	tracepoint_letters(btf, "btf_trace_mmap_lock_released", letters);
	forms->by_arguments = form_by_arguments(letters);
	forms->by_record = form_by_record(btf);
	has_helpers = !helpers_check(failure, btf);
	session->real_time = !has_lock_words(btf);
	btf__free(btf);
	if (forms->by_arguments == FORM_NONE && forms->by_record == FORM_NONE)
		return failure_set(
			failure, CORELOCK_E_UNSUPPORTED, 0,
			*letters ? "This version of corelock does not know their arguments; "
				   "use a newer one."
				 : "They need CONFIG_TRACEPOINTS=y, and corelock Linux 5.15 or "
				   "newer.",
			"this kernel has no usable mmap_lock tracepoints");
	if (!has_helpers)
		return -failure->error.code;
	if (session->options.attach == CORELOCK_ATTACH_TP)
		forms->by_arguments = FORM_NONE;
	if (session->options.attach == CORELOCK_ATTACH_TP_BTF)
		forms->by_record = FORM_NONE;
	if (forms->by_arguments == FORM_NONE && forms->by_record == FORM_NONE)
		return failure_set(failure, CORELOCK_E_UNSUPPORTED, 0,
				   "Let corelock choose (no --attach).",
				   "this kernel's BTF does not have the mmap_lock tracepoints in "
				   "the form that was asked for");
	return 0;
}

int lock_words_check(struct failure *failure)
{
	struct btf *btf = open_btf(failure);
	bool has_words;
	int error;

	if (!btf)
		return -failure->error.code;
	error = helpers_check(failure, btf);
	has_words = has_lock_words(btf);
	btf__free(btf);
	if (error)
		return error;
	if (!has_words)
		return failure_set(failure, CORELOCK_E_UNSUPPORTED, 0,
				   "It is built with PREEMPT_RT, whose locks do not say so. "
				   "hold-times works there.",
				   "this kernel's mmap_lock does not say who holds it");
	return 0;
}

int features_check(corelock_session *session)
{
	int error = capabilities_check(&session->failure);

	return error ?: tracepoints_check(session);
}

/* Whether a struct or union has a member of that name, or one of its unnamed ones has it. */
static bool has_member_within(const struct btf *btf, __u32 id, const char *member)
{
	const struct btf_type *type = btf__type_by_id(btf, btf__resolve_type(btf, id));

	for (int i = 0; type && btf_is_composite(type) && i < btf_vlen(type); i++) {
		const struct btf_member *each = &btf_members(type)[i];

		if (!strcmp(btf__name_by_offset(btf, each->name_off), member) ||
		    has_member_within(btf, each->type, member))
			return true;
	}
	return false;
}

void probe_features(struct probe_features *features)
{
	struct btf *btf = btf__parse(VMLINUX_BTF, NULL);
	int id = btf ? btf__find_by_name_kind(btf, "bpf_link_info", BTF_KIND_STRUCT) : -1;

	*features = (struct probe_features){
		.kprobe_multi =
			btf && has_enumerator(btf, "bpf_attach_type", "BPF_TRACE_KPROBE_MULTI"),
		.cookie = !btf || has_enumerator(btf, "bpf_func_id", "BPF_FUNC_get_attach_cookie"),
		.counts_misses = id > 0 && has_member_within(btf, id, "missed"),
	};
	btf__free(btf);
}
