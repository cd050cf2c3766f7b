/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What cycles are about, as entries of a recording's tables. Nothing here is exported. */
#ifndef CORELOCK_RECTABLES_H
#define CORELOCK_RECTABLES_H

#include "recfile.h"
#include "session.h"

/* What has been written of a table: entry i is that of index i. */
struct written {
	void *entries;
	uint32_t count;
	uint32_t first_incomplete; /* from here on entries are to be looked at again */
};

struct rectables {
	struct written processes, rows;
};

/*
 * Writes the entries that are new, or with `all` also those that have changed. Returns 0 or an
 * errno.
 */
int rectables_write(struct rectables *tables, const corelock_session *session, struct recfile *file,
		    bool all);
void rectables_free(struct rectables *tables);

#endif
