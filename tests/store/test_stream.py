"""Streams over a real MongoDB that takes their cursors away."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

import pytest
from beanie import init_beanie
from bson import Decimal128, ObjectId
from pydantic import SecretStr
from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.collection import AsyncCollection

from service.api.dependencies import Services
from service.auth.accounts import Account
from service.documents.batches import decode_batch
from service.errors import DatabaseUnavailableError, InternalError, SnapshotUnavailableError
from service.settings import Settings
from service.store import stream
from service.store.database import open_database
from service.store.embedded import REPLICA_SET
from service.store.export_records import Export
from service.store.query import Selection, SortKey, read_list_query
from service.store.repository import Repository
from service.store.stream import BATCH_DOCUMENTS, read_batches
from tests.acceptance.replica_set import Mongod, idle_cursors
from tests.conftest import DATABASE, RECORDER, TYPES, CommandRecorder
from tests.everything import Everything

Document = dict[str, Any]
NAMESPACE = f"{DATABASE}.everythings"
COUNT = 500
SMALL_BATCH = 60

SORTS = [
    "",
    "-id",
    "code",  # unique
    "-code",
    "branch.leaf.day",  # indexed; one document in two has none
    "-branch.leaf.day",
    "left",  # the first key of a compound index
    "size",  # two values
    "-size",
    "boolean,-size",
    "integer",  # null, missing, and few values
    "-integer",
    "integer,-moment,text",
    "-text,integer,-left",
    "decimal_number",
    "-float_number,code",
]


@pytest.fixture
def repository(services: Services) -> Repository:
    """Everythings, of which a type has one of each kind."""
    return services.repositories["everythings"]


@pytest.fixture
async def collection(services: Services, _empty_database: None) -> AsyncCollection[Document]:
    """What it has: documents with many equal values, nulls, and fields that are not there."""
    collection = Everything.get_pymongo_collection()
    await collection.insert_many(map(document, range(COUNT)), bypass_document_validation=True)
    return collection


def document(number: int) -> Document:
    """Written by hand in part, as old ones are."""
    whole: Document = {
        "_id": ObjectId(f"{number:024x}"),
        "code": f"code {number * 7919 % 10_007:05}",
        "left": number % 50,
        "right": number,
        "size": ["small", "large"][number % 2],
        "boolean": number % 3 == 0,
        "integer": [None, number % 4, 7, -(2**63)][number % 4],
        "float_number": [None, 0.1, -0.0, 0, float("inf"), float("nan")][number % 6],
        "decimal_number": [None, Decimal128("1.10"), Decimal128("1.1"), Decimal128("-5"), 1][number % 5],
        "moment": datetime(2026, 1, 1 + number % 5),  # noqa: DTZ001 - as the driver reads it
        "text": ["", "a", "é", None, "小"][number % 5],
        "branch": {"label": "b", "leaf": {"day": datetime(2000, 1, 1 + number % 9)}} if number % 2 else None,  # noqa: DTZ001
    }
    return {name: value for name, value in whole.items() if name not in {"integer", "text"} or number % 7}


def selection_of(repository: Repository, **parameters: str) -> Selection:
    return read_list_query(repository.view, list(parameters.items())).selection


def ids_of(batch: bytes) -> list[Any]:
    return [found["_id"] for found in decode_batch(batch)]


async def expected_ids(collection: AsyncCollection[Document], selection: Selection) -> list[Any]:
    """As MongoDB has them, in one go."""
    return [found["_id"] async for found in collection.find(selection.filter, {"_id": 1}, sort=list(selection.sort))]


async def read_all(batches: AsyncGenerator[bytes], between: Callable[[], Any] = lambda: None) -> list[Any]:
    """The ids of all documents; something happens after each batch."""
    ids = []
    async for batch in batches:
        ids += ids_of(batch)
        between()
    return ids


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a stream has many."""
    monkeypatch.setattr(stream, "BATCH_DOCUMENTS", SMALL_BATCH)


@pytest.fixture
def kill_cursor(mongodb_uri: str) -> Iterator[Callable[[], int]]:
    """Takes away the cursor that waits, if there is one; says how many it has taken so far."""
    taken = 0
    with MongoClient[Document](mongodb_uri) as client:

        def kill() -> int:
            nonlocal taken
            waiting = [cursor["cursorId"] for cursor in idle_cursors(mongodb_uri, NAMESPACE)]
            if waiting:
                answer = client[DATABASE].command("killCursors", "everythings", cursors=waiting)
                taken += len(answer["cursorsKilled"])
            return taken

        yield kill


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("sort", SORTS)
async def test_a_lost_cursor_loses_and_doubles_nothing(
    repository: Repository,
    collection: AsyncCollection[Document],
    kill_cursor: Callable[[], int],
    sort: str,
) -> None:
    selection = selection_of(repository, **({"sort": sort} if sort else {}))
    expected = await expected_ids(collection, selection)
    assert len(expected) == COUNT

    found = await read_all(repository.stream(selection), kill_cursor)

    assert found == expected
    assert kill_cursor() == COUNT // SMALL_BATCH


