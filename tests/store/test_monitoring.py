"""What the driver tells of its commands, its connections and its servers, as metrics and in the log."""

import asyncio
from collections.abc import AsyncIterator

import pymongo
import pytest
from bson import ObjectId, Timestamp
from pydantic import SecretStr
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.hello import Hello
from pymongo.monitoring import ServerHeartbeatFailedEvent, ServerHeartbeatSucceededEvent
from structlog.testing import capture_logs

from service.settings import Settings
from service.store.database import Database, Listener, open_database
from service.store.elections import Elections
from service.store.monitoring import CommandMetrics, PoolMetrics, PrimaryMetrics
from service.store.slow_commands import SlowCommandLog
from tests.metrics import every_series, value_of

FIRST, SECOND = ("one", 27017), ("two", 27017)


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    """One with a single connection, whose every command is slow."""
    assert settings.mongodb_uri is not None
    uri = SecretStr(f"{settings.mongodb_uri.get_secret_value()}&maxPoolSize=1")
    listeners: list[Listener] = [CommandMetrics(), PoolMetrics(), SlowCommandLog(0)]
    async with open_database(settings.model_copy(update={"mongodb_uri": uri}), [], listeners=listeners) as database:
        yield database


def server_of(database: Database) -> str:
    [(host, port)] = database.handle.client.nodes
    return f"{host}:{port}"


async def test_commands_are_counted_by_name_and_by_why_they_fail(database: Database) -> None:
    failed = {"command": "nonsense", "error": "CommandNotFound"}
    done = value_of("dossier_mongodb_command_duration_seconds_count", command="ping")
    before = value_of("dossier_mongodb_command_failures_total", **failed)

    await database.handle.command("ping")
    with pytest.raises(OperationFailure):
        await database.handle.command("nonsense")

    assert value_of("dossier_mongodb_command_duration_seconds_count", command="ping") == done + 1
    assert value_of("dossier_mongodb_command_failures_total", **failed) == before + 1


async def test_what_waits_for_a_connection_in_vain_is_counted(database: Database) -> None:
    server = server_of(database)
    admin = database.handle.client.admin
    version = (await admin.command("hello"))["topologyVersion"]

    # Which MongoDB answers when that time is over, as nothing changes.
    holding = asyncio.create_task(admin.command("hello", topologyVersion=version, maxAwaitTimeMS=1000))
    async with asyncio.timeout(5):
        while not value_of("dossier_mongodb_pool_in_use", server=server):  # noqa: ASYNC110 - nobody else tells of it
            await asyncio.sleep(0)
    held = value_of("dossier_mongodb_pool_connections", server=server)
    with pytest.raises(PyMongoError), pymongo.timeout(0.1):
        await database.handle.command("ping")
    await holding

    assert value_of("dossier_mongodb_pool_checkout_failures_total", server=server, reason="timeout") == 1
    assert value_of("dossier_mongodb_pool_wait_seconds_total", server=server) >= 0.1
    assert value_of("dossier_mongodb_pool_in_use", server=server) == 0
    assert value_of("dossier_mongodb_pool_connections", server=server) == held


async def test_what_fails_to_get_a_connection_is_counted_from_0_on(database: Database) -> None:
    await database.handle.command("ping")

    reasons = {
        labels["reason"]
        for name, labels in every_series()
        if name == "dossier_mongodb_pool_checkout_failures_total" and labels["server"] == server_of(database)
    }
    assert reasons == {"timeout", "connectionError", "poolClosed"}


async def test_a_slow_command_is_logged_by_its_shape(database: Database) -> None:
    people = database.handle["people"]
    with capture_logs() as lines:
        await people.find_one({"name": "canary"}, sort=[("name", -1)])
        with pytest.raises(OperationFailure):
            await people.find_one({"name": {"$canary": 1}})

    found, failed = lines
    assert (found["command"], found["collection"], found["has_failed"]) == ("find", "people", False)
    assert found["shape"] == {"filter": {"name": "?"}, "sort": {"name": -1}}
    assert found["duration_ms"] > 0
    assert failed["has_failed"]
    assert "canary" not in str([found, failed["event"], failed["command"]])


async def test_a_quick_command_is_not_logged(settings: Settings) -> None:
    async with open_database(settings, [], listeners=[SlowCommandLog(60)]) as database:
        with capture_logs() as lines:
            await database.handle.command("ping")

    assert lines == []


def test_elections_after_the_first_are_counted() -> None:
    metrics = PrimaryMetrics()
    elections = Elections([metrics.elected])
    changes = value_of("dossier_mongodb_primary_changes_total")
    missing = value_of("dossier_mongodb_primary_missing")
    early, late = ObjectId("7fffffff0000000000000001"), ObjectId("7fffffff0000000000000002")

    def hear(server: tuple[str, int], *, election: ObjectId | None = None) -> tuple[float, float]:
        """What has changed once a server has said what it is."""
        said = {"ok": 1, "setName": "rs0", "hosts": ["one:27017"], "isWritablePrimary": election is not None}
        written = {"opTime": {"ts": Timestamp(1, 1), "t": 1}}
        hello = Hello(said | ({"electionId": election, "lastWrite": written} if election else {"secondary": True}))
        for listener in (elections, metrics):
            listener.succeeded(ServerHeartbeatSucceededEvent(0.1, hello, server))
        return (
            value_of("dossier_mongodb_primary_changes_total") - changes,
            value_of("dossier_mongodb_primary_missing") - missing,
        )

    assert hear(FIRST, election=early) == (0, 0)
    assert hear(SECOND) == (0, 0)
    assert hear(FIRST) == (0, 1)
    assert hear(SECOND, election=late) == (1, 0)
    assert hear(FIRST, election=early) == (1, 0), "it was cut off, and still believes to be the primary"
    metrics.failed(ServerHeartbeatFailedEvent(0.1, ConnectionResetError(), FIRST))
    metrics.failed(ServerHeartbeatFailedEvent(0.1, ConnectionResetError(), SECOND))
    assert value_of("dossier_mongodb_primary_missing") == missing + 1
    assert hear(SECOND, election=late) == (1, 0)


ALIAS, NAME = ("localhost", 27017), ("one", 27017)
BY_ITS_NAME = Hello({"ok": 1, "setName": "rs0", "hosts": ["one:27017"], "me": "one:27017", "isWritablePrimary": True})


@pytest.mark.parametrize(
    "lost", [NAME, ALIAS], ids=["by its name, as its set has it", "by the alias, as asked directly"]
)
def test_a_primary_that_was_asked_by_another_name_is_missed(lost: tuple[str, int]) -> None:
    metrics = PrimaryMetrics()
    missing = value_of("dossier_mongodb_primary_missing")

    metrics.succeeded(ServerHeartbeatSucceededEvent(0.1, BY_ITS_NAME, ALIAS))
    assert value_of("dossier_mongodb_primary_missing") == missing
    metrics.failed(ServerHeartbeatFailedEvent(0.1, ConnectionResetError(), lost))

    assert value_of("dossier_mongodb_primary_missing") == missing + 1
    metrics.succeeded(ServerHeartbeatSucceededEvent(0.1, BY_ITS_NAME, lost))
    assert value_of("dossier_mongodb_primary_missing") == missing
