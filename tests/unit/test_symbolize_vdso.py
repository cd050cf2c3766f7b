"""The vdso of other processes by our own copy of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from stack_program import build, running
from test_symbolize_user import fake_proc, slow_event

from corelock.symbolize import Symbolizer
from corelock.symbolize.maps import Region, parse_maps
from corelock.symbolize.vdso import Vdso

VDSO = "[vdso]"


def vdso_of(pid: int) -> Region:
    regions = parse_maps(Path(f"/proc/{pid}/maps").read_bytes())
    found = [region for region in regions if region.path == VDSO]
    if not found:
        pytest.skip("processes have no vdso here")
    return found[0]


@pytest.fixture
def functions(tmp_path: Path) -> dict[str, int]:
    """What nm says of a dump of it."""
    region = vdso_of(os.getpid())
    image = tmp_path / "vdso.so"
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        memory.seek(region.start)
        image.write_bytes(memory.read(region.end - region.start))
    output = subprocess.run(["nm", "-D", str(image)], capture_output=True, text=True, check=True)
    rows = [line.split() for line in output.stdout.splitlines()]
    return {row[2].partition("@")[0]: int(row[0], 16) for row in rows if row[1] in "TW"}


def test_functions_of_another_process(tmp_path: Path, functions: dict[str, int]) -> None:
    with running(build(tmp_path)) as (process, _):
        region = vdso_of(process.pid)
        stack = [region.start + address for address in functions.values()]
        symbolizer = Symbolizer()
        frames = [
            symbolizer.resolve(slow_event(process.pid, address)).user_stack[0] for address in stack
        ]
    assert frames
    for frame, address in zip(frames, functions.values()):
        assert (frame.module, frame.offset) == (VDSO, 0)
        assert frame.name is not None
        assert functions[frame.name] == address


@pytest.mark.parametrize("what", ["size", "class"])
def test_another_vdso_than_ours_has_no_names(what: str) -> None:
    own = vdso_of(os.getpid())
    own_class = Path(sys.executable).read_bytes()[4]
    vdso = Vdso()
    assert vdso.of(own, own_class) is not None
    if what == "size":
        assert vdso.of(own._replace(end=own.end + 4096), own_class) is None
    else:
        assert vdso.of(own, 3 - own_class) is None
        assert vdso.of(own, 0) is None


def test_an_unknown_process_has_addresses(tmp_path: Path) -> None:
    proc = fake_proc(tmp_path, 7, "1000-3000 r-xp 00000000 00:00 0 [vdso]\n")
    symbolizer = Symbolizer(proc=str(proc))
    (frame,) = symbolizer.resolve(slow_event(7, 0x1ABC)).user_stack
    assert (frame.name, frame.module, frame.offset) == (None, VDSO, 0xABC)
    assert symbolizer.summary.unresolved == {"[vdso]: not ours": 1}
