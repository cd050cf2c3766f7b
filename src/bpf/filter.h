/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a test of a filter comes to. Pure: no map, no helper, so that tests run the same code on
 * the host. The values, and the walk through the tests, are in operands.bpf.h.
 */
#ifndef CORELOCK_FILTER_H
#define CORELOCK_FILTER_H

#include "../abi/corelock_abi.h"
#include "compiler.h"

#define TEXT_WORDS (CORELOCK_TEXT_BYTES / 8)

/* A text, all zeros from its end on: equal texts are equal words. */
struct text {
	uint64_t words[TEXT_WORDS];
};

/* Two numbers, each the pattern of a signed or an unsigned one: -1, 0 or 1, as in memcmp. */
static __always_inline int number_order(uint64_t left, uint8_t left_signed, uint64_t right,
					uint8_t right_signed)
{
	uint8_t left_negative = left_signed && left >> 63;
	uint8_t right_negative = right_signed && right >> 63;

	if (left_negative != right_negative)
		return left_negative ? -1 : 1;
	/* Patterns of two negative numbers are in their order, too. */
	return left < right ? -1 : left > right;
}

static __always_inline uint8_t comparison_holds(uint8_t comparison, int order)
{
	switch (comparison) {
	case CORELOCK_COMPARISON_EQ:
		return order == 0;
	case CORELOCK_COMPARISON_NE:
		return order != 0;
	case CORELOCK_COMPARISON_LT:
		return order < 0;
	case CORELOCK_COMPARISON_LE:
		return order <= 0;
	case CORELOCK_COMPARISON_GT:
		return order > 0;
	default:
		return order >= 0;
	}
}

/* A masked number is unsigned. */
static __always_inline uint8_t numbers_pass(const struct corelock_test *test, uint64_t left,
					    uint8_t left_signed, uint64_t right,
					    uint8_t right_signed)
{
	uint8_t as_it_is = test->mask == ~0ULL;

	return comparison_holds(
		test->comparison,
		number_order(left & test->mask, left_signed && as_it_is, right, right_signed));
}

/* Texts are equal or not, they have no order. */
static __always_inline uint8_t texts_pass(const struct corelock_test *test, const struct text *left,
					  const struct text *right)
{
	uint64_t difference = 0;

	for (uint32_t word = 0; word < TEXT_WORDS; word++)
		difference |= left->words[word] ^ right->words[word];
	return comparison_holds(test->comparison, difference != 0);
}

#endif
