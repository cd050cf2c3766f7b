/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Structs of options, whose first member is their size. Nothing here is exported. */
#ifndef CORELOCK_OPTIONS_H
#define CORELOCK_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Takes over what the caller gave into a struct of size bytes: what the caller does not know of is
 * 0. False if it has members that are not known here, and sets them.
 */
bool options_take(void *to, size_t size, const void *from);

#endif
