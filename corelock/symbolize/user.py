"""User stacks: addresses to functions, each by what its mapping is of."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Optional, Union

from corelock.model import Frame, Program, UserContext
from corelock.symbolize.counts import Counts
from corelock.symbolize.demangle import demangled
from corelock.symbolize.jit import PerfMaps
from corelock.symbolize.maps import Maps, MapsReader, Region
from corelock.symbolize.modules import DELETED, Modules, keep
from corelock.symbolize.probes import return_probes
from corelock.symbolize.process import Process, look_at, program_of
from corelock.symbolize.stacks import HasUserStack
from corelock.symbolize.unwind import ModuleCode, Registers, UnwoundStack, unwind
from corelock.symbolize.vdso import VDSO, Vdso

if TYPE_CHECKING:
    from corelock.symbolize.cfi import ElfFrames
    from corelock.symbolize.elf import ElfSymbols

_ENTRY = re.compile(
    r"main|_start|__libc_start_main.*|__libc_start_call_main"
    r"|(__)?clone3?|start_thread|thread_start"
    r"|runtime\.(goexit|mstart|rt0_go)(\.abi0)?"
)
_LIBC = re.compile(r"libc[.-]|libpthread[.-]|ld-musl-")

_TRUNCATED = "stack truncated ({})"
_NO_CALLER = "the caller of the innermost function may be missing"
_WHERE = re.compile(r" at 0x[0-9a-f]+$")
_RBX = 3  # its DWARF number

# Bounds what a tracer that runs for weeks keeps.
_PROCESSES = 256

# Until the new program's first instruction, the registers are those of the old one.
_EXEC = frozenset(("execve", "execveat"))
_OUTSIDE = Maps((), 0, "the process is outside of this pid namespace")
_EXECUTED = Maps((), 0, "process {} has executed another program since")

#: A process's pid, and what tells its address space from others of that pid.
Space = tuple[int, Optional[Program]]


class Resolved(NamedTuple):
    """A frame, and in words why it has no name, or None."""

    frame: Frame
    reason: Optional[str] = None


class Stack(NamedTuple):
    """A resolved stack; ``note`` says in words why it ends before its thread's first function."""

    resolved: Sequence[Resolved]
    note: Optional[str] = None


def better(unwound: Optional[Stack], pointed: Stack) -> Stack:
    """Which to show of a stack unwound by call frames and that of the frame pointers.

    The one that goes back to its thread's first function; else the one with more frames,
    all of them code. The unwound one if both go back: the caller of a function without a
    frame pointer, such as libc's for a system call, is only in that.
    """
    if unwound is None:
        return pointed
    if unwound.note is None:
        return unwound
    if pointed.note is None or len(pointed.resolved) >= len(unwound.resolved):
        return pointed
    return unwound


