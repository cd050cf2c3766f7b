// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* How a failure is kept: code, message, remedy, and what libbpf said on the way. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"

/*
 * libbpf has one print callback for the whole process. It is borrowed while a
 * handle loads; words of other threads' libbpf calls in that time go where
 * they went before.
 */
static pthread_mutex_t print_lock = PTHREAD_MUTEX_INITIALIZER;
static libbpf_print_fn_t previous_print;
static __thread struct failure *logging;

static void log_append(struct failure *failure, const char *text, size_t length)
{
	if (!failure->log) {
		failure->log = calloc(1, LOG_LEN + 1);
		if (!failure->log)
			return;
	}
	/* The end of a long log is what explains the failure. */
	if (length > LOG_LEN) {
		text += length - LOG_LEN;
		length = LOG_LEN;
	}
	if (failure->log_len + length > LOG_LEN) {
		size_t keep = LOG_LEN - length;

		memmove(failure->log, failure->log + failure->log_len - keep, keep);
		failure->log_len = keep;
	}
	memcpy(failure->log + failure->log_len, text, length);
	failure->log_len += length;
	failure->log[failure->log_len] = '\0';
}

static int print_capture(enum libbpf_print_level level, const char *format, va_list arguments)
{
	char *text;
	int length;

	if (!logging)
		return previous_print ? previous_print(level, format, arguments) : 0;
	if (level == LIBBPF_DEBUG)
		return 0;
	length = vasprintf(&text, format, arguments);
	if (length < 0)
		return 0;
	log_append(logging, text, length);
	free(text);
	return length;
}

void failure_log_begin(struct failure *failure)
{
	pthread_mutex_lock(&print_lock);
	logging = failure;
	previous_print = libbpf_set_print(print_capture);
}

void log_end(void)
{
	libbpf_set_print(previous_print);
	logging = NULL;
	pthread_mutex_unlock(&print_lock);
}

void failure_show_log(struct failure *failure)
{
	failure->error.log = failure->log ?: "";
}

void failure_init(struct failure *failure)
{
	failure->error.message = failure->message;
	failure->error.remedy = failure->remedy;
	failure->error.log = "";
}

void failure_free(struct failure *failure)
{
	free(failure->log);
}

bool no_descriptors(int sys_errno)
{
	return sys_errno == EMFILE || sys_errno == ENFILE;
}

int failure_set(struct failure *failure, enum corelock_code code, int sys_errno, const char *remedy,
		const char *message, ...)
{
	char reason[128];
	va_list arguments;
	size_t length;

	va_start(arguments, message);
	vsnprintf(failure->message, sizeof(failure->message), message, arguments);
	va_end(arguments);
	length = strlen(failure->message);
	/* libbpf has numbers of its own, too. */
	if (sys_errno) {
		libbpf_strerror(sys_errno, reason, sizeof(reason));
		snprintf(failure->message + length, sizeof(failure->message) - length, ": %s",
			 reason);
	}
	/* Whatever was to be done, it takes a descriptor. */
	snprintf(failure->remedy, sizeof(failure->remedy), "%s",
		 no_descriptors(sys_errno) ? "Raise the limit of open files (ulimit -n)." : remedy);
	failure->error.code = code;
	failure->error.sys_errno = sys_errno;
	return -(int)code;
}

CORELOCK_EXPORT const struct corelock_error *corelock_last_error(const corelock_session *session)
{
	return &session->error;
}
