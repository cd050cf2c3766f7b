"""``corelock blame`` and ``hold-times --blame``: usage, ends of a run, and what is printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Corelock, Result, run
from tests.workloads import BUILD, Workload

Background = Callable[..., Corelock]
Object = dict[str, Any]

_SELF = str(os.getpid())

WRONG = {
    "no target": (
        "blame",
        [],
        "--pid N, --comm NAME, --cgroup PATH, --container ID, --all, or -- CMD",
    ),
    "two targets": ("blame", ["--pid", _SELF, "--all"], "Name one target"),
    "a target and a command": ("blame", ["--all", "--", "true"], "Name one target"),
    "tid": ("blame", ["--tid", _SELF], "No such option"),
    "short tid": ("blame", ["-t", _SELF], "No such option"),
    "interval": ("blame", ["--all", "-i", "1"], "No such option"),
    "csv": ("blame", ["--all", "--csv"], "No such option"),
    "by nonsense": ("blame", ["--all", "--by", "mode"], "thread"),
    "by nothing": ("blame", ["--all", "--by", ""], "thread"),
    "top negative": ("blame", ["--all", "-n", "-1"], "x>=0"),
    "stacks negative": ("blame", ["--all", "-s", "-1"], "x>=0"),
    "duration zero": ("blame", ["--all", "-d", "0"], "not a number of seconds above 0"),
    "pid zero": ("blame", ["--pid", "0"], "positive"),
    "follow all": ("blame", ["--all", "--follow"], "--follow goes with --pid"),
    "one thread": ("hold-times", ["--blame", "--tid", _SELF], "not of one (--tid)"),
    "into csv": ("hold-times", ["--blame", "--all", "--csv"], "does not fit into --csv"),
}


@pytest.mark.parametrize(("command", "arguments", "hint"), WRONG.values(), ids=WRONG)
def test_wrong_usage(command: str, arguments: list[str], hint: str) -> None:
    result = run(command, *arguments, timeout_s=20)
    assert result.code == 2, result
    assert result.out == ""
    assert "Traceback" not in result.err
    assert hint in " ".join(result.err.split())


def test_usage_names_no_option_that_is_not_there() -> None:
    assert "--tid" not in run("blame").err
    assert "--tid N" in run("hold-times").err


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(option: str) -> None:
    result = run("blame", option)
    assert (result.code, result.err) == (0, "")
    assert max(map(len, result.out.splitlines())) <= 80
    assert result.out.startswith("Usage: corelock blame")
    for word in ("-p, --pid", "--all", "-d, --duration", "-n, --top", "--by", "-s, --stacks",
                 "--json", "-o, --output", "-q, --quiet", "-v, --verbose", "-- CMD"):  # fmt: skip
        assert word in result.out
    assert "--tid" not in result.out
    assert "blame" in run("-h").out
    assert "--blame" in run("hold-times", "-h").out


# --- targets that are not there -----------------------------------------------------------------


@pytest.mark.kernel
def test_no_such_process() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    run("blame", "--pid", process.pid).assert_refused(str(process.pid), "no process")


@pytest.mark.kernel
def test_command_not_found() -> None:
    run("blame", "--", "no-such-command-").assert_refused("no-such-command-", "PATH")


@pytest.mark.kernel
def test_output_keeps_its_content_when_the_run_fails(tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_text("of yesterday\n")
    run("blame", "-o", file, "--", "no-such-command-").assert_refused("no-such-command-")
    assert file.read_text() == "of yesterday\n"


# --- what is printed ----------------------------------------------------------------------------


def trace(background: Background, *options: object, command: str = "blame") -> tuple[Result, int]:
    """Trace long write holds that a thread waits for; Ctrl-C ends it while its process lives."""
    with Workload("mprotect_large", "128", "20") as workload:
        corelock = background(command, "--pid", workload.pid, *options)
        workload.run()
        corelock.interrupt()
        result = corelock.finish()
        workload.finish()
    assert result.code == 0, result.err
    assert "Traceback" not in result.err
    return result, workload.pid


def assert_sums(blame: Object) -> None:
    """What must hold of every blame, whatever was traced."""
    assert blame["wait_ns"] == blame["charged_ns"] + blame["unknown_ns"]
    assert blame["unaccounted_ns"] == 0
    assert blame["charged_ns"] == sum(each["charged_ns"] for each in blame["charges"])
    contended = blame["wait_ns"] - blame["uncontended_ns"]
    assert contended == sum(each["contended_ns"] for each in blame["waiters"])
    unknown = sum(each["unknown_ns"] for each in blame["waiters"])
    assert blame["unknown_ns"] == blame["uncontended_ns"] + unknown
    assert blame["unheld_ns"] == sum(each["unheld_ns"] for each in blame["waiters"]) <= unknown
    charges = [each["charged_ns"] for each in blame["charges"]]
    assert charges == sorted(charges, reverse=True)
    for charge in blame["charges"]:
        assert 0 < charge["longest_ns"] <= charge["charged_ns"]
        assert charge["certainty"] in ("observed", "convoy", "owner-word")


@pytest.mark.kernel
def test_text(corelock_background: Background) -> None:
    result, pid = trace(corelock_background)
    result.assert_table()
    lines = result.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith(f"mmap_lock of mprotect_large[{pid}], ")
    assert re.match(r"waited \S+ in \S+ waits: charged \S+ \(\d+\.\d%\), unknown \S+$", lines[1])
    assert "CHARGED" in result.out and " WAITER " in result.out and " HOLDER " in result.out
    # A stack of each side of the largest charge.
    assert [line.split()[0] for line in lines if "  at +" in line] == ["wait", "hold"]
    assert "UNBALANCED" not in result.out


@pytest.mark.kernel
def test_no_stacks(corelock_background: Background) -> None:
    result, _ = trace(corelock_background, "-s", "0")
    result.assert_table()
    assert "CHARGED" in result.out
    assert "  at +" not in result.out


@pytest.mark.kernel
@pytest.mark.parametrize("by", ["thread", "operation", "process"])
def test_by(by: str, corelock_background: Background) -> None:
    result, pid = trace(corelock_background, "--by", by, "-s", "0")
    [header] = [line for line in result.out.splitlines() if line.startswith("CHARGED")]
    titles = {"thread": ["THREAD", "OPERATION"], "operation": ["OPERATION"], "process": ["PROCESS"]}
    assert header.split()[4:] == [*titles[by], "M"] * 2
    assert f"[{pid}]" in result.out


@pytest.mark.kernel
def test_top(corelock_background: Background) -> None:
    result, _ = trace(corelock_background, "-n", "1", "-s", "0")
    lines = result.out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("CHARGED"))
    assert re.search(r" [RW]( [c?])?$", lines[start + 1])
    assert re.match(r"\.\.\. and \d+ more \(use -n\)$", lines[start + 2])


@pytest.mark.kernel
def test_json(corelock_background: Background) -> None:
    result, pid = trace(corelock_background, "--json")
    assert result.out.count("\n") == 1
    object_ = result.json
    assert object_["schema"] == "corelock.blame/1"
    assert object_["target"] == {"pid": pid, "comm": "mprotect_large"}
    assert object_["accounting"]["unaccounted"] == 0
    assert_sums(object_)
    largest = object_["charges"][0]
    assert (largest["holder"]["pid"], largest["holder"]["operation"]) == (pid, "mprotect")
    assert largest["waiter"]["tid"] != largest["holder"]["tid"]
    assert {example["kind"] for example in object_["examples"]} == {"wait", "hold"}
    assert all(example["kernel_stack"] for example in object_["examples"])


@pytest.mark.kernel
def test_output_file(corelock_background: Background, tmp_path: Path) -> None:
    file = tmp_path / "out"
    result, _ = trace(corelock_background, "--json", "-o", file)
    assert result.out == ""
    assert_sums(json.loads(file.read_text()))


@pytest.mark.kernel
def test_quiet_until_the_end_of_a_command() -> None:
    """The target's exit ends the run, and what it measured is whole; -q leaves only that."""
    result = run("blame", "-q", "--json", "--", BUILD / "demo", "1")
    assert (result.code, result.err) == (0, "")
    assert_sums(result.json)
    assert result.json["target"]["comm"] == "demo"