class UserSymbols:
    """Resolves user stacks.

    ``named`` counts the frames that have a name, ``unnamed`` the others by
    reason; why stacks were not unwound further counts in ``problems``. Never waits
    for a lock of the traced process, and never raises over the state of a process
    or a file.
    """

    def __init__(
        self,
        proc: str,
        reader: MapsReader,
        modules: Modules,
        perf_maps: PerfMaps,
        problems: Counts,
    ) -> None:
        self.named = 0
        self.unnamed = Counts()
        self._proc = proc
        self.reader = reader
        self._modules = modules
        self._perf_maps = perf_maps
        self._problems = problems
        self._machine = os.uname().machine
        self._vdso = Vdso()
        self._maps: dict[Space, Maps] = {}
        self._processes: dict[Space, Optional[Process]] = {}
        # What each pid was seen to run last.
        self._last: dict[int, Program] = {}

    @property
    def notes(self) -> list[str]:
        """What was refused us, and the capability that it takes."""
        notes = []
        if self.reader.denied:
            notes.append(
                "user frames of other users' processes have no names: run with CAP_SYS_PTRACE"
            )
        if self._modules.denied:
            notes.append(
                "user frames in files that may not be read have no names: run with "
                "CAP_DAC_READ_SEARCH"
            )
        return notes

    def observe(self, event: HasUserStack) -> None:
        """Learn the mappings of the event's process if those known miss its innermost frame."""
        probes = _probes(event)
        if not probes:
            return
        known = self._maps.get(self._space(event))
        maps = self._maps_for(event, probes, needed=1)
        if maps.asked and maps is not known and event.user_context is not None:
            # Which mappings its callers are in, only unwinding tells.
            self._unwind(event, event.user_context)

    def has_mappings(self, event: HasUserStack) -> bool:
        """Whether those of the event's process are known, if it has a user stack."""
        return not _probes(event) or self._maps.get(self._space(event)) is not None

    def resolve(self, event: HasUserStack) -> tuple[tuple[Frame, ...], Optional[str]]:
        """The frames of the user stack, and in words what is missing from it, or None."""
        probes = _probes(event)
        if not probes:
            # A kernel thread's operation is its name; it has no user stack to miss.
            return (), None if event.operation == event.comm else "no user stack"
        stack = None
        if event.user_context is not None:
            stack = self._unwound(event, event.user_context)
        if stack is None or stack.note is not None:
            unwound, stack = stack, better(stack, self._pointed(event))
            if unwound is not None and _may_lack_caller(event, stack, unwound):
                notes = [stack.note] if stack.note else []
                stack = stack._replace(note="; ".join([*notes, _NO_CALLER]))
        self._count(stack.resolved)
        return tuple(each.frame for each in stack.resolved), stack.note

    def _pointed(self, event: HasUserStack) -> Stack:
        """The stack that the frame pointers give."""
        stack, probes = event.user_stack, _probes(event)
        maps = self._maps_for(event, probes, needed=len(probes))
        space = self._space(event)
        resolved = [self._resolve(space, *pair, maps) for pair in zip(stack, probes)]
        notes = [maps.problem.format(event.pid)] if maps.problem else []
        if event.user_stack_full:
            notes.append(_TRUNCATED.format("depth limit"))
        elif maps.regions and not notes and maps.find(probes[0]) is None:
            # The innermost address was being executed: these are not the
            # mappings it was executed in.
            notes.append(f"process {event.pid} has changed its mappings since")
        elif maps.regions:
            garbage = _garbage(probes, maps)
            del resolved[len(resolved) - garbage :]
            if garbage or not _reaches_entry([each.frame for each in resolved]):
                notes.append(_TRUNCATED.format("no frame pointer"))
        return Stack(resolved, "; ".join(notes) or None)

    def _unwound(self, event: HasUserStack, context: UserContext) -> Stack:
        """The stack by call frame information, and by the frame pointer in code that has none."""
        stack, maps = self._unwind(event, context)
        pairs = zip(stack.addresses, stack.probes)
        space = self._space(event)
        resolved = [self._resolve(space, *pair, maps) for pair in pairs]
        if stack.end is None:
            return Stack(resolved)
        if maps.problem:
            return Stack(resolved, maps.problem.format(event.pid))
        # Where, the outermost frame shows.
        end = _WHERE.sub("", stack.end)
        self._problems.add(f"stack not unwound to its end: {end}")
        return Stack(resolved, _TRUNCATED.format(end))

    def _unwind(self, event: HasUserStack, context: UserContext) -> tuple[UnwoundStack, Maps]:
        """The addresses of the stack, and the mappings they are in."""
        maps = self._maps_for(event, _probes(event), needed=1)
        space = self._space(event)

        def find_code(address: int) -> Optional[ModuleCode]:
            nonlocal maps
            if maps.problem is None:
                maps = self._maps_for(event, [address], needed=1)
            region = maps.find(address)
            return None if region is None else self._code(space, region, address)

        registers = _registers(self._machine, context)
        return unwind(self._machine, registers, context.stack, find_code, context.below), maps

    def _code(self, space: Space, region: Region, address: int) -> ModuleCode:
        if region.path == VDSO or region.has_file:
            symbols = self._symbols(space, region)
            frames = "no symbols" if isinstance(symbols, str) else self._frames(space, region)
            if not isinstance(symbols, str) and not isinstance(frames, str):
                linked = symbols.address_of(address - region.start + region.offset)
                if linked is not None:
                    return ModuleCode(frames, linked)
        return ModuleCode(None, address)

    def _count(self, resolved: Sequence[Resolved]) -> None:
        for each in resolved:
            if each.reason is None:
                self.named += 1
            else:
                self.unnamed.add(each.reason)

    def _maps_for(self, event: HasUserStack, probes: Sequence[int], needed: int) -> Maps:
        """The mappings of the event's process.

        Learnt again if those known may miss something newer that one of the
        first ``needed`` of ``probes`` is in.
        """
        if not event.pid:
            return _OUTSIDE
        space = self._space(event)
        known = self._maps.get(space)
        if event.operation in _EXEC:
            return known if known is not None and known.read_ns <= event.start_ns else _EXECUTED
        if known is not None:
            older = known.read_ns < event.start_ns + event.duration_ns
            if not (older or known.asked) or all(map(known.covers, probes[:needed])):
                return known
        gone = _EXECUTED
        if known is not None:
            whole = not known.asked and known.find(probes[0]) is not None
            gone = known if whole else known._replace(problem=_EXECUTED.problem)
        if not self._may_run(space):
            return gone
        maps = self.reader.read(event.pid, probes, known)
        if maps.problem is None:
            process = look_at(self._proc, event.pid)
            if not self._may_run(space):  # it has executed another one meanwhile
                return gone
            keep(self._maps, space, maps, _PROCESSES)
            # Now, as it may be gone when its symbols are looked up.
            keep(self._processes, space, process, _PROCESSES)
        return maps

    def _space(self, event: HasUserStack) -> Space:
        """Which address space the event's thread ran in."""
        # Without a pid, /proc has nothing of it.
        return (event.pid, event.program) if event.pid else (0, None)

    def _may_run(self, space: Space) -> bool:
        """Whether that is the program its process runs, or is known to have run last."""
        pid, program = space
        now = program_of(self._proc, pid)
        if now is not None:
            keep(self._last, pid, now, _PROCESSES)
        return program is None or self._last.get(pid, program) == program

    def _resolve(self, space: Space, address: int, probe: int, maps: Maps) -> Resolved:
        region = maps.find(probe)
        if region is None:
            reason = maps.problem.format("PID") if maps.problem else "no code is mapped there"
            return Resolved(Frame(address, None, None, None), reason)
        # Offsets are of the address, symbols of the probe before it.
        after = address - probe
        offset = probe - region.start + region.offset
        in_file = region.has_file or region.path == VDSO
        symbols = self._symbols(space, region) if in_file else "no file"
        found: Union[tuple[str, int], str] = "no code at that offset"
        if isinstance(symbols, str):
            # Code that is made at run time may be in a file, too, a deleted or a nameless one.
            # The next program's has the same name.
            process = self._processes.get(space) if self._may_run(space) else None
            made = self._perf_maps.find(space, process, probe)
            if isinstance(made, str):
                found = symbols if in_file else made
            else:
                found, offset = made, probe
        else:
            linked = symbols.address_of(offset)
            if linked is not None:
                stripped = "no symbol (stripped, no debug file)"
                found = symbols.find(linked) or (stripped if symbols.stripped else "no symbol")
                offset = linked
        if isinstance(found, str):
            unnamed = Frame(address, None, offset + after, region.module)
            deleted = " (of a deleted file)" if region.deleted and found != DELETED else ""
            return Resolved(unnamed, f"{region.module}: {found}{deleted}")
        name, start = found
        return Resolved(Frame(address, demangled(name), offset - start + after, region.module))

    def _symbols(self, space: Space, region: Region) -> Union[ElfSymbols, str]:
        if region.path != VDSO:
            return self._modules.of(space[0], region)
        process = self._processes.get(space)
        return self._vdso.of(region, process.elf_class if process else 0) or "not ours"

    def _frames(self, space: Space, region: Region) -> Union[ElfFrames, str]:
        if region.path != VDSO:
            return self._modules.frames_of(space[0], region)
        process = self._processes.get(space)
        return self._vdso.frames_of(region, process.elf_class if process else 0) or "not ours"


