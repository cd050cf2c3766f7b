"""User stacks of real processes and of made-up /proc directories."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

import pytest
from stack_program import build, link_addresses, running
from stopped import MACHINE, Stopped, stopped

from corelock.model import Frame, Program, ResolvedSlowEvent, SlowEvent, UserContext
from corelock.symbolize import Symbolizer
from corelock.symbolize.maps import Maps, parse_maps
from corelock.symbolize.user import Resolved, Stack, better


def slow_event(
    pid: int,
    *stack: int,
    full: bool = False,
    operation: str = "munmap",
    context: Optional[UserContext] = None,
    program: Optional[Program] = None,
) -> SlowEvent:
    return SlowEvent(
        kind="hold", start_ns=1, duration_ns=1, mm_pid=pid, mm_host_pid=pid,
        mm_comm="p", pid=pid, tid=pid, host_pid=pid, host_tid=pid,
        comm="p", mode="write", operation=operation, kernel_stack=(), user_stack=stack,
        user_stack_full=full, stack_failed=False, user_context=context, process_key=0,
        program=program,
    )  # fmt: skip


def later(event: SlowEvent) -> SlowEvent:
    """The event, as if it ended after everything that was read so far."""
    values = {name: getattr(event, name) for name in SlowEvent.__slots__}
    return SlowEvent(**{**values, "duration_ns": 1 << 62})


@pytest.mark.parametrize("flags", [["-pie", "-fPIE"], ["-no-pie"], ["-static"]])
def test_real_stack(tmp_path: Path, flags: list[str]) -> None:
    program = build(tmp_path, *flags)
    link = link_addresses(program)
    with running(program) as (process, stack):
        os.kill(process.pid, signal.SIGSTOP)
        symbolizer = Symbolizer()
        resolved = symbolizer.resolve(slow_event(process.pid, *stack))
    frames = resolved.user_stack
    assert [frame.name for frame in frames[:3]] == ["inner", "outer", "main"]
    assert [frame.module for frame in frames[:3]] == ["program"] * 3
    assert [frame.address for frame in frames] == stack
    assert resolved.user_stack_note is None
    assert not [reason for reason in symbolizer.problems if "program" in reason]
    assert symbolizer._user.reader.reads == 1
    # Where outer() starts, by the frame's offset and by nm.
    inner, outer = frames[:2]
    assert inner.offset == 0
    assert outer.offset is not None
    assert outer.address - outer.offset - inner.address == link["outer"] - link["inner"]


@pytest.mark.parametrize("flags", [["-pie", "-fPIE"], ["-no-pie"]])
def test_stripped_frames_are_addresses_in_their_module(tmp_path: Path, flags: list[str]) -> None:
    program = build(tmp_path, *flags)
    link = link_addresses(program)
    subprocess.run(["strip", str(program)], check=True)
    with running(program) as (process, stack):
        frames = Symbolizer().resolve(slow_event(process.pid, *stack)).user_stack
    inner, outer = frames[:2]
    assert (inner.name, inner.module, inner.offset) == (None, "program", link["inner"])
    assert outer.offset == link["inner"] + stack[1] - stack[0]


def test_stripped_but_dynamic_symbols(tmp_path: Path) -> None:
    program = build(tmp_path, "-rdynamic", "-s")
    with running(program) as (process, stack):
        frames = Symbolizer().resolve(slow_event(process.pid, *stack)).user_stack
    assert [frame.name for frame in frames[:3]] == ["inner", "outer", "main"]


def test_truncated_stacks_are_noted(tmp_path: Path) -> None:
    program = build(tmp_path)
    with running(program) as (process, stack):
        symbolizer = Symbolizer()

        def note(*addresses: int, full: bool = False) -> tuple[int, Optional[str]]:
            resolved = symbolizer.resolve(slow_event(process.pid, *addresses, full=full))
            return len(resolved.user_stack), resolved.user_stack_note

        assert note(*stack[:3]) == (3, None)
        assert note(*stack[:2]) == (2, "stack truncated (no frame pointer)")
        assert note(*stack[:2], 0x10, 0) == (2, "stack truncated (no frame pointer)")
        assert note(*stack[:2], full=True) == (2, "stack truncated (depth limit)")
        other_program = (0x10, 0x20, 0x30)
        changed = f"process {process.pid} has changed its mappings since"
        assert note(*other_program) == (3, changed)
        assert note() == (0, "no user stack")


def test_no_note_for_kernel_threads() -> None:
    resolved = Symbolizer().resolve(slow_event(2, operation="p"))
    assert (resolved.user_stack, resolved.user_stack_note) == ((), None)


def test_process_that_has_exited(tmp_path: Path) -> None:
    program = build(tmp_path)
    remembering = Symbolizer()
    with running(program) as (process, stack):
        event = slow_event(process.pid, *stack)
        remembering.observe(event)
        remembering.observe(event)
        assert remembering._user.reader.reads == 1

    resolved = Symbolizer().resolve(event)
    assert [frame.name for frame in resolved.user_stack] == [None] * 4
    assert [frame.address for frame in resolved.user_stack] == stack
    assert resolved.user_stack_note == f"process {process.pid} has exited"

    resolved = remembering.resolve(later(event))
    assert [frame.name for frame in resolved.user_stack[:3]] == ["inner", "outer", "main"]
    assert resolved.user_stack_note is None


def mapped(file: Path, shown_as: str = "", offset: int = 0) -> str:
    """A line of maps: the file's first bytes from ``offset`` on at 0x1000, to 0x9000."""
    status = file.stat()
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    return f"1000-9000 r-xp {offset:08x} {device} {status.st_ino} {shown_as or file}\n"


