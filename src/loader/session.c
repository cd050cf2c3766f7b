// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A session's beginning and end, and its options. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fingerprint.h"
#include "options.h"
#include "session.h"

#define DEFAULT_ROWS 16384
#define DEFAULT_MMS 8192
#define CHUNKS_PER_ROW 8
#define DEFAULT_RING_BYTES (8 << 20)
#define MIN_RING_RECORDS 2
#define MAX_ENTRIES (1U << 22)
#define MAX_RING_BYTES (1U << 30)

_Static_assert(sizeof(struct corelock_row) % 8 == 0, "array values are read back to back");
_Static_assert(sizeof(struct corelock_mm) % 8 == 0, "array values are read back to back");

static const struct corelock_handshake handshake = {
	.abi_version = CORELOCK_ABI_VERSION,
	.fingerprint = CORELOCK_FINGERPRINT,
};

CORELOCK_EXPORT const struct corelock_handshake *corelock_handshake(void)
{
	return &handshake;
}

CORELOCK_EXPORT corelock_session *corelock_new(void)
{
	corelock_session *session = calloc(1, sizeof(*session));

	if (!session)
		return NULL;
	session->owner = getpid();
	session->error.message = session->message;
	session->error.remedy = session->remedy;
	session->error.log = "";
	return session;
}

CORELOCK_EXPORT void corelock_free(corelock_session *session)
{
	if (!session)
		return;
	session_unload(session);
	rows_free(session);
	activity_free(session);
	free(session->btf_path);
	free(session->log);
	free(session);
}

uint32_t power_of_two(uint32_t value)
{
	uint32_t power = getpagesize();

	while (power < value)
		power *= 2;
	return power;
}

CORELOCK_EXPORT int corelock_configure(corelock_session *session,
				       const struct corelock_options *given)
{
	struct corelock_options *options = &session->options;

	if (session->configured)
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "Use a new session.",
				    "the session is configured already");
	if (!options_take(options, sizeof(*options), given))
		return session_fail(session, CORELOCK_E_ARGUMENT, 0,
				    "Use the libcorelock that belongs to this package.",
				    "the options have members this library does not know");
	if (options->target > CORELOCK_TARGET_CGROUP)
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "",
				    "no such kind of target: %u", options->target);
	if ((options->target == CORELOCK_TARGET_PROCESS ||
	     options->target == CORELOCK_TARGET_THREAD) &&
	    !options->target_id)
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "", "pid 0 cannot be traced");
	if (options->target == CORELOCK_TARGET_CGROUP && !options->cgroup_id)
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "", "no cgroup has the id 0");
	if (options->follow && options->target != CORELOCK_TARGET_PROCESS)
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "",
				    "only a process's children can be followed");
	options->max_rows = options->max_rows ?: DEFAULT_ROWS;
	options->max_mms = options->max_mms ?: DEFAULT_MMS;
	options->max_chunks = options->max_chunks ?: CHUNKS_PER_ROW * options->max_rows;
	options->ring_bytes = options->ring_bytes ?: DEFAULT_RING_BYTES;
	if (options->max_rows > MAX_ENTRIES || options->max_mms > MAX_ENTRIES ||
	    options->max_chunks > CHUNKS_PER_ROW * MAX_ENTRIES ||
	    options->ring_bytes > MAX_RING_BYTES)
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "Ask for less.",
				    "table sizes are limited to %u rows and mms and %u ring bytes",
				    MAX_ENTRIES, MAX_RING_BYTES);
	if (options->attach > CORELOCK_ATTACH_TP || options->reserved)
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "",
				    "no such way to attach: %u", options->attach);
	if (options->charges > CHARGES_WITHOUT_EXAMPLES)
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "",
				    "the option charges is 0, 1 or 2");
	if (options->record > 1 || (options->record && options->charges))
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "",
				    "the option record is 0 or 1, and goes without charges");
	if (options->cycle_ring_bytes > MAX_RING_BYTES)
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "Ask for less.",
				    "a ring for cycles is limited to %u bytes", MAX_RING_BYTES);
	if (options->ring_bytes < MIN_RING_RECORDS * sizeof(struct corelock_slow))
		options->ring_bytes = MIN_RING_RECORDS * sizeof(struct corelock_slow);
	options->ring_bytes = power_of_two(options->ring_bytes);
	/* Entry 0 of each table means "none". */
	options->max_rows++;
	options->max_mms++;
	options->max_chunks++;
	if (options->btf_path) {
		session->btf_path = strdup(options->btf_path);
		options->btf_path = NULL;
		if (!session->btf_path)
			return session_fail(session, CORELOCK_E_SYSTEM, ENOMEM, "", "no memory");
	}
	session->configured = true;
	return 0;
}