@pytest.mark.usefixtures("small_batches")
async def test_a_lost_cursor_goes_on_with_its_filter_and_its_fields(
    repository: Repository, collection: AsyncCollection[Document], kill_cursor: Callable[[], int]
) -> None:
    parameters = {"right__gte": "100", "q": "code", "size__ne": "small", "sort": "-integer,text", "fields": "code"}
    selection = selection_of(repository, **parameters)
    expected = await expected_ids(collection, selection)
    assert len(expected) == (COUNT - 100) // 2

    found = await read_all(repository.stream(selection), kill_cursor)

    assert found == expected
    assert kill_cursor() == len(expected) // SMALL_BATCH


@pytest.mark.usefixtures("small_batches")
async def test_all_sessions_can_be_killed_on_the_way(
    repository: Repository, collection: AsyncCollection[Document], mongodb_uri: str
) -> None:
    selection = selection_of(repository, sort="-size")
    expected = await expected_ids(collection, selection)
    with MongoClient[Document](mongodb_uri) as client:

        def kill() -> None:
            client.admin.command("killAllSessions", [])
            assert idle_cursors(mongodb_uri, NAMESPACE) == []

        found = await read_all(repository.stream(selection), kill)

    assert found == expected


@pytest.mark.usefixtures("small_batches")
async def test_odd_values_to_sort_by_are_no_reason_to_lose_anything(
    repository: Repository, collection: AsyncCollection[Document], kill_cursor: Callable[[], int]
) -> None:
    odd = ["text", True, {"a": 1}, ObjectId("f" * 24), datetime(2026, 1, 1), b"bytes", float("nan"), Decimal128("NaN")]  # noqa: DTZ001
    for number, value in enumerate(odd * 20):
        await collection.update_one(
            {"_id": ObjectId(f"{number * 3:024x}")}, {"$set": {"integer": value}}, bypass_document_validation=True
        )
    for sort in ("integer", "-integer", "integer,-text"):
        selection = selection_of(repository, sort=sort)
        expected = await expected_ids(collection, selection)

        assert await read_all(repository.stream(selection), kill_cursor) == expected


@pytest.mark.usefixtures("small_batches")
async def test_a_snapshot_stays_at_its_moment_when_its_cursor_is_lost(
    repository: Repository, collection: AsyncCollection[Document], mongodb_uri: str, kill_cursor: Callable[[], int]
) -> None:
    selection = selection_of(repository, sort="size")
    expected = await expected_ids(collection, selection)
    with MongoClient[Document](mongodb_uri) as client:
        number = COUNT

        def change() -> None:
            nonlocal number
            kill_cursor()
            client[DATABASE]["everythings"].delete_one({})
            client[DATABASE]["everythings"].insert_one(
                document(number) | {"size": "large"}, bypass_document_validation=True
            )
            number += 1

        found = await read_all(repository.stream(selection, is_snapshot=True), change)

    assert found == expected
    assert kill_cursor() == COUNT // SMALL_BATCH
    assert await read_all(repository.stream(selection)) != expected


async def test_a_stream_is_one_query_with_large_batches(
    repository: Repository, collection: AsyncCollection[Document], recorder: CommandRecorder
) -> None:
    more = [document(number) for number in range(COUNT, BATCH_DOCUMENTS * 2 + 1)]
    await collection.insert_many(more, bypass_document_validation=True)
    recorder.commands.clear()
    sizes = [len(ids_of(batch)) async for batch in repository.stream(selection_of(repository))]

    assert sizes == [BATCH_DOCUMENTS, BATCH_DOCUMENTS, 1]
    assert recorder.names == ["find", "getMore", "getMore"]
    assert all("limit" not in command for command in recorder.commands)


async def test_a_stream_that_is_left_leaves_no_cursor(
    repository: Repository,
    collection: AsyncCollection[Document],
    small_batches: None,
    mongodb_uri: str,
) -> None:
    batches = repository.stream(selection_of(repository))
    await anext(batches)
    assert len(idle_cursors(mongodb_uri, NAMESPACE)) == 1

    await batches.aclose()

    assert idle_cursors(mongodb_uri, NAMESPACE) == []


