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
 * session loads; words of other threads' libbpf calls in that time go where
 * they went before.
 */
static pthread_mutex_t print_lock = PTHREAD_MUTEX_INITIALIZER;
static libbpf_print_fn_t previous_print;
static __thread corelock_session *logging;

static void log_append(corelock_session *session, const char *text, size_t length)
{
	if (!session->log) {
		session->log = calloc(1, LOG_LEN + 1);
		if (!session->log)
			return;
	}
	/* The end of a long log is what explains the failure. */
	if (length > LOG_LEN) {
		text += length - LOG_LEN;
		length = LOG_LEN;
	}
	if (session->log_len + length > LOG_LEN) {
		size_t keep = LOG_LEN - length;

		memmove(session->log, session->log + session->log_len - keep, keep);
		session->log_len = keep;
	}
	memcpy(session->log + session->log_len, text, length);
	session->log_len += length;
	session->log[session->log_len] = '\0';
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

void log_begin(corelock_session *session)
{
	pthread_mutex_lock(&print_lock);
	logging = session;
	previous_print = libbpf_set_print(print_capture);
}

void log_end(void)
{
	libbpf_set_print(previous_print);
	logging = NULL;
	pthread_mutex_unlock(&print_lock);
}

int session_fail(corelock_session *session, enum corelock_code code, int sys_errno,
		 const char *remedy, const char *message, ...)
{
	va_list arguments;
	size_t length;

	va_start(arguments, message);
	vsnprintf(session->message, sizeof(session->message), message, arguments);
	va_end(arguments);
	length = strlen(session->message);
	if (sys_errno)
		snprintf(session->message + length, sizeof(session->message) - length, ": %s",
			 strerror(sys_errno));
	snprintf(session->remedy, sizeof(session->remedy), "%s", remedy);
	session->error.code = code;
	session->error.sys_errno = sys_errno;
	return -(int)code;
}

CORELOCK_EXPORT const struct corelock_error *corelock_last_error(const corelock_session *session)
{
	return &session->error;
}
