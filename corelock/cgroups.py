"""Finding a cgroup of version 2: by its path, or by the container it is of."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

from corelock.errors import InvalidArgument, NoSuchTarget, Unsupported
from corelock.model import Cgroup

MOUNTS = "/proc/self/mountinfo"

#: As deep as the BPF programs look for it, with room for what a cgroup namespace hides.
_MOST_LEVELS = 64

#: Directories of containers: the id alone (Docker, Kubernetes and Podman by cgroupfs), or as
#: systemd names them, after their runtime.
_ID = r"[0-9a-f]{64}"
_BY_ID = re.compile(rf"(?:[a-z][a-z.]*(?:-[a-z]+)*-)?({_ID})(?:\.scope)?")
#: Named so too, but with the process in it that watches over the container.
_MONITOR = "-conmon-"
_LXC = "lxc.payload."


@dataclass(frozen=True)
class _Mount:
    """A mounted cgroup hierarchy. ``root`` is the path in it of what is seen at ``folder``."""

    folder: str
    root: str
    device: int
    version: int

    def path_of(self, folder: str) -> str:
        """The path of a directory below ``folder``, as in ``/proc/PID/cgroup``."""
        below = os.path.relpath(folder, self.folder)
        return self.root if below == "." else os.path.join(self.root, below)

    def folder_of(self, path: str) -> Optional[str]:
        """Where the cgroup of that path would be seen; None: not in this mount, or not known.

        A cgroup namespace shows what is outside of it by leading dots: nobody
        knows the names that they stand for.
        """
        root, wanted = self.root.strip("/").split("/"), path.strip("/").split("/")
        if {".", ".."} & {*root, *wanted}:
            return None
        if root == [""]:
            root = []
        if wanted[: len(root)] != root:
            return None
        return os.path.join(self.folder, *wanted[len(root) :]).rstrip("/")


def find(path: Optional[str], container: Optional[str]) -> Optional[Cgroup]:
    """:func:`by_path` or :func:`by_container`, whichever is given; None if neither is."""
    if path is not None:
        return by_path(path)
    if container is not None:
        return by_container(container)
    return None


def by_path(path: str) -> Cgroup:
    """The cgroup of that directory, or of that path in ``/proc/PID/cgroup``.

    Raises:
        InvalidArgument: the path is empty.
        NoSuchTarget: there is none, or it is one of version 1.
        Unsupported: no hierarchy of version 2 is mounted.
    """
    if not path:
        raise InvalidArgument("the cgroup's path is empty", "Give one as in /proc/PID/cgroup.")
    mounts = list(_mounts())
    folder = os.path.realpath(path)
    device = _device(folder)
    version_2 = _version_2(mounts)
    for mount in version_2:
        inside = os.path.join(folder, "").startswith(os.path.join(mount.folder, ""))
        if device == mount.device and inside:
            return _cgroup(mount, folder)
    for mount in version_2:
        below = mount.folder_of(path)
        if below is not None and _device(below) == mount.device:
            return _cgroup(mount, below)
    for mount in mounts:
        if device == mount.device and mount.version == 1:
            raise NoSuchTarget(
                f"{path} is a cgroup of version 1",
                "Processes are found by their cgroup of version 2: the line that begins with "
                "0:: in /proc/PID/cgroup.",
            )
    raise NoSuchTarget(
        f"no cgroup of version 2 is at {path}",
        f"Give a directory in {version_2[0].folder}, or a path as after 0:: in "
        "/proc/PID/cgroup (systemd-cgls lists them).",
    )


def by_container(prefix: str) -> Cgroup:
    """The cgroup of the container whose id, or LXC name, begins with ``prefix``.

    Raises:
        InvalidArgument: the prefix is empty.
        NoSuchTarget: there is no such container, or there are several.
        Unsupported: no hierarchy of version 2 is mounted.
    """
    if not prefix:
        raise InvalidArgument("the container's id is empty", "Give its first characters.")
    found: dict[str, Cgroup] = {}
    for mount in _version_2(list(_mounts())):
        for name, folder in _containers(mount.folder):
            if name.startswith(prefix) and name not in found:
                found[name] = _cgroup(mount, folder, name)
    if prefix in found:
        return found[prefix]
    if not found:
        raise NoSuchTarget(
            f"no container's id begins with {prefix}",
            "docker ps, podman ps, crictl ps and lxc-ls list those that run. If it is there, its "
            "cgroup is of version 1 or not to be seen from here: use --pid, or --cgroup PATH.",
        )
    if len(found) > 1:
        names = ", ".join(sorted(found))
        raise NoSuchTarget(f"several containers' ids begin with {prefix}: {names}", "Give more.")
    return next(iter(found.values()))


def _containers(top: str) -> Iterator[tuple[str, str]]:
    """Name and directory of each container below ``top``; none of what is in a container."""
    for folder, below, _ in os.walk(top):
        inner = []
        for name in sorted(below):
            container = _container_of(name, os.path.basename(folder))
            if container is None:
                inner.append(name)
            else:
                yield container, os.path.join(folder, name)
        below[:] = inner


def _container_of(name: str, parent: str) -> Optional[str]:
    """Whose directory it is by its name, None if no container's."""
    by_id = _BY_ID.fullmatch(name)
    if by_id is not None and _MONITOR not in name:
        return by_id.group(1)
    if name.startswith(_LXC):
        return name[len(_LXC) :]
    return name if parent == "lxc" else None


def _cgroup(mount: _Mount, folder: str, container: Optional[str] = None) -> Cgroup:
    path = mount.path_of(folder)
    if path.count("/") > _MOST_LEVELS:
        raise Unsupported(
            f"{_shown(path)} lies {path.count('/')} levels deep",
            f"Only the first {_MOST_LEVELS} are looked at: name a cgroup above it.",
        )
    try:
        whose = None if container is None else _shown(container)
        return Cgroup(_shown(path), folder, os.stat(folder).st_ino, whose)
    except OSError as error:
        raise NoSuchTarget(
            f"{_shown(path)} has gone: {error.strerror}", "Name a cgroup that is there."
        ) from None


def _shown(name: str) -> str:
    """A file's name with bytes that are no UTF-8 as backslash escapes, like threads' names."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _device(folder: str) -> Optional[int]:
    """The filesystem of a directory, None if there is none."""
    try:
        return os.stat(folder).st_dev if os.path.isdir(folder) else None
    except OSError:
        return None


def _version_2(mounts: list[_Mount]) -> list[_Mount]:
    found = [mount for mount in mounts if mount.version == 2]
    if not found:
        raise Unsupported(
            "no cgroup hierarchy of version 2 is mounted",
            "mount -t cgroup2 none /sys/fs/cgroup, or a folder of one's own.",
        )
    return found


def _mounts() -> Iterator[_Mount]:
    """All cgroup hierarchies that can be seen."""
    try:
        with open(MOUNTS, "rb") as file:
            lines = file.read().decode("utf-8", "surrogateescape").splitlines()
    except OSError:
        raise Unsupported("/proc is not mounted", "mount -t proc proc /proc") from None
    for line in lines:
        # Optional fields end with a dash.
        place, _, what = line.partition(" - ")
        version = {"cgroup2": 2, "cgroup": 1}.get(what.split(" ")[0])
        if version is not None:
            _, _, device, root, folder, *_ = place.split(" ")
            major, minor = map(int, device.split(":"))
            yield _Mount(_plain(folder), _plain(root), os.makedev(major, minor), version)


def _plain(escaped: str) -> str:
    """A path of mountinfo, which has blanks and the like as a backslash and three digits."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), escaped)
