"""Files with code that can be probed: programs and libraries of this host's machine."""

from __future__ import annotations

import os
import re
import struct
from typing import BinaryIO, Callable, NamedTuple, NoReturn, TypeVar

from corelock.errors import UnusableFile
from corelock.probes.host_libraries import HOSTS
from corelock.symbolize.elf import BadElf
from corelock.symbolize.files import open_regular, why
from corelock.symbolize.patience import Patience, TimedOut

#: A large file takes seconds; one on a file system that hangs takes forever.
_TIMEOUT_S = 30.0
_SUFFIX = re.compile(r"(-\d+(\.\d+)+)?\.so(\.[\w.]+)?$")
_MACHINES = {
    3: "i386",
    21: "ppc64",
    22: "s390",
    40: "arm",
    62: "x86-64",
    183: "arm64",
    243: "riscv",
}
_PROGRAM, _SHARED = 2, 3  # ET_EXEC, ET_DYN
_CANNOT = "cannot use {}: {}"
FOLDER = "it is a folder"
GIVE_A_FILE = "Give the path of a program or library."

Result = TypeVar("Result")

_patience = Patience(_TIMEOUT_S)


class Found(NamedTuple):
    """A program or library.

    ``own_path`` is what it is called where it is, below ``root``: that is "", or leads to what
    its process sees.
    """

    path_to_open: str
    shown_name: str
    own_path: str
    root: str = ""


def short_name(path: str) -> str:
    """What to call a file: its name without what tells versions of a library apart.

    >>> short_name("/lib/libc.so.6"), short_name("libc-2.31.so"), short_name("/bin/bash")
    ('libc', 'libc', 'bash')
    """
    name = os.path.basename(path)
    return _SUFFIX.sub("", name) or name


def read_code(found: Found, read: Callable[[BinaryIO], Result]) -> Result:
    """What ``read`` makes of the file, once it is known to have code for this host.

    Raises:
        UnusableFile: it has not, cannot be read, or makes no sense.
    """
    path = found.path_to_open

    def opened() -> Result:
        with open_regular(path) as file:
            _check_header(path, file.read(20))
            file.seek(0)
            return read(file)

    try:
        return patiently(path, opened)
    except FileNotFoundError:
        refuse(path, "there is no such file", GIVE_A_FILE)
    except PermissionError as error:
        refuse(path, why(error), "Run as root, or as a user who may read it.")
    except BadElf as error:
        refuse(path, str(error), "Install it anew, or give another file.")
    except UnusableFile:
        raise
    except OSError as error:
        refuse(path, FOLDER if os.path.isdir(path) else why(error), GIVE_A_FILE)


def why_not(found: Found, error: UnusableFile) -> str:
    """Why a file cannot be used, in words without its path."""
    return error.message.removeprefix(_CANNOT.format(found.path_to_open, ""))


def refuse(path: str, reason: str, remedy: str) -> NoReturn:
    """Say that a file cannot be used."""
    raise UnusableFile(_CANNOT.format(path, reason), remedy) from None


def _check_header(path: str, header: bytes) -> None:
    if header[:4] != b"\x7fELF" or len(header) < 20:
        kind = "a script" if header[:2] == b"#!" else "no ELF file"
        refuse(path, f"it is {kind}", "Give a program or library that was compiled.")
    big = header[5] == 2
    kind_of_file, machine = struct.unpack_from(">HH" if big else "<HH", header, 16)
    host = os.uname().machine
    _, wanted = HOSTS.get(host, ("", machine))
    if header[4] != 2:
        refuse(path, "it is for 32 bits", "Only 64-bit programs can be probed.")
    if machine != wanted or big:
        other = _MACHINES.get(machine, f"machine {machine}")
        refuse(path, f"it is for {other}, and this host is {host}", "Give the host's own.")
    if kind_of_file not in (_PROGRAM, _SHARED):
        refuse(path, "it is no program or library", "Give what it was linked into.")


def patiently(path: str, look: Callable[[], Result]) -> Result:
    """What ``look`` makes of the file of that path, if it does in time.

    Raises:
        UnusableFile: it does not.
    """
    try:
        return _patience.call(path, look)
    except TimedOut:
        refuse(path, "it takes too long", "Is the file system that it is on there?")
