"""Wrong usage is exit code 2 and a message that says what to do instead. No BPF needed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from corelock.version import VERSION
from tests.cli.command import run

_SELF = str(os.getpid())

WRONG = {
    "no target": ([], "--pid N"),
    "two targets": (["--pid", _SELF, "--all"], "Name one target"),
    "a target and a command": (["--pid", _SELF, "--", "true"], "Name one target"),
    "pid and tid": (["--pid", _SELF, "--tid", _SELF], "Name one target"),
    "pid no number": (["--pid", "nginx"], "'nginx' is not a valid integer"),
    "pid zero": (["--pid", "0"], "positive"),
    "pid negative": (["--pid", "-1"], "positive"),
    "tid zero": (["--tid", "0"], "positive"),
    "duration negative": (["--all", "-d", "-1"], "not a number of seconds above 0"),
    "duration zero": (["--all", "-d", "0"], "not a number of seconds above 0"),
    "duration nan": (["--all", "-d", "nan"], "-d"),
    "duration word": (["--all", "-d", "soon"], "'soon' is not a valid float"),
    "interval zero": (["--all", "-i", "0"], "not a number of seconds above 0"),
    "interval nan": (["--all", "-i", "nan"], "-i"),
    "interval longer": (["--all", "-d", "1", "-i", "2"], "longer than the whole run (-d)"),
    "slow word": (["--all", "--slow-us", "x"], "microseconds, 0 (all) or off"),
    "slow negative": (["--all", "--slow-us", "-1"], "microseconds, 0 (all) or off"),
    "slow nan": (["--all", "--slow-us", "nan"], "microseconds, 0 (all) or off"),
    "slow infinite": (["--all", "--slow-us", "inf"], "microseconds, 0 (all) or off"),
    "by nonsense": (["--all", "--by", "nonsense"], "only by thread, operation, mode"),
    "by nothing": (["--all", "--by", ""], "only by thread, operation, mode"),
    "sort nonsense": (["--all", "-S", "nonsense"], "hold-p99"),
    "json and csv": (["--all", "--json", "--csv"], "one of --json and --csv"),
    "follow all": (["--all", "--follow"], "--follow goes with --pid"),
    "follow comm": (["--comm", "x", "--follow"], "--follow goes with --pid"),
    "follow tid": (["--tid", _SELF, "--follow"], "--follow goes with --pid"),
    "follow cgroup": (["--cgroup", "/", "--follow"], "--follow goes with --pid"),
    "cgroup and container": (["--cgroup", "/", "--container", "a"], "Name one target"),
    "cgroup empty": (["--cgroup", ""], "the cgroup's path is empty"),
    "container empty": (["--container", ""], "the container's id is empty"),
    "comm too long": (["--comm", "sixteen-letters-"], "use sixteen-letters"),
    "comm empty": (["--comm", ""], "empty"),
    "top negative": (["--all", "-n", "-1"], "x>=0"),
    "top word": (["--all", "-n", "many"], "'many' is not a valid integer"),
    "stacks negative": (["--all", "-s", "-1"], "x>=0"),
    "rows zero": (["--all", "--max-rows", "0"], "1<=x<="),
    "unknown option": (["--all", "--hits"], "--hist"),
    "words without dashes": (["--all", "true"], "Name one target"),
}


@pytest.mark.parametrize(("arguments", "hint"), WRONG.values(), ids=WRONG)
def test_wrong_usage(arguments: list[str], hint: str) -> None:
    result = run("hold-times", *arguments, timeout_s=20)
    assert result.code == 2, result
    assert result.out == ""
    assert "Traceback" not in result.err
    assert hint in " ".join(result.err.split())


@pytest.fixture()
def other_thread() -> Iterator[int]:
    """The tid of a thread that is not its process's leader."""
    end, running = threading.Event(), threading.Event()

    def wait() -> None:
        running.set()
        end.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    assert running.wait(10)
    assert thread.native_id is not None
    yield thread.native_id
    end.set()
    thread.join()


def test_pid_of_a_thread(other_thread: int) -> None:
    run("hold-times", "--pid", other_thread).assert_refused(
        f"{other_thread} is a thread of process {os.getpid()}",
        f"--pid {os.getpid()}",
        f"--tid {other_thread}",
        code=2,
    )


def test_unknown_command() -> None:
    result = run("hold-time")
    assert result.code == 2
    assert "No such command 'hold-time'" in result.err
    assert result.out == ""


def test_no_command_shows_the_help() -> None:
    result = run()
    assert "hold-times" in result.out + result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("command", [(), ("hold-times",)], ids=["corelock", "hold-times"])
def test_help(command: tuple[str, ...], option: str) -> None:
    result = run(*command, option)
    assert (result.code, result.err) == (0, "")
    assert max(map(len, result.out.splitlines())) <= 80
    assert result.out.startswith("Usage: corelock")


def test_help_names_every_option_of_the_contract() -> None:
    text = run("hold-times", "-h").out
    for option in (
        "-p, --pid", "-t, --tid", "--comm", "--all", "--follow", "-d, --duration",
        "-i, --interval", "-n, --top", "-S, --sort", "--by", "--slow-us", "-s, --stacks",
        "--hist", "--json", "--csv", "-o, --output", "-q, --quiet", "-v, --verbose", "-- CMD",
    ):  # fmt: skip
        assert option in text


def test_help_of_record_says_that_it_wants_a_file() -> None:
    text = run("record", "-h").out
    assert "-o, --output FILE   The file to make (required)" in text
    assert "instead of to stdout" not in text
    result = run("record", "-a")
    assert result.code == 2 and "-o FILE" in result.err


def test_help_of_the_group_names_every_command() -> None:
    assert "hold-times" in run("-h").out


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_version(option: str) -> None:
    assert run(option) == (0, f"corelock {VERSION}\n", "")


def test_as_a_module() -> None:
    command = [sys.executable, "-m", "corelock", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"corelock {VERSION}\n"
