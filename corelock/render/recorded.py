"""Recordings as text: one as a live trace is shown, several side by side; what they lack."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TextIO

from corelock.model import Report, ResolvedSlowEvent, Row
from corelock.render.accounting import accounting_lines
from corelock.render.blame import blame_lines
from corelock.render.grouping import HOST
from corelock.render.histogram import histograms
from corelock.render.report import TextOptions, text_lines, width_of, write_lines
from corelock.render.slow import event_lines
from corelock.render.table import hold_times_table, sorted_groups
from corelock.render.text import flow, printable
from corelock.render.units import duration

if TYPE_CHECKING:
    from corelock.analysis.census import Census

#: Of the ids in one recording: process_key and thread_key are 32 bits there.
_HOST_SHIFT = 32


@dataclass(frozen=True)
class Recorded:
    """One recording, to be shown: its host's ``label``, ``when`` it was made, in words.

    ``notes`` are remarks on its clocks.
    """

    label: str
    when: str
    report: Report
    census: Census
    notes: tuple[str, ...] = ()


def render_recorded(
    recordings: Sequence[Recorded], options: TextOptions, chosen: Sequence[str], stream: TextIO
) -> None:
    """Write one recording, or several together; ``chosen`` says in words what of them.

    Raises:
        ValueError: ``options.by`` or ``options.sort`` names no such field.
    """
    lines = _one(recordings[0], options, chosen)
    if len(recordings) > 1:
        lines = _several(recordings, options, chosen)
    write_lines(lines, options.colour, stream)


def _one(recorded: Recorded, options: TextOptions, chosen: Sequence[str]) -> Iterator[str]:
    width = width_of(options)
    notes = [f"recorded on {printable(recorded.label)}, {recorded.when}", *_only(chosen, width)]
    yield from text_lines(recorded.report, options, notes)
    yield from census_lines(recorded.census, width)
    yield from recorded.notes


def _several(
    recordings: Sequence[Recorded], options: TextOptions, chosen: Sequence[str]
) -> Iterator[str]:
    width, by, sort, top = width_of(options), options.by, options.sort, options.top
    merged, hosts = _together(recordings)
    shortest, longest = (f(r.report.duration_ns for r in recordings) for f in (min, max))
    spans = {duration(shortest): None, duration(longest): None}
    yield f"mmap_lock in {len(recordings)} recordings of {' to '.join(spans)}"
    yield from _only(chosen, width)
    if not merged.rows:
        yield "no lock was taken"
    else:
        yield from hold_times_table(
            merged, by=(HOST,), sort=sort, top=top, width=width, hosts=hosts, with_totals=False
        )
        yield ""
        yield "all together"
        yield from hold_times_table(
            merged, by=("operation", "mode"), sort=sort, top=top, width=width, with_totals=False
        )
        yield ""
        yield "each by itself"
        yield from hold_times_table(
            merged, by=(HOST, *by), sort=sort, top=top, width=width, hosts=hosts
        )
    if options.hist:
        groups = sorted_groups(merged.rows, (HOST, *by), sort, hosts)
        yield from histograms(groups[:top] if top > 0 else groups, width)
    yield from _blame_of_each(recordings, top, width)
    yield from _slow_of_all(recordings, options.stacks, width)
    for recorded in recordings:
        yield ""
        yield from _provenance(recorded, width)


def _together(recordings: Sequence[Recorded]) -> tuple[Report, Mapping[int, str]]:
    """All rows as those of one report, and the host of each process in it."""
    rows: list[Row] = []
    hosts: dict[int, str] = {}
    for index, recorded in enumerate(recordings):
        above = index << _HOST_SHIFT
        for row in recorded.report.rows:
            process = above | row.process_key
            hosts[process] = recorded.label
            rows.append(replace(row, process_key=process, thread_key=above | row.thread_key))
    return replace(recordings[0].report, rows=tuple(rows)), hosts


def _only(chosen: Sequence[str], width: int) -> Iterator[str]:
    if chosen:
        commas = [f"{part}," for part in chosen[:-1]]
        yield from flow(["only", *commas, chosen[-1]], width, indent="  ")


def _blame_of_each(recordings: Sequence[Recorded], top: int, width: int) -> Iterator[str]:
    for recorded in recordings:
        if recorded.report.blame is not None:
            yield ""
            yield f"on {printable(recorded.label)}"
            yield from blame_lines(recorded.report, by="thread", top=top, stacks=0, width=width)


def _slow_of_all(recordings: Sequence[Recorded], top: int, width: int) -> Iterator[str]:
    several = {
        recorded.label: len({slow.event.mm_host_pid for slow in recorded.report.slow}) > 1
        for recorded in recordings
    }
    for kind in ("wait", "hold"):
        of_kind = (
            (slow, recorded)
            for recorded in recordings
            for slow in recorded.report.slow
            if slow.event.kind == kind
        )
        for slow, recorded in heapq.nlargest(top, of_kind, key=_length):
            yield ""
            yield from event_lines(
                slow, recorded.report.start_ns, width,
                with_process=several[recorded.label], host=recorded.label,
            )  # fmt: skip


def _length(entry: tuple[ResolvedSlowEvent, Recorded]) -> int:
    return entry[0].event.duration_ns


def _provenance(recorded: Recorded, width: int) -> Iterator[str]:
    host = recorded.report.host
    words = (f"{printable(recorded.label)}: {recorded.when},", f"Linux {host.kernel}")
    yield from flow(words, width, indent="  ")
    accounting = recorded.report.accounting
    if accounting is not None and not accounting.complete:
        yield from accounting_lines(accounting, width=width)
    yield from census_lines(recorded.census, width)
    yield from recorded.notes


def census_lines(census: Census, width: int) -> Iterator[str]:
    """Whether all cycles that the kernel counted are there; what of the file is not."""
    if census.counted is None:
        yield f"cycles {census.read:,} read; how many there were is not known"
    else:
        lost = sum(census.lost.values())
        pieces = [f"cycles {census.counted:,}", f"= recorded {census.ended:,}", f"+ lost {lost:,}"]
        if census.unread:
            pieces.append(f"+ in what cannot be read, at most {census.unread:,}")
        yield from flow(pieces, width, indent="  ")
        yield from _counts("  cycles lost:", census.lost, width)
        yield from _counts("  stacks lost:", census.stacks_lost, width)
    missing = list(damage_words(census))
    if missing:
        yield from flow(["DAMAGED:", *_listed(missing)], width, indent="  ")
    if census.unaccounted:
        yield f"UNBALANCED by {census.unaccounted:,} cycles: these numbers cannot be trusted"


def damage_words(census: Census) -> Iterator[str]:
    """What of a file is missing, each in words."""
    damage = census.damage
    if damage.cut:
        yield "the recording has no end"
    if damage.corrupt_blocks:
        yield _plural(damage.corrupt_blocks, "corrupt block")
    if damage.missing_blocks:
        yield _plural(damage.missing_blocks, "missing block")
    if damage.skipped_bytes:
        yield f"{_plural(damage.skipped_bytes, 'byte')} that are no block"
    if census.nameless:
        yield f"{_plural(census.nameless, 'cycle')} of unknown threads, in no table"


def loss_words(census: Census) -> Iterator[str]:
    """What is missing of the cycles, whyever."""
    yield from damage_words(census)
    if census.unread and census.unread > 0:
        yield f"{_plural(census.unread, 'cycle')} in what cannot be read"
    for what, lost in (("cycles", census.lost), ("stacks", census.stacks_lost)):
        for cause, number in lost.items():
            if number:
                yield f"{what} lost ({cause}) {number:,}"
    if census.unaccounted:
        yield f"unbalanced by {census.unaccounted:,} cycles"


def _plural(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _counts(title: str, counts: Mapping[str, int], width: int) -> Iterator[str]:
    parts = [f"{name} {number:,}" for name, number in counts.items() if number]
    if parts:
        yield from flow([title, *_listed(parts)], width, indent="    ")


def _listed(parts: Sequence[str]) -> Iterable[str]:
    return [*(f"{part}," for part in parts[:-1]), parts[-1]]
