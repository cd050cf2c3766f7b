"""Writes docs/kernels.md of the last run's results, if that run was of all kernels."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from corelock.tracer import ATTACH
from tests.vm.guest import BUILD, ROOT

PAGE = ROOT / "docs" / "kernels.md"
TRACED = ("hold-times", "blame", "record", "targets", "pid namespaces")
FEATURES = (
    "doctor",
    *(f"{what}, {way}" for what in TRACED for way in ATTACH),
    "holders",
    "count",
    "count, many",
    "hist",
    "trace",
)

_INTRODUCTION = """\
# Kernels

Debian's kernels that `make vmtest` booted, and what corelock did there. This page is
written by that run: do not edit it.

Each kernel boots in emulation with busybox, the portable file and statically linked
workloads, and nothing else. An emulated machine takes its time between two probes of one
event, so times are judged less strictly there than by `make test`. *Works* is:

- hold-times: every count of four workloads is the same as ftrace's in the same guest, and
  sums of times are within 2 % and 3 us an event, and as long as ftrace saw the thread
  preempted, which may be between the two tracers' probes; in one of the four without that;
- blame: of two long waits for one hold, and of all else that ftrace's events show to be due
  to anybody, 95 % is charged so and 5 % otherwise at the most; where waits are many and
  short, the thread that keeps the lock is charged most, and 15 % is charged otherwise at
  the most, in three of four runs; charged and unknown are all waiting;
- targets: `--all`, `--comm` and `--cgroup`, each with `--blame`, count every system call;
- pid namespaces: so does a corelock in one of its own, which shows its pids;
- holders: names who holds a lock, and who waits for it in which order;
- count: hits of a function of the kernel and one of a program, of static probes, a system call
  and an event are as many as the program makes; many: a thousand functions of the kernel at
  once;
- hist: each system call of two threads has a time, and their ends a priority, by key and filter;
- trace: every argument of the same static probes, system call and function of the kernel has
  the value that the program gives it, and every stack names the program's function;
- doctor: says what the others find.

`tp_btf` and `tp` are the two ways to attach, each forced by `--attach`.

*Works, drops counted*: since Linux 7.0 a program on a tracepoint's arguments may be
preempted, and the kernel then drops the events of other threads on that CPU, here in one
run of several at least. corelock counts them as lost, says that the run is incomplete,
and names the remedy, `--attach tp`. Preemption is much likelier in an emulated machine.
"""


def page(results: list[dict[str, Any]]) -> str:
    """The page: a table, kernel by feature, and in what words things are refused."""
    header = ("kernel", "architecture", *(f"`{name.replace(', ', '` `')}`" for name in FEATURES))
    lines = [_INTRODUCTION, _line(header), _line("---" for _ in header)]
    reasons: list[str] = []
    for kernel in results:
        cells = [kernel.get("release") or f"{kernel['name']}: not booted", kernel["architecture"]]
        for feature in FEATURES:
            found = kernel["features"].get(feature, {"state": "not run"})
            text = found["state"]
            if text == "refused":
                if found["reason"] not in reasons:
                    reasons.append(found["reason"])
                text = f"refused ({reasons.index(found['reason']) + 1})"
            cells.append(text)
        lines.append(_line(cells))
    lines += ["", *(f"{number}. {reason}" for number, reason in enumerate(reasons, 1))]
    lines += ["", "## Packages", ""]
    for kernel in results:
        lines.append(f"- {kernel['name']}: {kernel.get('package', 'none')}")
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Write the page, or say why not."""
    results = json.loads((BUILD / "results.json").read_text())
    text = (Path(__file__).parent / "kernels.toml").read_text()
    every = re.findall(r'^name = "(.+)"$', text, re.M)
    names = [kernel["name"] for kernel in results]
    if names != every or any(set(FEATURES) - set(kernel["features"]) for kernel in results):
        print(f"{PAGE.relative_to(ROOT)} stays: it tells of whole runs", file=sys.stderr)
        return
    PAGE.write_text(page(results))


if __name__ == "__main__":
    main()
