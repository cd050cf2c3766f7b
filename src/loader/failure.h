/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What every handle of the library keeps of its last failure. Nothing here is exported. */
#ifndef CORELOCK_FAILURE_H
#define CORELOCK_FAILURE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "corelock.h"

#define CORELOCK_EXPORT __attribute__((visibility("default")))

#define VMLINUX_BTF "/sys/kernel/btf/vmlinux"

#define MESSAGE_LEN 512
#define LOG_LEN (64 * 1024)

struct failure {
	struct corelock_error error;
	char message[MESSAGE_LEN], remedy[MESSAGE_LEN];
	char *log;
	size_t log_len;
};

/* Makes an empty one, whose strings can be read; frees what it holds. */
void failure_init(struct failure *failure);
void failure_free(struct failure *failure);

/* Whether an errno says that there are too few file descriptors. */
bool no_descriptors(int sys_errno);

/*
 * Records a failure and returns -code. The message is a format; errno 0: none. The remedy against
 * too few descriptors is known here.
 */
int failure_set(struct failure *failure, enum corelock_code code, int sys_errno, const char *remedy,
		const char *message, ...) __attribute__((format(printf, 5, 6)));

/*
 * Routes libbpf's words into the log, for the calling thread, until log_end.
 * failure_show_log lets the caller of the library see them.
 */
void failure_log_begin(struct failure *failure);
void log_end(void);
void failure_show_log(struct failure *failure);

/* A bit for each, as in linux/capability.h. */
uint64_t effective_capabilities(void);

/* Fails with a remedy unless the caller has the capabilities for BPF. */
int capabilities_check(struct failure *failure);

/* Says why what was asked of bpf() was refused with EPERM or ENOSYS. */
int permission_fail(struct failure *failure, int sys_errno, const char *what);

/* Against a refusal that nobody forbade. */
#define REFUSAL_REMEDY "Please report this with the log (-v) and the kernel's version."

/* Says why the kernel did not load the programs of object (NULL: it could not be opened). */
int load_fail(struct failure *failure, const struct bpf_object *object, int sys_errno);

/* Fails unless the kernel's BTF can be read. */
int btf_check(struct failure *failure);

/* Fails unless the words of this kernel's mmap_lock say who holds it. */
int lock_words_check(struct failure *failure);

/*
 * Runs load(handle) with libbpf's words logged, and with the kernel's BTF from a file, in another
 * thread; without a path, in this one.
 */
int load_with_btf(struct failure *failure, const char *path, int (*load)(void *handle),
		  void *handle);

#endif
