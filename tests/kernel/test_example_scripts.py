"""The scripts of examples/ are run as a user runs them, and say what they should."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbclient
import nbformat
import pytest

import corelock
from tests import recordings
from tests.cli.command import TIMEOUT_S, Corelock, Result, environment
from tests.recordings import Cycle, Plan
from tests.workloads import Workload

pytestmark = pytest.mark.kernel

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def command(name: str, *arguments: object) -> list[str]:
    return [sys.executable, str(EXAMPLES / name), *map(str, arguments)]


class Example(Corelock):
    """One run of a script of examples/."""

    def __init__(self, name: str, *arguments: object) -> None:
        super().__init__()
        self.command = command(name, *arguments)

    def ended(self, by: signal.Signals = signal.SIGINT) -> Result:
        self.process.send_signal(by)
        return self.finish()


@pytest.fixture()
def storm() -> Iterator[Workload]:
    with Workload("storm", "2", "500") as storm:
        yield storm


def test_every_example_is_short_listed_and_tested() -> None:
    scripts = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    listed = re.findall(r"^\| \[(\S+)\]\((\S+)\)", (EXAMPLES / "README.md").read_text(), re.M)
    assert {name for name, _ in listed} == {target for _, target in listed} == scripts
    tested = Path(__file__).read_text()
    for name in scripts:
        assert f'"{name}"' in tested
        if name.endswith(".py"):
            assert len((EXAMPLES / name).read_text().splitlines()) <= 40


def test_each_thing_to_use_is_in_the_example_that_is_named_for_it() -> None:
    page = (EXAMPLES.parent / "docs" / "embedding.md").read_text()
    table = page[page.index("| to | use |") :].partition("\n\n")[0]
    for row in table.splitlines()[2:]:
        _, _, use, *example = row.split("|")
        files = re.findall(r"\(\.\./examples/(\S+)\)", example[0])
        texts = "".join((EXAMPLES / file).read_text() for file in files)
        names = re.findall(r"`([\w.]+)`", use)
        assert names and [name for name in names if name not in texts] == []


def test_recording_and_its_percentiles(storm: Workload, tmp_path: Path) -> None:
    file = tmp_path / "storm.corelock"
    with Example("record.py", storm.pid, file) as recorder:
        announced = recorder.line("err")
        assert announced == f"Recording {storm.pid}. Ctrl-C to end.\n"
        storm.run()
        result = recorder.ended()
    assert (result.code, result.err) == (0, announced)
    said = re.fullmatch(rf"{file}: (\d+) cycles and \d+ stacks in (\d+) bytes\n", result.out)
    assert said
    with corelock.open_recording(file) as recording:
        assert sum(map(len, recording)) == int(said[1]) >= 3000
    assert file.stat().st_size == int(said[2])

    read = subprocess.run(
        command("percentiles.py", file), capture_output=True, text=True, check=True
    )
    assert read.stderr == ""
    head, *rows = read.stdout.splitlines()
    assert head.split() == ["WAIT", "(us)", "COUNT", "p50", "p99", "p99.9", "max"]
    found = {name: (int(count), *map(float, rest)) for name, count, *rest in map(str.split, rows)}
    for operation in ("mmap", "mprotect", "munmap"):
        count, *quantiles = found[operation]
        assert count == 1000
        assert quantiles == sorted(quantiles)


def test_percentiles_are_of_waits_that_got_the_lock(tmp_path: Path) -> None:
    released, downgraded, failed, aborted, holding, waiting = range(6)
    no_wait = 8
    got = [Cycle(1, 1000 + at, 1000, 5, kind) for at, kind in enumerate((released, downgraded))]
    open_hold = Cycle(1, 3000, 3000, 5, holding)
    others = [
        Cycle(1, 4000 + kind, 1_000_000, 0, kind)
        for kind in (failed, aborted, waiting, released + no_wait)
    ]
    plan = Plan(
        [recordings.process(1, 4021, "postgres")],
        [recordings.row(1, 1, 1, 4021, 4021, "postgres", 0x20000, 0)],
        [[*got, open_hold, *others]],
    )
    read = subprocess.run(
        command("percentiles.py", plan.write(tmp_path / "made")),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (row,) = read.stdout.splitlines()[1:]
    assert row.split() == ["page-fault", "3", "1.0", "3.0", "3.0", "3.0"]


def test_what_is_missing_of_a_recording_is_said(storm: Workload, tmp_path: Path) -> None:
    file = tmp_path / "cut.corelock"
    with corelock.record(file, pid=storm.pid):
        storm.run()
    file.write_bytes(file.read_bytes()[:-8])
    read = subprocess.run(command("percentiles.py", file), capture_output=True, text=True)
    assert "the recording is incomplete: Damage(cut=True" in read.stderr


def test_asyncio_slow_log() -> None:
    with Workload("storm", "1", "20") as storm:
        with Example("asyncio_slow_log.py", storm.pid, 0) as log:
            assert log.line("err") == "Tracing. Ctrl-C to end.\n"
            storm.run()
            assert json.loads(log.line())  # while it runs
            result = log.ended(signal.SIGTERM)
    assert result.code == 0
    assert result.err.endswith("\ncomplete: True\n")
    lines = result.json_lines
    assert len([each for each in lines if each["mode"] == "write" and "hold" in each]) == 60
    assert {each["by"] for each in lines} >= {"mmap", "mprotect", "munmap"}
    assert all(re.fullmatch(r"storm\[\d+\]", each["thread"]) for each in lines)


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as page:
        return str(page.read().decode())


def test_asyncio_endpoint() -> None:
    with Example("asyncio_endpoint.py") as service, ThreadPoolExecutor() as threads:
        url = service.line().strip()
        assert get(url.replace("mmap_lock", "")) == "the service itself"
        page = threads.submit(get, url)
        while not page.done():  # what takes its lock meanwhile
            Path(f"/proc/{service.pid}/smaps").read_text()
            assert get(url.replace("mmap_lock", "")) == "the service itself"
        text = page.result()
    assert "<b>mmap_lock for 1.0" in text
    assert re.search(r"<td[^>]*>\*[^<]+\[\d+\]</td><td[^>]*>(read|pread64)</td>", text), text
    assert ">EVENTS</th>" in text
    assert "* foreign" in text


def test_notebook() -> None:
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    nbclient.NotebookClient(notebook, timeout=TIMEOUT_S, kernel_name="python3").execute()
    pages = [
        output["data"]["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output["output_type"] == "execute_result"
    ]
    doctor, snapshot, blame, accounting, holders = pages
    assert "hold-times works here: it attaches by tp_btf" in doctor
    assert re.search(r">mprotect</td><td[^>]*>W</td><td[^>]*>101</td>", snapshot)
    assert "WAITER" in blame and "charged" in blame
    assert re.search(r">lost</td><td[^>]*>0</td>", accounting)
    assert "UNBALANCED" not in accounting
    assert "address spaces" in holders
    names = {"stderr", "error"}
    assert not [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output.get("name") in names or output["output_type"] in names
    ]


def test_limits_in_tests() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--rootdir", EXAMPLES,
         EXAMPLES / "test_limits.py"],
        capture_output=True, text=True, env=environment(),
    )  # fmt: skip
    assert "2 passed" in run.stdout, run.stdout


def test_holders_watchdog() -> None:
    with Workload("lock_chain", "write", "wr") as chain:
        chain.run()
        holder = chain.extra[0]
        with Example("holders_watchdog.py", 0.1) as watchdog:
            told, sure, frame = (watchdog.line().rstrip() for _ in range(3))
        chain.finish()
    assert re.fullmatch(
        rf"lock_chain\[{chain.pid}\]: write lock held for \d+\.\d s and longer by "
        rf"\S+\[{holder}\] \(\w+\),", told,
    ), told  # fmt: skip
    assert sure == "    owner; 0 waiting"
    assert re.fullmatch(r"    \w+", frame)


def test_counting_a_system_call(storm: Workload) -> None:
    """Its length is what storm maps: the same a thousand times."""
    with Example("munmap.py", storm.pid) as script:
        assert script.line("err").startswith("Tracing munmap of")
        storm.run()
        result = script.ended()
    assert result.code == 0, result.err
    counted, lengths, *calls = result.out.splitlines()
    assert counted == "1000 calls"
    least, most, total = map(int, re.findall(r"\d+", lengths))
    assert least == most and total == 1000 * least
    assert len(calls) == 3 and all(line.endswith(f" {least} bytes") for line in calls)
