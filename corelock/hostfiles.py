"""What /proc and /sys say of a host, as checks of :func:`corelock.doctor`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Optional, Union

from corelock import target
from corelock.diagnosis import Check
from corelock.errors import CorelockError, Unsupported
from corelock.symbolize.kernel import HIDDEN, KALLSYMS, symbols_are_shown, unreadable

# Where libbpf looks, in this order.
_TRACEFS = ("/sys/kernel/debug/tracing", "/sys/kernel/tracing")
_EVENT = "events/mmap_lock/mmap_lock_released/id"
_LOCKDOWN = "/sys/kernel/security/lockdown"

_MOST_OTHERS = 20

_UNPRIVILEGED_BPF = {
    "0": "anyone may load some programs; tracing takes capabilities all the same",
    "1": "BPF takes CAP_BPF, until the next boot",
    "2": "BPF takes CAP_BPF",
}


def _content(path: str) -> Optional[str]:
    """Of a small file, None if it cannot be read."""
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return None


def lockdown() -> Check:
    """Whether the kernel lets anyone read its memory."""
    content = _content(_LOCKDOWN)
    if content is None:
        return Check("lockdown", "pass", f"not known: no {_LOCKDOWN}")
    mode = content.partition("[")[2].partition("]")[0]
    if mode == "confidentiality":
        remedy = "Boot it with lockdown=integrity, or without."
        return Check("lockdown", "fail", f"{mode}: BPF may not read the kernel's memory", remedy)
    return Check("lockdown", "pass", f"{mode or content}: it does not concern tracing")


def unprivileged_bpf() -> Check:
    """What others may do; corelock needs its capabilities in any case."""
    name = "unprivileged_bpf_disabled"
    value = _content(f"/proc/sys/kernel/{name}")
    if value is None:
        return Check(name, "pass", "not known: it cannot be read")
    meaning = _UNPRIVILEGED_BPF.get(value, "a value that is not known")
    return Check(name, "pass", f"{name}={value}: {meaning}")


def proc(can_ptrace: bool) -> Check:
    """Whether targets can be looked up."""
    try:
        target.check_proc()
    except Unsupported as error:
        return Check("proc", "fail", error.message, error.remedy)
    value = target.hidepid()
    if value and not can_ptrace and not any(_others()):
        found = f"hidepid={value}: other users' processes cannot be named with --pid"
        return Check("proc", "warn", found, target.HIDEPID_REMEDY)
    return Check("proc", "pass", f"hidepid={value}, not for this user" if value else "mounted")


def tracefs() -> Check:
    """Whether programs could be attached by ``tp``."""
    for folder in _TRACEFS:
        if _can_be_opened(f"{folder}/{_EVENT}"):
            return Check("tracefs", "pass", f"{folder}, readable")
    found = "not mounted"
    for folder in _TRACEFS:
        filesystem = target.mounted_at(folder).partition(" ")[0]
        if not filesystem:
            continue
        if filesystem != "tracefs":
            found = f"{folder} is {filesystem}, not tracefs"
        elif _can_be_opened(f"{folder}/events"):
            found = f"{folder}, without mmap_lock"
        else:
            found = f"{folder}, not readable"
    remedy = (
        "Only --attach tp needs it: mount -t tracefs none /sys/kernel/tracing, readable by "
        "who runs corelock."
    )
    return Check("tracefs", "warn", found, remedy)


def kernel_symbols() -> Check:
    """Whether kernel frames will have names."""
    restrict = _content("/proc/sys/kernel/kptr_restrict")
    value = "not known" if restrict is None else restrict
    try:
        shown = symbols_are_shown()
    except OSError as error:
        note = unreadable(KALLSYMS, error)
    else:
        if shown:
            return Check("kptr_restrict", "pass", f"{value}; kernel symbols are shown")
        note = HIDDEN
    found, _, remedy = note.partition(": ")
    remedy = f"Kernel frames will be addresses. For names {remedy}."
    return Check("kptr_restrict", "warn", f"{value}; {found}", remedy)


def user_symbols(can_ptrace: bool) -> Check:
    """Whether user frames of any user's processes will have names."""
    others = list(_others())
    if can_ptrace or any(_can_be_opened(target.PROC / str(pid) / "maps") for pid in others):
        return Check("user_symbols", "pass", "of any user's processes")
    if not others and not target.hidepid():
        found = "of the own user's processes; others' not known, as none runs"
        return Check("user_symbols", "pass", found)
    remedy = "Others' user frames will be addresses. For names give it CAP_SYS_PTRACE."
    return Check("user_symbols", "warn", "of the own user's processes", remedy)


def _others() -> Iterator[int]:
    """Some processes of other users."""
    try:
        pids = [int(name) for name in os.listdir(target.PROC) if name.isdigit()]
    except OSError:
        return
    others = 0
    for pid in pids:
        try:
            if os.stat(target.PROC / str(pid)).st_uid == os.geteuid():
                continue
            target.check_process(pid)
        except (OSError, CorelockError):
            continue
        yield pid
        others += 1
        if others == _MOST_OTHERS:
            return


def _can_be_opened(path: Union[str, Path]) -> bool:
    """Whether it can be, to be read: access() would go by the real user, without capabilities.

    Of mappings, too, opening asks for the permission, and only reading would take a lock.
    """
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
