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

/* Records a failure and returns -code. The message is a format; errno 0: none. */
int failure_set(struct failure *failure, enum corelock_code code, int sys_errno, const char *remedy,
		const char *message, ...) __attribute__((format(printf, 5, 6)));

/*
 * Routes libbpf's words into the log, for the calling thread, until log_end.
 * failure_show_log lets the caller of the library see them.
 */
void failure_log_begin(struct failure *failure);
void log_end(void);
void failure_show_log(struct failure *failure);

/* Fails with a remedy unless the caller may use BPF. */
int caller_check(struct failure *failure);

/* Says why bpf() was refused with EPERM. */
int permission_fail(struct failure *failure, const char *what);

/* Fails unless the words of this kernel's mmap_lock say who holds it. */
int lock_words_check(struct failure *failure);

/*
 * Runs load(handle), which begins and ends a log of its own, with the kernel's BTF from a file, in
 * another thread; without a path, plainly.
 */
int load_with_btf(struct failure *failure, const char *path, int (*load)(void *handle),
		  void *handle);

#endif
