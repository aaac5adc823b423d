"""Exports whose client, database, workers or service do not last as long as they do."""

import csv
import hashlib
import http.client
import io
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo import MongoClient
from python_calamine import CalamineWorkbook

from tests.acceptance.process import (
    LAST_CHUNK,
    PASSWORD,
    Download,
    Home,
    Service,
    command_line,
    fill,
    parent_of,
    running_pids,
    until,
)
from tests.acceptance.replica_set import Mongod, ReplicaSet, idle_cursors

USERS = 15_000
"""Eight batches, of which a service with two workers reads three while its client reads nothing."""

TWO_WORKERS = {"export_workers": 2}
"""However many cores there are."""

CSV = "/api/v1/users/export/csv"
NAMESPACE = "dossier.users"
WORKER = b"service.transfer.worker"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    """A MongoDB with many users, on which services come and go."""
    directory = tmp_path_factory.mktemp("data")
    with ReplicaSet(directory, size=1) as replica_set, replica_set.home(directory) as home:
        fill(home, USERS)
        yield replica_set


@pytest.fixture
def home(data: ReplicaSet, tmp_path: Path) -> Iterator[Home]:
    """A home on it."""
    with data.home(tmp_path) as home:
        yield home


@pytest.fixture
def mongod(data: ReplicaSet) -> Mongod:
    """The server itself."""
    return data.nodes[0]


class Export:
    """A file on its way."""

    def __init__(self, download: Download) -> None:
        self._download = download
        self.received = b""
        while b"\r\n\r\n" not in self.received:
            self.received += download.read(1)
        head = http.client.parse_headers(io.BytesIO(self.received.partition(b"\r\n")[2]))
        self.id = str(head["export-id"])

    def read(self, size: int) -> None:
        """At least so many bytes more."""
        self.received += self._download.read(size)

    def finish(self) -> bytes:
        """The whole file."""
        self.received += self._download.read_to_end()
        assert self.received.endswith(LAST_CHUNK)
        return body_of(self.received)

    def break_off(self) -> None:
        """See that it does, once all that comes has come."""
        self.received += self._download.read_to_end()
        assert self.received.startswith(b"HTTP/1.1 200 ")
        assert b"transfer-encoding: chunked" in self.received.lower()
        assert not self.received.endswith(LAST_CHUNK)
        with pytest.raises(http.client.IncompleteRead):
            body_of(self.received)


class _Received:
    """What came over a socket, for the standard library's parser."""

    def __init__(self, received: bytes) -> None:
        self._file = io.BytesIO(received)

    def makefile(self, *_arguments: Any) -> io.BytesIO:
        """As a socket's."""
        return self._file


def body_of(received: bytes) -> bytes:
    """The body of an answer. Raises IncompleteRead."""
    response = http.client.HTTPResponse(_Received(received))  # type: ignore[arg-type]
    response.begin()
    return response.read()


def record_of(home: Home, export_id: str) -> dict[str, Any]:
    """What is remembered of an export, whether or not there is a service to ask."""
    with MongoClient[dict[str, Any]](home.mongodb_uri) as client:
        found = client["dossier"]["exports"].find_one({"_id": ObjectId(export_id)})
    assert found is not None
    return found


def state_of(home: Home, export: Export) -> str:
    return str(record_of(home, export.id)["state"])


def assert_whole(home: Home, export: Export, content: bytes) -> None:
    """The file has each user once, and its record says so."""
    emails = [row["email"] for row in csv.DictReader(io.StringIO(content.decode(), newline=""))]
    assert emails == [f"{number}@example.org" for number in range(USERS)]
    record = record_of(home, export.id)
    assert (record["state"], record["rows"], record["bytes"]) == ("complete", USERS, len(content))
    assert record["sha256"] == hashlib.sha256(content).hexdigest()


def workers_of(service: Service) -> list[int]:
    """The processes that encode for it."""
    return [pid for pid in running_pids() if WORKER in command_line(pid) and parent_of(pid) == service.pid]


def assert_gone(workers: list[int]) -> None:
    assert workers
    until(lambda: not any(WORKER in command_line(pid) for pid in workers), "the workers have ended")


def batches_read(mongod: Mongod) -> int:
    """How many batches the exports that run have from MongoDB."""
    return sum(cursor["nBatchesReturned"] for cursor in mongod.idle_cursors(NAMESPACE))


