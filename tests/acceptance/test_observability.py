"""A service that is watched: metrics on a port of their own, traces, reports of failures."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from service.observability import metrics
from tests.acceptance.process import Home, Service, until
from tests.acceptance.receiver import Receiver, open_receiver
from tests.acceptance.replica_set import ReplicaSet

CANARY = "canary"
FRAGILE = '''
"""A type that fails in a way that nobody foresaw."""

from typing import Annotated, Any

from pydantic import Field, field_validator
from pymongo.errors import OperationFailure

from service.documents.base import Record, unique
from service.store.failures import driver_errors


class Fragile(Record):
    """Something that breaks."""

    name: Annotated[str, Field(max_length=100)]

    @field_validator("name")
    @classmethod
    def _hold(cls, name: str) -> str:
        secret = {"value": name}
        if name.startswith("break"):
            raise KeyError(secret["value"])
        if name.startswith("refuse"):
            with driver_errors():
                raise OperationFailure(secret["value"], 4711, {"errmsg": secret["value"]})
        return name

    class Settings(Record.Settings):
        """Where and how."""

        name = "fragiles"
        indexes = [unique("name")]

    model_config = {"json_schema_extra": {"examples": [{"name": "a glass"}]}}
'''
TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"
METRICS_TOKEN = "a token for metrics, 32 bytes or more"
EXTRAS = ("opentelemetry.sdk", "opentelemetry.exporter", "sentry_sdk")


@dataclass(frozen=True)
class Watched:
    """A service, what it sends to others, and a caller who may do everything."""

    service: Service
    receiver: Receiver
    headers: dict[str, str]

    def spans(self) -> list[Span]:
        """Those of our trace that have come so far."""
        requests = map(ExportTraceServiceRequest.FromString, self.receiver.bodies("/v1/traces"))
        return [
            span
            for request in requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
            if span.trace_id.hex() == TRACE_ID
        ]

    def reports(self) -> list[dict[str, Any]]:
        """The events that Sentry has got so far."""
        envelopes = self.receiver.bodies("/api/7/envelope/")
        return [json.loads(envelope.splitlines()[2]) for envelope in envelopes]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """It sends all that it can."""
    types = tmp_path_factory.mktemp("types")
    (types / "fragile.py").write_text(FRAGILE)
    with open_receiver() as receiver:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{receiver.authority}", "OTEL_BSP_SCHEDULE_DELAY": "100"}
        home = Home(tmp_path_factory.mktemp("home"), types, f"import os; os.environ.update({variables!r})")
        try:
            service = home.start(
                metrics_port=0, traces="true", sentry_dsn=f"http://key@{receiver.authority}/7", slow_command_seconds=0
            )
            yield Watched(service, receiver, {"Authorization": f"Bearer {service.token()}"})
        finally:
            home.close()


@pytest.mark.slow  # an election
def test_a_change_of_primary_is_counted(tmp_path: Path) -> None:
    with ReplicaSet(tmp_path) as replica_set, replica_set.home(tmp_path) as home:
        service = home.start(metrics_token=METRICS_TOKEN)
        headers = {"Authorization": f"Bearer {METRICS_TOKEN}"}

        def lines() -> list[str]:
            return service.http.get("/metrics", headers=headers).text.splitlines()

        assert {"dossier_mongodb_primary_changes_total 0.0", "dossier_mongodb_primary_missing 0.0"} <= set(lines())
        replica_set.step_down()
        until(lambda: "dossier_mongodb_primary_changes_total 1.0" in lines(), "the change is counted")
        for node in replica_set.secondaries:
            node.kill()
        until(lambda: "dossier_mongodb_primary_missing 1.0" in lines(), "the primary is missed")
        replica_set.heal()
        until(lambda: "dossier_mongodb_primary_missing 0.0" in lines(), "there is one again", 60)


def attributes_of(span: Span) -> dict[str, str | int]:
    return {attribute.key: attribute.value.string_value or attribute.value.int_value for attribute in span.attributes}


def test_metrics_have_a_port_of_their_own(watched: Watched) -> None:
    [line] = [line for line in watched.service.log if line["event"] == "metrics are served"]

    address = f"http://{line['host']}:{line['port']}/metrics"
    answer = httpx.get(address)
    odd = httpx.get(address, headers={"Accept": "application/openmetrics-text;version=x"})

    assert (answer.status_code, odd.status_code) == (200, 200)
    assert "dossier_build_info{version=" in answer.text
    assert "dossier_mongodb_primary_missing 0.0" in answer.text
    assert watched.service.http.get("/metrics").status_code == 404


def test_a_trace_goes_on_through_the_service_to_mongodb(watched: Watched) -> None:
    headers = watched.headers | {"traceparent": TRACEPARENT}

    answers = [
        watched.service.http.get("/api/v1/users", params={"name": CANARY}, headers=headers),
        watched.service.http.post("/api/v1/fragiles", json={"name": CANARY}, headers=headers),
        watched.service.http.post("/api/v1/fragiles", json={"name": CANARY}, headers=headers),
    ]

    assert [answer.status_code for answer in answers] == [200, 201, 409]
    until(lambda: sum(span.kind == Span.SPAN_KIND_SERVER for span in watched.spans()) == 3, "all spans have come")
    spans = {span.name: span for span in watched.spans()}
    request = spans["GET /api/v1/users"]
    assert request.parent_span_id.hex() == PARENT_ID
    assert attributes_of(request) == {
        "http.request.method": "GET",
        "http.route": "/api/v1/users",
        "http.response.status_code": 200,
    }
    command = spans["find users"]
    assert command.kind == Span.SPAN_KIND_CLIENT
    assert command.parent_span_id == request.span_id
    assert attributes_of(command) == {
        "db.system.name": "mongodb",
        "db.namespace": "dossier",
        "db.operation.name": "find",
        "db.collection.name": "users",
    }
    [line] = [
        line
        for line in watched.service.log
        if line.get("request_id") == answers[0].headers["x-request-id"] and line["event"] == "request"
    ]
    assert line["trace_id"] == TRACE_ID
    assert CANARY not in watched.receiver.text


def test_a_failure_is_reported_without_a_value(watched: Watched) -> None:
    name = f"break the {CANARY}"
    parameters = {"fields": CANARY}

    answer = watched.service.http.post(
        "/api/v1/fragiles",
        json={"name": name},
        params=parameters,
        headers=watched.headers | {"traceparent": TRACEPARENT, "X-Request-ID": "given-1", "Cookie": CANARY},
    )

    assert answer.status_code == 500
    until(watched.reports, "the report has come")
    [report] = watched.reports()
    assert report["tags"] == {"request_id": "given-1", "method": "POST", "route": "/api/v1/fragiles"}
    [failure] = report["exception"]["values"]
    assert failure["type"] == "KeyError"
    assert failure["value"] is None
    assert failure["stacktrace"]["frames"][-1]["function"] == "_hold"
    assert "vars" not in str(failure)
    assert not {"request", "user", "breadcrumbs", "extra", "modules"} & set(report)
    until(lambda: any(span.status.code == Status.STATUS_CODE_ERROR for span in watched.spans()), "its span has come")
    for secret in (CANARY, watched.headers["Authorization"].removeprefix("Bearer ")):
        assert secret not in watched.receiver.text


def assert_told_once(watched: Watched, answer: httpx.Response, event: str) -> None:
    """The failure of the driver is in the log and in one report, with its place and without its text."""
    request_id = answer.headers["x-request-id"]
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.json()["request_id"] == request_id

    def found() -> list[dict[str, Any]]:
        return [report for report in watched.reports() if report["tags"]["request_id"] == request_id]

    until(found, "the report has come")
    [report] = found()
    driver, ours = report["exception"]["values"]
    assert (driver["type"], ours["type"]) == ("OperationFailure", "InternalError")
    lines = [line for line in watched.service.log if line.get("request_id") == request_id and "exception" in line]
    assert [line["event"] for line in lines] == [event]
    assert "pymongo.errors.OperationFailure: 4711\n" in lines[0]["exception"]
    assert ", in _hold\n" in lines[0]["exception"]
    assert CANARY not in watched.service.stderr + watched.receiver.text + answer.text


def test_a_failure_of_the_driver_is_logged_and_reported_without_a_value(watched: Watched) -> None:
    body = {"name": f"refuse the {CANARY}"}

    answer = watched.service.http.post("/api/v1/fragiles", json=body, headers=watched.headers)

    assert_told_once(watched, answer, "request failed")


def test_one_in_an_import_is_told_under_the_id_of_its_request(watched: Watched) -> None:
    headers = watched.headers | {"Content-Type": "text/csv"}
    content = f"name\nrefuse the {CANARY}\n"

    answer = watched.service.http.post("/api/v1/fragiles/import", content=content, headers=headers)

    assert_told_once(watched, answer, "import_failed")


def test_what_is_refused_is_no_failure(watched: Watched) -> None:
    before = len(watched.reports())

    assert watched.service.http.post("/api/v1/fragiles", json={"other": 1}, headers=watched.headers).status_code == 422
    assert watched.service.http.get("/nowhere").status_code == 404
    name = {"name": "break it"}
    assert watched.service.http.post("/api/v1/fragiles", json=name, headers=watched.headers).status_code == 500

    until(lambda: len(watched.reports()) > before, "the report has come")
    assert len(watched.reports()) == before + 1


def test_a_service_that_sends_nothing_loads_nothing_that_would() -> None:
    program = f"""
