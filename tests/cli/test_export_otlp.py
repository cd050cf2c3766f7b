"""``corelock export --otlp``, received by the protocol's own classes."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from corelock.exporters import edges
from corelock.version import VERSION
from tests.cli.command import Corelock, run
from tests.scrapes import attributes, metric, receiver
from tests.workloads import BUILD, Workload

pytestmark = pytest.mark.kernel

Background = Callable[..., Corelock]
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE


def counts(request: Any, name: str) -> Counter[tuple[str, str, str]]:
    """Of a histogram, how many were counted, by process, mode and operation."""
    found: Counter[tuple[str, str, str]] = Counter()
    for point in metric(request, name).histogram.data_points:
        labels = attributes(point)
        found[labels["process"], labels["mode"], labels["operation"]] += point.count
    return found


def test_a_receiver_gets_what_the_workload_is_known_to_do(
    corelock_background: Background,
) -> None:
    before_ns = time.time_ns()
    with receiver() as collector, Workload("cycles", "50") as cycles:
        exporter = corelock_background(
            "export", "--pid", cycles.pid, "--otlp", collector.url, "-i", "0.05"
        )
        assert exporter.line("err") == f"Pushing metrics to {collector.url}/v1/metrics\n"
        first = collector.next()
        cycles.run()
        exporter.interrupt()
        result = exporter.finish()
        last = collector.last()
    assert (result.code, result.out) == (0, "")
    after_ns = time.time_ns()

    assert counts(first, "mmap_lock.wait") == {}
    for operation in "mmap", "munmap":
        assert counts(last, "mmap_lock.wait")["cycles", "write", operation] == 50
    assert sum(counts(last, "mmap_lock.hold").values()) == 150
    (resource,) = last.resource_metrics
    names = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert names["service.name"] == "corelock"
    assert names["service.version"] == VERSION
    assert names["host.name"] == socket.gethostname()

    wait = metric(last, "mmap_lock.wait")
    assert wait.unit == "s"
    assert wait.histogram.aggregation_temporality == CUMULATIVE
    for point in wait.histogram.data_points:
        assert list(point.explicit_bounds) == list(edges.EDGES_S)
        assert sum(point.bucket_counts) == point.count
        assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
        # Holds that a downgrade began had no wait.
        assert point.HasField("max") == bool(point.count)
        assert point.sum <= point.count * point.max
        assert not point.HasField("min")
        assert before_ns <= point.start_time_unix_nano <= point.time_unix_nano <= after_ns
    downgrades = metric(last, "mmap_lock.downgrades").sum
    assert downgrades.is_monotonic
    assert downgrades.aggregation_temporality == CUMULATIVE
    assert sum(point.as_int for point in downgrades.data_points) == 50
    losses = metric(last, "losses").sum.data_points
    assert "map_full" in {attributes(point)["cause"] for point in losses}
    assert sum(point.as_int for point in losses) == 0
    assert metric(last, "complete").gauge.data_points[0].as_int == 1


def test_the_targets_exit_pushes_a_last_time() -> None:
    with receiver() as collector:
        result = run(
            "export", "--otlp", collector.url, "-i", "600", "--", BUILD / "storm", "2", "9"
        )
        last = collector.last()
    assert result.code == 0
    assert counts(last, "mmap_lock.wait")["storm", "write", "munmap"] >= 18


def test_a_start_never_moves(corelock_background: Background) -> None:
    with receiver() as collector, Workload("cycles", "5") as cycles:
        corelock_background("export", "--pid", cycles.pid, "--otlp", collector.url, "-i", "0.02")
        cycles.run()
        starts: dict[tuple[str, ...], set[int]] = {}
        ends: list[int] = []
        for _ in range(5):
            request = collector.next()
            for point in metric(request, "mmap_lock.wait").histogram.data_points:
                key = tuple(sorted(attributes(point).values()))
                starts.setdefault(key, set()).add(point.start_time_unix_nano)
            ends.append(metric(request, "events").sum.data_points[0].time_unix_nano)
    assert starts
    assert all(len(times) == 1 for times in starts.values())
    assert ends == sorted(set(ends))


def test_an_endpoint_that_is_down_is_said_once_and_loses_nothing_when_it_comes_back(
    corelock_background: Background,
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Workload("cycles", "50") as cycles:
        exporter = corelock_background(
            "export", "--pid", cycles.pid, "--otlp", f"http://127.0.0.1:{port}", "-i", "0.05"
        )
        exporter.line("err")
        down = exporter.line("err")
        assert down.endswith("takes no metrics: Connection refused.\n")
        assert "Tracing goes on" in exporter.line("err")
        cycles.run()
        with receiver(port) as collector:
            assert "takes metrics again" in exporter.line("err")
            exporter.interrupt()
            result = exporter.finish()
            last = collector.last()
    assert result.code == 0
    assert counts(last, "mmap_lock.hold")["cycles", "write", "mmap"] == 50
    assert "the last one had all that they lacked" in result.err
    assert result.err.count("takes no metrics") == 1


def test_an_endpoint_that_stays_down_ends_with_what_could_not_be_sent(
    corelock_background: Background,
) -> None:
    with receiver(status=404) as collector, Workload("cycles", "5") as cycles:
        exporter = corelock_background(
            "export", "--pid", cycles.pid, "--otlp", collector.url, "-i", "0.02"
        )
        exporter.line("err")
        assert "404" in exporter.line("err")
        exporter.line("err")
        cycles.run()
        exporter.interrupt()
        result = exporter.finish()
    assert result.code == 0
    assert "pushes to" in result.err.splitlines()[-1]
    assert "404" in result.err.splitlines()[-1]
    assert result.err.count("takes no metrics") == 1


def test_an_endpoint_that_never_answers_delays_the_end_by_seconds_only(
    corelock_background: Background,
) -> None:
    with socket.socket() as silent, Workload("cycles", "5") as cycles:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        exporter = corelock_background("export", "--pid", cycles.pid, "--otlp", url)
        connection, _ = silent.accept()
        cycles.run()
        exporter.interrupt()
        result = exporter.finish(timeout_s=30)
        connection.close()
    assert result.code == 0
    assert "failed" in result.err.splitlines()[-1]