@pytest.mark.kernel
def test_demo_fits_and_names_the_foreigner() -> None:
    result = run("blame", "-v", "-n", "0", "-s", "3", "--", BUILD / "demo", "1")
    result.assert_table()
    assert max(map(len, result.out.splitlines())) <= 80
    foreign = r"\*smaps-reader\[\d+\] read: \d+ holds, longest \S+ blocked [\d to]+ of demo's waits"
    assert re.search(foreign, " ".join(result.out.split()))
    assert "* foreign: another process's thread" in result.out
    assert "symbol" in result.err  # with -v, what became of the stack frames


@pytest.mark.kernel
def test_exit_of_the_target_ends_the_run(corelock_background: Background) -> None:
    with Workload("mprotect_large", "64", "10") as workload:
        corelock = corelock_background("blame", "--json", "--pid", workload.pid)
        workload.run()
        workload.finish()
        result = corelock.finish()
    assert result.code == 0
    assert_sums(result.json)


@pytest.mark.kernel
def test_nothing_waited_for(corelock_background: Background) -> None:
    with Workload("storm", "1", "1") as storm:
        corelock = corelock_background("blame", "--pid", storm.pid)
        corelock.interrupt()
        result = corelock.finish()
    result.assert_table()
    assert result.out.splitlines()[1] == "no lock was waited for"


