"""Exports from a replica set of three, of which some are killed or step down on the way."""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from python_calamine import CalamineWorkbook

from tests.acceptance.process import Download, Home, Service, fill, until
from tests.acceptance.replica_set import Mongod, ReplicaSet
from tests.acceptance.test_exports import TWO_WORKERS, Export, record_of

pytestmark = pytest.mark.slow  # elections

USERS = 20_000
EMAILS = [f"{number}@example.org" for number in range(USERS)]
NAMESPACE = "dossier.users"


@pytest.fixture(scope="module")
def replica_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    """Three of them, which all have many users."""
    directory = tmp_path_factory.mktemp("set")
    with ReplicaSet(directory) as replica_set, replica_set.home(directory) as home:
        fill(home, USERS)
        replica_set.heal()
        yield replica_set


@pytest.fixture
def home(replica_set: ReplicaSet, tmp_path: Path) -> Iterator[Home]:
    """A home on all three, which find each other again afterwards."""
    try:
        with replica_set.home(tmp_path) as home:
            yield home
    finally:
        replica_set.heal()


def emails_in_csv(content: bytes) -> list[str]:
    return [row["email"] for row in csv.DictReader(io.StringIO(content.decode(), newline=""))]


def emails_in_xlsx(content: bytes) -> list[str]:
    header, *rows = CalamineWorkbook.from_filelike(io.BytesIO(content)).get_sheet_by_index(0).to_python()
    return [str(row[header.index("email")]) for row in rows]


def emails_in_ndjson(content: bytes) -> list[str]:
    return [json.loads(line)["email"] for line in content.splitlines()]


READERS: Mapping[str, Callable[[bytes], list[str]]] = {
    "csv": emails_in_csv,
    "xlsx": emails_in_xlsx,
    "ndjson": emails_in_ndjson,
}


def path_of(file_format: str) -> str:
    return f"/api/v1/users/export/{file_format}"


def start_all(stack: ExitStack, service: Service, read_from: Mongod) -> dict[str, Export]:
    """An export of each format, in the middle of which the client pauses."""
    token = service.token()
    exports = {name: Export(stack.enter_context(Download(service, path_of(name), token))) for name in READERS}
    for export in exports.values():
        export.read(1_000_000)
    until(lambda: len(read_from.idle_cursors(NAMESPACE)) == len(exports), "all exports are under way")
    return exports


def assert_whole(home: Home, file_format: str, export: Export, content: bytes) -> None:
    assert READERS[file_format](content) == EMAILS
    record = record_of(home, export.id)
    assert (record["state"], record["rows"], record["bytes"]) == ("complete", USERS, len(content))
    assert record["sha256"] == hashlib.sha256(content).hexdigest()


def assert_exports_survive(home: Home, service: Service, read_from: Mongod, fault: Callable[[], None]) -> None:
    with ExitStack() as stack:
        exports = start_all(stack, service, read_from)

        fault()

        with ThreadPoolExecutor(len(exports)) as clients:
            contents = list(clients.map(Export.finish, exports.values()))
    for (file_format, export), content in zip(exports.items(), contents, strict=True):
        assert_whole(home, file_format, export, content)


def test_an_export_survives_a_killed_primary(replica_set: ReplicaSet, home: Home) -> None:
    primary = replica_set.primary

    assert_exports_survive(home, home.start(**TWO_WORKERS), primary, primary.kill)

    assert replica_set.primary is not primary


def test_an_export_survives_a_killed_primary_that_comes_back(replica_set: ReplicaSet, home: Home) -> None:
    primary = replica_set.primary

    def fault() -> None:
        primary.kill()
        replica_set.heal()

    assert_exports_survive(home, home.start(**TWO_WORKERS), primary, fault)


def test_an_export_survives_a_step_down(replica_set: ReplicaSet, home: Home) -> None:
    primary = replica_set.primary

    assert_exports_survive(home, home.start(**TWO_WORKERS), primary, replica_set.step_down)

    assert replica_set.primary is not primary


def test_an_export_from_a_secondary_takes_nothing_of_the_primary(replica_set: ReplicaSet, home: Home) -> None:
    service = home.start(**TWO_WORKERS, export_from_secondaries="true")
    before = {node: node.queries(NAMESPACE) for node in replica_set.nodes}
    with Download(service, path_of("csv"), service.token()) as download:
        export = Export(download)

        assert_whole(home, "csv", export, export.finish())

    asked = {node for node in replica_set.nodes if node.queries(NAMESPACE) > before[node]}
    assert asked
    assert asked <= set(replica_set.secondaries)


def test_an_export_survives_a_killed_secondary_that_it_is_read_from(replica_set: ReplicaSet, home: Home) -> None:
    service = home.start(**TWO_WORKERS, export_from_secondaries="true")
    with Download(service, path_of("csv"), service.token()) as download:
        export = Export(download)
        export.read(1_000_000)
        until(lambda: any(node.idle_cursors(NAMESPACE) for node in replica_set.nodes), "the export is under way")
        [read_from] = [node for node in replica_set.nodes if node.idle_cursors(NAMESPACE)]
        assert read_from in replica_set.secondaries

        read_from.kill()

        assert_whole(home, "csv", export, export.finish())


def test_without_a_majority_an_export_breaks_off(replica_set: ReplicaSet, home: Home, tmp_path: Path) -> None:
    with replica_set.home(tmp_path, RESUME_SECONDS=8) as hurried, ExitStack() as stack:
        service = hurried.start(**TWO_WORKERS, operation_timeout_seconds=2)
        exports = start_all(stack, service, replica_set.primary)

        for node in (replica_set.primary, replica_set.secondaries[0]):
            node.kill()

        with ThreadPoolExecutor(len(exports)) as clients:
            list(clients.map(Export.break_off, exports.values()))
        assert service.http.get("/health").status_code == 200
        assert service.http.get("/health/ready").status_code == 503
        replica_set.heal()
        assert not {record_of(hurried, export.id)["state"] for export in exports.values()} & {"complete", "abandoned"}
        until(lambda: service.http.get("/health/ready").status_code == 200, "it is ready again by itself")
        with Download(service, path_of("ndjson"), service.token()) as download:
            another = Export(download)
            assert_whole(hurried, "ndjson", another, another.finish())
