"""Stacks of a large program without frame pointers, stopped anywhere, against gdb's."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Optional

import pytest
from stopped import MACHINE, Code, stopped

pytestmark = [
    pytest.mark.skipif(shutil.which("gdb") is None, reason="no gdb to compare with"),
    pytest.mark.skipif(MACHINE != "x86_64", reason="not tried on other machines"),
]

STOPS = 30

BUSY_PYTHON = r"""
import json, re, zlib, decimal
print("ready", flush=True)
text = json.dumps([{"name": "x" * (i % 7), "value": [i, str(i)]} for i in range(300)])
while True:
    json.dumps(json.loads(text), indent=1)
    sorted(re.findall(r"(\w+)[^0-9]+(\d+)", text), key=lambda pair: pair[1])
    zlib.decompress(zlib.compress(text.encode()))
    decimal.Decimal(2).sqrt(decimal.Context(prec=500))
"""


# Without the frames that gdb adds from debug information: inlined functions
# and those that ended in a jump.
GDB_FRAMES = """python
frame = gdb.newest_frame()
while frame is not None:
    if frame.type() in (gdb.NORMAL_FRAME, gdb.SIGTRAMP_FRAME):
        print("frame", hex(frame.pc()))
    frame = frame.older()
"""


def by_gdb(pid: int, script: Path) -> list[int]:
    """The stack of a stopped process; gdb leaves it stopped."""
    script.write_text("set backtrace past-main on\n" + GDB_FRAMES)
    command = ["gdb", "-batch", "-nx", "-p", str(pid), "-x", str(script)]
    output = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return [int(field, 16) for field in re.findall(r"^frame (0x\w+)$", output.stdout, re.M)]


def agreement(pid: int, stops: int, folder: Path) -> tuple[int, int, list[str]]:
    """How many stacks are gdb's, of how many frames in all, and what the others are."""
    same, frames, different = 0, 0, []
    rng = random.Random(11)
    for _ in range(stops):
        time.sleep(rng.random() * 0.05)  # anywhere: no state is waited for
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        with stopped(pid) as process:
            stack = process.unwind(copy_bytes=1 << 18)
            small = process.unwind(copy_bytes=1 << 12, below=0, rbx=False)
        expected = by_gdb(pid, folder / "frames.gdb")
        os.kill(pid, signal.SIGCONT)
        assert len(expected) > 3
        # What fewer registers and less of the stack give is never another stack.
        assert small.addresses == stack.addresses[: len(small.addresses)], small.end
        assert small.end or small.addresses == stack.addresses
        frames += len(stack.addresses)
        if (list(stack.addresses), stack.end) == (expected, None):
            same += 1
        else:
            ours = " ".join(map(hex, stack.addresses))
            different.append(f"{stack.end}: {ours} | gdb: {' '.join(map(hex, expected))}")
    return same, frames, different


def test_python(tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-c", BUSY_PYTHON]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            same, frames, different = agreement(process.pid, STOPS, tmp_path)
        finally:
            process.kill()
    print(f"{same} of {STOPS} stacks as gdb's, {frames} frames")
    assert same == STOPS, "\n".join(different[:3])
    assert any("python" in path for path in Code._files)


QUERY = (
    "select sum(length(md5(a.i::text))), count(distinct a.i % 977) from generate_series(1, 300000)"
    " a(i) join generate_series(1, 3000000) b(i) on a.i = b.i group by a.i % 31 order by 2\n"
)


def postgres_folder() -> Optional[Path]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent if found and os.geteuid() == 0 else None


@pytest.mark.skipif(postgres_folder() is None, reason="no PostgreSQL of Debian, or not root")
def test_postgres(tmp_path: Path) -> None:
    folder = postgres_folder()
    assert folder is not None
    user = "postgres"  # PostgreSQL refuses to be root
    with tempfile.TemporaryDirectory() as name:
        shutil.chown(name, user)
        data = f"{name}/data"
        initdb = [str(folder / "initdb"), "-D", data, "-A", "trust", "--no-sync"]
        subprocess.run(initdb, user=user, cwd="/", stdout=subprocess.DEVNULL, check=True)
        # What LLVM compiles at run time has no call frame information in a file.
        options = ["--single", "-F", "-c", "jit=off", "-D", data]
        command = [str(folder / "postgres"), *options, "postgres"]
        with subprocess.Popen(
            command, user=user, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("select 'ready' as state\n" + QUERY * 100)
            process.stdin.flush()
            while "ready" not in process.stdout.readline():
                pass
            drain = threading.Thread(target=process.stdout.read)
            drain.start()
            try:
                same, frames, different = agreement(process.pid, STOPS, tmp_path)
            finally:
                process.kill()
                drain.join()
    print(f"{same} of {STOPS} stacks as gdb's, {frames} frames")
    assert same == STOPS, "\n".join(different[:3])
