"""A history as one line of blocks, each as high as its number."""

from __future__ import annotations

from collections.abc import Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII = ".:-=+*#@"


def sparkline(values: Sequence[float], width: int, *, ascii_only: bool = False) -> str:
    """The last ``width`` of ``values`` (0 or more), the newest last, as high as the highest.

    What is 0 is blank; what is not is seen.

    >>> sparkline([0, 1, 4, 8], 6), sparkline([5, 5], 2, ascii_only=True)
    ('   ▁▄█', '@@')
    """
    shown = values[-width:] if width > 0 else ()
    highest = max(shown, default=0)
    blocks = _ASCII if ascii_only else _BLOCKS
    line = "".join(
        blocks[max(0, round(value / highest * len(blocks)) - 1)] if value else " "
        for value in shown
    )
    return line.rjust(width)