# Clients


def test_a_whole_file_ends_as_such(home: Home) -> None:
    service = home.start(export_record_days=2, export_workers=3)
    assert len(workers_of(service)) == 3

    with Download(service, CSV, service.token()) as download:
        export = Export(download)
        content = export.finish()

    assert_whole(home, export, content)
    record = record_of(home, export.id)
    assert abs(record["expires_at"] - record["created_at"] - timedelta(days=2)) < timedelta(seconds=1)


def test_a_client_that_leaves_abandons_its_export(home: Home, mongod: Mongod) -> None:
    service = home.start(**TWO_WORKERS)
    workers = workers_of(service)
    with Download(service, CSV, service.token()) as download:
        export = Export(download)
        export.read(1)
        until(lambda: mongod.idle_cursors(NAMESPACE), "the export is under way")
        assert state_of(home, export) == "running"

    until(lambda: state_of(home, export) == "abandoned", "the export is given up")

    until(lambda: not mongod.idle_cursors(NAMESPACE), "the cursor is closed")
    assert workers_of(service) == workers
    with Download(service, CSV, service.token()) as download:
        another = Export(download)
        assert_whole(home, another, another.finish())


def test_a_client_that_reads_nothing_is_given_up(home: Home, mongod: Mongod) -> None:
    service = home.start(**TWO_WORKERS, export_stall_seconds=1)
    with Download(service, CSV, service.token()) as download:
        export = Export(download)
        export.read(1)
        until(lambda: mongod.idle_cursors(NAMESPACE), "the export is under way")

        until(lambda: state_of(home, export) == "abandoned", "the export is given up")

        until(lambda: not mongod.idle_cursors(NAMESPACE), "the cursor is closed")
        export.break_off()


@pytest.mark.slow  # four exports
def test_exports_that_stall_starve_nobody(home: Home, mongod: Mongod) -> None:
    few = f"{home.mongodb_uri}&maxPoolSize=2"
    service = home.start(**TWO_WORKERS, mongodb_uri=few, exports_at_once=4, shutdown_grace_seconds=0)
    token = service.token()
    with ExitStack() as downloads:
        for _ in range(4):
            Export(downloads.enter_context(Download(service, CSV, token)))

        headers = {"Authorization": f"Bearer {token}"}
        with ThreadPoolExecutor(4) as clients:
            answers = list(clients.map(lambda _: service.http.get("/api/v1/users", headers=headers), range(40)))
        refused = service.http.get(CSV, headers=headers)

    until(lambda: not mongod.idle_cursors(NAMESPACE), "their cursors are closed")
    assert {answer.status_code for answer in answers} == {200}
    assert max(answer.elapsed for answer in answers) < timedelta(seconds=5)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_exports")


@pytest.mark.slow  # a hundred times a megabyte or less
def test_a_hundred_clients_that_leave_leave_nothing_behind(home: Home, mongod: Mongod) -> None:
    service = home.start(
        **TWO_WORKERS, exports_at_once=50
    )  # fewer than the clients that leave, more than are there at once
    workers = workers_of(service)
    token = service.token()

    def leave_after(size: int) -> str:
        with Download(service, CSV, token) as download:
            export = Export(download)
            export.read(size)
            return export.id

    sizes = [number * 10_000 + 1 for number in range(100)]  # so that each leaves at another moment
    with ThreadPoolExecutor(8) as clients:
        ids = list(clients.map(leave_after, sizes))

    until(lambda: {record_of(home, key)["state"] for key in ids} == {"abandoned"}, "all exports are given up")
    until(lambda: not mongod.idle_cursors(NAMESPACE), "the cursor is closed")
    assert workers_of(service) == workers
    with Download(service, CSV, token) as download:
        export = Export(download)
        assert_whole(home, export, export.finish())


# Size


MILLION = 1_000_000
MAX_MEBIBYTES = 120
"""What service and workers together may take for an export, more than they do without one."""


def tags_of(number: int) -> list[str]:
    """Of one in ten two, so that a row for each makes more of them than a sheet can have."""
    return ["a", "b"] if number % 10 == 0 else ["c"]


