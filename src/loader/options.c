// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Structs of options as older and newer callers have them. */
#include <stdint.h>
#include <string.h>

#include "options.h"

#define MAX_OPTIONS_SIZE 4096

bool options_take(void *to, size_t size, const void *from)
{
	const unsigned char *bytes = from;
	uint64_t given;

	memcpy(&given, from, sizeof(given));
	if (given < sizeof(given) || given > MAX_OPTIONS_SIZE)
		return false;
	for (uint64_t at = size; at < given; at++)
		if (bytes[at])
			return false;
	memset(to, 0, size);
	memcpy(to, from, given < size ? given : size);
	return true;
}
