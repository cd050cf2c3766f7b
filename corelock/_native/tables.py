"""Operands, tests and texts as the tables that programs find them in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

from corelock.probes.filters import Test
from corelock.probes.operands import TEXT_BYTES, Operand


class Tables:
    """Gives each operand, filter and text its place; equal operands and texts share one."""

    def __init__(self, ffi: Any, lib: Any) -> None:
        self._ffi, self._lib = ffi, lib
        self._operands: dict[tuple[Operand, int], int] = {}
        self._texts: dict[bytes, int] = {}
        self._tests: list[dict[str, int]] = []
        self._longest_filter = 0

    def operand(self, operand: Operand, place: int = 0) -> int:
        """The index of an operand; ``place`` is where the program is to put its value."""
        return self._operands.setdefault((operand, place), len(self._operands))

    def filter(self, tests: Optional[Sequence[Test]]) -> int:
        """The index of a filter's first test; None: there is no filter."""
        if not tests:
            return int(self._lib.CORELOCK_NO_FILTER)
        first = len(self._tests)
        self._longest_filter = max(self._longest_filter, len(tests))
        for test in tests:
            self._tests.append({
                "mask": test.mask,
                "left": self.operand(test.left),
                "right": self.operand(test.right),
                "comparison": getattr(self._lib, f"CORELOCK_COMPARISON_{test.comparison}"),
                "on_true": test.on_true,
                "on_false": test.on_false,
            })  # fmt: skip
        return first

    def options(self) -> dict[str, Any]:
        """Members of ``struct corelock_probe_options``; what they point to lives as they do."""
        operands = [self._raw(operand, place) for operand, place in self._operands]
        texts = b"".join(text.ljust(TEXT_BYTES, b"\0") for text in self._texts)
        return {
            "operand_count": len(operands),
            "test_count": len(self._tests),
            "text_count": len(self._texts),
            "longest_filter": self._longest_filter,
            "operands": self._ffi.new("struct corelock_operand[]", operands),
            "tests": self._ffi.new("struct corelock_test[]", self._tests),
            "texts": self._ffi.new("uint8_t[]", texts),
        }

    def _raw(self, operand: Operand, place: int) -> dict[str, int]:
        constant = operand.constant
        if operand.text == "CONSTANT":
            constant = self._texts.setdefault(operand.words, len(self._texts))
        added = operand.added
        raw = {
            "constant": constant & (1 << 64) - 1,
            "source": getattr(self._lib, f"CORELOCK_SOURCE_{operand.source}"),
            "text": getattr(self._lib, f"CORELOCK_TEXT_{operand.text}"),
            "offset": operand.offset,
            "index": self._lib.CORELOCK_NO_REGISTER if added is None else added.offset,
            "size": operand.size,
            "is_signed": operand.signed,
            "length": operand.length,
            "place": place,
        }
        if added is not None:
            raw.update(index_size=added.size, index_signed=added.signed, index_shift=added.shift)
        return raw
