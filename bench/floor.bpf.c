// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The least that a program on these events can do and still time them: read the clock. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tp_btf/mmap_lock_start_locking")
int floor_start(void *ctx)
{
	bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/mmap_lock_acquire_returned")
int floor_acquire(void *ctx)
{
	bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/mmap_lock_released")
int floor_release(void *ctx)
{
	bpf_ktime_get_ns();
	return 0;
}
