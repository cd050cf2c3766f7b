"""Whatever a target does to its files: a frame is an address then, and nothing raises or hangs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Callable, Optional

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stack_program import build, link_addresses, running
from test_symbolize_user import fake_proc, mapped, slow_event

import corelock
from corelock._native.mounts import makes_up_devices
from corelock.model import UserContext
from corelock.symbolize import Symbolizer, modules
from corelock.symbolize.maps import Region, parse_maps
from corelock.symbolize.modules import is_mapped_in
from corelock.symbolize.process import identify

PACKAGE = Path(corelock.__file__).parent


def test_the_kernel_is_never_asked_for_command_lines() -> None:
    """Reading them takes the target's mmap_lock; names come from comm."""
    word = "cmd" + "line"
    sources = [p for p in PACKAGE.rglob("*.py") if word in p.read_text()]
    assert sources == []
    assert sum(1 for _ in PACKAGE.rglob("*.py")) > 30


def test_a_process_that_exits_in_between(tmp_path: Path) -> None:
    program = build(tmp_path)
    with running(program) as (process, stack):
        symbolizer = Symbolizer()
        event = slow_event(process.pid, *stack)
        symbolizer.observe(event)
    program.unlink()
    frames = symbolizer.resolve(event).user_stack
    assert [frame.module for frame in frames[:3]] == ["program"] * 3
    inner = frames[0]
    assert inner.name is None and inner.offset is not None
    assert symbolizer.summary.unresolved["program: No such file or directory"] == 3

    gone = Symbolizer()
    gone.observe(event)
    gone.resolve(event)
    assert gone.summary.unresolved == {"process PID has exited": len(stack)}


