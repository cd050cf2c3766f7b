/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the programs of probes share: which hits are wanted, and the ways they come in.
 *
 * A probe has an index. Where the kernel keeps a cookie for each place that a program is attached
 * to, that is it; where it does not, the library makes a copy of `on_copied` for each place, with
 * the index in it (probes_copy.c). What does not depend on the way is in a function `on_hit`.
 */
#ifndef CORELOCK_PROBE_BPF_H
#define CORELOCK_PROBE_BPF_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "../abi/corelock_abi.h"

const volatile struct corelock_probe_settings settings;
struct corelock_probe_state state;

static __always_inline bool cpu_is_wanted(void)
{
	return settings.cpu == CORELOCK_EVERY_CPU || bpf_get_smp_processor_id() == settings.cpu;
}

static __always_inline bool process_is_wanted(void)
{
	__u32 tgid;

	if (!settings.target_tgid && !settings.self_tgid)
		return true;
	tgid = bpf_get_current_pid_tgid() >> 32;
	if (settings.target_tgid)
		return tgid == settings.target_tgid;
	if (tgid != settings.self_tgid)
		return true;
	__sync_fetch_and_add(&state.self, 1);
	return false;
}

static __always_inline bool hit_is_wanted(void)
{
	return state.tracing && cpu_is_wanted() && process_is_wanted();
}

/*
 * A perf event's programs decide together whether others see the event: 1 lets them. What the
 * _multi ones return concerns them alone, and has to be 0: 1 would end a uprobe.
 */
#define COOKIE_PROGRAMS(on_hit)                          \
	SEC("kprobe.multi")                              \
	int on_kprobe_multi(void *ctx)                   \
	{                                                \
		on_hit(ctx, bpf_get_attach_cookie(ctx)); \
		return 0;                                \
	}                                                \
                                                         \
	SEC("kprobe")                                    \
	int on_perf_probe(void *ctx)                     \
	{                                                \
		on_hit(ctx, bpf_get_attach_cookie(ctx)); \
		return 1;                                \
	}                                                \
                                                         \
	SEC("kprobe")                                    \
	int on_uprobe_multi(void *ctx)                   \
	{                                                \
		on_hit(ctx, bpf_get_attach_cookie(ctx)); \
		return 0;                                \
	}                                                \
                                                         \
	SEC("tp")                                        \
	int on_tp(void *ctx)                             \
	{                                                \
		on_hit(ctx, bpf_get_attach_cookie(ctx)); \
		return 1;                                \
	}

/* ctx is an array of arguments, eight bytes each. */
#define COPIED_PROGRAM(on_hit)                                                       \
	SEC("raw_tp")                                                                \
	int on_copied(void *ctx)                                                     \
	{                                                                            \
		__u64 index;                                                         \
                                                                                     \
		asm volatile("%0 = %1" : "=r"(index) : "i"(CORELOCK_INDEX_OF_COPY)); \
		on_hit(ctx, index);                                                  \
		return 0;                                                            \
	}

#define PROBE_PROGRAMS(on_hit)  \
	COOKIE_PROGRAMS(on_hit) \
	COPIED_PROGRAM(on_hit)

#endif
