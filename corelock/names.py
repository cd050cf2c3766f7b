"""Names of the kernel as text."""

from __future__ import annotations

import functools


@functools.lru_cache(maxsize=4096)
def kernel_name(raw: bytes) -> str:
    """A name of the kernel, up to its first NUL, as text that is safe to print."""
    text = raw.split(b"\0", 1)[0].decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
