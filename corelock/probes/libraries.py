"""Which file is meant by a path, or by the name of a library or program."""

from __future__ import annotations

import os
import re
import shutil
import struct
from collections.abc import Iterable, Mapping
from typing import BinaryIO, Callable, NamedTuple, NoReturn, Optional, TypeVar

from corelock import target
from corelock.errors import CorelockError, InvalidArgument, NoSuchTarget, UnusableFile
from corelock.probes.host_libraries import HOSTS, host_libraries
from corelock.probes.nearest import nearest
from corelock.probes.paths import Way, follow, is_same_file, shown_by_proc
from corelock.probes.process_files import (
    TRY_AGAIN,
    MappedFile,
    ask_the_kernel,
    files_of,
    program_of,
    root_of,
)
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
_FOLDER = "it is a folder"
_GIVE_A_FILE = "Give the path of a program or library."
_OF_SELF = "Write /proc/self/map_files/..., with -p PID."
_RESTART = "Restart the process, so that it maps the file that is there now."

Result = TypeVar("Result")
LockIsHeld = Callable[[int], bool]

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


def is_called(path: str, name: str) -> bool:
    """Whether ``name`` means that file: ``libc.so.6``, ``libc.so``, ``libc`` or ``c``."""
    file_name, short = os.path.basename(path), short_name(path)
    if name in (file_name, short) or f"lib{name}" == short:
        return True
    return ".so" in name and file_name.startswith(f"{name}.")


def find_file(
    name: str, pid: Optional[int] = None, lock_is_held: Optional[LockIsHeld] = None
) -> Found:
    """The file that is meant by ``name``.

    A path, or the name of a library or program: of those that the process ``pid`` has mapped, or
    else of those that programs of this host are linked with, and of those on the PATH. A path is
    as the process sees it. ``lock_is_held`` is as of :class:`corelock.symbolize.Symbolizer`; the
    default asks the kernel.

    Raises:
        UnusableFile: there is none, it cannot be read, or has no code for this host.
        InvalidArgument: several are called that.
        NoSuchTarget, MissingPrivilege: see :func:`corelock.target.check_process`.
    """
    if name in (os.curdir, os.pardir):
        _refuse(name, _FOLDER, _GIVE_A_FILE)
    if pid is not None:
        target.check_process(pid)
        found = _of_process(name, pid, lock_is_held)
    elif "/" in name:
        found = _at(follow(_absolute(name)), lock_is_held)
    else:
        found = _by_name(name)
    read_code(found, lambda file: None)
    return found


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
        return _patiently(path, opened)
    except FileNotFoundError:
        _refuse(path, "there is no such file", _GIVE_A_FILE)
    except PermissionError as error:
        _refuse(path, why(error), "Run as root, or as a user who may read it.")
    except BadElf as error:
        _refuse(path, str(error), "Install it anew, or give another file.")
    except UnusableFile:
        raise
    except OSError as error:
        _refuse(path, _FOLDER if os.path.isdir(path) else why(error), _GIVE_A_FILE)


def why_not(found: Found, error: UnusableFile) -> str:
    """Why a file cannot be used, in words without its path."""
    return error.message.removeprefix(_CANNOT.format(found.path_to_open, ""))


def _refuse(path: str, reason: str, remedy: str) -> NoReturn:
    raise UnusableFile(_CANNOT.format(path, reason), remedy) from None


def _check_header(path: str, header: bytes) -> None:
    if header[:4] != b"\x7fELF" or len(header) < 20:
        kind = "a script" if header[:2] == b"#!" else "no ELF file"
        _refuse(path, f"it is {kind}", "Give a program or library that was compiled.")
    big = header[5] == 2
    kind_of_file, machine = struct.unpack_from(">HH" if big else "<HH", header, 16)
    host = os.uname().machine
    _, wanted = HOSTS.get(host, ("", machine))
    if header[4] != 2:
        _refuse(path, "it is for 32 bits", "Only 64-bit programs can be probed.")
    if machine != wanted or big:
        other = _MACHINES.get(machine, f"machine {machine}")
        _refuse(path, f"it is for {other}, and this host is {host}", "Give the host's own.")
    if kind_of_file not in (_PROGRAM, _SHARED):
        _refuse(path, "it is no program or library", "Give what it was linked into.")


def _patiently(path: str, look: Callable[[], Result]) -> Result:
    try:
        return _patience.call(path, look)
    except TimedOut:
        _refuse(path, "it takes too long", "Is the file system that it is on there?")


def _absolute(path: str) -> str:
    return os.path.join(os.getcwd(), path)