@pytest.mark.parametrize(
    ("parameters", "projection"),
    [
        ({"fields": "code"}, {"_id", "code"}),
        ({"fields": "code", "sort": "-integer,text"}, {"_id", "code", "integer", "text"}),
        ({"fields": "branches.label,id", "sort": "branch.leaf.day"}, {"_id", "branch", "branches"}),
        (
            {"sort": "integer"},
            {"_id"} | {name for name in Everything.model_fields if name not in {"id", "revision_id"}},
        ),
    ],
)
async def test_what_is_read_has_what_is_sorted_by(
    repository: Repository,
    collection: AsyncCollection[Document],
    recorder: CommandRecorder,
    parameters: dict[str, str],
    projection: set[str],
) -> None:
    recorder.commands.clear()

    await read_all(repository.stream(selection_of(repository, **parameters)))

    [command] = recorder.commands
    assert set(command["projection"]) == projection
    assert set(command["projection"].values()) == {1}


@pytest.fixture
async def as_a_set(
    settings: Settings, services: Services, mongodb_uri: str, collection: AsyncCollection[Document]
) -> AsyncIterator[None]:
    """The same MongoDB known as a replica set: of one that is asked directly, the driver wants no preference."""
    uri = mongodb_uri.replace("directConnection=true", f"replicaSet={REPLICA_SET}")
    try:
        async with open_database(settings.model_copy(update={"mongodb_uri": SecretStr(uri)}), [Everything]):
            yield
    finally:
        # Beanie's classes know one database at a time: back to the tests' own.
        classes = [document_type.document_class for document_type in TYPES]
        await init_beanie(services.database.handle, document_models=[*classes, Account, Export])


