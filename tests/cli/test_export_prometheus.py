"""``corelock export --prometheus``, scraped by Prometheus' own library, tool and server."""

from __future__ import annotations

import http.client
import itertools
import json
import re
import signal
import socket
import subprocess
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import corelock
from corelock.exporters import edges
from corelock.exporters.collector import Collector
from corelock.exporters.prometheus import MAX_SCRAPES, PrometheusServer
from corelock.model import Host, Row
from tests.cli.command import Corelock, environment, eventually, run
from tests.scrapes import Scrape, scrape_text, url_of
from tests.workloads import BUILD, Workload

pytestmark = pytest.mark.kernel

Background = Callable[..., Corelock]
ANY_PORT = ("--prometheus", "127.0.0.1:0")
NO_CAP = 10_000


@contextmanager
def traced_and_scraped(workload: Workload) -> Iterator[tuple[str, corelock.Tracer]]:
    """Run a workload to its end; the address of what was counted, and the tracer, stopped."""
    with corelock.Tracer(pid=workload.pid, slow_ns=None) as tracer:
        collector = Collector(tracer, Host.this(), NO_CAP)
        server = PrometheusServer("127.0.0.1", 0, lambda: collector.latest)
        try:
            server.start()
            collector.collect()
            workload.go()
            collector.collect()  # in the midst of it
            workload.wait_done()
            tracer.stop()
            collector.collect()
            yield server.url, tracer
        finally:
            server.close()


def test_numbers_are_those_of_the_tracer() -> None:
    with Workload("storm", "4", "2000") as storm, traced_and_scraped(storm) as (url, tracer):
        scrape = Scrape.of(url)
        rows, accounting = tracer.snapshot().rows, tracer.accounting()
    by: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by.setdefault((row.mode, row.operation), []).append(row)
    assert scrape.sum("mmap_lock_wait_seconds_count", operation="munmap", mode="write") == 8000
    for (mode, operation), some in by.items():
        labels = {"process": "storm", "mode": mode, "operation": operation}
        for kind in "wait", "hold":
            times = [getattr(row, kind) for row in some]
            name = f"mmap_lock_{kind}_seconds"
            assert scrape.sum(f"{name}_count", **labels) == sum(t.count for t in times)
            total_s = sum(t.total_ns for t in times) / 1e9
            assert scrape.sum(f"{name}_sum", **labels) == pytest.approx(total_s, rel=1e-12)
            slots = [0] * edges.SLOTS
            for one in times:
                edges.add(slots, one.histogram)
            for edge_s, count in zip(edges.EDGES_S, itertools.accumulate(slots)):
                le = next(v for v in scrape.values("le") if float(v) == edge_s)
                assert scrape.sum(f"{name}_bucket", **labels, le=le) == count
        for counter in "trylock_failures", "aborted_waits", "downgrades":
            expected = sum(getattr(row, counter) for row in some)
            assert scrape.sum(f"mmap_lock_{counter}_total", **labels) == expected
    assert scrape.sum("mmap_lock_wait_seconds_count") == sum(row.acquisitions for row in rows)
    for event, count in accounting.events.items():
        assert scrape.sum("events_total", event=event) == count
    assert scrape.sum("losses_total") == sum(accounting.lost.values()) == 0
    assert scrape.sum("unmatched_events_total") == sum(accounting.unmatched.values())
    assert scrape.sum("complete") == accounting.complete


def test_a_command_line_counts_what_the_workload_is_known_to_do(
    corelock_background: Background,
) -> None:
    with Workload("cycles", "50") as cycles:
        exporter = corelock_background("export", "--pid", cycles.pid, *ANY_PORT, "-i", "0.02")
        url = url_of(exporter)
        assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+/metrics", url)
        for portion in 1, 2:
            cycles.run()
            eventually(
                lambda portion=portion: Scrape.of(url).sum("mmap_lock_hold_seconds_count")
                == portion * 150
            )
        scrape = Scrape.of(url)
        for operation in "mmap", "munmap":
            labels = {"process": "cycles", "mode": "write", "operation": operation}
            assert scrape.sum("mmap_lock_wait_seconds_count", **labels) == 100
            assert scrape.sum("mmap_lock_hold_seconds_bucket", **labels, le="+Inf") == 100
        assert scrape.sum("mmap_lock_downgrades_total") == 100
        assert scrape.sum("complete") == 1
        exporter.interrupt()
        result = exporter.finish()
    assert (result.code, result.out) == (0, "")
    assert "incomplete" not in result.err


def test_promtool_finds_nothing_to_object_to(corelock_background: Background) -> None:
    with Workload("storm", "2", "100") as storm:
        exporter = corelock_background("export", "--pid", storm.pid, *ANY_PORT, "-i", "0.02")
        url = url_of(exporter)
        storm.run()
        eventually(lambda: "storm" in Scrape.of(url).values("process"))
        text = scrape_text(url)
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


