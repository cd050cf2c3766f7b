// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What arguments functions of the kernel take, as its BTF says. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/btf.h>

#include "probes.h"

/* Without const, typedef and the like; NULL for void and what makes no sense. */
static const struct btf_type *resolved(const struct btf *btf, uint32_t id)
{
	const struct btf_type *type = btf__type_by_id(btf, id);

	while (type && (btf_is_mod(type) || btf_is_typedef(type)))
		type = btf__type_by_id(btf, type->type);
	return type;
}

/* False for a structure, which may take several registers, or none. */
static bool describe(const struct btf *btf, const struct btf_param *param,
		     struct corelock_argument *argument)
{
	const struct btf_type *type = resolved(btf, param->type);
	const char *name = btf__name_by_offset(btf, param->name_off);

	*argument = (struct corelock_argument){};
	if (!type)
		return false;
	strncpy((char *)argument->name, name ?: "", sizeof(argument->name) - 1);
	if (btf_is_ptr(type)) {
		argument->is_pointer = 1;
		argument->size = sizeof(void *);
		return true;
	}
	argument->size = type->size;
	if (btf_is_int(type))
		argument->is_signed = btf_int_encoding(type) & BTF_INT_SIGNED ? 1 : 0;
	else if (btf_is_any_enum(type))
		argument->is_signed = btf_kflag(type);
	else
		return false;
	return argument->size == 1 || argument->size == 2 || argument->size == 4 ||
	       argument->size == 8;
}

static void describe_all(const struct btf *btf, const struct btf_type *function,
			 struct corelock_prototype *prototype)
{
	const struct btf_type *type = btf__type_by_id(btf, function->type);
	uint32_t count;

	/* Several functions have this name: which one is meant cannot be told. */
	if (prototype->known++)
		return;
	count = type && btf_is_func_proto(type) ? btf_vlen(type) : 0;
	while (prototype->count < count && prototype->count < CORELOCK_ARGUMENTS &&
	       describe(btf, &btf_params(type)[prototype->count],
			&prototype->arguments[prototype->count]))
		prototype->count++;
}

static int by_name(const void *key, const void *name)
{
	return strcmp(key, *(const char *const *)name);
}

CORELOCK_EXPORT int corelock_prototypes(const char *const *names, uint32_t count,
					struct corelock_prototype *prototypes)
{
	struct btf *btf = btf__parse(VMLINUX_BTF, NULL);

	if (!btf)
		return -errno;
	memset(prototypes, 0, count * sizeof(*prototypes));
	for (uint32_t id = 1; id < btf__type_cnt(btf); id++) {
		const struct btf_type *type = btf__type_by_id(btf, id);
		const char *const *found;

		if (!btf_is_func(type))
			continue;
		found = bsearch(btf__name_by_offset(btf, type->name_off), names, count,
				sizeof(*names), by_name);
		if (found)
			describe_all(btf, type, &prototypes[found - names]);
	}
	btf__free(btf);
	return 0;
}
