"""How a program finds values by itself: ``struct corelock_operand``, as frozen values."""

from __future__ import annotations

from typing import Literal, NamedTuple, Optional

#: Of a text, at most, its end included (``CORELOCK_TEXT_BYTES``).
TEXT_BYTES = 64
#: In place of an offset: no register has a part in the address (``CORELOCK_NO_REGISTER``).
NO_REGISTER = 0xFFFF

Source = Literal["CONSTANT", "CONTEXT", "MEMORY", "PID", "TID", "CPU", "COMM"]
Text = Literal["NONE", "INLINE", "DATA_LOC", "REL_LOC", "POINTED", "OF_USER", "CONSTANT"]


class Index(NamedTuple):
    """The register that is added to an address: low ``size`` bytes of it, times ``2**shift``."""

    offset: int
    size: int = 8
    signed: bool = False
    shift: int = 0


class Operand(NamedTuple):
    """A number or a text. Members are as of ``struct corelock_operand`` in ``src/abi``, whose
    ``index`` and the like are ``added``.

    ``offset`` is in what the program is given: an event's record, or ``struct pt_regs``; in
    memory, that of the register with the address, or NO_REGISTER.
    ``words`` is the text of a constant one, ``length`` the room for any text.
    ``of_user``: what has put the number there is the user's code, so that an address in it can
    only mean the user's memory.
    """

    source: Source
    offset: int = 0
    size: int = 8
    signed: bool = False
    constant: int = 0
    added: Optional[Index] = None
    text: Text = "NONE"
    length: int = 0
    words: bytes = b""
    of_user: bool = False

    @property
    def is_text(self) -> bool:
        """Whether its value is a text."""
        return self.text != "NONE"


#: What every event has, by the names that filters and keys use.
COMMON = {
    "pid": Operand("PID", size=4),
    "tid": Operand("TID", size=4),
    "cpu": Operand("CPU", size=4),
    "comm": Operand("COMM", text="INLINE", length=16),
}