@pytest.mark.usefixtures("as_a_set", "small_batches")
@pytest.mark.parametrize("from_secondaries", [True, False])
async def test_secondaries_are_asked_where_that_is_wanted(
    repository: Repository,
    recorder: CommandRecorder,
    from_secondaries: bool,  # noqa: FBT001 - a parameter
) -> None:
    recorder.commands.clear()

    await read_all(repository.stream(selection_of(repository), from_secondaries=from_secondaries))

    find = recorder.commands[0]
    assert find.get("$readPreference") == ({"mode": "secondaryPreferred"} if from_secondaries else None)
    assert find["readConcern"] == {"level": "majority"}
    assert recorder.names == ["find"] + ["getMore"] * (COUNT // SMALL_BATCH)


# A server of its own, that fails as it is told


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """A mongod that is no replica set, and fails on command."""
    with Mongod(tmp_path_factory.mktemp("mongod") / "data", "--setParameter", "enableTestCommands=1") as mongod:
        with mongod.client() as client:
            client[DATABASE]["numbers"].create_index(ORDER, name="order")
            client[DATABASE]["numbers"].insert_many([{"_id": number, "group": number % 3} for number in range(COUNT)])
        yield mongod


@pytest.fixture
async def numbers(failing: Mongod) -> AsyncIterator[AsyncCollection[Document]]:
    """What it has; it fails no more afterwards."""
    failing.start()
    # Heartbeats, as a server that only pretends to be down does not say by itself that it is up again.
    uri = f"{failing.uri}&heartbeatFrequencyMS=500&serverSelectionTimeoutMS=1000"
    async with AsyncMongoClient[Document](uri) as client:
        yield client[DATABASE]["numbers"]
        if failing.is_running:
            await client.admin.command("configureFailPoint", "failCommand", mode="off")


ORDER: list[SortKey] = [("group", -1), ("_id", 1)]
ALL = Selection({}, tuple(ORDER), ())
WHOLE = [number for group in (2, 1, 0) for number in range(COUNT) if number % 3 == group]


def fail(failing: Mongod, mode: Any = None, commands: Sequence[str] = ("getMore",), **data: Any) -> None:
    """Let the next command of these fail, or as many as `mode` says."""
    with failing.client() as client:
        client.admin.command(
            "configureFailPoint",
            "failCommand",
            mode=mode or {"times": 1},
            data={"failCommands": list(commands), **data},
        )


PASSING = {
    "HostUnreachable": 6,
    "CursorNotFound": 43,
    "NetworkTimeout": 89,
    "ShutdownInProgress": 91,
    "QueryPlanKilled": 175,  # as its index was dropped
    "PrimarySteppedDown": 189,
    "CursorKilled": 237,  # while it was at work
    "SocketException": 9001,
    "NotWritablePrimary": 10107,
    "InterruptedAtShutdown": 11600,
    "InterruptedDueToReplStateChange": 11602,
    "NotPrimaryNoSecondaryOk": 13435,
    "NotPrimaryOrSecondary": 13436,
}


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("code", PASSING.values(), ids=PASSING)
async def test_a_passing_trouble_is_waited_out(failing: Mongod, numbers: AsyncCollection[Document], code: int) -> None:
    batches = read_batches(numbers, ALL, {})
    first = ids_of(await anext(batches))
    fail(failing, errorCode=code)

    assert first + await read_all(batches) == WHOLE


@pytest.mark.usefixtures("small_batches")
async def test_a_connection_that_breaks_is_replaced(failing: Mongod, numbers: AsyncCollection[Document]) -> None:
    found = await read_all(read_batches(numbers, ALL, {}), lambda: fail(failing, closeConnection=True))

    assert found == WHOLE


@pytest.mark.usefixtures("small_batches")
async def test_a_server_that_starts_again_goes_on(failing: Mongod, numbers: AsyncCollection[Document]) -> None:
    restarts = 0

    def restart() -> None:
        nonlocal restarts
        if restarts < 2:
            restarts += 1
            failing.kill()
            failing.start()

    assert await read_all(read_batches(numbers, ALL, {}), restart) == WHOLE
    assert restarts == 2


@pytest.mark.usefixtures("small_batches")
async def test_an_index_can_be_dropped_on_the_way(failing: Mongod, numbers: AsyncCollection[Document]) -> None:
    with failing.client() as client:

        def drop() -> None:
            if "order" in client[DATABASE]["numbers"].index_information():
                client[DATABASE]["numbers"].drop_index("order")

        try:
            found = await read_all(read_batches(numbers, ALL, {}), drop)
        finally:
            client[DATABASE]["numbers"].create_index(ORDER, name="order")
    assert found == WHOLE


@pytest.mark.usefixtures("small_batches")
async def test_what_does_not_pass_ends_the_stream(failing: Mongod, numbers: AsyncCollection[Document]) -> None:
    batches = read_batches(numbers, ALL, {})
    first = ids_of(await anext(batches))
    fail(failing, errorCode=13)  # Unauthorized

    with pytest.raises(InternalError):
        await anext(batches)

    assert first == WHOLE[:SMALL_BATCH]


@pytest.mark.usefixtures("small_batches")
async def test_a_server_that_stays_away_ends_the_stream_in_time(
    failing: Mongod, numbers: AsyncCollection[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "RESUME_SECONDS", 0.2)
    batches = read_batches(numbers, ALL, {})
    await anext(batches)
    failing.kill()

    with pytest.raises(DatabaseUnavailableError):
        async with asyncio.timeout(10):
            await anext(batches)


@pytest.mark.usefixtures("small_batches")
async def test_a_server_that_keeps_refusing_is_not_asked_all_the_time(
    failing: Mongod, numbers: AsyncCollection[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "RESUME_SECONDS", 1)
    batches = read_batches(numbers, ALL, {})
    await anext(batches)
    fail(failing, "alwaysOn", ["find", "getMore"], errorCode=262)  # ExceededTimeLimit
    RECORDER.commands.clear()

    with pytest.raises(DatabaseUnavailableError):
        await anext(batches)

    assert 2 < RECORDER.names.count("find") < 100


async def test_trouble_at_the_start_is_said_at_once(failing: Mongod, numbers: AsyncCollection[Document]) -> None:
    fail(failing, {"times": 5}, ["find"], errorCode=91)  # the driver itself tries twice
    with pytest.raises(DatabaseUnavailableError):
        await anext(read_batches(numbers, ALL, {}))


async def test_a_server_that_is_no_replica_set_has_no_snapshots(
    failing: Mongod, numbers: AsyncCollection[Document]
) -> None:
    with pytest.raises(SnapshotUnavailableError, match="MongoDB says: "):
        await anext(read_batches(numbers, ALL, {}, is_snapshot=True))

    assert await read_all(read_batches(numbers, ALL, {})) == WHOLE


async def test_a_passing_trouble_is_not_taken_for_missing_snapshots(
    failing: Mongod, numbers: AsyncCollection[Document]
) -> None:
    fail(failing, {"times": 5}, ["find"], errorCode=91)

    with pytest.raises(DatabaseUnavailableError):
        await anext(read_batches(numbers, ALL, {}, is_snapshot=True))
