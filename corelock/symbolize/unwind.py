"""User stacks of programs built without frame pointers, from registers and a copy of the stack.

Each frame's caller is found by call frame information (DWARF 5, 6.4), or, in
code that has none, by the frame pointer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, NamedTuple, Optional

from corelock.symbolize.cfi import ElfFrames, Row
from corelock.symbolize.elf import BadElf
from corelock.symbolize.expression import MASK, Unavailable, evaluate, register

_MAX_FRAMES = 128


class Registers(NamedTuple):
    """A thread's user registers: ``ip, sp, bp`` of x86-64; ``pc, sp, x29, x30`` of arm64.

    ``others`` are more of them, by DWARF number, if they were recorded. Few
    frames need one before it is found saved on the stack: libc's lazy binding
    has its frame in rbx (3).
    """

    ip: int
    sp: int
    frame: int
    link: int = 0
    others: Optional[Mapping[int, int]] = None


class ModuleCode(NamedTuple):
    """Where a run-time address is linked to: ``address`` in the file of ``frames``.

    ``frames`` is None for code of no file, as a JIT compiler writes it.
    """

    frames: Optional[ElfFrames]
    address: int


class UnwoundStack(NamedTuple):
    """A stack, innermost first.

    ``addresses`` are where each frame goes on: the interrupted instruction, then
    return addresses as they are on the stack. ``probes`` are what to look
    symbols up by: one less for a return address, as a call may be the last
    instruction of its function, but not for one that a signal interrupted.
    ``end`` is None if the outermost frame was reached, else a few words that
    say why not.
    """

    addresses: tuple[int, ...]
    probes: tuple[int, ...]
    end: Optional[str]


class _Machine(NamedTuple):
    """DWARF numbers of the registers; ``link`` is None where calls push the return address."""

    ip: int
    sp: int
    frame: int
    link: Optional[int]
    address_mask: int


# System V ABI, AMD64 supplement, figure 3.36; DWARF for the Arm 64-bit
# Architecture, 4.1. A return address of arm64 may be signed in its upper bits.
_MACHINES = {
    "x86_64": _Machine(ip=16, sp=7, frame=6, link=None, address_mask=MASK),
    "aarch64": _Machine(ip=32, sp=31, frame=29, link=30, address_mask=(1 << 48) - 1),
}


def unwind(
    machine: str,
    registers: Registers,
    stack: bytes,
    find_code: Callable[[int], Optional[ModuleCode]],
    below: int = 0,
) -> UnwoundStack:
    """The stack of a thread with these ``registers``; ``stack`` is its memory from ``sp`` on.

    Or from ``below`` bytes before: 128 are worth having, as what a function
    restores at its end is, by its call frame information, still there.
    ``machine`` is as in ``uname -m``. ``find_code(address)`` says what is mapped
    there, None if it is nothing executable. Never raises over bad data: the
    stack ends with a reason then. The vDSO counts as code of no file unless
    ``find_code`` knows its image.
    """
    addresses, probes = [registers.ip], [registers.ip]
    if machine not in _MACHINES:
        return UnwoundStack((registers.ip,), (registers.ip,), f"no unwinding on {machine}")
    frame = _Frame(_MACHINES[machine], registers, stack, registers.sp - below)
    end = None
    while True:
        code = find_code(probes[-1])
        if code is None:
            end = f"no code at {addresses[-1]:#x}"
            if len(addresses) > 1:
                del addresses[-1], probes[-1]
            break
        try:
            called = frame.go_to_caller(code)
        except (BadElf, Unavailable) as error:
            end = str(error)
            break
        if frame.ip == 0 and called:
            break
        if len(addresses) == _MAX_FRAMES:
            end = "depth limit"
            break
        addresses.append(frame.ip)
        probes.append(frame.ip - called)
    return UnwoundStack(tuple(addresses), tuple(probes), end)


class _Frame:
    """The registers of one frame after the other, as far as they are known."""

    def __init__(
        self, machine: _Machine, registers: Registers, stack: bytes, stack_start: int
    ) -> None:
        self._machine = machine
        self._stack = stack
        self._stack_start = stack_start
        # Nothing of this frame and of its callers is below.
        self._floor = registers.sp
        self._interrupted = True
        self._known = {
            **(registers.others or {}),
            machine.ip: registers.ip,
            machine.sp: registers.sp,
            machine.frame: registers.frame,
        }
        if machine.link is not None:
            self._known[machine.link] = registers.link

    @property
    def ip(self) -> int:
        """Where the frame goes on, 0 if there is none."""
        return self._known[self._machine.ip]

    def go_to_caller(self, code: ModuleCode) -> bool:
        """Become the caller's frame. Whether that made a call, and was not interrupted.

        Raises:
            BadElf: the call frame information is corrupt.
            Unavailable: the caller cannot be found.
        """
        row = None if code.frames is None else code.frames.find(code.address)
        # Only a step by frame pointer loses the stack pointer.
        if row is None or (row.cfa.reg == self._machine.sp and self._machine.sp not in self._known):
            self._follow_frame_pointer()
            self._interrupted = False
        else:
            self._follow_rules(row)
            self._interrupted = row.signal_frame
        self._known[self._machine.ip] &= self._machine.address_mask
        return not self._interrupted

    def _follow_rules(self, row: Row) -> None:
        if row.cfa.expr is not None:
            cfa = evaluate(row.cfa.expr, self._known, self._read)
        else:
            cfa = register(self._known, row.cfa.reg) + row.cfa.offset & MASK
        # The CFA is what the stack pointer was before the call (DWARF 5, 6.4).
        caller = {**self._known, self._machine.sp: cfa}
        del caller[self._machine.ip]
        for number, rule in row.rules.items():
            try:
                caller[number] = self._value(rule, number, cfa) & MASK
            except Unavailable:
                if number == row.return_column and rule.type != "UNDEFINED":
                    raise
                caller.pop(number, None)
        # Without a rule it is in the link register still. An undefined one
        # marks the outermost frame (DWARF 5, 6.4.4).
        outermost = row.return_column in row.rules and row.return_column not in caller
        caller[self._machine.ip] = 0 if outermost else register(caller, row.return_column)
        self._check_progress(caller, row.signal_frame)
        if self._machine.link is not None and not row.signal_frame:
            # What it held at the call, the call has overwritten.
            caller.pop(self._machine.link, None)
        self._known = caller

    def _value(self, rule: Any, number: int, cfa: int) -> int:
        """What the caller's register ``number`` was, by its rule (DWARF 5, 6.4.1)."""
        if rule.type == "OFFSET":
            return self._read(cfa + rule.arg)
        if rule.type == "VAL_OFFSET":
            return cfa + int(rule.arg)
        if rule.type == "EXPRESSION":
            return self._read(evaluate(rule.arg, self._known, self._read, cfa))
        if rule.type == "VAL_EXPRESSION":
            return evaluate(rule.arg, self._known, self._read, cfa)
        if rule.type == "REGISTER":
            return register(self._known, rule.arg)
        if rule.type == "SAME_VALUE":
            return register(self._known, number)
        raise Unavailable(f"register {number} is not kept")

    def _check_progress(self, caller: dict[int, int], signal_frame: bool) -> None:
        if caller[self._machine.ip] == 0:
            return
        sp = register(caller, self._machine.sp)
        # A handler may have a stack of its own, above or below.
        elsewhere = signal_frame and not 0 <= sp - self._stack_start < len(self._stack)
        # A function that calls none may have put nothing on the stack.
        least = self._floor + (self._machine.link is None or not self._interrupted)
        if sp < least and not elsewhere:
            raise Unavailable("no progress")
        self._floor = sp

    def _follow_frame_pointer(self) -> None:
        machine = self._machine
        nothing = Unavailable(f"no call frame information at {self.ip:#x}")
        pointer = self._known.get(machine.frame, 0)
        if pointer < self._floor or pointer % 8:
            raise nothing
        try:
            frame, ip = self._read(pointer), self._read(pointer + 8)
        except Unavailable:
            raise nothing from None
        if ip == 0:
            # Where CFI leads to 0, nobody called. This may be any two words.
            raise nothing
        # Other registers may be saved anywhere. On x86-64 the pair is what
        # the call and the first push put there, so nothing is between it and
        # the caller's frame; on arm64 there is.
        self._known = {machine.ip: ip, machine.frame: frame}
        self._floor = pointer + 16
        if machine.link is None:
            self._known[machine.sp] = self._floor

    def _read(self, address: int) -> int:
        offset = (address & MASK) - self._stack_start
        if not 0 <= offset <= len(self._stack) - 8:
            raise Unavailable("stack copy ends")
        return int.from_bytes(self._stack[offset : offset + 8], "little")
