/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel types that corelock's programs touch, and of each only the members
 * they touch. Offsets here mean nothing: every access is relocated against the
 * running kernel's BTF (preserve_access_index). See README.md beside this file.
 */
#ifndef __VMLINUX_H__
#define __VMLINUX_H__

typedef unsigned char __u8;
typedef short int __s16;
typedef short unsigned int __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long int __s64;
typedef long long unsigned int __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;

enum { false = 0, true = 1 };

#define NULL ((void *)0)

/* Constants of the bpf() interface, as in include/uapi/linux/bpf.h. */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_STACK_TRACE = 7,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_F_NO_PREALLOC = 1,
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1,
	BPF_RB_NO_WAKEUP = 1,
	BPF_RB_FORCE_WAKEUP = 2,
	BPF_RB_AVAIL_DATA = 0,
	BPF_F_USER_STACK = 256,
	BPF_F_MMAPABLE = 1024,
};

/* State of a kfunc's, on the program's stack. */
struct bpf_iter_task {
	__u64 __opaque[3];
} __attribute__((aligned(8)));

enum { BPF_TASK_ITER_ALL_THREADS = 1 };

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	unsigned long sig[1];
} sigset_t;

struct sigpending {
	sigset_t signal;
};

struct thread_info {
	unsigned long flags;
};

typedef struct {
	__s64 counter;
} atomic_long_t;

typedef struct {
	int counter;
} atomic_t;

struct optimistic_spin_queue {
	atomic_t tail;
};

struct list_head {
	struct list_head *next, *prev;
};

struct rw_semaphore {
	atomic_long_t count;
	atomic_long_t owner;
	struct optimistic_spin_queue osq;
};

enum rwsem_waiter_type {
	RWSEM_WAITING_FOR_WRITE,
	RWSEM_WAITING_FOR_READ,
};

struct rwsem_waiter {
	struct list_head list;
	struct task_struct *task;
	enum rwsem_waiter_type type;
};

struct mm_struct {
	struct rw_semaphore mmap_lock;
	unsigned long start_code, end_code, start_stack;
	struct task_struct *owner;
};

struct kernfs_node {
	__u64 id;
};

struct cgroup {
	int level;
	struct kernfs_node *kn;
	struct cgroup *ancestors[1]; /* as many as its level, and itself */
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct pid_namespace;

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
};

struct signal_struct {
	atomic_t live;
	unsigned int flags;
};

struct task_struct {
	struct thread_info thread_info;
	unsigned int flags;
	unsigned int on_cpu; /* a __u8 in newer kernels: only unsigned ones are resized */
	struct mm_struct *mm;
	int pid;
	int tgid;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	__u64 start_time;
	char comm[16];
	struct sigpending pending;
	struct css_set *cgroups;
	struct signal_struct *signal;
};

/* Records of the tracepoints: a class of two since v5.16, before that one each. */
struct trace_event_raw_mmap_lock {
	struct mm_struct *mm;
	__u64 memcg_id;
	bool write;
};

struct trace_event_raw_mmap_lock_acquire_returned {
	struct mm_struct *mm;
	bool write;
	bool success;
};

struct trace_event_raw_mmap_lock_start_locking {
	struct mm_struct *mm;
	bool write;
};

struct trace_event_raw_mmap_lock_released {
	struct mm_struct *mm;
	bool write;
};

struct pt_regs {
	/* Differs by architecture: flavours in kernel.bpf.h. */
};

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key;
	void *value;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#pragma clang attribute pop

#endif