@pytest.fixture
def million(home: Home, mongod: Mongod) -> Iterator[Service]:
    """A service with a million small items."""
    service = home.start(**TWO_WORKERS)
    with mongod.client() as client:
        items = client["dossier"]["items"]
        items.drop_indexes()  # which take longer than the items
        for start in range(0, MILLION, 50_000):
            items.insert_many(
                [
                    {"_id": ObjectId(f"{number:024x}"), "sku": str(number), "stock": number, "tags": tags_of(number)}
                    for number in range(start, start + 50_000)
                ],
                ordered=False,
                bypass_document_validation=True,  # as they are small, and quick to write
            )
        yield service
        items.drop()


def mebibytes(service: Service, line: str) -> float:
    """Memory of the service and its workers: VmRSS, what they have, or VmHWM, the most they had."""
    statuses = [Path(f"/proc/{pid}/status").read_text() for pid in (service.pid, *workers_of(service))]
    assert len(statuses) == 3
    return sum(int(status.partition(f"{line}:")[2].split()[0]) for status in statuses) / 1024


@pytest.mark.slow  # a million rows, twice
def test_a_million_rows_fit_a_workbook_and_take_no_memory(million: Service) -> None:
    idle = mebibytes(million, "VmRSS")
    token = million.token()
    with Download(million, "/api/v1/items/export/xlsx?fields=sku,stock", token) as download:
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(Export(download).finish()))
    assert mebibytes(million, "VmHWM") - idle <= MAX_MEBIBYTES
    assert workbook.sheet_names == ["items", "About this file"]
    rows = workbook.get_sheet_by_name("items").iter_rows()
    assert next(rows) == ["sku", "stock"]
    assert all(row == [str(number), number] for number, row in zip(range(MILLION), rows, strict=True))

    with Download(million, "/api/v1/items/export/xlsx?fields=stock,tags&explode=tags", token) as download:
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(Export(download).finish()))
    assert mebibytes(million, "VmHWM") - idle <= MAX_MEBIBYTES
    assert workbook.sheet_names == ["items", "items 2", "About this file"]
    heights = []
    expected = ([number, tag] for number in range(MILLION) for tag in tags_of(number))
    for name in workbook.sheet_names[:2]:
        rows = workbook.get_sheet_by_name(name).iter_rows()
        assert next(rows) == ["stock", "tags"]
        heights.append(1)
        for row in rows:
            heights[-1] += 1
            assert row == next(expected)
    assert next(expected, None) is None
    assert heights[0] <= 1_048_576
    assert sum(heights) == 2 + MILLION * 11 // 10
    about = {row[0]: row[1] for row in workbook.get_sheet_by_name("About this file").to_python()}
    assert about["Rows"] == MILLION * 11 // 10
    assert about["Complete"] == "yes"


# The database


@pytest.mark.slow  # it is waited for
def test_a_file_that_cannot_be_finished_never_looks_whole(data: ReplicaSet, mongod: Mongod, tmp_path: Path) -> None:
    paths = [f"/api/v1/users/export/{name}" for name in ("csv", "xlsx", "ndjson", "json", "parquet")]
    with data.home(tmp_path, RESUME_SECONDS=8) as home, ExitStack() as stack:
        service = home.start(**TWO_WORKERS, operation_timeout_seconds=1, exports_at_once=len(paths))
        token = service.token()
        exports = [Export(stack.enter_context(Download(service, path, token))) for path in paths]
        until(lambda: len(mongod.idle_cursors(NAMESPACE)) == len(exports), "all exports are under way")

        stack.callback(data.heal)
        mongod.kill()

        with ThreadPoolExecutor(len(exports)) as clients:
            list(clients.map(Export.break_off, exports))
        assert service.http.get("/health").status_code == 200
        data.heal()
        assert not {state_of(home, export) for export in exports} & {"complete", "abandoned"}
        until(lambda: service.http.get("/health/ready").status_code == 200, "it is ready again by itself")
        with Download(service, CSV, service.token()) as download:
            another = Export(download)
            assert_whole(home, another, another.finish())


