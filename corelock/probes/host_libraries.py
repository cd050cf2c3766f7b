"""The libraries that programs of this host are linked with."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import lru_cache

#: By uname -m: what ldconfig calls the class, and e_machine.
HOSTS = {"x86_64": ("x86-64", 62), "aarch64": ("AArch64", 183)}
# Where libraries are if there is no ldconfig to ask.
_FOLDERS = ("/lib", "/usr/lib", "/usr/local/lib")


@lru_cache(maxsize=1)
def host_libraries() -> tuple[str, ...]:
    """Paths of the libraries that programs of this host are linked with."""
    ldconfig = shutil.which("ldconfig", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if ldconfig is not None:
        # Not the language of the user: "libs found" and the like are parsed past.
        run = subprocess.run([ldconfig, "-p"], capture_output=True, check=False)
        paths = parse_ldconfig(os.fsdecode(run.stdout), os.uname().machine)
        if paths:
            return paths
    return tuple(
        entry.path
        for folder in _FOLDERS
        if os.path.isdir(folder)
        for entry in os.scandir(folder)
        if ".so" in entry.name
    )


def parse_ldconfig(text: str, machine: str) -> tuple[str, ...]:
    """The paths of ``ldconfig -p`` that are for programs of ``machine`` (as of ``uname -m``)."""
    wanted, _ = HOSTS.get(machine, ("", 0))
    paths = []
    for line in text.splitlines():
        head, arrow, path = line.partition(" => ")
        flags = re.split(r"[,\s]+", head.partition("(")[2].rstrip(") "))
        if arrow and (not wanted or wanted in flags):
            paths.append(path)
    return tuple(paths)