PROMETHEUS_YML = """\
scrape_configs:
  - job_name: corelock
    scrape_interval: 100ms
    scrape_timeout: 100ms
    static_configs: [{targets: ["%s"]}]
"""


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Callable[[str], Any]]:
    """A Prometheus server that scrapes ``target``; a function that asks it."""
    (folder / "prometheus.yml").write_text(PROMETHEUS_YML % target)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        "prometheus", f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}",
    ]  # fmt: skip

    def ask(query: str) -> Any:
        parameters = urllib.parse.urlencode({"query": query})
        url = f"http://{address}/api/v1/query?{parameters}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]["result"]
        except OSError:  # it does not listen yet
            return []

    with (folder / "log").open("w") as log:
        with subprocess.Popen(command, stdout=log, stderr=log, env=environment()) as server:
            try:
                yield ask
            finally:
                server.send_signal(signal.SIGTERM)


def test_a_prometheus_server_computes_quantiles_of_it(tmp_path: Path) -> None:
    with Workload("storm", "4", "500") as storm, traced_and_scraped(storm) as (url, tracer):
        rows = tracer.snapshot().rows
        with prometheus(tmp_path, urllib.parse.urlsplit(url).netloc) as ask:
            count = "sum(corelock_mmap_lock_hold_seconds_count)"
            eventually(lambda: ask(count))
            assert float(ask(count)[0]["value"][1]) == sum(row.holds for row in rows)
            (median,) = ask(
                "histogram_quantile(0.5, sum by (le) "
                '(corelock_mmap_lock_hold_seconds_bucket{process="storm"}))'
            )
    holds: Counter[int] = Counter()
    for row in rows:
        for index, number in row.hold.histogram:
            holds[index] += number
    (exact_ns,) = corelock.histogram.Histogram.from_counts(holds).quantiles(0.5)
    assert exact_ns is not None
    # It knows between which edges the median is, and so do we.
    at = sum(edge < exact_ns for edge in edges.EDGES_NS)
    low = edges.EDGES_S[at - 1] if at else 0
    assert low <= float(median["value"][1]) <= edges.EDGES_S[at]


def test_names_are_bounded(corelock_background: Background) -> None:
    with Workload("cycles", "10") as cycles, Workload("storm", "1", "500") as storm:
        exporter = corelock_background(
            "export", "--all", *ANY_PORT, "-i", "0.05", "--max-processes", "1"
        )
        url = url_of(exporter)
        storm.run()
        cycles.run()
        eventually(lambda: Scrape.of(url).sum("mmap_lock_downgrades_total") >= 510)
        own = Scrape.of(url).values("process") - {"(other)", "(exited)"}
        assert len(own) <= 1


def test_nobody_who_scrapes_slowly_delays_anything(corelock_background: Background) -> None:
    with Workload("storm", "4", "3000") as storm, ExitStack() as open_sockets:
        exporter = corelock_background("export", "--pid", storm.pid, *ANY_PORT, "-i", "0.02")
        url = urllib.parse.urlsplit(url_of(exporter))
        address = (url.hostname, url.port)

        def connect() -> socket.socket:
            return open_sockets.enter_context(socket.create_connection(address))

        connect()  # and says nothing
        connect().sendall(b"GET /metrics HTTP/1.1\r\n")  # and leaves it at that
        # Asks, and reads nothing of the answer, for which there is no room.
        never_reads = open_sockets.enter_context(socket.socket())
        never_reads.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        never_reads.connect(address)
        never_reads.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        storm.run()
        done = 4 * 3 * 3000
        eventually(
            lambda: Scrape.of(url.geturl()).sum("mmap_lock_wait_seconds_count", mode="write")
            == done
        )
        assert Scrape.of(url.geturl()).sum("complete") == 1
        exporter.interrupt()
        assert exporter.finish().code == 0


def test_only_so_many_scrapes_at_a_time_and_none_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("corelock.exporters.prometheus.SCRAPE_S", 1.0)
    server = PrometheusServer("127.0.0.1", 0, lambda: None)
    try:
        server.start()
        with ExitStack() as stack:
            silent = [
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                for _ in range(MAX_SCRAPES + 1)
            ]
            for one in silent:
                one.settimeout(60)
            # They are taken in order: who is one too many is sent away while the others stay.
            assert silent[-1].recv(1) == b""
            silent[0].setblocking(False)
            with pytest.raises(BlockingIOError):
                silent[0].recv(1)
            silent[0].settimeout(60)
            assert [one.recv(1) for one in silent] == [b""] * len(silent)
        eventually(lambda: _answers(server.url))
    finally:
        server.close()


def _answers(url: str) -> bool:
    try:
        return scrape_text(url) == ""
    except (OSError, http.client.HTTPException):  # the places are not free yet
        return False


