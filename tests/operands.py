"""Puts operands and tests into the tables of ``src/bpf/operands.bpf.h``, wherever these are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from corelock.probes.filters import Test
from corelock.probes.operands import Operand

_BITS_64 = 2**64 - 1


class Tables(NamedTuple):
    """Arrays of ``struct corelock_operand``, ``struct corelock_test``, and constant texts."""

    operands: Any
    tests: Any
    texts: list[bytes]


def tables(
    ffi: Any, lib: Any, operands: Sequence[Operand], filters: Sequence[Sequence[Test]]
) -> Tables:
    """All operands, first those that are given; the filters one behind the other."""
    tests = [test for one in filters for test in one]
    all_operands = [*operands, *(side for test in tests for side in (test.left, test.right))]
    texts = sorted({operand.words for operand in all_operands if operand.text == "CONSTANT"})
    rows = ffi.new("struct corelock_operand[]", len(all_operands))
    for row, operand in zip(rows, all_operands):
        _fill(row, lib, operand, texts)
    made = ffi.new("struct corelock_test[]", max(1, len(tests)))
    for index, (row, test) in enumerate(zip(made, tests)):
        row.mask = test.mask
        row.left = len(operands) + 2 * index
        row.right = row.left + 1
        row.comparison = getattr(lib, f"CORELOCK_COMPARISON_{test.comparison}")
        row.on_true, row.on_false = test.on_true, test.on_false
    return Tables(rows, made, [text.ljust(lib.CORELOCK_TEXT_BYTES, b"\0") for text in texts])


def _fill(row: Any, lib: Any, operand: Operand, texts: Sequence[bytes]) -> None:
    row.source = getattr(lib, f"CORELOCK_SOURCE_{operand.source}")
    row.text = getattr(lib, f"CORELOCK_TEXT_{operand.text}")
    row.constant = operand.constant & _BITS_64
    row.offset, row.size, row.is_signed = operand.offset, operand.size, operand.signed
    row.length = operand.length
    row.index = lib.CORELOCK_NO_REGISTER
    if operand.text == "CONSTANT":
        row.constant = texts.index(operand.words)
    if operand.added is not None:
        row.index, row.index_size = operand.added.offset, operand.added.size
        row.index_signed, row.index_shift = operand.added.signed, operand.added.shift
