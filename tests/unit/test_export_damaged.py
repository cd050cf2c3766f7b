from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from corelock.recording import NotARecording
from tests import perfetto_reader
from tests.exported import exported, holds
from tests.made_recordings import plans
from tests.recordings import Plan


@settings(max_examples=60)
@given(plans(), st.data())
def test_what_is_left_of_a_damaged_recording_is_written_alike(
    plan: Plan, data: st.DataObject
) -> None:
    """Cut, or with a byte changed: formats agree on what can be read, and say what cannot."""
    with tempfile.TemporaryDirectory() as folder:
        path = plan.write(Path(folder, "r"))
        whole = path.read_bytes()
        at = data.draw(st.integers(0, len(whole) - 1))
        cut = data.draw(st.booleans())
        path.write_bytes(whole[:at] if cut else _changed(whole, at))
        try:
            (recording,) = json.loads(exported("json", path)[0])["recordings"]
        except NotARecording:
            return
        folded = exported("folded", path)[0]
        trace = perfetto_reader.read(exported("perfetto", path)[0])
        assert gzip.decompress(exported("pprof", path)[0])
        speedscope = json.loads(exported("speedscope", path)[0])
    total = sum(row["hold_ns"]["total"] for row in recording["rows"])
    assert sum(int(line.rpartition(" ")[2]) for line in folded.splitlines()) == total
    assert sum(speedscope["profiles"][0]["weights"]) == total
    ended = [s for s in trace.slices if s.category == "hold" and s.args.get("ended") != _OPEN]
    assert sum(s.end_ns - s.begin_ns for s in ended) == total
    if total != sum(cycle.hold_ns for cycle in holds(plan.all_cycles)):
        assert any(recording["damage"].values()) or recording["cycles"]["nameless"]
        assert "missing" in trace.instants[0].args
        assert ";" in speedscope["name"]


_OPEN = "not when recording did"


def _changed(whole: bytes, at: int) -> bytes:
    return whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :]
