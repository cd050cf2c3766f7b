"""A PostgreSQL server of its own, for tests that watch one at work."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: PostgreSQL refuses to be root.
USER = "postgres"

_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def program(name: str) -> str:
    """A program of the newest PostgreSQL that is installed."""
    return str(_FOLDERS[-1] / name)


class Server:
    """A running server; ``folder`` is where its socket is."""

    def __init__(self, folder: str, pid: int) -> None:
        self.folder = folder
        self.pid = pid

    def run(self, name: str, *arguments: str) -> str:
        """Run a client to its end; what it printed."""
        done = subprocess.run(
            [program(name), "-h", self.folder, *arguments],
            user=USER, cwd="/", capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def log(self) -> str:
        """What the server has said so far."""
        return Path(self.folder, "log").read_text()


@contextmanager
def server(more: str = "") -> Iterator[Server]:
    """A server with an empty database ``postgres``, gone at the end; ``more`` options of its."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.chown(folder, USER)
        data = f"{folder}/data"
        _as_postgres("initdb", "-D", data, "-A", "trust", "--no-sync")
        options = (
            f"-F -c listen_addresses= -c unix_socket_directories={folder} -c autovacuum=off {more}"
        )
        # It waits until the server takes connections.
        _as_postgres("pg_ctl", "-D", data, "-w", "-l", f"{folder}/log", "-o", options, "start")
        try:
            with open(f"{data}/postmaster.pid") as file:
                yield Server(folder, int(file.readline()))
        finally:
            _as_postgres("pg_ctl", "-D", data, "-m", "immediate", "stop")


def _as_postgres(name: str, *arguments: str) -> None:
    environment = {**os.environ, "LC_ALL": "C"}
    subprocess.run(
        [program(name), *arguments],
        user=USER, cwd="/", env=environment, stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip
