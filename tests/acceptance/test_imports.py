"""Imports whose service, process, client or database does not last as long as they do."""

import os
import signal
import socket
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

import httpx
import openpyxl
import pytest
from pymongo import MongoClient
from pymongo.collection import Collection

from service.store.import_records import LEASE_SECONDS
from tests.acceptance.process import Home, Service, parent_of, running_pids, until
from tests.acceptance.replica_set import ReplicaSet

ROWS = 30_000
"""Some seconds' work."""

VISIT = '''
"""Visits."""

from typing import Annotated

from pydantic import Field

from service.documents.base import Record


class Visit(Record):
    """Somebody has looked at a page."""

    page: Annotated[str, Field(max_length=100)]
    seconds: int

    class Settings(Record.Settings):
        """Nothing of them is unique, so that whatever is written twice is there twice."""

        name = "visits"

    model_config = {"json_schema_extra": {"examples": [{"page": "/", "seconds": 3}]}}
'''
VISITS = "/api/v1/visits/import"
USERS = "/api/v1/users/import"
CSV = {"Content-Type": "text/csv"}
XLSX = {"Content-Type": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"}
Report = dict[str, Any]


@pytest.fixture(scope="module")
def types(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a type that has no unique index."""
    folder = tmp_path_factory.mktemp("types")
    (folder / "visit.py").write_text(VISIT)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    """A MongoDB on which services come and go."""
    with ReplicaSet(tmp_path_factory.mktemp("data"), size=1) as replica_set:
        yield replica_set


@pytest.fixture
def home(data: ReplicaSet, types: Path, tmp_path: Path) -> Iterator[Home]:
    """A home on it, with nothing in its database."""
    with data.primary.client() as client:
        client.drop_database("dossier")
    with data.home(tmp_path, types) as home:
        yield home


def table(header: str, rows: Iterable[str]) -> bytes:
    return "\r\n".join([header, *rows, ""]).encode()


def visits(count: int = ROWS) -> bytes:
    return table("page,seconds", (f"/{number},{number}" for number in range(count)))


def users(count: int, bad: Iterable[int] = ()) -> bytes:
    """So many users; of the bad ones, counted from 0, the age is no number."""
    ages = dict.fromkeys(bad, "unknown")
    return table(
        "name,email,age", (f"User {number},{number}@example.org,{ages.get(number, 40)}" for number in range(count))
    )


@contextmanager
def collection(home: Home, name: str) -> Iterator[Collection[dict[str, Any]]]:
    """What is there of a type."""
    with MongoClient[dict[str, Any]](home.mongodb_uri) as client:
        yield client["dossier"][name]


def count_of(home: Home, name: str) -> int:
    with collection(home, name) as found:
        return found.count_documents({})


def has_each_once(home: Home, name: str, path: str, expected: Iterable[Any]) -> bool:
    """Whether there is one document for each of these, and no other."""
    with collection(home, name) as found:
        return sorted(document[path] for document in found.find({}, {path: 1})) == sorted(expected)


def records_of(home: Home) -> list[dict[str, Any]]:
    """What is remembered of imports, the first one first, whether or not there is a service to ask."""
    with collection(home, "imports") as records:
        return list(records.find(sort=[("_id", 1)]))


class Sender:
    """A client that sends files, and does something else meanwhile."""

    def __init__(self, service: Service) -> None:
        headers = {"Authorization": f"Bearer {service.token()}"}
        self._client = httpx.Client(base_url=service.address, headers=headers, timeout=600)
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        self._client.close()

    def send(self, path: str, content: bytes, headers: Mapping[str, str] = CSV) -> httpx.Response:
        """The answer."""
        return self._client.post(path, content=content, headers=headers)

    def begin(self, path: str, content: bytes, headers: Mapping[str, str] = CSV) -> "Future[httpx.Response]":
        """The same, not waited for."""
        return self._pool.submit(self.send, path, content, headers)

    def get(self, path: str) -> httpx.Response:
        """Another request."""
        return self._client.get(path)


def sent_again(sender: Sender, path: str, content: bytes) -> Report:
    """The report of a file whose import may still be taken for one that runs."""

    def answered() -> httpx.Response | None:
        answer = sender.send(path, content)
        if answer.status_code != 409:
            return answer
        assert answer.json()["code"] == "import_running"
        assert int(answer.headers["Retry-After"]) <= LEASE_SECONDS
        return None

    answer = until(answered, "the lease is over", 3 * LEASE_SECONDS)
    assert answer is not None
    return report_of(answer)


def report_of(answer: httpx.Response) -> Report:
    """What it says of an import that went well."""
    assert answer.status_code == 200, answer.text
    report: Report = answer.json()
    return report


def counts(report: Report) -> dict[str, int]:
    return {name: report[name] for name in ("rows", "created", "updated", "unchanged", "failed")}


def counted(rows: int, **others: int) -> dict[str, int]:
    """The same, where all others are 0."""
    return {"rows": rows, "created": 0, "updated": 0, "unchanged": 0, "failed": 0} | others


def descendants(pid: int) -> list[int]:
    """The processes that it has started, and those that they have."""
    parents = {child: parent for child in running_pids() if (parent := parent_of(child)) is not None}
    found = [pid]
    for ancestor in found:
        found += [child for child, parent in parents.items() if parent == ancestor]
    return found[1:]


def assert_all_gone(pids: list[int]) -> None:
    assert pids
    until(lambda: not any(parent_of(pid) is not None for pid in pids), "no process is left behind")


def written(home: Home, name: str = "visits") -> int:
    """How many documents there are, once there are some."""
    return until(lambda: count_of(home, name), "something is written")


# The service and its processes


@pytest.mark.slow  # until the import is known to be dead
def test_a_file_whose_service_was_killed_can_be_sent_again_with_nothing_doubled(home: Home) -> None:
    content = visits()
    service = home.start()
    with Sender(service) as sender:
        answer = sender.begin(VISITS, content)
        written(home)
        processes = descendants(service.pid)

        service.end(signal.SIGKILL)

        assert isinstance(answer.exception(20), httpx.TransportError)
    assert_all_gone(processes)
    before = count_of(home, "visits")
    assert 0 < before < ROWS
    with Sender(home.start()) as sender:
        report = sent_again(sender, VISITS, content)

        assert counts(report) == counted(rows=ROWS, created=ROWS - before, unchanged=before)
        first, second = records_of(home)
        assert (report["earlier"]["id"], report["earlier"]["state"]) == (str(first["_id"]), "failed")
        assert sender.get(f"/api/v1/imports/{first['_id']}").json()["state"] == "failed"
        assert second["state"] == "complete"
    assert has_each_once(home, "visits", "page", (f"/{number}" for number in range(ROWS)))


@pytest.mark.slow  # a large file
def test_a_file_whose_process_was_killed_can_be_sent_again_at_once(home: Home) -> None:
    content = visits()
    service = home.start()
    with Sender(service) as sender:
        answer = sender.begin(VISITS, content)
        written(home)
        for pid in importing(service.pid):
            os.kill(pid, signal.SIGKILL)

        broken = answer.result(10)
        before = count_of(home, "visits")
        again = sender.send(VISITS, content)

    assert (broken.status_code, broken.json()["code"]) == (500, "import_killed")
    assert broken.headers["Content-Type"] == "application/problem+json"
    assert broken.json()["report"]["state"] == "failed"
    assert 0 < before < ROWS
    report = report_of(again)
    assert counts(report) == counted(rows=ROWS, created=ROWS - before, unchanged=before)
    assert report["earlier"]["id"] == broken.headers["Import-Id"]
    assert has_each_once(home, "visits", "page", (f"/{number}" for number in range(ROWS)))


@pytest.mark.slow
def test_a_service_that_may_not_wait_ends_its_imports_and_leaves_no_process(home: Home) -> None:
    content = visits()
    service = home.start(shutdown_grace_seconds=0)
    with Sender(service) as sender:
        answer = sender.begin(VISITS, content)
        written(home)
        processes = descendants(service.pid)

        assert service.end() == 0

        broken = answer.result(20)
        assert (broken.status_code, broken.json()["code"]) == (503, "shutting_down")
        assert int(broken.headers["Retry-After"]) > 0
    assert_all_gone(processes)
    assert count_of(home, "visits") < ROWS
    [record] = records_of(home)
    assert record["state"] == "failed"
    with Sender(home.start()) as sender:
        assert report_of(sender.send(VISITS, content))["failed"] == 0
    assert has_each_once(home, "visits", "page", (f"/{number}" for number in range(ROWS)))


@pytest.mark.slow  # until the import is known to be dead
def test_a_file_whose_worker_was_killed_can_be_sent_again_to_the_others(home: Home) -> None:
    content = visits()
    service = home.start("--workers", "2")
    workers = service.workers
    with Sender(service) as sender:
        answer = sender.begin(VISITS, content)
        written(home)
        [busy] = [worker for worker in workers if importing(worker)]

        os.kill(busy, signal.SIGKILL)

        assert isinstance(answer.exception(20), httpx.TransportError)
    before = count_of(home, "visits")
    assert 0 < before < ROWS
    with Sender(service) as sender:
        report = sent_again(sender, VISITS, content)
    assert counts(report) == counted(rows=ROWS, created=ROWS - before, unchanged=before)
    assert has_each_once(home, "visits", "page", (f"/{number}" for number in range(ROWS)))
    until(lambda: len(service.workers) == 2, "the worker is replaced")
    assert service.end() == 0


@pytest.mark.slow  # a service of its own
def test_a_service_that_may_wait_answers_before_it_ends(home: Home) -> None:
    service = home.start(shutdown_grace_seconds=60)
    with Sender(service) as sender:
        answer = sender.begin(f"{VISITS}?on_error=skip", visits())
        written(home)
        processes = descendants(service.pid)

        service.send(signal.SIGTERM)

        assert report_of(answer.result(60))["created"] == ROWS
    assert service.wait() == 0
    assert_all_gone(processes)


def importing(serving: int) -> list[int]:
    """The processes that do a server process's imports: those that one of its children has forked."""
    return [pid for pid in descendants(serving) if parent_of(pid) != serving]


# Clients


def test_an_import_goes_on_when_its_client_leaves(home: Home) -> None:
    content = visits()
    service = home.start()
    address = httpx.URL(service.address)
    head = [f"POST {VISITS} HTTP/1.1", f"Host: {address.host}", "Content-Type: text/csv"]
    head += [f"Content-Length: {len(content)}", f"Authorization: Bearer {service.token()}", "", ""]
    with socket.create_connection((address.host, address.port or 80)) as client:
        client.sendall("\r\n".join(head).encode() + content)
        written(home)

    until(lambda: records_of(home)[0]["state"] != "running", "the import ends", 60)
    [record] = records_of(home)
    assert (record["state"], record["created"]) == ("complete", ROWS)
    assert count_of(home, "visits") == ROWS


@pytest.mark.slow
def test_requests_are_answered_during_an_import(home: Home) -> None:
    service = home.start()
    with Sender(service) as sender:
        ada = sender.send(USERS, users(1)).json()
        assert ada["created"] == 1
        [user] = sender.get("/api/v1/users").json()["items"]
        answer = sender.begin(VISITS, visits())
        answered = 0
        while not answer.done() and answered < 1000:
            assert sender.get(f"/api/v1/users/{user['id']}").status_code == 200
            answered += 1

        assert report_of(answer.result(60))["created"] == ROWS
    assert answered > 50


def test_the_same_request_again_is_answered_and_not_done(home: Home) -> None:
    service = home.start()
    headers = {**CSV, "Idempotency-Key": "6b02"}
    with Sender(service) as sender:
        first = sender.send(VISITS, visits(10), headers)
        again = sender.send(VISITS, visits(10), headers)
        other = sender.send(VISITS, visits(11), headers)

    assert report_of(again) == report_of(first)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert count_of(home, "visits") == 10


# Size


MILLION = 1_000_000
BAD = 1000
MAX_MEBIBYTES = 150
"""What service and processes together may take for an import, more than they do without one."""

LOOK_SECONDS = 0.2


class Memory:
    """How far the memory of a service's processes rises, in MiB, where what they share counts once (PSS)."""

    def __init__(self, service: Service) -> None:
        self._pid = service.pid
        self._idle = self._used()
        self._is_over = Event()
        self._watcher = Thread(target=self._watch)
        self.peak = 0.0

    def __enter__(self) -> Self:
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._is_over.wait(LOOK_SECONDS):
            self.peak = max(self.peak, self._used() - self._idle)

    def _used(self) -> float:
        return sum(map(mebibytes, [self._pid, *descendants(self._pid)]))


def mebibytes(pid: int) -> float:
    """Nothing for a process that is gone."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return int(rollup.partition("\nPss:")[2].split()[0]) / 1024


@pytest.mark.slow  # a million rows
def test_a_million_rows_with_a_thousand_bad_ones_give_exactly_those(home: Home) -> None:
    bad = range(7, MILLION, MILLION // BAD)
    service = home.start(import_max_rows=MILLION)
    with Sender(service) as sender, Memory(service) as memory:
        report = report_of(sender.send(f"{USERS}?on_error=skip", users(MILLION, bad)))

    assert counts(report) == counted(rows=MILLION, created=MILLION - BAD, failed=BAD)
    assert [row["row"] for row in report["failed_rows"]] == [number + 2 for number in bad]
    assert {(error["column"], error["value"]) for row in report["failed_rows"] for error in row["errors"]} == {
        ("age", "unknown")
    }
    assert report["failed_rows_left_out"] == 0
    assert count_of(home, "users") == MILLION - BAD
    assert memory.peak <= MAX_MEBIBYTES


@pytest.mark.slow  # a million rows
def test_a_workbook_of_a_million_rows_takes_no_memory(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "visits.xlsx"
    workbook = openpyxl.Workbook(write_only=True)
    sheet = workbook.create_sheet()
    sheet.append(["page", "seconds"])
    for number in range(MILLION):
        sheet.append([f"/{number}", number])
    workbook.save(path)
    service = home.start(import_max_rows=MILLION)
    with Sender(service) as sender, Memory(service) as memory:
        report = report_of(sender.send(f"{VISITS}?on_error=skip", path.read_bytes(), XLSX))

    assert counts(report) == counted(rows=MILLION, created=MILLION)
    assert memory.peak <= MAX_MEBIBYTES


# The database


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    """Three of them."""
    with ReplicaSet(tmp_path_factory.mktemp("set")) as replica_set:
        yield replica_set


@pytest.fixture
def replicated(three: ReplicaSet, types: Path, tmp_path: Path) -> Iterator[Home]:
    """A home on all three, with nothing in its database; they find each other again afterwards."""
    with MongoClient[dict[str, Any]](three.uri) as client:
        client.drop_database("dossier")
    try:
        with three.home(tmp_path, types, RESUME_SECONDS=15) as home:
            yield home
    finally:
        three.heal()


@pytest.mark.slow  # elections
@pytest.mark.parametrize("how", ["mode=create", "mode=upsert&key=email"])
@pytest.mark.parametrize("fault", ["kill", "step down"])
def test_an_import_survives_the_loss_of_the_primary(three: ReplicaSet, replicated: Home, how: str, fault: str) -> None:
    primary = three.primary
    with Sender(replicated.start()) as sender:
        answer = sender.begin(f"{USERS}?{how}", users(ROWS))
        written(replicated, "users")

        if fault == "kill":
            primary.kill()
        else:
            three.step_down()

        report = report_of(answer.result(120))
    assert counts(report) == counted(rows=ROWS, created=ROWS)
    assert has_each_once(replicated, "users", "email", (f"{number}@example.org" for number in range(ROWS)))
    assert three.primary is not primary


@pytest.mark.slow  # elections
def test_an_import_of_what_nothing_keeps_apart_survives_a_killed_primary(three: ReplicaSet, replicated: Home) -> None:
    with Sender(replicated.start()) as sender:
        answer = sender.begin(VISITS, visits())
        written(replicated)

        three.primary.kill()

        assert report_of(answer.result(120))["created"] == ROWS
    assert has_each_once(replicated, "visits", "page", (f"/{number}" for number in range(ROWS)))


@pytest.mark.slow  # it is waited for
def test_without_a_majority_an_import_breaks_off_and_can_be_sent_again(three: ReplicaSet, replicated: Home) -> None:
    content = visits()
    with Sender(replicated.start(operation_timeout_seconds=2)) as sender:
        answer = sender.begin(VISITS, content)
        written(replicated)
        for node in (three.primary, three.secondaries[0]):
            node.kill()

        broken = answer.result(90)

        assert (broken.status_code, broken.json()["code"]) == (503, "database_unavailable")
        assert broken.headers["Content-Type"] == "application/problem+json"
        three.heal()
        report = sent_again(sender, VISITS, content)
        created = report["created"]
        assert counts(report) == counted(ROWS, created=created, unchanged=ROWS - created)
        assert report["earlier"]["state"] == "failed"
    assert has_each_once(replicated, "visits", "page", (f"/{number}" for number in range(ROWS)))
