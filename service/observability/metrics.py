"""What is measured, for Prometheus: all metrics, and how they are read, of one process or of several together.

Where PROMETHEUS_MULTIPROC_DIR is set when a process starts, it keeps its metrics there, and any reader of that folder
answers for all. The library decides that when it is imported, so that a process has to be born with it.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    make_wsgi_app,
    start_http_server,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from service.errors import StartupError
from service.observability.logs import log

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
NO_ROUTE = "none"
"""The label of all addresses that are none: anybody can think of as many as they like."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
REQUEST_BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
COMMAND_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0)
FILE_BUCKETS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)
"""In seconds."""

disable_created_metrics()  # a second series for each, which nobody asks for

_OWN = CollectorRegistry()

REQUESTS = Histogram(
    "dossier_http_request_duration_seconds",
    "Requests, to the last byte of their answers.",
    ("method", "route", "status"),
    buckets=REQUEST_BUCKETS,
    registry=_OWN,
)
REQUESTS_IN_PROGRESS = Gauge(
    "dossier_http_requests_in_progress",
    "Requests whose answers have not ended.",
    multiprocess_mode="livesum",
    registry=_OWN,
)

EXPORTS = Histogram(
    "dossier_export_duration_seconds",
    "Exports that have ended.",
    ("type", "format", "state"),
    buckets=FILE_BUCKETS,
    registry=_OWN,
)
EXPORT_ROWS = Counter("dossier_export_rows_total", "Rows of exported files.", ("type", "format"), registry=_OWN)
EXPORT_BYTES = Counter("dossier_export_bytes_total", "Bytes of exported files.", ("type", "format"), registry=_OWN)
EXPORTS_RUNNING = Gauge(
    "dossier_exports_running", "Exports that have not ended.", multiprocess_mode="livesum", registry=_OWN
)

IMPORTS = Histogram(
    "dossier_import_duration_seconds",
    "Imports that have ended.",
    ("type", "format", "dry_run", "state"),
    buckets=FILE_BUCKETS,
    registry=_OWN,
)
IMPORT_ROWS = Counter(
    "dossier_import_rows_total", "Rows by what became of them.", ("type", "format", "fate"), registry=_OWN
)
IMPORT_BYTES = Counter("dossier_import_bytes_total", "Bytes of imported files.", ("type", "format"), registry=_OWN)
IMPORTS_RUNNING = Gauge(
    "dossier_imports_running", "Imports that have not ended.", multiprocess_mode="livesum", registry=_OWN
)

AUDIT_EVENTS = Counter(
    "dossier_audit_events_total",
    "What the audit trail has, sign-ins among them.",
    ("action", "outcome", "reason"),
    registry=_OWN,
)

COMMANDS = Histogram(
    "dossier_mongodb_command_duration_seconds",
    "Commands to MongoDB.",
    ("command",),
    buckets=COMMAND_BUCKETS,
    registry=_OWN,
)
COMMAND_FAILURES = Counter(
    "dossier_mongodb_command_failures_total", "Commands that failed, and why.", ("command", "error"), registry=_OWN
)
POOL_SIZE = Gauge("dossier_mongodb_pool_connections", "Open.", ("server",), multiprocess_mode="livesum", registry=_OWN)
POOL_IN_USE = Gauge(
    "dossier_mongodb_pool_in_use",
    "Connections that do something.",
    ("server",),
    multiprocess_mode="livesum",
    registry=_OWN,
)
POOL_WAITED = Counter(
    "dossier_mongodb_pool_wait_seconds_total",
    "Time that was waited for connections; its rate is how many wait on average.",
    ("server",),
    registry=_OWN,
)
POOL_FAILURES = Counter(
    "dossier_mongodb_pool_checkout_failures_total",
    "What got no connection: `timeout`, `connectionError` or `poolClosed`.",
    ("server", "reason"),
    registry=_OWN,
)
PRIMARY_MISSING = Gauge(
    "dossier_mongodb_primary_missing",
    "Processes that know of no server that takes writes.",
    multiprocess_mode="livesum",
    registry=_OWN,
)
PRIMARY_CHANGES = Counter(
    "dossier_mongodb_primary_changes_total",
    "Elections after the first, each counted by each process that sees it.",
    registry=_OWN,
)


