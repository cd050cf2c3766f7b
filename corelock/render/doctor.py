"""A diagnosis as text: a line for each check, what to do about it below, the verdict last."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Optional, TextIO

from corelock.diagnosis import TITLES, Check, Diagnosis
from corelock.render.table import MIN_WIDTH
from corelock.render.text import flow, pad, printable

# FAIL is to be found at a glance.
VERDICTS = {"pass": "pass", "warn": "warn", "fail": "FAIL"}
_COLUMN = max(map(len, TITLES.values()))
_INDENT = " " * (len("pass") + 2 + _COLUMN + 2)


def render_doctor(diagnosis: Diagnosis, stream: TextIO, width: Optional[int] = None) -> None:
    """Write ``diagnosis`` to ``stream``; ``width`` None is the terminal's."""
    columns = max(width or shutil.get_terminal_size().columns, MIN_WIDTH)
    stream.writelines(f"{line}\n" for line in doctor_lines(diagnosis, columns))


def doctor_lines(diagnosis: Diagnosis, width: int = MIN_WIDTH) -> Iterator[str]:
    """The lines of :func:`render_doctor`; only a word that is too long makes one longer."""
    for check in diagnosis.checks:
        yield from _check(check, width)
    yield ""
    yield verdict(diagnosis)


def _check(check: Check, width: int) -> Iterator[str]:
    head = f"{VERDICTS[check.verdict]}  {pad(check.title, _COLUMN)} "
    yield from flow([head, *printable(check.found).split()], width, indent=_INDENT)
    remedy = ["->", *printable(check.remedy).split()]
    if check.remedy:
        lines = flow(remedy, width - len(_INDENT), indent="   ")
        yield from (_INDENT + line for line in lines)


def verdict(diagnosis: Diagnosis) -> str:
    """Whether it works, in a sentence."""
    if not diagnosis.works:
        first = next(check for check in diagnosis.checks if check.verdict == "fail")
        return f"hold-times does not work here: see {first.title}."
    cost = ""
    if diagnosis.event_cost_ns is not None:
        cost = f", an event costs about {diagnosis.event_cost_ns:,} ns"
    return f"hold-times works here: it attaches by {diagnosis.attach}{cost}."
