"""``--cgroup`` and ``--container`` on the command line: what they are called, when they end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import cgroups
from tests.cgroups import move
from tests.cli.command import Corelock, run
from tests.workloads import Workload

pytestmark = pytest.mark.kernel

Background = Callable[..., Corelock]

_ID = "c0ffee" + "0123456789" * 5 + "abcdef01"


@pytest.fixture()
def container() -> Iterator[Path]:
    """The cgroup of a container."""
    name = f"docker-{_ID}.scope"
    with cgroups.cgroup(below=name) as top:
        yield top / name


def finished(corelock: Corelock, folder: Path) -> str:
    """What it printed when the cgroup had been removed, which ends it."""
    with Workload("storm", "2", "100") as storm:
        move(storm.pid, folder)
        storm.run()
        move(storm.pid, folder.parent.parent)
        assert corelock.process.poll() is None
        cgroups.remove(folder, folder.parent.parent)
        result = corelock.finish()
        storm.finish()
    assert result.code == 0, result.err
    return result.out


@pytest.mark.parametrize("command", ["hold-times", "blame"])
def test_it_ends_with_the_cgroup(
    container: Path, corelock_background: Background, command: str
) -> None:
    corelock = corelock_background(command, "--cgroup", container)
    out = finished(corelock, container)
    assert out.startswith(f"mmap_lock of cgroup /{container.parent.name}/docker-c0ffee")
    assert " + held at end 0 + unmatched 0 + lost 0" in " ".join(out.split())


@pytest.mark.parametrize("command", ["hold-times", "blame"])
def test_json_says_which(container: Path, corelock_background: Background, command: str) -> None:
    corelock = corelock_background(command, "--container", "c0ffee", "--json")
    inode = container.stat().st_ino
    found = json.loads(finished(corelock, container))
    assert found["target"] is None
    assert found["cgroup"] == {
        "path": f"/{container.parent.name}/{container.name}", "id": inode, "container": _ID,
    }  # fmt: skip
    assert found["accounting"]["unaccounted"] == 0


def test_a_container_is_called_by_its_short_id(container: Path) -> None:
    result = run("hold-times", "--container", "c0f", "-d", "0.1")
    assert result.err.startswith("Tracing mmap_lock of container c0ffee012345.")
    assert result.out.startswith("mmap_lock of container c0ffee012345, ")


def test_no_such_cgroup() -> None:
    run("hold-times", "--cgroup", "/no/such").assert_refused("/no/such", "/proc/PID/cgroup")


def test_no_such_container() -> None:
    run("blame", "--container", "no-such").assert_refused("no-such", "docker ps", "--pid")


def test_watching_holders_ends_with_the_cgroup(container: Path) -> None:
    with Corelock("holders", "--watch", "0.05", "--container", "c0ffee") as corelock:
        assert corelock.line("err").startswith("Watching mmap_lock of container c0ffee012345.")
        cgroups.remove(container, container.parent)
        result = corelock.finish()
    assert (result.code, result.out) == (0, "")
    assert result.err.splitlines()[1:] == ["container c0ffee012345 has been removed."]


def test_holders_says_which_in_text_and_json(container: Path) -> None:
    result = run("holders", "--cgroup", container)
    name = f"cgroup /{container.parent.name}/{container.name}"
    assert f"nothing held: 0 of 0 address spaces in {name}" in " ".join(result.out.split())
    assert run("holders", "--container", "c0ffee", "--json").json["cgroup"]["container"] == _ID
