"""Which recordings are opened together, and what they are called."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corelock.analysis.source import labels, open_sources
from corelock.errors import CorelockError
from corelock.model import Cgroup, Host, Target
from corelock.recording import NotARecording
from tests import recordings
from tests.recordings import Cycle, Plan

PLAN = Plan(
    [recordings.process(1, 4021, "postgres")],
    [recordings.row(1, 1, 1, 4021, 4021, "postgres", 11, 1)],
    [[Cycle(1, 100, 2, 3)]],
)


def host(name: str) -> dict[str, str]:
    return {**recordings.header()["host"], "hostname": name}


@given(st.lists(st.sampled_from(["a", "b", "a (2)", "a (3)", "a (2) (2)"])))
def test_labels_are_unique_and_begin_as_the_host(names: list[str]) -> None:
    unique = labels(names)
    assert len(set(unique)) == len(names)
    assert all(label.startswith(name) for label, name in zip(unique, names))


def test_several_of_one_host(tmp_path: Path) -> None:
    paths = [
        PLAN.write(tmp_path / f"{n}.rec", id=str(n), host=host(name))
        for n, name in enumerate(["db7", "db8", "db7"])
    ]
    sources = open_sources(paths)
    assert [source.label for source in sources] == ["db7", "db8", "db7 (2)"]
    for source in sources:
        source.recording.close()


def test_the_same_recording_counts_once(tmp_path: Path) -> None:
    first, second = PLAN.write(tmp_path / "a.rec"), PLAN.write(tmp_path / "b.rec")
    with pytest.raises(CorelockError, match=r"b\.rec is the same recording as .*a\.rec") as error:
        open_sources([first, second])
    assert error.value.remedy


def test_one_bad_file_among_good_ones(tmp_path: Path) -> None:
    good = PLAN.write(tmp_path / "a.rec")
    (tmp_path / "b.rec").write_bytes(b"")
    with pytest.raises(NotARecording, match=r"b\.rec is empty"):
        open_sources([good, tmp_path / "b.rec"])
    for name in ("none", "."):
        with pytest.raises(CorelockError, match="cannot read|regular") as error:
            open_sources([good, tmp_path / name])
        assert error.value.remedy


def test_what_was_traced(tmp_path: Path) -> None:
    target = {"pid": 7, "comm": "nginx", "host_pid": 70}
    cgroup = {"path": "/docker/3f", "id": 99, "container": "3f"}
    path = PLAN.write(tmp_path / "a.rec", target=target, cgroup=cgroup, host=host("web1"))
    [source] = open_sources([path])
    with source:
        assert source.host == Host("6.18.44", "x86_64", "web1")
        assert source.target == Target(7, "nginx", 70)
        assert source.cgroup == Cgroup("/docker/3f", "", 99, "3f")
        assert (source.start_ns, source.duration_ns) == (recordings.START_NS, 100)


def test_an_end_before_the_start_is_no_time(tmp_path: Path) -> None:
    footer = recordings.as_json(recordings.footer(1, -5))
    path = recordings.write(tmp_path / "a.rec", [*PLAN.blocks()[:-1], (6, footer)])
    [source] = open_sources([path])
    with source:
        assert source.duration_ns == 0
