"""The page's tables and sentences, as plain values for the template."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

from corelock.analysis.census import take_census
from corelock.analysis.clocks import drift, wall_ns
from corelock.analysis.source import Source
from corelock.blame import Blame
from corelock.export.fields import times_fields
from corelock.model import Report, Row
from corelock.render.accounting import accounting_lines
from corelock.render.blame import summary
from corelock.render.blame_grouping import BLAME_BY
from corelock.render.columns import cgroup_label, process_label
from corelock.render.grouping import Name
from corelock.render.html.details import Details
from corelock.render.html.flames import Node
from corelock.render.html.gather import Gathered, Limits
from corelock.render.html.lanes import thread_name
from corelock.render.html.matrix import Charges, Matrix, matrix
from corelock.render.recorded import census_lines, loss_words
from corelock.render.text import printable
from corelock.render.units import duration

_WIDE = 10_000  # the browser breaks lines


def target_of(report: Report) -> str:
    """What was traced, in words."""
    if report.target:
        return "".join(process_label(Name(report.target.comm, report.target.pid)))
    return cgroup_label(report.cgroup) if report.cgroup else "all processes"


def clock_time(wall: int) -> str:
    """A moment of the wall clock, in UTC: who reads the page may be anywhere."""
    return datetime.fromtimestamp(wall // 10**9, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def recordings(sources: Sequence[Source], reports: Sequence[Report]) -> list[dict[str, Any]]:
    """A line about each recording, its accounting, and what is wrong with it."""
    return [_recording(source, report) for source, report in zip(sources, reports)]


def _recording(source: Source, report: Report) -> dict[str, Any]:
    census, footer = take_census(source), source.recording.footer
    return {
        "path": printable(os.path.basename(source.recording.path)),
        "label": source.label,
        "kernel": source.host.kernel,
        "target": target_of(report),
        "start": clock_time(wall_ns(source, report.start_ns)),
        "duration_ns": report.duration_ns,
        "cycles": census.read,
        "wait_ns": sum(row.wait.total_ns for row in report.rows),
        "hold_ns": sum(row.hold.total_ns for row in report.rows),
        "ended_by": footer["ended_by"].replace("_", " ") if footer else "it was cut",
        "accounting": [
            *accounting_lines(report.accounting, width=_WIDE),
            *census_lines(census, _WIDE),
            *_clock_notes(source),
        ],
        "missing": list(loss_words(census)),
    }


def _clock_notes(source: Source) -> Iterator[str]:
    drifted = drift(source)
    if drifted.suspended_ns:
        yield f"the host was suspended for {duration(drifted.suspended_ns)} in all: in no time here"
    if drifted.set_ns:
        way = "forward" if drifted.set_ns > 0 else "back"
        yield f"the wall clock was set {way} by {duration(abs(drifted.set_ns))} meanwhile"


def meta(listed: Sequence[dict[str, Any]], gathered: Gathered) -> list[str]:
    """What, where, when and how much, for the line below the title."""
    if len(listed) == 1:
        of = [f"{listed[0]['label']}, Linux {listed[0]['kernel']}"]
    else:
        of = [f"{len(listed)} recordings: " + ", ".join(each["label"] for each in listed)]
    return [
        *of,
        f"from {clock_time(gathered.clock.wall_ns)} for {duration(gathered.clock.span_ns)}",
        f"{gathered.cycles:,} cycles",
    ]


def flame_note(kind: str, tree: Node) -> str:
    """What the flame graph is of."""
    if not tree.cycles:
        return f"No stack of a {kind} was recorded."
    return f"{duration(tree.total_ns)} of {tree.cycles:,} {kind}s of which stacks were taken"


def warnings(listed: Sequence[dict[str, Any]]) -> list[str]:
    """What must be known before a number is believed."""
    return [
        f"Incomplete: {each['label']}: {', '.join(each['missing'])}."
        for each in listed
        if each["missing"]
    ]


def worst(details: Details, names: Sequence[str], most: int = 12) -> list[dict[str, Any]]:
    """The longest waits and the longest holds, each with its cycle's number on the page."""
    return [
        {
            "kind": kind,
            "caption": f"The longest {kind}s",
            "lines": _worst(details, kind, most, names),
        }
        for kind in ("wait", "hold")
    ]