# --- hold-times --blame -------------------------------------------------------------------------


@pytest.mark.kernel
def test_hold_times_text(corelock_background: Background) -> None:
    result, _ = trace(corelock_background, "--blame", command="hold-times")
    result.assert_table()
    assert max(map(len, result.out.splitlines())) <= 80
    assert re.search(r"-+ WAIT -+ -+ HOLD -+", result.out)
    assert re.search(r"-+ WAITER -+  -+ HOLDER -+", result.out)


@pytest.mark.kernel
def test_hold_times_json(corelock_background: Background) -> None:
    result, _ = trace(corelock_background, "--blame", "--json", command="hold-times")
    object_ = result.json
    assert object_["schema"] == "corelock.hold-times/1"
    assert_sums(object_["blame"])
    assert object_["blame"]["wait_ns"] == sum(row["wait_ns"]["total"] for row in object_["rows"])
    assert object_["blame"]["charges"]


@pytest.mark.kernel
def test_hold_times_without_blame_has_none(corelock_background: Background) -> None:
    result, _ = trace(corelock_background, "--json", command="hold-times")
    assert "blame" not in result.json


@pytest.mark.kernel
def test_only_the_whole_run_has_blame(corelock_background: Background) -> None:
    with Workload("storm", "3", "30000") as storm:
        options = ["--blame", "--json", "-i", "0.1", "--pid", storm.pid]
        corelock = corelock_background("hold-times", *options)
        storm.go()
        assert corelock.line()
        corelock.interrupt()
        result = corelock.finish()
    *parts, whole = result.json_lines
    assert parts and not any("blame" in part for part in parts)
    assert_sums(whole["blame"])
    assert whole["blame"]["wait_ns"] == sum(row["wait_ns"]["total"] for row in whole["rows"])


@pytest.mark.kernel
def test_intervals_as_text_end_with_the_only_matrix(corelock_background: Background) -> None:
    result, _ = trace(corelock_background, "--blame", "-i", "0.05", command="hold-times")
    assert "--- interval 1, " in result.out
    before, _, whole = result.out.partition("--- whole run, ")
    assert " WAITER " in whole
    assert " WAITER " not in before
