// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Loads the programs on the tracepoints' records as another kernel shapes those: this kernel's
 * BTF, with the records in it replaced. Prints what libbpf says of each relocation.
 *
 *   record_forms own|class|class_with_id BTF_FILE      the last one is written
 *
 * What only differs in its records can be loaded here; attached it would misread.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/btf.h>

#include "corelock.h"
#include "mmap_lock.skel.h"

#define PREFIX "trace_event_raw_mmap_lock"

static int say(enum libbpf_print_level level, const char *format, va_list arguments)
{
	(void)level;
	return vprintf(format, arguments);
}

static void check(int result, const char *what)
{
	if (result >= 0)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(-result));
	exit(1);
}

static void hide_records(struct btf *btf)
{
	for (int id = 1; id < (int)btf__type_cnt(btf); id++) {
		const char *name = btf__str_by_offset(btf, btf__type_by_id(btf, id)->name_off);

		if (!strncmp(name, PREFIX, strlen(PREFIX))) {
			int hidden = btf__add_str(btf, "hidden");

			check(hidden, "btf__add_str");
			((struct btf_type *)btf__type_by_id(btf, id))->name_off = hidden;
		}
	}
}

static void add_record(struct btf *btf, const char *name, int write_at, int success_at)
{
	int mm = btf__add_ptr(btf, btf__find_by_name_kind(btf, "mm_struct", BTF_KIND_STRUCT));
	int boolean = btf__find_by_name_kind(btf, "_Bool", BTF_KIND_INT);
	int u64 = btf__find_by_name_kind(btf, "long unsigned int", BTF_KIND_INT);
	int u32 = btf__find_by_name_kind(btf, "unsigned int", BTF_KIND_INT);

	check(btf__add_struct(btf, name, write_at == 24 ? 32 : 24), name);
	check(btf__add_field(btf, "mm", mm, 8 * 8, 0), "mm");
	if (write_at == 24)
		check(btf__add_field(btf, "memcg_id", u64, 16 * 8, 0), "memcg_id");
	else
		check(btf__add_field(btf, "__data_loc_memcg_path", u32, 16 * 8, 0), "path");
	check(btf__add_field(btf, "write", boolean, write_at * 8, 0), "write");
	if (success_at)
		check(btf__add_field(btf, "success", boolean, success_at * 8, 0), "success");
}

static void write_btf(struct btf *btf, const char *path)
{
	FILE *file = fopen(path, "w");
	__u32 bytes;
	const void *data = btf__raw_data(btf, &bytes);

	if (!file || !data || fwrite(data, 1, bytes, file) != bytes || fclose(file))
		check(-errno, path);
}

int main(int argc, char **argv)
{
	DECLARE_LIBBPF_OPTS(bpf_object_open_opts, options);
	int own, write_at;
	struct btf *btf = btf__load_vmlinux_btf();
	struct bpf_program *program;
	struct mmap_lock_bpf *skel;

	if (argc != 3 || !btf)
		return 2;
	own = !strcmp(argv[1], "own");
	write_at = strcmp(argv[1], "class_with_id") ? 20 : 24;
	hide_records(btf);
	add_record(btf, own ? PREFIX "_start_locking" : PREFIX, write_at, 0);
	add_record(btf, PREFIX "_acquire_returned", write_at, write_at + 1);
	if (own)
		add_record(btf, PREFIX "_released", write_at, 0);
	write_btf(btf, argv[2]);
	options.btf_custom_path = argv[2];

	libbpf_set_print(say);
	skel = mmap_lock_bpf__open_opts(&options);
	if (!skel)
		return 1;
	skel->rodata->mm_from_record = true;
	bpf_object__for_each_program(program, skel->obj) bpf_program__set_autoload(program, false);
	bpf_program__set_autoload(own ? skel->progs.start_locking_own_record
				      : skel->progs.start_locking_record,
				  true);
	bpf_program__set_autoload(skel->progs.acquire_returned_record, true);
	bpf_program__set_autoload(
		own ? skel->progs.released_own_record : skel->progs.released_record, true);
	check(mmap_lock_bpf__load(skel), "load");
	puts("loaded");
	mmap_lock_bpf__destroy(skel);
	return 0;
}