def _may_lack_caller(event: HasUserStack, stack: Stack, unwound: Stack) -> bool:
    """Whether ``stack`` begins in code for system calls, which has no frame pointer.

    Then the frame pointer is that of its caller, and the stack goes on with the next one.
    """
    if stack is unwound or not stack.resolved:
        return False
    if len(unwound.resolved) > 1 and len(stack.resolved) > 1:
        caller = unwound.resolved[1].frame.address
        if stack.resolved[1].frame.address == caller:
            return False
    innermost = stack.resolved[0].frame
    return bool(
        _LIBC.match(innermost.module or "")
        or innermost.name in ("syscall", event.operation, f"__{event.operation}")
    )


def _probes(event: HasUserStack) -> list[int]:
    """What to look up for the frame-pointer stack, or at least where the kernel was entered."""
    if event.user_stack or event.user_context is None:
        return return_probes(event.user_stack)
    return [event.user_context.ip]


def _registers(machine: str, context: UserContext) -> Registers:
    known = Registers(context.ip, context.sp, context.frame)
    if machine == "aarch64":
        return known._replace(link=context.other)
    return known._replace(others={_RBX: context.other})


def _garbage(probes: Sequence[int], maps: Maps) -> int:
    """How many outermost addresses are no code: what a walk without frame pointers picks up."""
    count = 0
    for probe in reversed(probes[1:]):
        if maps.problem or maps.find(probe) is not None:
            break
        count += 1
    return count


def _reaches_entry(frames: Sequence[Frame]) -> bool:
    """Whether the stack goes back to where a process or a thread begins."""
    outermost = next((frame for frame in reversed(frames) if frame.name is not None), None)
    if outermost is not None and outermost.name is not None and _ENTRY.fullmatch(outermost.name):
        return True
    # A stripped libc names neither start_thread nor __libc_start_call_main.
    # They are what calls code outside of libc with nothing further out.
    in_libc = [bool(_LIBC.match(frame.module or "")) for frame in frames[-2:]]
    return in_libc == [False, True] and frames[-1].name is None
