"""A child process stopped by ptrace: its registers, its stack, and what code is mapped where."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

from corelock.symbolize.cfi import ElfFrames
from corelock.symbolize.elf import ElfSymbols
from corelock.symbolize.maps import Region, parse_maps
from corelock.symbolize.unwind import ModuleCode, Registers, UnwoundStack, unwind

MACHINE = platform.machine()

_SINGLESTEP, _DETACH = 9, 17
_GETREGSET, _SEIZE, _INTERRUPT = 0x4204, 0x4206, 0x4207
_NT_PRSTATUS = 1
_WALL = 0x40000000
# Of struct user_regs_struct, in words: ip, sp, frame pointer, link, rbx.
_PLACES = {"x86_64": (16, 19, 4, None, 5), "aarch64": (32, 31, 29, 30, None)}
_RBX = 3

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, pid: int, address: int = 0, data: Optional[int] = None) -> None:
    if _libc.ptrace(request, pid, address, data) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


class Code:
    """What is mapped where in a process, as ``unwind`` asks for it."""

    _files: dict[str, tuple[ElfFrames, ElfSymbols]] = {}  # noqa: RUF012

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._regions: tuple[Region, ...] = ()

    def find(self, address: int) -> Optional[ModuleCode]:
        region = self._region(address)
        if region is None:
            self._regions = parse_maps(Path(f"/proc/{self._pid}/maps").read_bytes())
            region = self._region(address)
        if region is None:
            return None
        if not region.has_file:
            return ModuleCode(None, address)
        if region.path not in self._files:
            with open(region.path, "rb") as file:
                self._files[region.path] = ElfFrames(file), ElfSymbols(file)
        frames, symbols = self._files[region.path]
        linked = symbols.address_of(address - region.start + region.offset)
        assert linked is not None
        return ModuleCode(frames, linked)

    def _region(self, address: int) -> Optional[Region]:
        return next((one for one in self._regions if one.start <= address < one.end), None)


class Stopped:
    """A process that is stopped and seized by this one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code = Code(pid)
        self._memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)

    def close(self) -> None:
        os.close(self._memory)

    def registers(self) -> Registers:
        words = (ctypes.c_uint64 * 64)()
        span = (ctypes.c_uint64 * 2)(ctypes.addressof(words), ctypes.sizeof(words))
        _ptrace(_GETREGSET, self.pid, _NT_PRSTATUS, ctypes.addressof(span))
        ip, sp, frame, link, rbx = _PLACES[MACHINE]
        return Registers(
            words[ip],
            words[sp],
            words[frame],
            0 if link is None else words[link],
            None if rbx is None else {_RBX: words[rbx]},
        )

    def read(self, address: int, size: int) -> bytes:
        """Up to ``size`` bytes: a stack ends somewhere."""
        return os.pread(self._memory, size, address)

    def word(self, address: int) -> int:
        return int.from_bytes(self.read(address, 8), "little")

    def unwind(self, copy_bytes: int = 1 << 16, below: int = 128, rbx: bool = True) -> UnwoundStack:
        registers = self.registers()
        if not rbx:
            registers = registers._replace(others=None)
        stack = self.read(registers.sp - below, below + copy_bytes)
        return unwind(MACHINE, registers, stack, self.code.find, below)

    def step(self) -> None:
        """Execute one instruction."""
        _ptrace(_SINGLESTEP, self.pid)
        _, status = os.waitpid(self.pid, _WALL)
        assert os.WIFSTOPPED(status), status


@contextmanager
def stopped(pid: int) -> Iterator[Stopped]:
    """Stop the child ``pid`` wherever it is; then let it go on, unless SIGSTOP had stopped it."""
    _ptrace(_SEIZE, pid)
    _ptrace(_INTERRUPT, pid)
    os.waitpid(pid, _WALL)
    process = Stopped(pid)
    try:
        yield process
    finally:
        process.close()
        _ptrace(_DETACH, pid)
