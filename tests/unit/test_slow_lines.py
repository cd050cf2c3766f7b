"""Lines of stacks fit their width, whatever a module is called."""

from __future__ import annotations

from typing import Optional

import pytest

from corelock.model import Frame
from corelock.render.slow import stack_lines
from corelock.render.text import cells

ADDRESS = 0x7F0012345678


@pytest.mark.parametrize("width", [24, 40, 80])
@pytest.mark.parametrize(("name", "offset"), [(None, None), (None, 0x10), ("f", 0x10)])
def test_long_modules_are_cut(name: Optional[str], offset: Optional[int], width: int) -> None:
    frame = Frame(ADDRESS, name, offset, "lib" + "x" * 200 + ".so")
    (line,) = stack_lines([frame], "({})", width)
    assert cells(line) <= width


def test_a_frame_that_has_only_a_module() -> None:
    (line,) = stack_lines([Frame(ADDRESS, None, None, "x" * 100)], "({})", 32)
    assert line == "    0x7f0012345678 (xxxxxxxxxx~)"
    (line,) = stack_lines([Frame(ADDRESS, None, None, "lib.so")], "[{}]", 32)
    assert line == "    0x7f0012345678 [lib.so]"
    (line,) = stack_lines([Frame(ADDRESS, None, None, None)], "[{}]", 32)
    assert line == "    0x7f0012345678"
