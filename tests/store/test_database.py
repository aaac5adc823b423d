"""Opening a database: what is refused, and in which words."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from beanie import PydanticObjectId
from pydantic import SecretStr
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from structlog.testing import capture_logs

from service.documents.base import Record, index, now, unique
from service.errors import StartupError
from service.settings import Settings
from service.store import database, preparation
from service.store.database import SPARE_CONNECTIONS, open_database
from service.store.preparation import open_ready_database
from tests.unit.made_up import record_class

DATABASE = "dossier-opening"


class Ship(Record):
    """A type of these tests' own, as opening binds a type to its database."""

    name: str
    port: str | None = None

    class Settings(Record.Settings):
        """Where and how ships are kept."""

        name = "ships"
        indexes = [unique("name"), index("port")]


@pytest.fixture
async def handle(mongodb_uri: str) -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
    """The same database, without the service in between, and without anything in it."""
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as client:
        await client.drop_database(DATABASE)
        yield client[DATABASE]
        await client.drop_database(DATABASE)


def settings_for(uri: str | None) -> Settings:
    return Settings(_env_file=None, mongodb_uri=None if uri is None else SecretStr(uri), mongodb_database=DATABASE)


async def refusal(uri: str | None) -> str:
    """The one line that says why it cannot be opened."""
    with pytest.raises(StartupError) as raised:
        async with open_ready_database(settings_for(uri), [], [Ship]):
            pass
    line = str(raised.value)
    assert "\n" not in line
    return line


async def test_opening_creates_the_indexes(mongodb_uri: str, handle: AsyncDatabase[dict[str, Any]]) -> None:
    async with open_ready_database(settings_for(mongodb_uri), [], [Ship]):
        pass

    indexes = await handle["ships"].index_information()
    assert indexes["name"]["unique"]
    assert not indexes["port_id"].get("unique")


async def test_indexes_over_many_documents_take_longer_than_a_start_else_may_and_that_is_told(
    mongodb_uri: str, handle: AsyncDatabase[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "START_SECONDS", 0.3)
    monkeypatch.setattr(preparation, "LONG_SECONDS", 0.5)
    await handle["ships"].insert_one({"name": "Beagle"})

    async def start() -> None:
        async with open_ready_database(settings_for(mongodb_uri), [], [Ship]):
            pass

    with capture_logs() as lines:
        async with handle.client.start_session() as session, await session.start_transaction():
            # Until it ends nobody gets the lock that an index takes.
            await handle["ships"].insert_one({"name": "Argo"}, session=session)
            starting = asyncio.create_task(start())
            async with asyncio.timeout(10):
                while not lines and not starting.done():  # noqa: ASYNC110 - what is waited for is no event
                    await asyncio.sleep(0.01)
        await starting

    assert lines == [{"event": "indexes are still being made", "collection": "ships", "log_level": "warning"}]
    assert "port_id" in await handle["ships"].index_information()


async def test_indexes_that_are_not_made_in_time_are_named(
    mongodb_uri: str, handle: AsyncDatabase[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "INDEX_SECONDS", 0.3)
    await handle["ships"].insert_one({"name": "Beagle"})
    async with handle.client.start_session() as session, await session.start_transaction():
        await handle["ships"].insert_one({"name": "Argo"}, session=session)

        line = await refusal(mongodb_uri)

    assert "takes too long to make the indexes of ships" in line


@pytest.mark.parametrize(
    ("option", "connections"), [("", 7 + 3 + SPARE_CONNECTIONS), ("&maxPoolSize=5", 5), ("&MAXPOOLSIZE=5", 5)]
)
async def test_there_is_a_connection_for_each_that_wants_one_unless_the_address_says_how_many(
    mongodb_uri: str, option: str, connections: int
) -> None:
    settings = settings_for(f"{mongodb_uri}{option}").model_copy(update={"limit_concurrency": 7, "exports_at_once": 3})

    async with open_database(settings, []) as opened:
        assert opened.handle.client.options.pool_options.max_pool_size == connections


async def test_opening_twice_changes_nothing(mongodb_uri: str, handle: AsyncDatabase[dict[str, Any]]) -> None:
    async with open_ready_database(settings_for(mongodb_uri), [], [Ship]):
        await Ship(id=PydanticObjectId(), name="Beagle").insert()
    before = await handle["ships"].index_information()

    async with open_ready_database(settings_for(mongodb_uri), [], [Ship]) as opened:
        assert await opened.has_primary(1)
        assert await Ship.count() == 1

    assert await handle["ships"].index_information() == before


async def test_no_address_is_refused() -> None:
    assert "DOSSIER_MONGODB_URI" in await refusal(None)


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:27017",
        "mongodb://",
        "mongodb://127.0.0.1:many",
        "mongodb://127.0.0.1:70000",
        "mongodb://127.0.0.1/?tls=perhaps",
        "mongodb://ops:hunter2@127.0.0.1/?authMechanism=GUESS",
        "mongodb://ops:hun@ter2@127.0.0.1",
        "mongodb://ops:p:hunter2@127.0.0.1",
        "mongodb://ops:hunter2/x@127.0.0.1",
        "mongodb://ops:100%hunter2@127.0.0.1",
    ],
)
async def test_an_address_that_is_none_is_refused_by_the_settings_name(uri: str) -> None:
    line = await refusal(uri)

    assert "DOSSIER_MONGODB_URI" in line
    assert "hunter2" not in line


async def test_an_address_where_nothing_listens_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "START_SECONDS", 0.3)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

        line = await refusal(f"mongodb://ops:hunter2@127.0.0.1:{port}/?directConnection=true")

    assert f"127.0.0.1:{port}" in line
    assert "hunter2" not in line
    assert "TopologyDescription" not in line, "the driver's own words for its inside"


# PyMongo, when it is closed while it still connects, leaves its socket to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
async def test_a_server_that_says_nothing_does_not_hold_the_start_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "START_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]

        line = await refusal(f"mongodb://127.0.0.1:{port}/?directConnection=true")

    gc.collect()
    assert f"127.0.0.1:{port}" in line


async def test_documents_that_a_unique_index_forbids_are_named(
    mongodb_uri: str, handle: AsyncDatabase[dict[str, Any]]
) -> None:
    await handle["ships"].insert_many([{"name": "Beagle"}, {"name": "Beagle"}])

    line = await refusal(mongodb_uri)

    assert f"{DATABASE}.ships" in line
    assert "name" in line
    assert "Beagle" in line


async def test_an_index_of_the_same_name_over_other_fields_is_named(
    mongodb_uri: str, handle: AsyncDatabase[dict[str, Any]]
) -> None:
    await handle["ships"].create_index([("captain", 1)], name="port_id")

    line = await refusal(mongodb_uri)

    assert "port_id" in line


async def test_has_primary_is_false_once_the_client_is_closed(
    mongodb_uri: str, handle: AsyncDatabase[dict[str, Any]]
) -> None:
    async with open_ready_database(settings_for(mongodb_uri), [], [Ship]) as opened:
        assert await opened.has_primary(1)

    assert not await opened.has_primary(1)


async def test_types_that_come_after_an_opening_have_their_own_defaults(
    mongodb_uri: str, handle: AsyncDatabase[dict[str, Any]]
) -> None:
    async with open_ready_database(settings_for(mongodb_uri), [], [Ship]):
        pass

    class Tanker(Ship):
        """What its parent is, and so opened already."""

    for fields in (record_class(title="Late").model_fields, Tanker.model_fields):
        assert fields["revision"].default == 1
        assert fields["created_at"].default_factory is now
        assert fields["id"].default is None
    assert Tanker.model_fields["port"].default is None
