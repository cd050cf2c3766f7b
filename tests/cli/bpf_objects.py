"""BPF programs, links and maps, by what the kernel says of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

_FIELD = re.compile(r"^(prog|link|map)_id:\s*(\d+)$", re.M)

Objects = set[tuple[str, int]]


def held_by(pid: int) -> Objects:
    """``{(kind, id)}`` of what the descriptors of a process refer to."""
    objects: Objects = set()
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            objects |= {(kind, int(number)) for kind, number in _FIELD.findall(info.read_text())}
        except FileNotFoundError:  # closed meanwhile
            continue
    return objects


def existing() -> Objects:
    """``{(kind, id)}`` of all that the host has."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    bpftool = shutil.which("bpftool", path=path)
    assert bpftool, "bpftool is missing"
    objects: Objects = set()
    for kind in ("prog", "link", "map"):
        listing = subprocess.run([bpftool, "-j", kind, "show"], capture_output=True, check=True)
        objects |= {(kind, each["id"]) for each in json.loads(listing.stdout)}
    return objects
