/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What differs between kernels and architectures, one helper each. A feature
 * is found by asking BTF for a field, never by a version number.
 */
#ifndef CORELOCK_KERNEL_BPF_H
#define CORELOCK_KERNEL_BPF_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "../abi/corelock_abi.h"

/* Since Linux kernel commit a35b9af4ec2c ("bpf: Add a kfunc for generic type cast") in v6.2. */
extern void *bpf_rdonly_cast(const void *object, __u32 type) __ksym __weak;

/*
 * The same object for reading, no longer trusted. Whenever a pointer is loaded
 * out of a trusted object, verifiers that know trust search all of the kernel's
 * BTF for types they make exceptions for, which takes milliseconds each time.
 */
#define untrusted(object)                                                                       \
	((typeof(object))(bpf_rdonly_cast ? bpf_rdonly_cast(object, bpf_core_type_id_kernel(    \
									    typeof(*(object)))) \
					  : (void *)(object)))

#define PF_EXITING 0x00000004
#define PF_IO_WORKER 0x00000010
#define PF_USER_WORKER 0x00004000
#define PF_KTHREAD 0x00200000

#define SIGKILL 9

/* rw_semaphore.count and .owner, as in kernel/locking/rwsem.c. */
#define RWSEM_WRITER_LOCKED (1ULL << 0)
#define RWSEM_FLAG_WAITERS (1ULL << 1)
#define RWSEM_FLAG_HANDOFF (1ULL << 2)
#define RWSEM_READER_SHIFT 8
#define RWSEM_FLAG_READFAIL (1ULL << 63)
#define RWSEM_READER_OWNED 1ULL
#define RWSEM_OWNER_FLAGS 7ULL

/* Each architecture's registers, as flavours of one name: one object serves both. */
struct pt_regs___x86 {
	unsigned long bp, bx;
	unsigned long orig_ax;
	unsigned long ip, cs, sp;
} __attribute__((preserve_access_index));

struct pt_regs___arm64 {
	__u64 regs[31];
	__u64 sp, pc;
	__s32 syscallno;
} __attribute__((preserve_access_index));

struct thread_info___x86 {
	__u32 status;
} __attribute__((preserve_access_index));

struct task_struct___x86 {
	struct thread_info___x86 thread_info;
} __attribute__((preserve_access_index));

#define X86_TS_COMPAT 0x0002
#define X86_X32_SYSCALL_BIT 0x40000000
#define X86_USER32_CS 0x23
#define ARM64_FRAME 29
#define ARM64_LINK 30
#define ARM64_TIF_32BIT (1UL << 22)
#define MAX_SYSCALL 0xffff

/* Whether a reader has to wait: it waits for no reader, unless a writer is queued. */
static __always_inline bool lock_bars_readers(__u64 count)
{
	return count & (RWSEM_WRITER_LOCKED | RWSEM_FLAG_WAITERS | RWSEM_FLAG_HANDOFF |
			RWSEM_FLAG_READFAIL);
}

/* A killable wait fails on a pending SIGKILL and on nothing else (__fatal_signal_pending). */
static __always_inline bool task_is_killed(struct task_struct *task)
{
	return task->pending.signal.sig[0] & (1UL << (SIGKILL - 1));
}

static __always_inline __u32 task_operation_x86(struct task_struct *task, struct pt_regs *regs)
{
	__s64 nr = ((struct pt_regs___x86 *)regs)->orig_ax;

	/* Exceptions and interrupts leave -1: "no system call to restart". */
	if (nr < 0)
		return CORELOCK_OPERATION_PAGE_FAULT;
	nr = nr & ~X86_X32_SYSCALL_BIT & MAX_SYSCALL;
	if (((struct task_struct___x86 *)task)->thread_info.status & X86_TS_COMPAT)
		nr |= CORELOCK_OPERATION_COMPAT;
	return nr;
}

static __always_inline __u32 task_operation_arm64(struct task_struct *task, struct pt_regs *regs)
{
	__s32 nr = ((struct pt_regs___arm64 *)regs)->syscallno;

	if (nr < 0)
		return CORELOCK_OPERATION_PAGE_FAULT;
	nr &= MAX_SYSCALL;
	if (task->thread_info.flags & ARM64_TIF_32BIT)
		nr |= CORELOCK_OPERATION_COMPAT;
	return nr;
}

/*
 * What current is doing, as CORELOCK_OPERATION_* or a system call's number.
 * saved_regs is what bpf_task_pt_regs gave for it earlier: where they are is
 * fixed, and asking each time is a call.
 */
static __always_inline __u32 task_operation(struct task_struct *task, __u64 saved_regs)
{
	__u32 flags = task->flags;
	struct pt_regs *regs;

	/* Workers of io_uring and vhost carry their creator's registers. */
	if (flags & (PF_KTHREAD | PF_IO_WORKER | PF_USER_WORKER))
		return CORELOCK_OPERATION_KERNEL_THREAD;
	/* A killed thread's registers still show what it was interrupted in. */
	if (flags & PF_EXITING)
		return CORELOCK_OPERATION_EXIT;
	if (bpf_rdonly_cast)
		regs = bpf_rdonly_cast((void *)saved_regs, bpf_core_type_id_kernel(struct pt_regs));
	else
		regs = (struct pt_regs *)bpf_task_pt_regs(task);
	if (bpf_core_field_exists(struct pt_regs___x86, orig_ax))
		return task_operation_x86(task, regs);
	return task_operation_arm64(task, regs);
}

/* The registers to unwind the task's user stack by; false for one of 32 bits. */
static __always_inline bool user_registers(struct task_struct *task,
					   struct corelock_user_stack *user)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	struct pt_regs___arm64 *arm64 = (void *)regs;
	struct pt_regs___x86 *x86 = (void *)regs;

	if (bpf_core_field_exists(x86->orig_ax)) {
		/* The low byte, as Xen's selectors differ in the high one. */
		if ((x86->cs & 0xff) == X86_USER32_CS)
			return false;
		user->ip = x86->ip;
		user->sp = x86->sp;
		user->frame = x86->bp;
		user->other = x86->bx;
		return true;
	}
	if (task->thread_info.flags & ARM64_TIF_32BIT)
		return false;
	user->ip = arm64->pc;
	user->sp = arm64->sp;
	user->frame = arm64->regs[ARM64_FRAME];
	user->other = arm64->regs[ARM64_LINK];
	return true;
}

/* Where the task is in user space. */
static __always_inline void user_position(struct task_struct *task, __u64 *ip, __u64 *sp)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	struct pt_regs___arm64 *arm64 = (void *)regs;
	struct pt_regs___x86 *x86 = (void *)regs;
	bool is_x86 = bpf_core_field_exists(x86->orig_ax);

	*ip = is_x86 ? x86->ip : arm64->pc;
	*sp = is_x86 ? x86->sp : arm64->sp;
}

/*
 * What a pid namespace at this level calls a thread, 0 if it is not in there. Since Linux kernel
 * commit b69f0aeb0689 ("pid: Replace struct pid 1-element array with flex-array") in v6.5, and in
 * stable kernels, `numbers` has no element that BTF knows of: so by its offset.
 */
static __always_inline __u32 pid_number(struct pid *pid, __u64 namespace, __u32 level)
{
	struct upid *upid;

	if (!pid || BPF_CORE_READ(pid, level) < level)
		return 0;
	upid = (void *)pid + bpf_core_field_offset(pid->numbers) +
	       level * bpf_core_type_size(struct upid);
	return (__u64)BPF_CORE_READ(upid, ns) == namespace ? BPF_CORE_READ(upid, nr) : 0;
}

#endif