import sys
from service.app import create_app
from service.settings import Settings
create_app(Settings(_env_file=None, secret_key="a secret key for the tests, 32 bytes and more"))
print([name for name in {EXTRAS!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)

    assert done.stdout == "[]\n"


COUNTING = """
import sys
from service.observability import metrics
metrics.REQUESTS_IN_PROGRESS.inc(int(sys.argv[1]))
for _ in range(int(sys.argv[1])):
    metrics.observe_request("GET", "/api/v1/users", 200, 0.01)
print("ready", flush=True)
for _ in sys.stdin:
    print(metrics.exposition("")[0].decode(), flush=True)
"""


@pytest.fixture
def counting(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes that keep their metrics in one folder, and have counted 2 and 3 requests."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", COUNTING, count],
            env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for count in ("2", "3")
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def scrape(process: subprocess.Popen[str]) -> list[str]:
    """The lines that it answers."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return list(iter(process.stdout.readline, "\n"))


def test_two_readers_may_forget_one_dead_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    (tmp_path / f"gauge_livesum_{dead.pid}.db").touch()

    def remove_after_another(path: str) -> None:
        Path(path).unlink()
        Path(path).unlink()

    monkeypatch.setattr(os, "remove", remove_after_another)

    assert metrics._forget_dead(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_process_of_another_user_is_none_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / f"gauge_livesum_{os.getpid()}.db"
    own.touch()
    assert metrics._forget_dead(tmp_path) == [os.getpid()]

    def refuse(_pid: int, _sign: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)

    assert metrics._forget_dead(tmp_path) == []
    assert not own.exists()


def pids_in(lines: list[str]) -> list[str]:
    return [line.split('"')[1] for line in lines if line.startswith("process_resident_memory_bytes{")]


def test_any_of_several_processes_answers_for_all(counting: list[subprocess.Popen[str]]) -> None:
    count = 'dossier_http_request_duration_seconds_count{method="GET",route="/api/v1/users",status="200"} 5.0\n'
    first, second = counting

    for lines in (scrape(first), scrape(second)):
        assert count in lines
        assert "dossier_http_requests_in_progress 5.0\n" in lines
        assert pids_in(lines) == sorted([str(first.pid), str(second.pid)], key=int)

    second.kill()
    second.wait()
    lines = scrape(first)
    assert count in lines, "what it has counted has happened"
    assert "dossier_http_requests_in_progress 2.0\n" in lines
    assert pids_in(lines) == [str(first.pid)]