def fake_proc(folder: Path, pid: int, maps: str) -> Path:
    """A /proc with one process whose root is ``folder``."""
    process = folder / "proc" / str(pid)
    process.mkdir(parents=True)
    (process / "maps").write_text(maps)
    (process / "root").symlink_to(folder)
    return folder / "proc"


def test_held_lock_is_given_up(tmp_path: Path) -> None:
    proc = fake_proc(tmp_path, 7, "")
    (proc / "7" / "maps").unlink()
    os.mkfifo(proc / "7" / "maps")  # to open it waits for a writer, as for a lock
    symbolizer = Symbolizer(proc=str(proc), maps_timeout_s=0.05)
    for _ in range(2):
        resolved = symbolizer.resolve(slow_event(7, 0x1000, 0x2000))
        assert [frame.name for frame in resolved.user_stack] == [None, None]
        note = "mappings of 7 not read: its mmap_lock is held"
        assert resolved.user_stack_note == note
    # Tried once: a read that hangs is not joined by others.
    assert symbolizer._user.reader.reads == 1
    os.close(os.open(proc / "7" / "maps", os.O_WRONLY))  # lets the reader go


def test_mappings_are_read_again_for_a_newer_library(tmp_path: Path) -> None:
    proc = fake_proc(tmp_path, 7, "1000-2000 r-xp 0 0:0 0 [vdso]\n")
    symbolizer = Symbolizer(proc=str(proc))
    symbolizer.observe(slow_event(7, 0x1010))
    newer = "1000-2000 r-xp 0 0:0 0 [vdso]\n5000-6000 r-xp 0 0:0 0 [anon:jit]\n"
    (proc / "7" / "maps").write_text(newer)

    def modules(event: SlowEvent) -> list[Optional[str]]:
        return [frame.module for frame in symbolizer.resolve(event).user_stack]

    before = slow_event(7, 0x1010, 0x5010)
    assert modules(before) == ["[vdso]"]
    assert symbolizer._user.reader.reads == 1
    assert modules(later(before)) == ["[vdso]", "[anon:jit]"]
    assert symbolizer._user.reader.reads == 2


