// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What this kernel offers and this caller may do, asked before anything is loaded. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bpf/btf.h>
#include <linux/capability.h>

#include "session.h"

static bool has_capability(const struct __user_cap_data_struct *data, unsigned int capability)
{
	return data[capability / 32].effective & (1U << (capability % 32));
}

/* Which of the capabilities tracing needs the caller lacks, as words; "" if none. */
static const char *missing_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {};

	if (syscall(SYS_capget, &header, data) || has_capability(data, CAP_SYS_ADMIN))
		return "";
	if (!has_capability(data, CAP_BPF) && !has_capability(data, CAP_PERFMON))
		return "CAP_BPF and CAP_PERFMON";
	if (!has_capability(data, CAP_BPF))
		return "CAP_BPF";
	return has_capability(data, CAP_PERFMON) ? "" : "CAP_PERFMON";
}

int permission_fail(struct failure *failure, const char *what)
{
	const char *missing = missing_capabilities();

	if (*missing)
		return failure_set(failure, CORELOCK_E_PRIVILEGE, 0,
				   "Run as root, or give it CAP_BPF and CAP_PERFMON (setcap, "
				   "systemd AmbientCapabilities=, or a container's cap_add).",
				   "missing capability: %s", missing);
	return failure_set(failure, CORELOCK_E_PRIVILEGE, EPERM,
			   "The capabilities are there, so a policy forbids it: kernel lockdown "
			   "(/sys/kernel/security/lockdown), a user namespace, seccomp of a "
			   "container, or an LSM.",
			   "%s", what);
}

/* The number of parameters of a tracepoint's prototype (with the leading void *), 0: none such. */
static unsigned int tracepoint_arity(const struct btf *btf, const char *name)
{
	const struct btf_type *type;
	int id = btf__find_by_name_kind(btf, name, BTF_KIND_TYPEDEF);

	if (id < 0)
		return 0;
	type = btf__type_by_id(btf, id);
	type = btf__type_by_id(btf, type->type);
	if (!type || !btf_is_ptr(type))
		return 0;
	type = btf__type_by_id(btf, type->type);
	return type && btf_is_func_proto(type) ? btf_vlen(type) : 0;
}

static struct btf *open_btf(struct failure *failure)
{
	struct btf *btf = btf__load_vmlinux_btf();

	if (!btf)
		failure_set(failure, CORELOCK_E_UNSUPPORTED, errno,
			    "The kernel must be built with CONFIG_DEBUG_INFO_BTF=y (distribution "
			    "kernels since about 2020 are), and /sys must be mounted; or "
			    "name the file (--btf).",
			    "no kernel BTF in " VMLINUX_BTF);
	return btf;
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

static enum event_form form_by_arguments(const struct btf *btf)
{
	unsigned int arity = tracepoint_arity(btf, "btf_trace_mmap_lock_released");

	return arity == 3 ? FORM_ARGUMENTS : arity == 4 ? FORM_ARGUMENTS_WITH_PATH : FORM_NONE;
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

/* Which of the two, if any, the options let one try. */
static int check_tracepoints(corelock_session *session, struct event_forms *forms)
{
	struct failure *failure = &session->failure;
	struct btf *btf = open_btf(failure);
	bool known;

	if (!btf)
		return -failure->error.code;
	forms->by_arguments = form_by_arguments(btf);
	forms->by_record = form_by_record(btf);
	known = tracepoint_arity(btf, "btf_trace_mmap_lock_released");
	btf__free(btf);
	if (forms->by_arguments == FORM_NONE && forms->by_record == FORM_NONE)
		return failure_set(
			failure, CORELOCK_E_UNSUPPORTED, 0,
			known ? "This version of corelock does not know their arguments; "
				"use a newer one."
			      : "They came with Linux 5.11 and need CONFIG_TRACEPOINTS=y; use a "
				"newer kernel.",
			"this kernel has no usable mmap_lock tracepoints");
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

	if (!btf)
		return -failure->error.code;
	has_words = has_member(btf, "rw_semaphore", "count") &&
		    has_member(btf, "rw_semaphore", "owner");
	btf__free(btf);
	if (!has_words)
		return failure_set(failure, CORELOCK_E_UNSUPPORTED, 0,
				   "It is built with PREEMPT_RT, whose locks do not say so. "
				   "hold-times works there.",
				   "this kernel's mmap_lock does not say who holds it");
	return 0;
}

int caller_check(struct failure *failure)
{
	return *missing_capabilities() ? permission_fail(failure, "") : 0;
}

int features_check(corelock_session *session, struct event_forms *forms)
{
	int error = caller_check(&session->failure);

	return error ?: check_tracepoints(session, forms);
}
