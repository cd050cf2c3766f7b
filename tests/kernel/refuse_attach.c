// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * To preload: a kernel that does not attach the program on the arguments of mmap_lock_released.
 * libcorelock, which Python opens, brings libbpf along: that is not behind RTLD_NEXT.
 */
#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include <bpf/libbpf.h>

struct bpf_link *bpf_program__attach(const struct bpf_program *program)
{
	void *libbpf = dlopen("libbpf.so.1", RTLD_NOW | RTLD_NOLOAD);
	__typeof__(bpf_program__attach) *attach = dlsym(libbpf, "bpf_program__attach");
	__typeof__(bpf_program__name) *name = dlsym(libbpf, "bpf_program__name");

	if (strcmp(name(program), "released"))
		return attach(program);
	errno = EINVAL;
	return NULL;
}