def _at(way: Way, lock_is_held: Optional[LockIsHeld]) -> Found:
    """The file there: by its name if it has one, so that a place has one name only."""
    pid = way.mapped_by
    if pid is not None:
        if way.root:  # which may count processes otherwise
            _refuse(way.whole, "whose mapping that is cannot be told", _OF_SELF)
        if (lock_is_held or ask_the_kernel)(pid):
            _refuse(way.whole, f"the mmap_lock of {pid} is held", TRY_AGAIN)

    def named() -> Found:
        name = shown_by_proc(way)
        is_name = is_same_file(way.root + name, way.whole)
        return Found(way.root + name if is_name else way.whole, short_name(name), name, way.root)

    return _patiently(way.whole, named)


def _by_name(name: str) -> Found:
    libraries = host_libraries()
    found = {os.path.realpath(path) for path in libraries if is_called(path, name)}
    if len(found) > 1:
        _ambiguous(name, found, "Give its path, or -p PID for the one that a process uses.")
    program = next(iter(found), None) or shutil.which(name)
    if program is None:
        if os.path.isdir(name):
            _refuse(name, _FOLDER, _GIVE_A_FILE)
        near = nearest(name, map(short_name, libraries))
        raise UnusableFile(
            f"there is no library, and no program on the PATH, that is called {name!r}",
            _did_you_mean(near, "Give a path, or -p PID for what a process has mapped."),
        )
    return _at(follow(_absolute(program)), None)


def _of_process(name: str, pid: int, lock_is_held: Optional[LockIsHeld]) -> Found:
    root = root_of(pid)
    if "/" in name:
        file = _at(follow(_absolute(name), root, pid), lock_is_held)
        if file.path_to_open != root + file.own_path:  # a link of /proc leads to the very file
            return file
        return _mapped_as(file.own_path, pid, root, lock_is_held) or file
    program = program_of(pid, root)
    if is_called(program.own_path, name):
        return _of_mapped(program)
    mapped = files_of(pid, root, lock_is_held)
    found = [each for each in mapped if is_called(each.own_path, name)]
    if len(found) > 1:
        paths = (each.own_path for each in found)
        _ambiguous(name, paths, f"Process {pid} has mapped all of them: give the path of one.")
    if not found:
        near = nearest(name, (short_name(each.own_path) for each in mapped))
        raise UnusableFile(
            f"process {pid} has mapped no file that is called {name!r}",
            _did_you_mean(near, f"Its program is {short_name(program.own_path)}."),
        )
    return _checked(found[0], pid)


def _mapped_as(
    path: str, pid: int, root: str, lock_is_held: Optional[LockIsHeld]
) -> Optional[Found]:
    """What the process has mapped of that path; None if nothing (yet), or if that is not known.

    Raises:
        UnusableFile: another file than the one that is there now: its code would be missed.
    """
    try:
        program = program_of(pid, root)
        if program.own_path == path:
            return _of_mapped(program)
        mapped = [each for each in files_of(pid, root, lock_is_held) if each.own_path == path]
    except NoSuchTarget:
        raise
    except CorelockError:  # its lock is held, or we may not know: a path does without
        return None
    mapped.sort(key=lambda each: not each.problem)
    return _checked(mapped[0], pid) if mapped else None


def _checked(file: MappedFile, pid: int) -> Found:
    if file.problem:
        _refuse(f"{file.own_path} of process {pid}", file.problem, _RESTART)
    return _of_mapped(file)


def _of_mapped(file: MappedFile) -> Found:
    return Found(file.path_to_open, short_name(file.own_path), file.own_path, file.root)


class FilesOfProcess(NamedTuple):
    """The program and libraries of a process, and why those that cannot be looked at cannot
    be, by path."""

    found: tuple[Found, ...]
    problems: Mapping[str, str]


def all_files(pid: int, lock_is_held: Optional[LockIsHeld] = None) -> FilesOfProcess:
    """The program of a process and the libraries it has mapped.

    Raises:
        UnusableFile, NoSuchTarget, MissingPrivilege: as of :func:`find_file`.
    """
    target.check_process(pid)
    mapped = files_of(pid, root_of(pid), lock_is_held)
    return FilesOfProcess(
        tuple(_of_mapped(each) for each in mapped if not each.problem),
        {each.own_path: each.problem for each in mapped if each.problem},
    )


def _ambiguous(name: str, paths: Iterable[str], remedy: str) -> NoReturn:
    raise InvalidArgument(f"{name!r} may be any of {', '.join(sorted(paths))}", remedy)


def _did_you_mean(near: list[str], otherwise: str) -> str:
    return f"Did you mean {', '.join(near)}?" if near else otherwise