def observe_request(method: str, route: str | None, status: int | None, seconds: float) -> None:
    """Count a request. One without a status got no answer."""
    _requests_of(method if method in METHODS else "other", route or NO_ROUTE, status or "none").observe(seconds)


def expect_files(types: Iterable[str], export_formats: Iterable[str], import_formats: Iterable[str]) -> None:
    """Have the series of files that fail begin with 0: to Prometheus, one that begins with 1 has not increased."""
    names = tuple(types)
    for kind in product(names, export_formats):
        EXPORTS.labels(*kind, "failed")
    for kind in product(names, import_formats):
        for is_dry_run in ("false", "true"):
            IMPORTS.labels(*kind, is_dry_run, "failed")


_requests_of = cache(REQUESTS.labels)
"""The library's own way to a series takes three times as long as to count in it."""


def exposition(accept: str) -> tuple[bytes, str]:
    """All of it as text, in the form that an `Accept` header asks for, and its media type."""
    encode, media_type = choose_encoder(_understood(accept))
    return encode(_EVERYTHING), media_type


def _understood(accept: str) -> str:
    """An `Accept` header, or none where the library fails by it."""
    try:
        choose_encoder(accept)
    except (TypeError, ValueError):
        return ""
    return accept


def _answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Answer a scrape of the port."""
    environ["HTTP_ACCEPT"] = _understood(environ.get("HTTP_ACCEPT", ""))
    chunks: Iterable[bytes] = _app(environ, start_response)
    return chunks


@contextmanager
def serve_metrics(host: str, port: int | None) -> Iterator[None]:
    """Answer scrapes in a thread, without a token, as long as the context lasts, if there is a port.

    Where several processes share a folder, their parent is the one to do that. Raises StartupError.
    """
    if port is None:
        yield
        return
    try:
        server, thread = start_http_server(port, host, _EVERYTHING)
    except OSError as error:
        raise StartupError(f"cannot listen on {host}:{port} for metrics: {error.strerror}") from error
    server.set_app(_answer)
    log.info("metrics are served", host=host, port=server.server_port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Everything(Collector):
    """All that there is to tell at this moment."""

    def collect(self) -> Iterator[Metric]:
        """As the library asks for it."""
        build = GaugeMetricFamily("dossier_build_info", "Which version this is.", labels=["version"])
        build.add_metric([version("dossier")], 1)
        yield build
        folder = os.environ.get(FOLDER_VARIABLE)
        if folder is None:
            yield from _OWN.collect()
            yield from ProcessCollector(registry=None).collect()
        else:
            pids = _forget_dead(Path(folder))
            yield from MultiProcessCollector(None, folder).collect()
            yield from _processes(pids)


_EVERYTHING = CollectorRegistry()
_EVERYTHING.register(_Everything())
_app = make_wsgi_app(_EVERYTHING)


def _forget_dead(folder: Path) -> list[int]:
    """Who lives of the processes that have a gauge there; the others' gauges are removed, their counts stay."""
    pids = {int(path.stem.rpartition("_")[2]) for path in folder.glob("gauge_live*.db")}
    living = sorted(pid for pid in pids if _is_alive(pid))
    for pid in pids.difference(living):
        with suppress(FileNotFoundError):  # another reader removes it just now
            mark_process_dead(pid, folder)
    return living


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # or another user's has its number by now
        return False
    return True


def _processes(pids: Iterable[int]) -> Iterable[Metric]:
    """Memory, time, files of each, as the library tells them of one."""
    told: dict[str, Metric] = {}
    for pid in pids:
        for metric in ProcessCollector(pid=partial(int, pid), registry=None).collect():
            family = told.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
            family.samples += [sample._replace(labels={"pid": str(pid)}) for sample in metric.samples]
    return told.values()
