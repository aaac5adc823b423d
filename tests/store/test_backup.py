"""A whole database read as of one moment, and put back beside what is there."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any
from uuid import uuid4

import bson
import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from service.documents.batches import decode_batch
from service.errors import InternalError, ValidationFailedError, WriteConflictError
from service.settings import Settings
from service.store.backup import (
    end_sign_ins,
    full_collections,
    is_partly_restored,
    kept_collections,
    read_database,
    restoration,
)
from service.store.preparation import Wanted

Document = dict[str, Any]
SECONDS = 10.0
DIGEST = "of a backup"
VALIDATOR = {"$jsonSchema": {"required": ["name"], "properties": {"name": {"bsonType": "string"}}}}


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[AsyncDatabase[Document]]:
    """One of its own."""
    assert settings.mongodb_uri is not None
    async with AsyncMongoClient[Document](settings.mongodb_uri.get_secret_value()) as client:
        database = client[f"backup-{uuid4().hex}"]
        yield database
        await client.drop_database(database.name)


def raw(*documents: Document) -> list[bytes]:
    return [bson.encode(document) for document in documents]


async def names_in(database: AsyncDatabase[Document], name: str = "users") -> list[str]:
    return [found["name"] async for found in database[name].find(sort=[("_id", 1)])]


async def restore(database: AsyncDatabase[Document], *, replaces: bool = False, **collections: Sequence[bytes]) -> None:
    async with restoration(database, SECONDS, {}) as restoring:
        for name, documents in collections.items():
            await restoring.begin(name)
            await restoring.write(name, documents)
        await restoring.publish(DIGEST, replaces=replaces)


async def test_all_collections_are_of_one_moment(database: AsyncDatabase[Document]) -> None:
    for name in ("first", "second"):
        await database[name].insert_one({"_id": 1, "name": "before"})
    found: dict[str, list[Document]] = {}

    async with aclosing(read_database(database, SECONDS)) as collections:
        async for name, batches in collections:
            found[name] = [document async for batch in batches for document in decode_batch(batch)]
            await database["second"].insert_one({"name": "after"})
            await database["second"].update_one({"_id": 1}, {"$set": {"name": "changed"}})

    assert found == {name: [{"_id": 1, "name": "before"}] for name in ("first", "second")}
    assert await names_in(database, "second") == ["changed", "after", "after"]


async def test_what_passes_is_not_kept_and_neither_are_views_or_what_is_not_whole(
    database: AsyncDatabase[Document],
) -> None:
    for name in ("users", "sessions", "quotas", "locks", "revoked_tokens", "restoring.users"):
        await database[name].insert_one({"name": "Ada"})
    await database.create_collection("empty")
    await database.create_collection("view", viewOn="users", pipeline=[])

    assert list(await kept_collections(database, SECONDS)) == ["empty", "revoked_tokens", "users"]
    assert await full_collections(database, SECONDS) == ["revoked_tokens", "users"]
    await end_sign_ins(database, SECONDS)
    assert await database["sessions"].count_documents({}) == 0


async def test_a_collection_comes_back_with_the_validator_and_the_indexes_that_it_has(
    database: AsyncDatabase[Document],
) -> None:
    await database.create_collection("users", validator=VALIDATOR, validationLevel="moderate")
    await database["users"].create_index("name", unique=True, name="by_name")
    await database["users"].create_index("until", expireAfterSeconds=60)
    await database["users"].insert_one({"name": "since then"})
    before = await database["users"].index_information()

    await restore(database, users=raw({"_id": 1, "name": "Ada"}, {"_id": 2, "name": "Bob"}), others=raw({"_id": 1}))

    assert await names_in(database) == ["Ada", "Bob"]
    assert await database["users"].index_information() == before
    assert (await database["users"].options())["validator"] == VALIDATOR
    assert (await database["users"].options())["validationLevel"] == "moderate"
    assert await database["others"].count_documents({}) == 1


@pytest.mark.parametrize(
    ("documents", "said"),
    [
        pytest.param([{"_id": 1, "name": "Ada"}, {"_id": 2}], "users, 2: Document failed validation", id="invalid"),
        pytest.param([{"_id": 1, "name": "Ada"}, {"_id": 2, "name": "Ada"}], "users, 2: E11000", id="not unique"),
        pytest.param([{"_id": 1, "name": "Ada"}, {"_id": 1, "name": "Bob"}], "users, 1: E11000", id="one id"),
    ],
)
async def test_a_document_that_the_database_refuses_changes_nothing(
    database: AsyncDatabase[Document], documents: list[Document], said: str
) -> None:
    await database.create_collection("users", validator=VALIDATOR)
    await database["users"].create_index("name", unique=True)
    await database["users"].insert_one({"name": "still here"})

    with pytest.raises(ValidationFailedError) as refused:
        await restore(database, others=raw({"_id": 1}), users=raw(*documents))

    assert [fault.message[: len(said)] for fault in refused.value.faults] == [said]
    assert await database.list_collection_names() == ["users"]
    assert await names_in(database) == ["still here"]


async def test_what_is_wanted_comes_first_whatever_became_of_what_there_is(database: AsyncDatabase[Document]) -> None:
    options = {"validator": VALIDATOR, "validationLevel": "moderate", "validationAction": "error"}
    wanted = {"users": Wanted(options, [{"name": "by_name", "key": {"name": 1}, "unique": True}])}
    await database["users"].insert_many([{"name": "Ada"}, {"name": "Ada"}])
    await database["users"].create_index("age", unique=True, name="by_name", sparse=True)

    async with restoration(database, SECONDS, wanted) as restoring:
        await restoring.begin("users")
        await restoring.write("users", raw({"name": "Ada"}, {"name": "Bob"}))
        await restoring.publish(DIGEST, replaces=True)

    assert await names_in(database) == ["Ada", "Bob"]
    assert await database["users"].options() == options
    indexes = await database["users"].index_information()
    assert set(indexes) == {"_id_", "by_name"}
    assert indexes["by_name"]["key"] == [("name", 1)]
    assert indexes["by_name"]["unique"]


async def test_what_the_backup_lacks_is_gone_where_it_takes_the_place_of_all(database: AsyncDatabase[Document]) -> None:
    for name in ("users", "migrations_log", "quotas"):
        await database[name].insert_one({"name": "since then"})

    await restore(database, users=raw({"name": "Ada"}))
    kept = await full_collections(database, SECONDS)
    await restore(database, replaces=True, users=raw({"name": "Ada"}))

    assert kept == ["migrations_log", "users"]
    assert sorted(await database.list_collection_names()) == ["locks", "quotas", "users"]


async def test_what_breaks_while_collections_take_their_places_is_finished_by_the_next(
    database: AsyncDatabase[Document],
) -> None:
    backup = {"accounts": raw({"name": "Ada"}), "users": raw({"name": "Bob"})}
    await database["sessions"].insert_one({"name": "of an account that goes"})
    await database.create_collection("users", viewOn="items", pipeline=[])  # which no collection takes the place of

    async with restoration(database, SECONDS, {"users": Wanted({}, [])}) as restoring:
        for name, documents in backup.items():
            await restoring.begin(name)
            await restoring.write(name, documents)
        with pytest.raises(InternalError):
            await restoring.publish(DIGEST, replaces=False)

    assert await names_in(database, "accounts") == ["Ada"]
    assert await names_in(database, "restoring.users") == ["Bob"]
    assert await database["sessions"].count_documents({}) == 0
    assert await is_partly_restored(database, DIGEST, SECONDS)
    assert not await is_partly_restored(database, "of another", SECONDS)

    await database["users"].drop()
    await restore(database, accounts=backup["accounts"], users=backup["users"])

    assert await names_in(database, "accounts") == ["Ada"]
    assert await names_in(database) == ["Bob"]
    assert not await is_partly_restored(database, DIGEST, SECONDS)
    assert "restoring.users" not in await database.list_collection_names()


async def test_a_validator_is_passed_by_only_where_that_is_asked(database: AsyncDatabase[Document]) -> None:
    await database.create_collection("users", validator=VALIDATOR)

    async with restoration(database, SECONDS, {}, bypasses_validators=True) as restoring:
        await restoring.begin("users")
        await restoring.write("users", raw({"_id": 1, "age": 3}))
        await restoring.publish(DIGEST, replaces=False)

    assert await database["users"].find_one() == {"_id": 1, "age": 3}
    assert (await database["users"].options())["validator"] == VALIDATOR


async def test_what_a_killed_restoration_left_is_gone_with_the_next(database: AsyncDatabase[Document]) -> None:
    await database["restoring.users"].insert_one({"_id": 1, "name": "half"})

    await restore(database, users=raw({"_id": 1, "name": "Ada"}))

    assert sorted(await database.list_collection_names()) == ["locks", "users"]
    assert await names_in(database) == ["Ada"]


async def test_of_two_restorations_at_once_the_first_gives_up(database: AsyncDatabase[Document]) -> None:
    async with restoration(database, SECONDS, {}) as first:
        await first.begin("users")
        await first.write("users", raw({"_id": 1, "name": "Ada"}, {"_id": 2, "name": "Bob"}))
        async with restoration(database, SECONDS, {}) as second:
            await second.begin("users")
            await second.write("users", raw({"_id": 3, "name": "Cy"}))
            with pytest.raises(WriteConflictError):
                await first.publish(DIGEST, replaces=False)
            await second.publish(DIGEST, replaces=False)

    assert await names_in(database) == ["Cy"]


async def test_an_answer_that_was_lost_is_no_failure(database: AsyncDatabase[Document]) -> None:
    async with restoration(database, SECONDS, {}) as restoring:
        await restoring.begin("users")
        await restoring.write("users", raw({"_id": 1, "name": "Ada"}))

        await restoring.publish(DIGEST, replaces=False)
        await restoring._publish("users")

    assert await names_in(database) == ["Ada"]
