"""Sending what was collected to an OpenTelemetry collector, by the SDK's OTLP exporter.

The SDK's instruments count single measurements, and cannot be given what the kernel counted
already. So its data model is filled here, as a metric reader of another source would, and
handed to its exporter: every point cumulative since its start, so a push that fails is made
good by the next one.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from typing import Optional, Union
from urllib.parse import urlsplit

from corelock.errors import InvalidArgument
from corelock.exporters import edges
from corelock.exporters.metrics import Collected, Metric, Point
from corelock.extras import needs
from corelock.model import Host
from corelock.version import VERSION

with needs("export", "opentelemetry-sdk"):
    from opentelemetry.sdk.metrics import export as sdk
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
with needs("export", "opentelemetry-exporter-otlp-proto-http"):
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

#: How long a push may take, trying again included, before it counts as failed.
PUSH_S = 5.0
_CUMULATIVE = sdk.AggregationTemporality.CUMULATIVE


def metrics_url(endpoint: str) -> str:
    """Where metrics go: an endpoint without a path is one for all signals.

    >>> metrics_url("http://localhost:4318")
    'http://localhost:4318/v1/metrics'

    Raises:
        InvalidArgument: it is no URL of http or https.
    """
    try:
        url = urlsplit(endpoint)
        is_url = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        is_url = False
    if not is_url:
        raise InvalidArgument(
            f"no OTLP endpoint: {endpoint}",
            "A URL of OTLP over HTTP, as http://localhost:4318.",
        )
    if url.path in ("", "/"):
        url = url._replace(path="/v1/metrics")
    return url.geturl()


def metrics_data(collected: Collected, host: Host) -> sdk.MetricsData:
    """What was collected, in the SDK's data model."""
    resource = Resource(
        {
            "service.name": "corelock",
            "service.version": VERSION,
            "host.name": host.hostname,
            "host.arch": host.arch,
            "os.type": "linux",
            "os.version": host.kernel,
        }
    )
    scope = InstrumentationScope("corelock", VERSION)
    metrics = [
        sdk.Metric(f"corelock.{metric.name}", metric.help, metric.unit, _data(metric, collected))
        for metric in collected.metrics
    ]
    of_scope = sdk.ScopeMetrics(scope, metrics, "")
    return sdk.MetricsData([sdk.ResourceMetrics(resource, [of_scope], "")])


def _data(metric: Metric, collected: Collected) -> Union[sdk.Histogram, sdk.Sum, sdk.Gauge]:
    taken_ns = collected.taken_ns
    if metric.kind == "histogram":
        points = [_histogram_point(metric, point, taken_ns) for point in metric.points]
        return sdk.Histogram(points, _CUMULATIVE)
    numbers = [
        sdk.NumberDataPoint(_attributes(metric, point), point.start_ns, taken_ns, point.number)
        for point in metric.points
    ]
    if metric.kind == "gauge":
        return sdk.Gauge(numbers)
    return sdk.Sum(numbers, _CUMULATIVE, True)


def _histogram_point(metric: Metric, point: Point, taken_ns: int) -> sdk.HistogramDataPoint:
    value = point.distribution
    count = sum(value.slots)
    max_s = None if value.max_ns is None or not count else value.max_ns / 1e9
    return sdk.HistogramDataPoint(
        attributes=_attributes(metric, point),
        start_time_unix_nano=point.start_ns,
        time_unix_nano=taken_ns,
        count=count,
        sum=value.total_ns / 1e9,
        bucket_counts=value.slots,
        explicit_bounds=edges.EDGES_S,
        # Both are optional in the protocol, and of the shortest only a bucket is known.
        min=None,  # type: ignore[arg-type]
        max=max_s,  # type: ignore[arg-type]
    )


def _attributes(metric: Metric, point: Point) -> dict[str, str]:
    return dict(zip(metric.label_names, point.labels))


class _SaidBySdk(logging.Handler):
    """Keeps what the SDK says of a push that fails, instead of printing it at each one.

    What it says first has the cause; later, that it gives up.
    """

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = self.text or _cause(record.getMessage())


def _cause(text: str) -> str:
    """The operating system's word, if one is in what the layers of HTTP wrap around it.

    >>> _cause("ConnectionError(Max retries exceeded, '[Errno 111] Connection refused')")
    'Connection refused'
    """
    found = re.search(r"\[Errno -?[0-9]+\] ([^'\")]+)", text)
    return found[1] if found else text.splitlines()[0]


class OtlpPusher:
    """Pushes what ``latest`` returns when told to, in a thread of its own.

    ``say`` gets a line when pushes begin to fail, and when they succeed again. Nothing is
    queued: a push that is not over when the next is due takes its place.

    Raises:
        InvalidArgument: ``endpoint`` is no URL.
    """

    def __init__(
        self,
        endpoint: str,
        latest: Callable[[], Optional[Collected]],
        host: Host,
        say: Callable[[str], None],
    ) -> None:
        self.url = metrics_url(endpoint)
        self._latest = latest
        self._host = host
        self._say = say
        self._sdk_said = _SaidBySdk()
        self._exporter = self._new_exporter()
        self._wanted = threading.Event()
        self._ending = False
        self._failing = False
        #: Pushes that were answered with success, and those that were not.
        self.sent = 0
        self.failed = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _new_exporter(self) -> OTLPMetricExporter:
        return OTLPMetricExporter(endpoint=self.url, timeout=PUSH_S, compression=Compression.Gzip)

    def start(self) -> None:
        """Be ready to push."""
        logger = logging.getLogger("opentelemetry")
        logger.addHandler(self._sdk_said)
        logger.propagate = False
        self._thread.start()

    def push(self) -> None:
        """Push soon; returns at once."""
        self._wanted.set()

    def finish(self) -> None:
        """Push for the last time, and wait until that is over."""
        self.close()
        self._exporter = self._new_exporter()
        self._push()
        self._exporter.shutdown()

    def close(self) -> None:
        """Push no more. Repeating it does nothing."""
        if self._ending or not self._thread.is_alive():
            return
        self._ending = True
        self._wanted.set()
        # Ends the wait before another try.
        self._exporter.shutdown()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._ending:
                return
            self._push()

    def _push(self) -> None:
        collected = self._latest()
        if collected is None:
            return
        if self._export(collected):
            self.sent += 1
            if self._failing:
                self._say(f"corelock: {self.url} takes metrics again.")
            self._failing = False
            return
        self.failed += 1
        if not self._failing and not self._ending:
            self._say(
                f"corelock: {self.url} takes no metrics: {self._sdk_said.text.rstrip('.')}.\n"
                "  Tracing goes on, and the next push has all that this one lacked."
            )
        self._failing = True

    def _export(self, collected: Collected) -> bool:
        self._sdk_said.text = ""
        try:
            result = self._exporter.export(metrics_data(collected, self._host))
        except OSError as error:  # from older versions of the exporter
            self._sdk_said.text = _cause(str(error))
            return False
        return result is sdk.MetricExportResult.SUCCESS

    def losses(self) -> str:
        """What became of the pushes, in words, if any failed; else empty."""
        if not self.failed:
            return ""
        words = f"corelock: {self.failed} of {self.sent + self.failed} pushes to {self.url} failed"
        if not self._failing:
            return f"{words}; the last one had all that they lacked."
        return f"{words}, the last one, too: {self._sdk_said.text.rstrip('.')}."