def unreadable(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def a_text(path: Path) -> None:
    path.write_bytes(b"no program\n" * 100)


def empty(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("damage", [unreadable, a_text, empty])
def test_a_file_that_changes_under_its_mapping(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """Written to in place: the inode is that of the mapping, and its contents are not."""
    program = build(tmp_path)
    proc = fake_proc(tmp_path, 7, mapped(program, "/program", 0x1000))
    damage(program)
    symbolizer = Symbolizer(proc=str(proc))
    (frame,) = symbolizer.resolve(slow_event(7, 0x1010)).user_stack
    assert (frame.name, frame.module, frame.offset) == (None, "program", 0x1010)
    ((reason, times),) = symbolizer.summary.unresolved.items()
    assert reason.startswith("program: corrupt ELF file")
    assert times == 1


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda p: os.symlink("/dev/tty", p)])
def test_something_else_in_place_of_a_file(tmp_path: Path, make: Callable[[str], None]) -> None:
    program = build(tmp_path)
    proc = fake_proc(tmp_path, 7, mapped(program, "/program", 0x1000))
    program.unlink()
    make(str(program))
    symbolizer = Symbolizer(proc=str(proc), host_root=str(tmp_path / "none"))
    (frame,) = symbolizer.resolve(slow_event(7, 0x1010)).user_stack
    assert (frame.name, frame.module, frame.offset) == (None, "program", 0x1010)
    assert symbolizer.summary.unresolved == {"program: not a regular file": 1}


def test_a_file_on_a_file_system_that_hangs_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stand-in is an opening that waits: to mount one that hangs takes a server."""
    free = threading.Event()

    def hang(path: str) -> object:
        free.wait()
        raise OSError("late")

    monkeypatch.setattr(modules, "open_regular", hang)
    monkeypatch.setattr(modules, "_FILE_TIMEOUT_S", 0.05)
    program = build(tmp_path)
    symbolizer = Symbolizer(proc=str(fake_proc(tmp_path, 7, mapped(program))))
    for _ in range(2):
        (frame,) = symbolizer.resolve(slow_event(7, 0x1010)).user_stack
        assert (frame.name, frame.module) == (None, "program")
    free.set()
    reason = "program: the file cannot be read: it takes too long"
    assert symbolizer.summary.unresolved == {reason: 2}


def test_without_pyelftools_there_are_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = build(tmp_path)
    for module in [name for name in sys.modules if name.partition(".")[0] == "elftools"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "elftools", None)
    with running(program) as (process, stack):
        symbolizer = Symbolizer()
        own = parse_maps(Path("/proc/self/maps").read_bytes())
        vdso = next(region for region in own if region.path == "[vdso]")
        identity = identify("/proc", process.pid)
        assert identity is not None
        context = UserContext(stack[0], identity.stack_start - 4096, 0, 0, 128, bytes(4096))
        event = slow_event(process.pid, *stack, context=context)
        frames = symbolizer.resolve(event).user_stack
        assert symbolizer._user._vdso.of(vdso, 2) is None
    assert [(frame.name, frame.module) for frame in frames[:3]] == [(None, "program")] * 3
    assert frames[0].offset is not None
    reasons = [each for each in symbolizer.summary.unresolved if each.startswith("program: ")]
    assert len(reasons) == 1
    assert reasons[0].startswith("program: pyelftools cannot be used (")


def test_a_lack_of_memory_costs_names_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    program = build(tmp_path)
    proc = str(fake_proc(tmp_path, 7, mapped(program)))
    monkeypatch.setattr(modules, "open_regular", fail)
    symbolizer = Symbolizer(proc=proc)
    (frame,) = symbolizer.resolve(slow_event(7, 0x1010)).user_stack
    assert (frame.name, frame.module) == (None, "program")
    reason = "program: the file cannot be read (MemoryError)"
    assert symbolizer.summary.unresolved == {reason: 1}

    symbolizer = Symbolizer(proc=proc)
    symbolizer._user.reader._read = fail  # type: ignore[method-assign,assignment]
    resolved = symbolizer.resolve(slow_event(7, 0x1010))
    assert resolved.user_stack_note == "mappings of 7 not read: MemoryError"


def test_a_deleted_program_is_read_while_it_runs(tmp_path: Path) -> None:
    program = build(tmp_path)
    with running(program) as (process, stack):
        program.unlink()
        frames = Symbolizer().resolve(slow_event(process.pid, *stack)).user_stack
    assert [frame.name for frame in frames[:3]] == ["inner", "outer", "main"]
    assert frames[0].module == "program"


def test_of_a_deleted_program_the_reason_says_so(tmp_path: Path) -> None:
    program = build(tmp_path, "-s")
    with running(program) as (process, stack):
        program.unlink()
        symbolizer = Symbolizer()
        frames = symbolizer.resolve(slow_event(process.pid, *stack)).user_stack
    assert (frames[0].name, frames[0].module) == (None, "program")
    (reason,) = (each for each in symbolizer.summary.unresolved if each.startswith("program"))
    assert reason.startswith("program: no symbol")
    assert reason.endswith(" (of a deleted file)")


def test_a_replaced_program_is_read_as_it_was(tmp_path: Path) -> None:
    """A package upgrade: another file has the name, the process still runs the old one."""
    program = build(tmp_path)
    other = tmp_path / "other"
    shutil.copy("/bin/true", other)
    with running(program) as (process, stack):
        other.rename(program)
        frames = Symbolizer().resolve(slow_event(process.pid, *stack)).user_stack
    assert [frame.name for frame in frames[:3]] == ["inner", "outer", "main"]


def test_a_replaced_library_is_not_used(tmp_path: Path) -> None:
    program = build(tmp_path)
    inner = link_addresses(program)["inner"]
    proc = fake_proc(tmp_path, 7, mapped(program))
    copy = tmp_path / "copy"
    shutil.copy(program, copy)

    def name() -> Optional[str]:
        symbolizer = Symbolizer(proc=str(proc))
        (frame,) = symbolizer.resolve(slow_event(7, 0x1000 + inner)).user_stack
        if frame.name is None:
            reason = "program: the file of that name is another one now"
            assert symbolizer.summary.unresolved == {reason: 1}
        return frame.name

    assert name() == "inner"
    copy.rename(program)
    assert name() is None


@pytest.mark.parametrize("made_up", [False, True])
@pytest.mark.parametrize("other_inode", [False, True])
@pytest.mark.parametrize("other_device", [False, True])
def test_which_file_is_the_mapped_one(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    other_device: bool,
    other_inode: bool,
    made_up: bool,
) -> None:
    monkeypatch.setattr(modules, "makes_up_devices", lambda fd: made_up)
    with open(tmp_path / "a", "w") as file:
        status = os.fstat(file.fileno())
        device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev) + other_device:02x}"
        region = Region(0, 1, 0, device, status.st_ino + other_inode, "/a")
        same = not other_inode and (made_up or not other_device)
        assert is_mapped_in(file.fileno(), region) is same


def test_where_devices_are_what_they_are() -> None:
    for place in ("/proc/self/maps", "/dev/shm"):
        handle = os.open(place, os.O_PATH)
        try:
            assert makes_up_devices(handle) is False
        finally:
            os.close(handle)
    with pytest.raises(OSError, match="Bad file descriptor"):
        makes_up_devices(handle)


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    text=st.lists(
        st.sampled_from([b"1000-9000", b" ", b"r-xp", b"0", b"00:01", b"7", b"/a", b"\n", b"-",
                         b"[vdso]", b"zz", b"\xff", b"[heap]", b"ffffffffffffffff"]),
        max_size=40,
    ),
    status=st.binary(max_size=60) | st.just(b"NSpid:\t7\t\nUid:\t0\t0\n"),
)  # fmt: skip
def test_a_proc_that_makes_no_sense(
    tmp_path_factory: pytest.TempPathFactory, text: list[bytes], status: bytes
) -> None:
    proc = fake_proc(tmp_path_factory.mktemp("proc"), 7, "")
    (proc / "7" / "maps").write_bytes(b"".join(text))
    (proc / "7" / "status").write_bytes(status)
    symbolizer = Symbolizer(proc=str(proc), host_root="/none")
    resolved = symbolizer.resolve(slow_event(7, 0x1010, 0x2010))
    assert all(frame.name is None for frame in resolved.user_stack)
    assert symbolizer.summary.resolved == 0


def test_mappings_that_make_no_sense(tmp_path: Path) -> None:
    symbolizer = Symbolizer(proc=str(fake_proc(tmp_path, 7, "1000-zz r-xp 0 0:0 0 /a\n")))
    resolved = symbolizer.resolve(slow_event(7, 0x1010))
    assert resolved.user_stack_note == "mappings of 7 not read: they make no sense"


def test_reasons_are_bounded() -> None:
    program = (
        "from corelock.symbolize.counts import Counts; c = Counts()\n"
        "for i in range(2000): c.add(str(i))\n"
        "print(len(c), sum(c.values()), c['other reasons'])"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert output.stdout.split() == ["501", "2000", "1500"]