def _worst(details: Details, kind: str, most: int, names: Sequence[str]) -> list[dict[str, Any]]:
    columns, lines = details.columns, []
    for at in details.worst(kind, most):
        source, thread, _, operation, mode = details.rows[columns["row"][at]]
        blocker = int(columns["blocker"][at])
        begin = columns["begin"][at] + (columns["wait"][at] if kind == "hold" else 0)
        lines.append(
            {
                "slice": at,
                "time_ns": int(columns[kind][at]),
                "thread": thread + (f" on {names[source]}" if len(names) > 1 else ""),
                "operation": operation,
                "mode": mode[0].upper(),
                "at": f"+{begin / 1e9:.6f}s",
                "blocker": _blocker(details, blocker) if blocker >= 0 else "not known",
            }
        )
    return lines


def _blocker(details: Details, at: int) -> str:
    _, thread, _, operation, mode = details.rows[details.columns["row"][at]]
    return f"{thread} {operation} {mode[0].upper()}"


def blame(sources: Sequence[Source], reports: Sequence[Report]) -> list[dict[str, Any]]:
    """Each recording's blame: sentences, and a matrix for each way of adding up."""
    sections = []
    for number, (source, report) in enumerate(zip(sources, reports)):
        if report.blame is None:
            continue
        found = report.blame.blame
        open_waits = report.accounting.open_waits if report.accounting else 0
        sections.append(
            {
                "number": number,
                "label": source.label,
                "lines": list(summary(found, open_waits, _WIDE)),
                "matrices": _matrices(found),
            }
        )
    return sections


def _matrices(found: Blame) -> dict[str, Matrix]:
    if not found.charges:
        return {}
    charges = Charges(found)
    return {by: matrix(charges, by) for by in BLAME_BY}


def rows(
    sources: Sequence[Source], reports: Sequence[Report], limits: Limits
) -> tuple[list[dict[str, Any]], int]:
    """The rows with most time, and how many there are besides."""
    ranked = [(at, row) for at, report in enumerate(reports) for row in report.rows]
    ranked.sort(key=lambda each: -(each[1].wait.total_ns + each[1].hold.total_ns))
    shown = [_row(sources[at].label, row) for at, row in ranked[: limits.rows]]
    return shown, max(0, len(ranked) - limits.rows)


def _row(host: str, row: Row) -> dict[str, Any]:
    return {
        "host": host,
        "thread": thread_name(row),
        "operation": row.operation,
        "mode": row.mode,
        "wait": times_fields(row.wait),
        "hold": times_fields(row.hold),
    }


def aggregated(gathered: Gathered, details: Details, limits: Limits, whole: bool) -> list[str]:
    """What stands for more than is shown. ``whole``: not only a part of a recording's time."""
    width = duration(round(gathered.clock.span_ns / gathered.columns))
    heat = duration(round(gathered.clock.span_ns / limits.columns))
    lines = [
        slices_note(gathered, limits) + " Holds that kept one of them are there, too.",
        f"The shading of a thread is how much of each {width} it waited and held, in steps of "
        "1/255, of all cycles.",
        f"Heat maps count all waits that got the lock and all holds that ended, exactly, by {heat} "
        "and by quarters of a power of two.",
        "Flame graphs have the waits and holds of which stacks were taken, those from the "
        "recording's --slow-us on. What is too thin to be seen is added up as (smaller).",
        "Quantiles are within 6.25 % of the true ones; counts, sums and maxima are exact.",
    ]
    together = sum(lane.threads for lane in gathered.lanes if lane.thread is None)
    if together:
        lines.append(
            f"Of {len(gathered.lanes):,} lanes, the last of a recording has the {together:,} "
            "threads that waited least and were least in the way."
        )
    if not whole:
        lines.append(
            "A cycle that lies only partly in the time that was chosen is counted whole; in heat "
            "maps what ended before or after it is at its edge."
        )
    if details.stacks.left_out:
        lines.append(f"{details.stacks.left_out:,} single cycles are shown without their stacks.")
    return lines


def slices_note(gathered: Gathered, limits: Limits) -> str:
    """How many cycles are shown one by one."""
    if not gathered.cycles:
        return "There is no cycle to be drawn."
    if gathered.cycles <= limits.slices:
        return f"All {gathered.cycles:,} cycles are drawn one by one."
    return (
        f"Of {gathered.cycles:,} cycles, the {limits.slices:,} with the longest waits and the "
        "longest holds are drawn one by one; the rest is in the shading."
    )