def test_a_table_that_fills_up_is_emptied_and_nothing_counts_twice(
    corelock_background: Background,
) -> None:
    with ExitStack() as stack:
        # Three rows a child: those of both do not fit at once.
        first, second = (
            stack.enter_context(Workload("many_processes", "40", "5")) for _ in range(2)
        )
        exporter = corelock_background(
            "export", "--comm", "many_processes", *ANY_PORT, "-i", "0.02", "--max-rows", "155"
        )
        url = url_of(exporter)
        first.run()
        eventually(lambda: Scrape.of(url).sum("untraced_seconds_total") > 0)
        assert Scrape.of(url).sum("mmap_lock_downgrades_total") == 40 * 5
        second.run()
        eventually(lambda: Scrape.of(url).sum("mmap_lock_downgrades_total") == 2 * 40 * 5)
        scrape = Scrape.of(url)
        for operation in "mmap", "munmap":
            labels = {"process": "many_processes", "mode": "write", "operation": operation}
            assert scrape.sum("mmap_lock_wait_seconds_count", **labels) == 2 * 40 * 5
        assert scrape.sum("complete") == 1
        # Events are read before rows, so those of this moment may be in the next numbers only.
        waits = scrape.sum("mmap_lock_wait_seconds_count")
        eventually(lambda: Scrape.of(url).sum("events_total", event="start_locking") == waits)
        exporter.interrupt()
        result = exporter.finish()
    assert result.code == 0
    assert "incomplete" not in result.err


def test_a_taken_port_is_refused_before_anything_is_traced() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("export", "--all", "--prometheus", f"127.0.0.1:{port}")
    result.assert_refused(f"cannot listen on 127.0.0.1:{port}", "port 0")


def test_loopback_unless_another_address_is_given() -> None:
    given = {
        "0": "127.0.0.1", ":0": "127.0.0.1", "localhost:0": "127.0.0.1", "[::1]:0": "[::1]",
        "0.0.0.0:0": "0.0.0.0",
    }  # fmt: skip
    for argument, address in given.items():
        # -q: which of the free ports it is, is said nevertheless.
        with Corelock("export", "--all", "-q", "--prometheus", argument) as exporter:
            url = url_of(exporter)
            assert url.startswith(f"http://{address}:")
            assert Scrape.of(url).sum("build_info") == 1
            exporter.interrupt()
            assert exporter.finish().code == 0


def test_the_targets_exit_ends_it() -> None:
    result = run("export", *ANY_PORT, "--", BUILD / "storm", "1", "10", stdin=subprocess.DEVNULL)
    assert result.code == 0
    assert result.out.startswith("ready")  # the command's own
    assert "done" in result.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Say where to"),
        (("--prometheus", "127.0.0.1"), "no port"),
        (("--prometheus", "127.0.0.1:65536"), "no port"),
        (("--prometheus", "::1:9464"), "brackets"),
        (("--prometheus", "db7.example:9464"), "no address"),
        (("--otlp", "collector"), "no OTLP endpoint"),
        (("--prometheus", "0", "-i", "0"), "above 0"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], words: str) -> None:
    result = run("export", "--all", *arguments)
    assert (result.code, result.out) == (2, "")
    assert words in result.err


PAGE = (Path(__file__).resolve().parent.parent.parent / "docs" / "dashboards.md").read_text()


def test_the_page_lists_what_there_is() -> None:
    with Workload("cycles", "5") as cycles, traced_and_scraped(cycles) as (url, _):
        scrape = Scrape.of(url)
    rows = re.findall(r"^\| `(\w+)` \|([\w, ]*)\|", PAGE, re.M)
    listed = {name: set(filter(None, labels.strip().split(", "))) for name, labels in rows}
    found: dict[str, set[str]] = {}
    for family in scrape.families:
        name = family.name + "_total" * (family.type == "counter")
        for sample in family.samples:
            found.setdefault(name, set()).update(set(sample.labels) - {"le"})
    assert found == listed


def test_prometheus_understands_the_rules_and_queries_of_the_page(tmp_path: Path) -> None:
    (rules,) = re.findall(r"^```yaml rules\n(.*?)^```$", PAGE, re.M | re.S)
    (queries,) = re.findall(r"^```promql\n(.*?)^```$", PAGE, re.M | re.S)
    (tmp_path / "rules.yml").write_text(rules)
    checked = subprocess.run(
        ["promtool", "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
    assert "3 rules found" in checked.stdout
    # The edge that a rule names is one of ours.
    (le,) = re.findall(r'le=~"(.*?)"', rules)
    assert sum(re.fullmatch(le, str(edge)) is not None for edge in edges.EDGES_S) == 1
    with Workload("storm", "2", "500") as storm, traced_and_scraped(storm) as (url, _):
        with prometheus(tmp_path, urllib.parse.urlsplit(url).netloc) as ask:
            waits = "corelock_mmap_lock_wait_seconds_count"
            eventually(lambda: ask(f"count_over_time({waits}[5m]) >= 2"))
            for query in queries.splitlines():
                assert ask(query)