@pytest.mark.slow  # the driver looks for its server for 5 s, to close its cursor
def test_a_database_that_comes_back_is_waited_for(data: ReplicaSet, home: Home, mongod: Mongod) -> None:
    service = home.start(**TWO_WORKERS)
    with Download(service, CSV, service.token()) as download, ExitStack() as stack:
        export = Export(download)
        until(lambda: mongod.idle_cursors(NAMESPACE), "the export is under way")

        stack.callback(data.heal)
        mongod.kill()
        received = stack.enter_context(ThreadPoolExecutor(1)).submit(export.finish)
        until(lambda: "a lost cursor is replaced" in service.stderr, "the service looks for it")
        data.heal()

        assert_whole(home, export, received.result())


def test_a_snapshot_that_mongodb_cannot_give_is_refused(tmp_path: Path) -> None:
    with Mongod(tmp_path / "mongod") as alone:  # a server that is no replica set
        home = Home(tmp_path)
        try:
            service = home.start(mongodb_uri=alone.uri, exports_at_once=1)
            headers = {"Authorization": f"Bearer {service.token()}"}
            for _ in range(2):
                refused = service.http.get(CSV, params={"snapshot": "true"}, headers=headers)
                assert refused.status_code == 503
                assert refused.headers["content-type"] == "application/problem+json"
                assert refused.json()["code"] == "snapshot_unavailable"
            assert service.http.get("/api/v1/exports", headers=headers).json()["total"] == 0
            assert service.http.get(CSV, headers=headers).status_code == 200
        finally:
            home.close()


# The workers


@pytest.mark.slow  # as busy ones can
def test_idle_workers_can_be_killed(home: Home, mongod: Mongod) -> None:
    service = home.start(**TWO_WORKERS)
    workers = workers_of(service)
    with Download(service, CSV, service.token()) as download:
        export = Export(download)
        until(lambda: batches_read(mongod) > 0, "the service has read ahead")

        for pid in workers:
            os.kill(pid, signal.SIGKILL)

        assert_whole(home, export, export.finish())
    assert len(workers_of(service)) == 2
    assert not set(workers_of(service)) & set(workers)


@pytest.mark.slow  # a service of its own
def test_busy_workers_can_be_killed(home: Home, mongod: Mongod) -> None:
    service = home.start(**TWO_WORKERS)
    workers = workers_of(service)
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    with Download(service, CSV, service.token()) as download:
        export = Export(download)
        until(lambda: batches_read(mongod) > 0, "each worker has a batch, and another one waits")

        for pid in workers:
            os.kill(pid, signal.SIGKILL)

        assert_whole(home, export, export.finish())
    assert len(workers_of(service)) == 2
    assert not set(workers_of(service)) & set(workers)


@pytest.mark.slow  # a service of its own
def test_workers_that_always_die_fail_their_export_alone(home: Home, mongod: Mongod) -> None:
    service = home.start(**TWO_WORKERS)
    with Download(service, CSV, service.token()) as download, ThreadPoolExecutor(1) as client:
        export = Export(download)
        until(lambda: batches_read(mongod) > 0, "the service has read ahead")
        broken = client.submit(export.break_off)

        def kill_all() -> bool:
            for pid in workers_of(service):
                os.kill(pid, signal.SIGKILL)
            return broken.done()

        until(kill_all, "the export is given up")

        broken.result()
    assert state_of(home, export) == "failed"
    until(lambda: not mongod.idle_cursors(NAMESPACE), "the cursor is closed")
    with Download(service, CSV, service.token()) as download:
        another = Export(download)
        assert_whole(home, another, another.finish())
    assert len(workers_of(service)) == 2


# The service


def test_sigterm_lets_an_export_finish_within_the_grace_time(home: Home, mongod: Mongod) -> None:
    service = home.start(**TWO_WORKERS, shutdown_grace_seconds=20)
    workers = workers_of(service)
    with Download(service, CSV, service.token()) as download:
        export = Export(download)
        until(lambda: mongod.idle_cursors(NAMESPACE), "the export is under way")

        service.send(signal.SIGTERM)

        assert_whole(home, export, export.finish())
    assert service.wait() == 0
    assert_gone(workers)
    assert "Traceback" not in service.stderr


