"""What -v shows of symbolization."""

from __future__ import annotations

from corelock.model import Symbolization
from corelock.render.symbolization import symbolization


def test_block() -> None:
    summary = Symbolization(
        120, {"libc.so.6: no symbol": 3, "a\x1bb: no symbol": 7}, {"perf map: bad line": 2}
    )
    assert list(symbolization(summary)) == [
        "symbolization",
        "  frames resolved 120, unresolved 10",
        "         7  a?b: no symbol",
        "         3  libc.so.6: no symbol",
        "  problems",
        "         2  perf map: bad line",
    ]


def test_nothing_wrong() -> None:
    assert list(symbolization(Symbolization(0, {}, {}))) == [
        "symbolization",
        "  frames resolved 0, unresolved 0",
    ]
