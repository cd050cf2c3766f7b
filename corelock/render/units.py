"""Numbers as people read them: three significant digits in at most five characters."""

from __future__ import annotations

from typing import Optional

_HOUR_NS = 3_600_000_000_000

# (size of one, suffix, whole numbers below this). Minutes have no suffix of
# their own: "12m" would be read as milliseconds and the other way round.
_TIMES = (
    (1, "n", 1000),
    (1000, "u", 1000),
    (1_000_000, "m", 1000),
    (1_000_000_000, "s", 10_000),
    (_HOUR_NS, "h", 10_000),
)
_COUNTS = (
    (1, "", 100_000),
    (1000, "K", 1000),
    (1_000_000, "M", 1000),
    (1_000_000_000, "G", 1000),
    (1_000_000_000_000, "T", 10_000),
)


_NUMBERS = (
    *_COUNTS[:-1],
    (10**12, "T", 1000),
    (10**15, "P", 1000),
    (10**18, "E", 10_000),
)
_SIZES = tuple(
    (1 << 10 * power, suffix, 10_000 if suffix in ("", "E") else 1000)
    for power, suffix in enumerate(("", "K", "M", "G", "T", "P", "E"))
)


def duration(ns: Optional[int]) -> str:
    """A time in ns with its unit: n, u, m (milli), s up to 9999s, then h (hours); None is "-".

    At most five characters up to 9999 hours.

    >>> duration(812), duration(1023), duration(12_345_678), duration(999_600)
    ('812n', '1.02u', '12.3m', '1.00m')
    >>> duration(75_000_000_000), duration(1_234_000_000_000), duration(36_000_000_000_000)
    ('75.0s', '1234s', '10.0h')
    """
    return "-" if ns is None else _scaled(ns, _TIMES)


def count(n: int) -> str:
    """A number of things, decimal K, M, G, T from 100,000 on.

    >>> count(99_999), count(123_456), count(999_950)
    ('99999', '123K', '1.00M')
    """
    return _scaled(n, _COUNTS)


def size(n: int) -> str:
    """A number of bytes, binary K, M, G, T, P, E from 10,000 on.

    >>> size(4096), size(65_536), size(3 << 29)
    ('4096', '64.0K', '1.50G')
    """
    return _scaled(n, _SIZES)


def number(n: int) -> str:
    """Any number, in the manner of :func:`count`.

    >>> number(-11), number(-123_456), number(2**63)
    ('-11', '-123K', '9.22E')
    """
    return f"-{_scaled(-n, _NUMBERS)}" if n < 0 else _scaled(n, _NUMBERS)


def _scaled(value: int, units: tuple[tuple[int, str, int], ...]) -> str:
    for size, suffix, limit in units:
        for decimals in (2, 1, 0) if size > 1 else (0,):
            # Rounded before it is compared, so that 999.6 becomes 1.00 of the next unit.
            digits = (value * 10**decimals * 2 + size) // (2 * size)
            if digits < (1000 if decimals else limit):
                return f"{digits / 10**decimals:.{decimals}f}{suffix}"
    return f"{digits}{suffix}"