def test_memory_without_symbols_is_named(tmp_path: Path) -> None:
    maps = (
        "1000-2000 r-xp 00000000 00:00 0 [vdso]\n"
        "2000-3000 rwxp 00000000 00:00 0\n"
        "3000-4000 r-xp 00000500 00:01 9 /tmp/lib x.so (deleted)\n"
        "4000-5000 r-xp 00000500 00:01 8 /no/such.so\n"
    )
    symbolizer = Symbolizer(proc=str(fake_proc(tmp_path, 7, maps)))
    frames = symbolizer.resolve(slow_event(7, 0x1010, 0x2010, 0x3010, 0x4010)).user_stack
    assert [(frame.name, frame.module, frame.offset) for frame in frames] == [
        (None, "[vdso]", 0x10),
        (None, "[anon]", 0x10),
        (None, "lib x.so", 0x510),
        (None, "such.so", 0x510),
    ]
    assert symbolizer.summary.resolved == 0
    assert symbolizer.summary.unresolved == {
        "[vdso]: not ours": 1,
        "[anon]: no file, and no perf map": 1,
        "lib x.so: the file was deleted": 1,
        "such.so: No such file or directory": 1,
    }


def test_corrupt_file_is_a_problem_and_no_error(tmp_path: Path) -> None:
    bad = tmp_path / "bad.so"
    bad.write_bytes(b"\x7fELF\x02\x01" + bytes(range(200)))
    maps = mapped(bad, "/bad.so", 0x500)
    symbolizer = Symbolizer(proc=str(fake_proc(tmp_path, 7, maps)))
    (frame,) = symbolizer.resolve(slow_event(7, 0x1010)).user_stack
    assert (frame.name, frame.module, frame.offset) == (None, "bad.so", 0x510)
    (problem,) = symbolizer.problems
    assert problem.startswith("bad.so: corrupt ELF file")


def test_another_file_of_the_same_name_is_not_used(tmp_path: Path) -> None:
    program = build(tmp_path)
    proc = fake_proc(tmp_path, 7, f"1000-9000 r-xp 00001000 00:01 9 {program}\n")
    (proc / "7" / "root").unlink()
    symbolizer = Symbolizer(proc=str(proc))
    assert symbolizer.resolve(slow_event(7, 0x1010)).user_stack[0].name is None
    reason = "program: the file of that name is another one now"
    assert symbolizer.summary.unresolved == {reason: 1}


def test_maps_of_this_process() -> None:
    text = Path("/proc/self/maps").read_bytes()
    regions = parse_maps(text)
    assert len(regions) == sum(b"x" in line.split()[1] for line in text.splitlines())
    assert any(region.has_file for region in regions)
    assert [region.start for region in regions] == sorted(region.start for region in regions)


