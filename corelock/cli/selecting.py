"""The options that choose cycles of recordings."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Sequence
from typing import Any, Optional

import click

from corelock.analysis.selection import Selection, When
from corelock.analysis.source import Source
from corelock.cli.options import all_of
from corelock.errors import InvalidArgument
from corelock.render.units import duration


def _when(ctx: click.Context, param: click.Parameter, value: Optional[str]) -> Optional[When]:
    """Seconds since the recording's start, a time of day, or a date with one."""
    if value is None:
        return None
    try:
        if ":" not in value:
            ns = round(float(value) * 1e9)
            if 0 <= ns < 1 << 62:
                return ns
        elif "-" in value:
            return datetime.datetime.fromisoformat(value)
        else:
            return datetime.time.fromisoformat(value)
    except (ValueError, OverflowError):
        pass
    raise click.BadParameter(
        f"{value!r} is no number of seconds since the start, no time of day as 14:03:05, and no "
        "date with one as 2026-11-21T14:03:05"
    )


def _min_ns(ctx: click.Context, param: click.Parameter, value: float) -> int:
    if not 0 <= value <= 1e15:
        raise click.BadParameter(f"{value:g} is no number of microseconds")
    return round(value * 1000)


_SELECTION = (
    click.option(
        "--from", "from_ns", callback=_when, metavar="WHEN",
        help="Only cycles that were not over by then: seconds since the recording's start, a "
        "local time of day as 14:03:05, or a date with one.",
    ),
    click.option(
        "--to", "to_ns", callback=_when, metavar="WHEN", help="Only cycles that had begun by then."
    ),
    click.option(
        "-p", "--pid", type=int, metavar="PID",
        help="Only this process's threads, and what others did to its address space.",
    ),
    click.option("-t", "--tid", type=int, metavar="TID", help="Only this thread."),
    click.option(
        "--operation", metavar="NAME", help="Only this operation, as munmap or page-fault."
    ),
    click.option(
        "--min-us", "min_ns", type=float, default=0, callback=_min_ns, metavar="N",
        help="Only cycles of which the wait or the hold took so many microseconds.",
    ),
)  # fmt: skip
#: What ``selection_of`` takes.
selection_options = all_of(_SELECTION)


def selection_of(given: dict[str, Any]) -> Selection:
    """Take the options of ``selection_options`` out of ``given``."""
    selection = Selection(
        **{name: given.pop(name) for name in ("from_ns", "to_ns", "pid", "tid", "operation")},
        min_ns=given.pop("min_ns"),
    )
    if isinstance(selection.from_ns, int) and isinstance(selection.to_ns, int):
        _check_order(selection.from_ns, selection.to_ns)
    return selection


def in_words(selection: Selection) -> Iterator[str]:
    """What was asked for."""
    for word, when in (("from", selection.from_ns), ("to", selection.to_ns)):
        if when is not None:
            yield f"{word} {_moment(when)}"
    for name in ("pid", "tid", "operation"):
        value = getattr(selection, name)
        if value is not None:
            yield f"{name} {value}"
    if selection.min_ns:
        yield f"{duration(selection.min_ns)} or longer"


def _moment(when: When) -> str:
    return f"+{when / 1e9:.3f}s" if isinstance(when, int) else str(when)


def check(sources: Sequence[Source], selection: Selection) -> None:
    """Make sure that what is asked for is there: an empty report would say that it was idle.

    Raises:
        InvalidArgument: it is in none of the recordings.
    """
    for source in sources:
        _check_order(*selection.bounds(source))
    if not any(_is_within(source, selection) for source in sources):
        longest_ns = max(source.duration_ns for source in sources)
        raise InvalidArgument(
            "nothing was recorded at that time",
            f"The recording is of {duration(longest_ns)}: see the report without --from and --to.",
        )
    for name, what in (("pid", "process"), ("tid", "thread")):
        id_ = getattr(selection, name)
        only = Selection(**{name: id_})
        if id_ is not None and not any(only.rows(source).any() for source in sources):
            raise InvalidArgument(
                f"no {what} {id_} is recorded there", f"See the report without --{name}."
            )
    names = sorted(frozenset().union(*(source.operations for source in sources)))
    if selection.operation is not None and selection.operation not in names:
        raise InvalidArgument(
            f"no operation {selection.operation!r} is recorded there",
            f"Name one of: {', '.join(names)}." if names else "See the report without it.",
        )


def _is_within(source: Source, selection: Selection) -> bool:
    first_ns, last_ns = selection.bounds(source)
    return first_ns <= source.start_ns + source.duration_ns and last_ns >= source.start_ns


def refuse_to_overwrite(files: Sequence[str], output: Optional[str]) -> None:
    """Raise ``click.UsageError`` if what is to be written is one of the recordings."""
    if output is None or not os.path.exists(output):
        return
    if any(os.path.exists(file) and os.path.samefile(file, output) for file in files):
        raise click.UsageError(f"{output} is the recording: name another file to write.")


def _check_order(first: int, last: int) -> None:
    if first > last:
        raise click.UsageError("--from is after --to.")
