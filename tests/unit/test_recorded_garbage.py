"""Reports of recordings whose blocks fit their checksums and whose content is garbage."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corelock.analysis.blame import with_blame
from corelock.analysis.census import take_census
from corelock.analysis.clocks import drift, wall_ns
from corelock.analysis.selection import Selection
from corelock.analysis.source import Source, open_sources
from corelock.analysis.summary import summarize
from corelock.errors import CorelockError
from corelock.render.recorded import Recorded, render_recorded
from corelock.render.report import TextOptions
from tests import recordings
from tests.made_recordings import plans
from tests.recordings import Plan


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recordings") / "a.rec"


def shown(source: Source, selection: Selection) -> str:
    """The text of a report, made with all that goes into one."""
    [(_, report)] = summarize([source], selection)
    census = take_census(source)
    report = with_blame(source, report, selection, census, stacks=3)
    when = f"{wall_ns(source, source.start_ns)} {drift(source)}"
    stream = io.StringIO()
    recorded = Recorded(source.label, when, report, census)
    options = TextOptions(width=80, hist=True, stacks=3)
    render_recorded([recorded], options, [], stream)
    render_recorded([recorded, recorded], options, [], stream)
    return stream.getvalue()


def garbled(payload: bytes, changes: list[tuple[int, int]]) -> bytes:
    some = bytearray(payload)
    for at, byte in changes:
        some[at % len(some)] = byte
    return bytes(some)


changes = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=8)
interesting = st.sampled_from(
    [b"\xff" * 8, b"\xff" * 4, bytes(8), b"\0\0\0\x80", b"\xff" * 7 + b"\x7f", b"\0" * 7 + b"\x80"]
)


@given(plans(whole=True), st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_garbage_is_reported_or_refused(path: Path, plan: Plan, data: st.DataObject) -> None:
    blocks = plan.blocks()
    for _ in range(data.draw(st.integers(1, 3))):
        which = data.draw(st.integers(0, len(blocks) - 1))
        type_, payload = blocks[which]
        if data.draw(st.booleans()):
            payload = garbled(payload, data.draw(changes))
        else:
            piece = data.draw(interesting)
            at = 4 * data.draw(st.integers(0, len(payload) // 4))
            payload = (payload[:at] + piece + payload[at + len(piece) :])[: len(payload)]
        blocks[which] = type_, payload
    recordings.write(path, blocks)
    selection = data.draw(
        st.sampled_from([Selection(), Selection(from_ns=1000), Selection(to_ns=0, min_ns=5)])
    )
    try:
        [source] = open_sources([path])
        with source:
            text = shown(source, selection)
    except CorelockError as error:
        assert error.remedy
    else:
        assert text.startswith("mmap_lock")
