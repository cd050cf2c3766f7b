"""Kernel stacks: addresses to symbols of /proc/kallsyms."""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from operator import itemgetter
from typing import NamedTuple, Optional

from corelock.model import Frame
from corelock.symbolize.probes import return_probes

# kallsyms has no sizes. No function is as long as this; an address further
# from the symbol below it lies in something without a name, such as a BPF
# program that is gone.
_REACH = 1 << 16
# ftrace's and kprobes' trampolines ("[__builtin__ftrace]") stand alone in
# their page, and BPF programs come next to them.
_TRAMPOLINE_REACH = 1 << 12

_ADDRESS = 16  # hex digits a line of kallsyms begins with
_TEXT_TYPES = b"tTwW"

# Between the point that is traced and our program, outermost last.
_TOOL_FRAME = re.compile(r"_*bpf_|__traceiter_|perf_syscall_|__mmap_lock_do_trace_")
_TRACED_POINT = "__mmap_lock_do_trace_"
# x86-64 has the kernel's own text below, modules and BPF programs from here on. arm64
# has no such border; there is no code of its kernel above.
_BPF_START = 0xFFFF_FFFF_C000_0000

KALLSYMS = "/proc/kallsyms"

HIDDEN = (
    "kernel symbols are hidden: run with CAP_SYSLOG and"
    " sysctl kernel.kptr_restrict=0 or 1 (2 hides them from everyone)"
)


def unreadable(path: str, error: OSError) -> str:
    """Why there are no names where kallsyms cannot be read, and what helps; as ``HIDDEN``."""
    if isinstance(error, FileNotFoundError):
        return (
            f"kernel symbols cannot be read, there is no {path}: mount /proc without subset=pid"
            " (in a systemd unit: ProcSubset=all)"
        )
    return (
        f"kernel symbols cannot be read ({os.strerror(error.errno or 0)}): run as who may read"
        f" {path}"
    )


def symbols_are_shown(path: str = KALLSYMS) -> bool:
    """Whether kallsyms has addresses for us, by its beginning.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb", buffering=0) as file:
        beginning = file.read(4096)
    # The very first may be 0 for everyone: offsets into per-CPU memory.
    return any(line.strip(b"0")[:1] != b" " for line in beginning.splitlines()[:-1])


def read_symbols(path: str = KALLSYMS) -> bytes:
    """All of kallsyms, which has 100,000 lines and more.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb", buffering=0) as file:
        return file.read()


class KernelSymbol(NamedTuple):
    """A function of the kernel or of a module (``module`` None: the kernel itself)."""

    address: int
    name: str
    module: Optional[str]


class KernelSymbols:
    """The kernel's functions; ``path`` is read at the first lookup, and once.

    ``note`` says, after a lookup, why there are no names at all.
    """

    def __init__(self, path: str = KALLSYMS) -> None:
        self.note: Optional[str] = None
        self._path = path
        self._lines: Optional[list[bytes]] = None

    def find(self, address: int) -> Optional[KernelSymbol]:
        """The function ``address`` is in, or None."""
        lines = self._lines
        if lines is None:
            lines = self._lines = self._read()
        below = bisect_left(lines, b"%016x" % (address + 1)) - 1
        if below < 0:
            return None
        # Of several names for one address, the one kallsyms has first is the
        # one the kernel prints.
        first = bisect_left(lines, lines[below][:_ADDRESS], 0, below + 1)
        for line in lines[first : below + 1]:
            symbol = _parse(line)
            if symbol is not None:
                reach = _REACH
                if symbol.module is not None and symbol.module.startswith("__builtin__"):
                    reach = _TRAMPOLINE_REACH
                return symbol if address - symbol.address < reach else None
        return None

    def _read(self) -> list[bytes]:
        try:
            lines = read_symbols(self._path).splitlines()
        except OSError as error:
            self.note = unreadable(self._path, error)
            return []
        # Fixed-width hexadecimal sorts as the numbers do, so 200,000 lines
        # need no parsing; they are nearly in order, so sorting is one pass.
        lines.sort(key=itemgetter(slice(0, _ADDRESS)))
        if not lines or lines[-1].startswith(b"0" * _ADDRESS):
            self.note = HIDDEN
            return []
        return lines


def _parse(line: bytes) -> Optional[KernelSymbol]:
    """A line ``ffffffff81000000 T name [module]``, or None when it is not of a function."""
    address, kind, name, *module = line.decode("ascii", "replace").split()
    if kind.encode() not in _TEXT_TYPES:
        return None
    return KernelSymbol(int(address, 16), name, module[0].strip("[]") if module else None)


def resolve_kernel_stack(stack: tuple[int, ...], symbols: KernelSymbols) -> tuple[Frame, ...]:
    """Frames for ``stack`` (innermost first), those of the tracing itself left out."""
    frames = []
    for address, probe in zip(stack, return_probes(stack)):
        symbol = symbols.find(probe)
        if symbol is None:
            frames.append(Frame(address, None, None, None))
        else:
            offset = address - symbol.address
            frames.append(Frame(address, symbol.name, offset, symbol.module))
    hidden = symbols.note is not None
    return tuple(frames[_nameless_tool_frames(stack) if hidden else _tool_frames(frames) :])


def _nameless_tool_frames(stack: tuple[int, ...]) -> int:
    """How many there are where there are no names: the BPF program's, and what called it.

    That is ``bpf_trace_run``. Between it and the traced function there may be more, by
    compiler and kernel. What is not traced begins in the kernel's own text, in the scheduler.
    """
    count = 0
    while count < len(stack) and stack[count] >= _BPF_START:
        count += 1
    return count + 1 if 0 < count < len(stack) else 0


def _tool_frames(frames: list[Frame]) -> int:
    """How many innermost frames belong to the tracing.

    Unnamed ones (a BPF program that was unloaded) count only when a named one
    follows.
    """
    count = 0
    for index, frame in enumerate(frames):
        if frame.name is None:
            continue
        if not _TOOL_FRAME.match(frame.name):
            break
        count = index + 1
        # Further out, bpf_* is the kernel's work for whoever is being traced.
        if frame.name.startswith(_TRACED_POINT):
            break
    return count
