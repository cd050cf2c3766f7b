"""Serving what was collected to Prometheus, by its official client library."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Any, Optional, Union

from corelock.errors import CorelockError
from corelock.exporters import edges
from corelock.exporters.metrics import Collected, Metric
from corelock.extras import needs

with needs("export", "prometheus-client"):
    from prometheus_client import CollectorRegistry, make_wsgi_app
    from prometheus_client.exposition import ThreadingWSGIServer
    from prometheus_client.metrics_core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )
    from prometheus_client.metrics_core import Metric as Family
    from prometheus_client.utils import floatToGoString

    # The one file has no servers.
    from wsgiref.simple_server import WSGIRequestHandler, make_server  # isort: skip

#: So many scrapes at a time; who comes then is sent away, and can come again.
MAX_SCRAPES = 16
#: A scrape that is not over by then is ended, whatever it waits for.
SCRAPE_S = 30.0
#: Within that it must have been asked for.
REQUEST_S = 2.0

_EDGES = (*map(floatToGoString, edges.EDGES_S), "+Inf")
_SUFFIXES = {"s": "_seconds"}


def prometheus_name(metric: Metric) -> str:
    """As Prometheus writes it, without the ``_total`` of counters."""
    return "corelock_" + metric.name.replace(".", "_") + _SUFFIXES.get(metric.unit, "")


def families(collected: Collected) -> Iterator[Family]:
    """What was collected as the client library's metric families."""
    for metric in collected.metrics:
        yield _family(metric)


def _family(metric: Metric) -> Family:
    name, labels = prometheus_name(metric), metric.label_names
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(name, metric.help, labels=labels)
        for point in metric.points:
            times = point.distribution
            counts = zip(_EDGES, accumulate(times.slots))
            histogram.add_metric(point.labels, list(counts), times.total_ns / 1e9)
        return histogram
    is_counter = metric.kind == "counter"
    family: Union[CounterMetricFamily, GaugeMetricFamily]
    family = (CounterMetricFamily if is_counter else GaugeMetricFamily)(
        name, metric.help, labels=labels
    )
    for point in metric.points:
        family.add_metric(point.labels, point.number)
    return family


class _Latest:
    """What the client library asks at each scrape."""

    def __init__(self, latest: Callable[[], Optional[Collected]]) -> None:
        self._latest = latest

    def collect(self) -> Iterable[Family]:
        collected = self._latest()
        return () if collected is None else families(collected)


class _Handler(WSGIRequestHandler):
    """Logs nothing; a scraper that goes away in the middle of its scrape is no error."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    #: Who connects and asks for nothing keeps nobody else out for long.
    timeout = REQUEST_S

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            super().handle()


class _Server(ThreadingWSGIServer):
    """A thread for each scrape, of which there are only so many, and none for ever."""

    request_queue_size = MAX_SCRAPES

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self._scrapes: dict[socket.socket, float] = {}  # when to end it
        self._scrapes_lock = threading.Lock()
        super().__init__(*arguments, **more)

    def server_bind(self) -> None:
        # Not the base class's: it asks the name service what our address is called.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        address = self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(address[0]), int(address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._scrapes_lock:
            if len(self._scrapes) < MAX_SCRAPES:
                self._scrapes[request] = time.monotonic() + SCRAPE_S
                is_room = True
            else:
                is_room = False
        if is_room:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        with self._scrapes_lock:
            self._scrapes.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """End scrapes that take too long; called twice a second."""
        now = time.monotonic()
        with self._scrapes_lock:
            for request, deadline in self._scrapes.items():
                if now > deadline:
                    with contextlib.suppress(OSError):
                        request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scrape that fails is the scraper's to say."""


class PrometheusServer:
    """Answers scrapes with whatever ``latest`` returns, in threads of its own.

    ``port`` 0 takes a free one; :attr:`port` and :attr:`url` say which.

    Raises:
        CorelockError: the address cannot be had.
    """

    def __init__(self, address: str, port: int, latest: Callable[[], Optional[Collected]]) -> None:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Latest(latest))
        is_v6 = ipaddress.ip_address(address).version == 6

        class Server(_Server):
            address_family = socket.AF_INET6 if is_v6 else socket.AF_INET

        shown = f"[{address}]" if is_v6 else address
        try:
            self._server = make_server(
                address, port, make_wsgi_app(registry), Server, handler_class=_Handler
            )
        except OSError as error:
            raise CorelockError(
                f"cannot listen on {shown}:{port}: {error.strerror}",
                "Name an address of this host and a free port (port 0: any that is free).",
            ) from error
        self.port: int = self._server.server_port
        self.url = f"http://{shown}:{self.port}/metrics"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def start(self) -> None:
        """Answer; those that came before this, too."""
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
