// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Rows and processes, read out of the kernel's tables when there are new ones. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rectables.h"

#define BATCH 256

/* As docs/format.md has them. */
struct process_entry {
	uint32_t mm;
	uint32_t pid;
	uint32_t host_pid;
	uint32_t reserved;
	uint64_t start_ns;
	uint8_t comm[CORELOCK_COMM_LEN];
};

struct row_entry {
	uint32_t row;
	uint32_t mm;
	uint32_t thread;
	uint32_t pid;
	uint32_t tid;
	uint32_t host_pid;
	uint32_t host_tid;
	uint32_t operation;
	uint32_t mode;
	uint32_t reserved;
	uint64_t named_ns;
	uint8_t comm[CORELOCK_COMM_LEN];
};

_Static_assert(sizeof(struct process_entry) == 40, "as docs/format.md has it");
_Static_assert(sizeof(struct row_entry) == 64, "as docs/format.md has it");

/* How a table of the kernel's becomes one of the file. */
struct table {
	enum corelock_block type;
	const struct bpf_map *map;
	uint32_t used;	   /* entries handed out */
	size_t entry_size; /* in the file */
	/* Makes an entry; false if the kernel has not filled it in yet. */
	bool (*convert)(void *entry, const void *value, uint32_t index);
};

static bool convert_process(void *entry, const void *value, uint32_t index)
{
	const struct corelock_mm *mm = value;

	*(struct process_entry *)entry = (struct process_entry){
		.mm = index,
		.pid = mm->pid,
		.host_pid = mm->host_pid,
		.start_ns = mm->process_start_ns,
	};
	memcpy(((struct process_entry *)entry)->comm, mm->comm, CORELOCK_COMM_LEN);
	return mm->host_pid;
}

static bool convert_row(void *entry, const void *value, uint32_t index)
{
	const struct corelock_row *row = value;

	*(struct row_entry *)entry = (struct row_entry){
		.row = index,
		.mm = row->mm_id,
		.thread = row->task_id,
		.pid = row->pid,
		.tid = row->tid,
		.host_pid = row->host_pid,
		.host_tid = row->host_tid,
		.operation = row->operation,
		.mode = row->mode,
		.named_ns = row->named_ns,
	};
	memcpy(((struct row_entry *)entry)->comm, row->comm, CORELOCK_COMM_LEN);
	/* Written last, but for the name itself. */
	return row->named_ns;
}

static int make_room(struct written *written, const struct table *table)
{
	void *entries;

	if (table->used <= written->count)
		return 0;
	entries = realloc(written->entries, table->used * table->entry_size);
	if (!entries)
		return ENOMEM;
	memset((char *)entries + written->count * table->entry_size, 0,
	       (table->used - written->count) * table->entry_size);
	written->entries = entries;
	written->count = table->used;
	return 0;
}

/* Brings a part of the table up to date; what is new of it goes to `fresh`, `*count` entries. */
static void update(struct written *written, const struct table *table, uint32_t start,
		   uint32_t entries, const char *values, char *fresh, uint32_t *count)
{
	size_t size = table->entry_size;

	*count = 0;
	for (uint32_t i = 0; i < entries; i++) {
		char *known = (char *)written->entries + (start + i) * size;
		char *entry = fresh + *count * size;
		bool complete = table->convert(entry, values + i * bpf_map__value_size(table->map),
					       start + i);

		if (!complete && written->first_incomplete > start + i)
			written->first_incomplete = start + i;
		if (!memcmp(entry, known, size))
			continue;
		memcpy(known, entry, size);
		(*count)++;
	}
}

static int write_part(struct written *written, const struct table *table, struct recfile *file,
		      uint32_t start, uint32_t entries)
{
	char *values = malloc(BATCH * bpf_map__value_size(table->map));
	char *fresh = malloc(BATCH * table->entry_size);
	struct iovec part = {fresh, 0};
	uint32_t count = 0;
	int error = values && fresh ? read_entries(table->map, start, entries, values) : ENOMEM;

	if (!error) {
		update(written, table, start, entries, values, fresh, &count);
		part.iov_len = count * table->entry_size;
	}
	if (count)
		error = recfile_block(file, table->type, &part, 1, true);
	free(values);
	free(fresh);
	return error;
}

static int write_table(struct written *written, const struct table *table, struct recfile *file,
		       bool all)
{
	uint32_t start = all || !written->first_incomplete ? 1 : written->first_incomplete;
	int error = make_room(written, table);

	written->first_incomplete = table->used;
	while (!error && start < table->used) {
		uint32_t entries = table->used - start < BATCH ? table->used - start : BATCH;

		error = write_part(written, table, file, start, entries);
		start += entries;
	}
	return error;
}

int rectables_write(struct rectables *tables, const corelock_session *session, struct recfile *file,
		    bool all)
{
	const struct mmap_lock_bpf__data *data = session->skel->data;
	/* Rows name processes: what a row is read to name is in the file already. */
	struct table rows = {
		.type = CORELOCK_BLOCK_ROWS,
		.map = session->skel->maps.rows,
		.used = used_entries(data->next_row, session->options.max_rows),
		.entry_size = sizeof(struct row_entry),
		.convert = convert_row,
	};
	struct table processes = {
		.type = CORELOCK_BLOCK_PROCESSES,
		.map = session->skel->maps.mms,
		.used = used_entries(data->next_mm, session->options.max_mms),
		.entry_size = sizeof(struct process_entry),
		.convert = convert_process,
	};
	int error = write_table(&tables->processes, &processes, file, all);

	return error ?: write_table(&tables->rows, &rows, file, all);
}

void rectables_free(struct rectables *tables)
{
	free(tables->processes.entries);
	free(tables->rows.entries);
}
