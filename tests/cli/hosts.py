"""Ways to run the command on a host that lacks something."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.cli.command import Result, environment

_ROOT = Path(__file__).resolve().parent.parent.parent
NOBODY = "65534"
#: What tracing takes, and nothing else.
LEAST = "+bpf,+perfmon"


def prepared(script: str) -> list[str]:
    """A prefix that runs a command in a mount namespace prepared by a shell script."""
    return ["unshare", "--mount", "sh", "-c", f'set -e; {script}; exec "$@"', "sh"]


def reach_python() -> str:
    """A script that shows nobody this Python where it is, below a folder closed to them or not."""
    base = Path(sys.base_prefix)
    closed = [folder for folder in reversed(base.parents) if not folder.stat().st_mode & 0o001]
    if not closed:
        return ":"
    return (
        f"mount --bind {base} /media; mount -t tmpfs -o mode=755 none {closed[0]}; "
        f"mkdir -p {base}; mount --bind /media {base}"
    )


def as_user(
    capabilities: str, *arguments: object, script: str = ":", prefix: Sequence[str] = ()
) -> Result:
    """Run the command as nobody with ``+a,+b`` capabilities only, after a shell script as root.

    The checkout is shown at /mnt, for nobody may enter its folder or not. ``prefix`` is what
    runs the command as nobody.
    """
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    drop += [f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}", *prefix]
    python = sys.executable
    if python.startswith(f"{_ROOT}/"):
        python = f"/mnt{python[len(str(_ROOT)) :]}"
    code = "from corelock.cli import main; main()"
    mounted = prepared(f"mount --bind {_ROOT} /mnt; {reach_python()}; {script}")
    process = subprocess.run(
        [*mounted, *drop, python, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment(PYTHONPATH="/mnt", HOME="/nonexistent"),
        timeout=60,
        cwd="/",
    )
    return Result(process.returncode, process.stdout, process.stderr)