def test_construction_reads_nothing() -> None:
    program = (
        "import sys; from corelock.symbolize import Symbolizer;"
        "s = Symbolizer('/none', '/none'); print(s.notes, 'elftools' in sys.modules)"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert output.stdout.split() == ["()", "False"]


def test_names_are_demangled(tmp_path: Path) -> None:
    """C++ and Rust, by the names that their compilers give to functions."""
    names = {
        "inner": "_ZN5arena5purgeERKSt6vectorIiSaIiEE",
        "outer": "_RNvC6_123foo3bar",
        "main": "main",
    }
    program = build(tmp_path)
    renames = [f"--redefine-sym={plain}={mangled}" for plain, mangled in names.items()]
    subprocess.run(["objcopy", *renames, str(program)], check=True)
    with running(program) as (process, stack):
        frames = Symbolizer().resolve(slow_event(process.pid, *stack)).user_stack
    found = [frame.name for frame in frames[:3]]
    if sys.version_info < (3, 10):  # no library there
        assert found == list(names.values())
    else:
        purge = "arena::purge(std::vector<int, std::allocator<int>> const&)"
        assert found == [purge, "123foo::bar", "main"]


# --- frames without frame pointers --------------------------------------------------------------


def stack_of(frames: int, note: Optional[str] = None) -> Stack:
    frame = Frame(0x1000, "f", 0, "program")
    return Stack([Resolved(frame)] * frames, note)


ENDS = "stack truncated (stack copy ends)"
NO_POINTER = "stack truncated (no frame pointer)"


@pytest.mark.parametrize(
    ("unwound", "pointed", "which"),
    [
        (None, stack_of(1, NO_POINTER), "pointed"),
        (stack_of(5), stack_of(4), "unwound"),  # which has the caller that the other one misses
        (stack_of(5), stack_of(6), "unwound"),
        (stack_of(5), stack_of(2, NO_POINTER), "unwound"),
        (stack_of(5), stack_of(80, "stack truncated (depth limit)"), "unwound"),
        (stack_of(5, ENDS), stack_of(4), "pointed"),
        (stack_of(5, ENDS), stack_of(4, NO_POINTER), "unwound"),
        (stack_of(5, ENDS), stack_of(6, NO_POINTER), "pointed"),
        (stack_of(5, ENDS), stack_of(5, NO_POINTER), "pointed"),
        (stack_of(1, ENDS), stack_of(0, NO_POINTER), "unwound"),
    ],
)
def test_which_stack_is_shown(unwound: Optional[Stack], pointed: Stack, which: str) -> None:
    assert better(unwound, pointed) is {"unwound": unwound, "pointed": pointed}[which]


def context_of(process: Stopped, copy_bytes: int) -> UserContext:
    registers = process.registers()
    other = registers.link if MACHINE == "aarch64" else (registers.others or {})[3]
    stack = process.read(registers.sp - 128, 128 + copy_bytes)
    return UserContext(registers.ip, registers.sp, registers.frame, other, 128, stack)


@pytest.mark.skipif(MACHINE not in ("x86_64", "aarch64"), reason="not unwound on other machines")
@pytest.mark.parametrize("by_query", [False, True])
def test_registers_and_a_copy_of_the_stack(tmp_path: Path, by_query: bool) -> None:
    """The program waits in libc, which has no frame pointers."""
    program = build(tmp_path)
    with running(program) as (process, stack):
        with stopped(process.pid) as at_read:
            whole, none = context_of(at_read, 1 << 14), context_of(at_read, 0)

        def shown(context: UserContext, *pointed: int) -> tuple[list[Optional[str]], Optional[str]]:
            event = slow_event(process.pid, *pointed, context=context)
            resolved = symbolizer.resolve(event)
            return [frame.name for frame in resolved.user_stack], resolved.user_stack_note

        symbolizer = Symbolizer()
        symbolizer._user.reader._by_query = by_query
        names, note = shown(whole, whole.ip)
        assert note is None
        assert names[-1] == "_start"
        at = names.index("inner")
        assert at > 1  # functions of libc
        assert names[at : at + 3] == ["inner", "outer", "main"]
        assert shown(whole) == (names, None)  # the kernel could take none
        assert not symbolizer.problems
        # Nothing to unwind: what the kernel has found is shown, and why there is no more.
        assert shown(none, *stack) == (["inner", "outer", "main", *names[at + 3 : at + 4]], None)
        assert shown(none, *stack[:2]) == (["inner", "outer"], NO_POINTER)
        (reason,) = symbolizer.problems
        assert reason.startswith("stack not unwound to its end: ")
        assert symbolizer.problems[reason] == 2


@pytest.mark.skipif(MACHINE not in ("x86_64", "aarch64"), reason="not unwound on other machines")
def test_static_programs_are_unwound_without_the_table_of_their_frames(tmp_path: Path) -> None:
    program = build(tmp_path, "-static", "-no-pie", "-fomit-frame-pointer")
    with running(program) as (process, _):
        with stopped(process.pid) as at_read:
            context = context_of(at_read, 1 << 14)
        event = slow_event(process.pid, context.ip, context=context, operation="read")
        resolved = Symbolizer().resolve(event)
    names = [frame.name for frame in resolved.user_stack]
    assert resolved.user_stack_note is None
    assert names[0] in ("read", "__libc_read", "write", "__libc_write")  # it has just printed
    at = names.index("inner")
    assert names[at : at + 4] == ["inner", "outer", "main", "__libc_start_call_main"]
    assert names[-1] == "_start"
    assert None not in names


@pytest.mark.skipif(MACHINE not in ("x86_64", "aarch64"), reason="not unwound on other machines")
def test_a_caller_that_may_be_missing_is_noted(tmp_path: Path) -> None:
    program = build(tmp_path)
    with running(program) as (process, stack):
        with stopped(process.pid) as at_read:
            nothing = context_of(at_read, 0)
        symbolizer = Symbolizer()
        # As the kernel has it: a function of libc, and the caller of who called that.
        event = slow_event(process.pid, nothing.ip, *stack[1:], context=nothing)
        of_libc = symbolizer.resolve(event)
        own = symbolizer.resolve(slow_event(process.pid, *stack, context=nothing))
    assert of_libc.user_stack_note == "the caller of the innermost function may be missing"
    assert own.user_stack_note is None


def test_a_context_says_nothing_of_the_stack() -> None:
    context = UserContext(0x1000, 0x7FFF_0000, 0, 0, 128, b"secret")
    assert repr(context) == "UserContext(ip=0x1000, 6 bytes of stack)"
    event = slow_event(7, context=context)
    assert "secret" not in f"{event} {ResolvedSlowEvent(event, (), (), None)}"


# --- one pid, several address spaces ------------------------------------------------------------


def write_stat(process: Path, runs: Program) -> None:
    """What matters of its /proc/PID/stat; its name is a nasty one."""
    fields = ["0"] * 50
    fields[23:26] = map(str, runs)
    (process / "stat").write_text(f"7 (a) b) {' '.join(fields)}\n")


FIRST, SECOND, THIRD = (Program(0x1000, 0x2000, 0x7000 + number) for number in range(3))
EXECUTED = "process 7 has executed another program since"


def test_an_older_program_does_not_get_the_mappings_of_the_newest(tmp_path: Path) -> None:
    proc = fake_proc(tmp_path, 7, "1000-2000 r-xp 0 0:0 0 [anon:first]\n")
    symbolizer = Symbolizer(proc=str(proc))

    def shown(event: SlowEvent) -> tuple[list[Optional[str]], Optional[str]]:
        resolved = symbolizer.resolve(event)
        return [frame.module for frame in resolved.user_stack], resolved.user_stack_note

    of_first, of_second, of_third = (
        slow_event(7, 0x1010, program=program) for program in (FIRST, SECOND, THIRD)
    )
    write_stat(proc / "7", FIRST)
    symbolizer.observe(of_first)
    write_stat(proc / "7", THIRD)
    (proc / "7" / "maps").write_text("1000-2000 r-xp 0 0:0 0 [anon:third]\n")
    assert shown(of_second) == ([None], EXECUTED)
    assert shown(of_third)[0] == ["[anon:third]"]
    assert shown(later(of_first))[0] == ["[anon:first]"]
    assert symbolizer.summary.unresolved["process PID has executed another program since"] == 1
    # While exec goes on, the old program's registers are seen beside the new one's memory.
    assert shown(slow_event(7, 0x1010, program=THIRD, operation="execve")) == ([None], EXECUTED)


def test_mappings_of_a_program_executed_while_they_were_read_are_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc = fake_proc(tmp_path, 7, "1000-2000 r-xp 0 0:0 0 [anon:second]\n")
    write_stat(proc / "7", FIRST)
    symbolizer = Symbolizer(proc=str(proc))
    reader = symbolizer._user.reader
    read = reader.read

    def read_late(*arguments: Any) -> Maps:
        write_stat(proc / "7", SECOND)
        return read(*arguments)

    monkeypatch.setattr(reader, "read", read_late)
    resolved = symbolizer.resolve(slow_event(7, 0x1010, program=FIRST))
    assert [frame.module for frame in resolved.user_stack] == [None]
    assert resolved.user_stack_note == EXECUTED


def test_a_program_that_has_exited_is_told_by_its_maps(tmp_path: Path) -> None:
    proc = fake_proc(tmp_path, 7, "1000-2000 r-xp 0 0:0 0 [anon:first]\n")
    symbolizer = Symbolizer(proc=str(proc))
    event = slow_event(7, 0x1010, program=FIRST)  # there is no stat
    assert symbolizer.resolve(event).user_stack[0].module == "[anon:first]"


def test_a_program_executed_before_the_process_exited_is_remembered(tmp_path: Path) -> None:
    proc = fake_proc(tmp_path, 7, "1000-2000 r-xp 0 0:0 0 [anon:second]\n")
    write_stat(proc / "7", SECOND)
    symbolizer = Symbolizer(proc=str(proc))
    symbolizer.observe(slow_event(7, 0x1010, program=SECOND))
    (proc / "7" / "stat").unlink()
    resolved = symbolizer.resolve(slow_event(7, 0x1010, program=FIRST))
    assert [frame.module for frame in resolved.user_stack] == [None]
    assert resolved.user_stack_note == EXECUTED
