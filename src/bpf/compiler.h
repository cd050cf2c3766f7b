/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What programs tell their compiler, on the host, too. */
#ifndef CORELOCK_COMPILER_H
#define CORELOCK_COMPILER_H

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

#define likely(condition) __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

#endif
