"""Opening the file that ``-o`` names, where others may have put something else in its place."""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Optional

from corelock.errors import CorelockError

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CLOEXEC
_MOST_LINKS = 40


@dataclass(frozen=True)
class OutFile:
    """A file that is open for writing, where it is, and the path by which it was asked for."""

    fd: int
    is_new: bool
    folder: int
    name: str
    path: str

    def remove(self) -> None:
        """Take away its name, wherever links on the way to it lead by now."""
        with suppress(FileNotFoundError):
            os.unlink(self.name, dir_fd=self.folder)

    def make_anew(self) -> None:
        """Have ``fd`` lead to an empty file of that name, and not to what is there by now.

        Who reads the old file goes on reading that. Where no other can take its name (it is mounted
        there, is in ``/dev/fd``, or the folder may not be written to), it is emptied.

        Raises:
            CorelockError: that cannot be done, either.
        """
        try:
            self._replace()
        except OSError:
            self._empty()

    def _replace(self) -> None:
        """Put a new file in place of the old one, which stays if there can be none."""
        name = f".corelock-{os.urandom(8).hex()}"
        new = os.open(name, _WRITE | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=self.folder)
        try:
            os.rename(name, self.name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
            os.dup2(new, self.fd, inheritable=False)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self.folder)
            raise
        finally:
            os.close(new)

    def _empty(self) -> None:
        try:
            os.ftruncate(self.fd, 0)
        except OSError as error:
            raise CorelockError(
                f"cannot overwrite {self.path}: {error.strerror}", "Name another file."
            ) from error

    def close(self) -> None:
        """Give back the folder; ``fd`` belongs to the stream that was made of it."""
        os.close(self.folder)


def open_outfile(path: str) -> OutFile:
    """The file of that name, made as the umask says if there is none; it is not emptied.

    Where everybody may write, no symbolic link is followed and nothing is
    written to that is another user's; where a group may, no other user's link is
    followed. The kernel has such rules for sticky folders only, and they may be
    off: so each name on the way is looked at here.

    Raises:
        CorelockError: another user may have chosen what it leads to, or it cannot be opened.
    """
    try:
        return _opened(path)
    except OSError as error:
        raise CorelockError(
            f"cannot write {path}: {error.strerror}", "Name a file in a writable folder."
        ) from error


def _opened(path: str) -> OutFile:
    if path.endswith("/"):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    names = deque(_names(path))
    links = 0
    folder = os.open("/" if path.startswith("/") else ".", _FOLDER)
    try:
        while names:
            name = names.popleft()
            # What leads out of /proc is no path, and nobody can put anything there.
            in_proc = os.fstat(folder).st_dev == _proc_device()
            target = None if in_proc else _link_target(folder, name, path)
            no_link = 0 if in_proc else os.O_NOFOLLOW
            if target is not None:
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                names.extendleft(reversed(_names(target)))
                entered = os.open("/", _FOLDER) if target.startswith("/") else os.dup(folder)
            elif names:
                entered = os.open(name, _FOLDER | no_link, dir_fd=folder)
            else:
                fd, is_new = _open_last(folder, name, no_link, path)
                return OutFile(fd, is_new, folder, name, path)
            os.close(folder)
            folder = entered
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except BaseException:
        os.close(folder)
        raise


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _proc_device() -> int:
    try:
        return os.stat("/proc/self").st_dev
    except OSError:
        return -1


def _link_target(folder: int, name: str, path: str) -> Optional[str]:
    """What the symbolic link of that name says, None if it is no link."""
    try:
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    try:
        link, mode = os.fstat(handle), os.fstat(folder).st_mode
        if not stat.S_ISLNK(link.st_mode):
            return None
        trusted = link.st_uid in (0, os.geteuid())
        if mode & stat.S_IWOTH or (mode & stat.S_IWGRP and not trusted):
            raise CorelockError(
                f"cannot write {path}: {name} is a symbolic link where others may put one",
                "Name what it leads to, or a file in a folder that only you may write to.",
            )
        return os.readlink("", dir_fd=handle)
    finally:
        os.close(handle)


def _open_last(folder: int, name: str, no_link: int, path: str) -> tuple[int, bool]:
    """The file itself, and whether it is new."""
    try:
        return os.open(name, _WRITE | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder), True
    except FileExistsError:
        pass
    fd = os.open(name, _WRITE | no_link, dir_fd=folder)
    status = os.fstat(fd)
    linked = stat.S_ISREG(status.st_mode) and status.st_nlink > 1
    if os.fstat(folder).st_mode & stat.S_IWOTH and (status.st_uid != os.geteuid() or linked):
        os.close(fd)
        raise CorelockError(
            f"cannot write {path}: it is another user's, or linked from elsewhere, in a folder "
            "where everybody may write",
            "Name another file, or one in a folder that only you may write to.",
        )
    return fd, False
