"""Which file is meant by a path, or by the name of a library or program."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from typing import Callable, NamedTuple, NoReturn, Optional

from corelock import target
from corelock.errors import CorelockError, InvalidArgument, NoSuchTarget, UnusableFile
from corelock.probes.code_files import (
    FOLDER,
    GIVE_A_FILE,
    Found,
    patiently,
    read_code,
    refuse,
    short_name,
)
from corelock.probes.host_libraries import host_libraries
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

_OF_SELF = "Write /proc/self/map_files/..., with -p PID."
_RESTART = "Restart the process, so that it maps the file that is there now."

LockIsHeld = Callable[[int], bool]


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
        UnusableFile: there is none, it cannot be read, or has no code for this host; or which
            it is cannot be told, as the process's mmap_lock is held or its main thread has ended.
        InvalidArgument: several are called that.
        NoSuchTarget, MissingPrivilege: see :func:`corelock.target.check_process`.
    """
    if name in (os.curdir, os.pardir):
        refuse(name, FOLDER, GIVE_A_FILE)
    if pid is not None:
        target.check_process(pid, of_locks=False)
        target.check_main_thread(pid)
        found = _of_process(name, pid, lock_is_held)
    elif "/" in name:
        found = _at(follow(_absolute(name)), lock_is_held)
    else:
        found = _by_name(name)
    read_code(found, lambda file: None)
    return found


def _absolute(path: str) -> str:
    if os.path.isabs(path):
        return path
    try:
        return os.path.join(os.getcwd(), path)
    except OSError:
        refuse(path, "the current folder is not there any more", "Give an absolute path.")


def _at(way: Way, lock_is_held: Optional[LockIsHeld]) -> Found:
    """The file there: by its name if it has one, so that a place has one name only."""
    pid = way.mapped_by
    if pid is not None:
        if way.root:  # which may count processes otherwise
            refuse(way.whole, "whose mapping that is cannot be told", _OF_SELF)
        if (lock_is_held or ask_the_kernel)(pid):
            refuse(way.whole, f"the mmap_lock of {pid} is held", TRY_AGAIN)

    def named() -> Found:
        name = shown_by_proc(way)
        is_name = is_same_file(way.root + name, way.whole)
        return Found(way.root + name if is_name else way.whole, short_name(name), name, way.root)

    return patiently(way.whole, named)


def _by_name(name: str) -> Found:
    libraries = host_libraries()
    found = {os.path.realpath(path) for path in libraries if is_called(path, name)}
    if len(found) > 1:
        _ambiguous(name, found, "Give its path, or -p PID for the one that a process uses.")
    program = next(iter(found), None) or shutil.which(name)
    if program is None:
        if os.path.isdir(name):
            refuse(name, FOLDER, GIVE_A_FILE)
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
        refuse(f"{file.own_path} of process {pid}", file.problem, _RESTART)
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
    target.check_process(pid, of_locks=False)
    target.check_main_thread(pid)
    mapped = files_of(pid, root_of(pid), lock_is_held)
    return FilesOfProcess(
        tuple(_of_mapped(each) for each in mapped if not each.problem),
        {each.own_path: each.problem for each in mapped if each.problem},
    )


def _ambiguous(name: str, paths: Iterable[str], remedy: str) -> NoReturn:
    raise InvalidArgument(f"{name!r} may be any of {', '.join(sorted(paths))}", remedy)


def _did_you_mean(near: list[str], otherwise: str) -> str:
    return f"Did you mean {', '.join(near)}?" if near else otherwise