def test_sigterm_breaks_an_export_that_takes_longer_than_the_grace_time(home: Home, mongod: Mongod) -> None:
    service = home.start(**TWO_WORKERS, shutdown_grace_seconds=1)
    workers = workers_of(service)
    with Download(service, CSV, service.token()) as download:
        export = Export(download)
        until(lambda: mongod.idle_cursors(NAMESPACE), "the export is under way")

        service.send(signal.SIGTERM)

        assert service.wait(10) == 0
        export.break_off()
    assert_gone(workers)
    assert state_of(home, export) == "failed"
    until(lambda: not mongod.idle_cursors(NAMESPACE), "the cursor is closed")


def test_a_killed_service_leaves_no_worker_and_no_file_that_looks_whole(home: Home, mongod: Mongod) -> None:
    service = home.start(**TWO_WORKERS)
    workers = workers_of(service)
    with Download(service, CSV, service.token()) as download:
        export = Export(download)
        until(lambda: mongod.idle_cursors(NAMESPACE), "the export is under way")

        service.end(signal.SIGKILL)

        export.break_off()
    assert_gone(workers)
    assert state_of(home, export) == "running"  # nobody was left to say otherwise
    assert "Traceback" not in service.stderr


@pytest.mark.slow  # two services
def test_the_next_service_says_that_an_export_was_killed(data: ReplicaSet, mongod: Mongod, tmp_path: Path) -> None:
    with data.home(tmp_path, RESUME_SECONDS=0.2) as home:
        service = home.start(**TWO_WORKERS)
        with Download(service, CSV, service.token()) as download:
            export = Export(download)
            until(lambda: mongod.idle_cursors(NAMESPACE), "the export is under way")
            service.end(signal.SIGKILL)
            export.break_off()

        home.start(**TWO_WORKERS, export_stall_seconds=0.2)

        until(lambda: state_of(home, export) == "failed", "the export is given up")


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Home]:
    """A home with a MongoDB of its own, whose services lead a group of processes, as what a terminal starts does."""
    home = Home(tmp_path)
    home._program = ["setsid", *home._program]  # which leads no group, so that it does not fork
    try:
        yield home
    finally:
        home.close()


def interrupt(service: Service) -> None:
    """Ctrl-C: SIGINT for all processes of the group."""
    assert os.getpgid(service.pid) == service.pid
    os.killpg(service.pid, signal.SIGINT)


def assert_ended_in_order(service: Service, terminal: Home, workers: list[int]) -> None:
    assert service.wait() == 0
    assert_gone(workers)
    assert terminal.mongods == []
    assert "Traceback" not in service.stderr


def test_ctrl_c_ends_everything_in_order(terminal: Home) -> None:
    service = terminal.start(**TWO_WORKERS)
    workers = workers_of(service)
    fill(terminal, 10)
    headers = {"Authorization": f"Bearer {service.token()}"}
    assert service.http.get(CSV, headers=headers).text.count("@example.org") == 10

    interrupt(service)

    assert_ended_in_order(service, terminal, workers)


@pytest.mark.slow  # as SIGTERM does
def test_ctrl_c_lets_an_export_finish(terminal: Home) -> None:
    service = terminal.start(**TWO_WORKERS)
    workers = workers_of(service)
    fill(terminal, USERS)
    with Download(service, CSV, service.token()) as download:
        export = Export(download)
        until(lambda: idle_cursors(terminal.mongodb_uri, NAMESPACE), "the export is under way")

        interrupt(service)

        assert export.finish().count(b"@example.org") == USERS
    assert_ended_in_order(service, terminal, workers)


def test_ctrl_c_while_the_workers_start_ends_everything_in_order(terminal: Home) -> None:
    service = terminal.launch(admin_password=PASSWORD)
    until(lambda: workers_of(service), "workers are started")
    workers = workers_of(service)

    interrupt(service)

    assert_ended_in_order(service, terminal, workers)


def test_sigterm_for_the_workers_too_lets_an_export_finish(home: Home, mongod: Mongod) -> None:
    service = home.start(**TWO_WORKERS)
    workers = workers_of(service)
    with Download(service, CSV, service.token()) as download:
        export = Export(download)
        until(lambda: mongod.idle_cursors(NAMESPACE), "the export is under way")

        for pid in (*workers, service.pid):  # as systemd does
            os.kill(pid, signal.SIGTERM)

        assert_whole(home, export, export.finish())
    assert service.wait() == 0
    assert_gone(workers)
    assert "Traceback" not in service.stderr
