"""What the embedding API makes of arguments that are none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from corelock import HolderSampler, InvalidArgument, Tracer, doctor, holders

_NO_NAMES = ["\0", "/a\0b", "\ud800", 4711, ["/"]]
_NO_PIDS = ["1", 1.0, True, 0, -1, 1 << 31, b"1"]


def _refused(call: Any, *arguments: Any, says: str, **named: Any) -> None:
    with pytest.raises(InvalidArgument, match=says) as caught:
        call(*arguments, **named)
    assert caught.value.remedy


@pytest.mark.parametrize("name", _NO_NAMES)
@pytest.mark.parametrize("argument", ["comm", "cgroup", "container", "btf"])
def test_no_name(argument: str, name: Any) -> None:
    target = {"pid": os.getpid()} if argument == "btf" else {}
    _refused(Tracer, **target, **{argument: name}, says=f"no {argument} is named")
    if argument == "btf":
        _refused(doctor, btf=name, says="no btf is named")
    if argument != "comm":
        _refused(HolderSampler, **{argument: name}, says=f"no {argument} is named")


@pytest.mark.parametrize("argument", ["comm", "container"])
def test_names_that_are_of_no_file(argument: str) -> None:
    _refused(Tracer, **{argument: Path("/")}, says=f"no {argument} is named")


@pytest.mark.parametrize("pid", _NO_PIDS)
def test_no_pid(pid: Any) -> None:
    _refused(Tracer, pid=pid, says="not a pid")
    _refused(Tracer, tid=pid, says="not a pid")
    _refused(holders, pid, says="not a pid")
    _refused(HolderSampler().snapshot, pid, says="not a pid")
    _refused(HolderSampler().lock_is_held, pid, says="not a pid")


@pytest.mark.parametrize(
    "command", ["true", b"true", 5, {"true"}, ["/bin/echo\0junk"], ["echo", "a\0b"], ["echo", None]]
)
def test_no_command(command: Any) -> None:
    _refused(Tracer, command=command, says="command")


@pytest.mark.parametrize("argument", ["slow_ns", "max_rows", "ring_bytes"])
@pytest.mark.parametrize("value", ["1", 1.5, True, -1])
def test_no_number(argument: str, value: Any) -> None:
    _refused(Tracer, everything=True, **{argument: value}, says=f"{argument} is out of range")


def test_names_of_files_may_be_paths() -> None:
    tracer = Tracer(command=[Path("/bin/true"), "a b"], btf=Path("/btf"))
    assert tracer._command == ["/bin/true", "a b"]
    assert tracer._btf == "/btf"
    assert Tracer(cgroup=Path("/sys/fs/cgroup"))._cgroup_path == "/sys/fs/cgroup"
    assert HolderSampler(cgroup=Path("/"))._cgroup_path == "/"
