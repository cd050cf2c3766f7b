"""What Prometheus' own library reads in a scrape, and receivers of OTLP."""

from __future__ import annotations

import gzip
import queue
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Optional

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.command import Corelock

Labels = tuple[tuple[str, str], ...]


def scrape_text(url: str, timeout_s: float = 30.0) -> str:
    """One scrape, as it comes."""
    with urllib.request.urlopen(url, timeout=timeout_s) as answer:
        text: str = answer.read().decode()
        return text


class Scrape:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.families = list(text_string_to_metric_families(text))
        self.samples: dict[str, dict[Labels, float]] = {}
        for family in self.families:
            for sample in family.samples:
                labels = tuple(sorted(sample.labels.items()))
                self.samples.setdefault(sample.name, {})[labels] = sample.value

    @classmethod
    def of(cls, url: str) -> Scrape:
        return cls(scrape_text(url))

    def sum(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels; 0 if there are none."""
        return sum(
            value
            for sample, value in self.samples.get("corelock_" + name, {}).items()
            if labels.items() <= dict(sample).items()
        )

    def values(self, label: str) -> set[str]:
        """All values that a label has."""
        return {
            dict(sample)[label]
            for samples in self.samples.values()
            for sample in samples
            if label in dict(sample)
        }


def url_of(corelock: Corelock) -> str:
    """The address that it says it serves at."""
    line = corelock.line("err")
    assert line.startswith("Metrics for Prometheus at "), line
    return line.split()[-1]


class Receiver(ThreadingHTTPServer):
    """A receiver of OTLP over HTTP: what it was sent, decoded by the protocol's own classes."""

    daemon_threads = True

    def __init__(self, port: int = 0, status: int = 200) -> None:
        self.requests: queue.Queue[ExportMetricsServiceRequest] = queue.Queue()
        self.status = status
        super().__init__(("127.0.0.1", port), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def next(self, timeout_s: float = 60.0) -> ExportMetricsServiceRequest:
        return self.requests.get(timeout=timeout_s)

    def last(self) -> ExportMetricsServiceRequest:
        """The last one that came so far."""
        request = self.next()
        while not self.requests.empty():
            request = self.requests.get()
        return request


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        assert self.path == "/v1/metrics"
        assert self.headers["content-type"] == "application/x-protobuf"
        if self.server.status == 200:
            self.server.requests.put(ExportMetricsServiceRequest.FromString(body))
        self.send_response(self.server.status)
        self.send_header("content-type", "application/x-protobuf")
        self.end_headers()
        self.wfile.write(ExportMetricsServiceResponse().SerializeToString())

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def receiver(port: int = 0, status: int = 200) -> Iterator[Receiver]:
    """A receiver that answers until the end of the block."""
    with Receiver(port, status) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def metric(request: ExportMetricsServiceRequest, name: str) -> Any:
    """One metric of a push, by its name without ``corelock.``."""
    found: Optional[Any] = None
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for one in scope.metrics:
                if one.name == f"corelock.{name}":
                    assert found is None, f"{name} came twice"
                    found = one
    assert found is not None, f"no {name}"
    return found


def attributes(point: Any) -> dict[str, str]:
    """A data point's attributes."""
    return {one.key: one.value.string_value for one in point.attributes}
