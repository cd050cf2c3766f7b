"""Recordings as one page that needs nothing else: ``write_html``.

``gather`` reads the cycles; ``lanes``, ``heat``, ``shading`` and ``analysis/longest`` are what it
fills; ``links`` and ``details`` say who kept whom; ``stacks`` names stacks and ``flames`` adds them
up; ``operations``, ``lead``, ``matrix`` and ``sections`` make tables of the reports; ``columns``
packs what scripts draw; ``page`` puts all of it together with ``page.html``, ``page.css`` and
``js/``. ``docs/html.md`` says how to read the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Optional, TextIO

import numpy as np

from corelock.analysis.batches import Progress
from corelock.analysis.blame import with_blame
from corelock.analysis.blockers import blocking_holds
from corelock.analysis.census import take_census
from corelock.analysis.selection import Selection
from corelock.analysis.source import Source
from corelock.analysis.summary import summarize
from corelock.model import Report
from corelock.render.html import heat, sections
from corelock.render.html.columns import packed, script_json
from corelock.render.html.details import Details, details_of
from corelock.render.html.flames import Node, flattened
from corelock.render.html.gather import LIMITS, Gathered, Limits, gather
from corelock.render.html.lanes import Lane
from corelock.render.html.lead import lead
from corelock.render.html.links import linked
from corelock.render.html.operations import operations
from corelock.render.html.page import rendered
from corelock.render.html.shading import WAIT
from corelock.render.html.stacks import flame_trees

#: No page is larger.
MOST_BYTES = 8_000_000


def write_html(
    stream: TextIO, sources: Sequence[Source], selection: Selection,
    progress: Optional[Progress] = None, *, chosen: str = "", limits: Limits = LIMITS,
) -> None:  # fmt: skip
    """Write a page about the chosen cycles of ``sources`` to ``stream``, of at most 8 MB.

    ``chosen`` says in words what was chosen, ``""``: all.
    """
    reports = [
        with_blame(source, report, selection, take_census(source), progress)
        for source, report in summarize(sources, selection, progress, slowest=0)
    ]
    gathered = gather(sources, reports, selection, limits, progress)
    blockers = [blocking_holds(source.recording, progress) for source in sources]
    whole = selection.from_ns is None and selection.to_ns is None
    page = _page(sources, reports, gathered, blockers, chosen, whole, limits)
    while len(page.encode("utf-8", "replace")) > MOST_BYTES and limits.slices > 1:
        # Names and stacks may be of any length: then there are fewer cycles one by one.
        limits = replace(limits, slices=limits.slices // 2, stacks=limits.stacks // 2)
        gathered.longest.keep(limits.slices)
        page = _page(sources, reports, gathered, blockers, chosen, whole, limits)
    stream.write(page)


def _page(
    sources: Sequence[Source], reports: Sequence[Report], gathered: Gathered,
    blockers: Sequence[Any], chosen: str, whole: bool, limits: Limits,
) -> str:  # fmt: skip
    cycles, kept_by = linked(sources, gathered, blockers)
    details = details_of(sources, gathered, cycles, kept_by, limits.stacks)
    trees = flame_trees(sources, gathered)
    directory, payload = packed(
        {
            **{f"slice_{name}": column for name, column in details.columns.items()},
            "rows": details.rows,
            "stacks": details.stacks.json,
            "wait_heat": gathered.wait_heat.counts.astype(np.uint32),
            "hold_heat": gathered.hold_heat.counts.astype(np.uint32),
            "shading": gathered.shading.levels().reshape(-1),
            "waiting": gathered.busy.total_ns[WAIT, 0],
            "holding": gathered.busy.total_ns[WAIT + 1 :, 0].sum(axis=0),
            "wait_flame": flattened(trees["wait"], limits.frames),
            "hold_flame": flattened(trees["hold"], limits.frames),
        }
    )
    facts = {
        "schema": "corelock.page/1",
        "span_ns": gathered.clock.span_ns,
        "wall_ns": str(gathered.clock.wall_ns),  # more than a double can hold
        "hosts": [source.label for source in sources],
        "lanes": [_lane_facts(lane) for lane in gathered.lanes],
        "columns": gathered.columns,
        "heat": {
            "columns": limits.columns, "rows": heat.ROWS, "lowest": heat.LOWEST,
            "steps": heat.STEPS,
        },
        "directory": directory,
    }  # fmt: skip
    return rendered(
        script_json(facts), payload,
        _sections(sources, reports, gathered, details, limits, trees, chosen, whole),
    )  # fmt: skip


def _lane_facts(lane: Lane) -> dict[str, Any]:
    return {
        "host": lane.source, "name": lane.name, "process": lane.process, "wait": lane.wait_ns,
        "hold": lane.hold_ns, "blamed": lane.blamed_ns,
    }  # fmt: skip


def _sections(
    sources: Sequence[Source], reports: Sequence[Report], gathered: Gathered, details: Details,
    limits: Limits, trees: Mapping[str, Node], chosen: str, whole: bool,
) -> dict[str, Any]:  # fmt: skip
    recordings = sections.recordings(sources, reports)
    names = [source.label for source in sources]
    listed, rows_left = sections.rows(sources, reports, limits)
    targets = sorted({each["target"] for each in recordings})
    return {
        "title": "mmap_lock of " + (targets[0] if len(targets) == 1 else f"{len(targets)} targets"),
        "meta": [*sections.meta(recordings, gathered), *([f"only {chosen}"] if chosen else [])],
        "warnings": sections.warnings(recordings),
        "several": len(sources) > 1,
        "lead": lead(sources, reports, gathered),
        "slices_note": sections.slices_note(gathered, limits),
        "worst": sections.worst(details, names),
        "blame": sections.blame(sources, reports),
        "flames": {kind: sections.flame_note(kind, tree) for kind, tree in trees.items()},
        **operations(reports),
        "rows": listed,
        "rows_left": rows_left,
        "recordings": recordings,
        "aggregated": sections.aggregated(gathered, details, limits, whole),
    }
