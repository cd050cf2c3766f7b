"""Which byte of a function a stack entry stands for."""

from __future__ import annotations


def return_probes(stack: tuple[int, ...]) -> list[int]:
    """The addresses to look up for a stack (innermost first).

    All but the innermost are return addresses. A call that ends a function
    returns to the start of the next one, so the byte before is what to look up.

    >>> return_probes((16, 32))
    [16, 31]
    """
    return [address - (index > 0) for index, address in enumerate(stack)]
