"""Counting by reason."""

from __future__ import annotations

#: A tracer that runs for weeks meets ever new files.
_MOST_REASONS = 500
_OTHER = "other reasons"


class Counts(dict[str, int]):
    """``{reason: times}``, with room for so many reasons; those that come later are one."""

    def add(self, reason: str, times: int = 1) -> None:
        """Count ``reason``."""
        if reason not in self and len(self) >= _MOST_REASONS:
            reason = _OTHER
        self[reason] = self.get(reason, 0) + times
