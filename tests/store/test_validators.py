"""The validators of a database: installed, compared, and what they say of documents."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
from bson import ObjectId
from pydantic import Field
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure, WriteError

from service.api.dependencies import Services
from service.documents.base import Record
from service.documents.registry import DocumentType
from service.errors import StartupError
from service.store import validators
from service.store.validators import apply_validators, compare_validators, find_refused, options_of


class Boat(Record):
    """A type of these tests' own."""

    name: Annotated[str, Field(max_length=10)]
    crew: list[str] = []

    class Settings(Record.Settings):
        """Where and how boats are kept."""

        name = "boats"


BOATS = DocumentType(Boat)
Handle = AsyncDatabase[dict[str, Any]]


@pytest.fixture
async def handle(mongodb_uri: str) -> AsyncIterator[Handle]:
    """An empty database."""
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as client:
        yield client["dossier-validators"]
        await client.drop_database("dossier-validators")


async def state(handle: Handle) -> str:
    [known] = await compare_validators(handle, [BOATS], 10)
    return known.state


async def test_a_missing_validator_is_installed_and_a_different_one_replaced(handle: Handle) -> None:
    assert await state(handle) == "missing"
    await apply_validators(handle, [BOATS], 10)
    assert await state(handle) == "present"

    for change in (
        {"validator": {"$jsonSchema": {"bsonType": "object"}}},
        {"validationLevel": "off"},
        {"validationAction": "warn"},
    ):
        await handle.command("collMod", "boats", **change)
        assert await state(handle) == "different", change
        await apply_validators(handle, [BOATS], 10)
        assert await state(handle) == "present"

    await handle.command("collMod", "boats", validator={})
    assert await state(handle) == "missing"


async def test_what_is_there_is_not_installed_again(handle: Handle, monkeypatch: pytest.MonkeyPatch) -> None:
    await apply_validators(handle, [BOATS], 10)
    monkeypatch.delattr(validators, "set_options")

    await apply_validators(handle, [BOATS], 10)


async def test_a_collection_that_another_start_has_just_created_is_no_hindrance(
    handle: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = handle.command

    async def late(name: str, *args: Any, **options: Any) -> Any:
        if name == "create":
            await command("create", "boats")
        return await command(name, *args, **options)

    monkeypatch.setattr(handle, "command", late)

    await apply_validators(handle, [BOATS], 10)

    assert await state(handle) == "present"


async def test_who_may_not_change_validators_is_told_so(handle: Handle, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_args: Any, **_options: Any) -> Any:
        raise OperationFailure("not authorized on dossier to execute command", 13)

    monkeypatch.setattr(handle, "command", refuse)

    with pytest.raises(StartupError, match=r"of boats.* collMod") as refusal:
        await apply_validators(handle, [BOATS], 10)

    assert "\n" not in str(refusal.value)


async def test_what_was_there_before_can_be_changed_and_what_is_new_must_be_valid(handle: Handle) -> None:
    await handle["boats"].insert_one({"name": 1})
    await apply_validators(handle, [BOATS], 10)

    changed = await handle["boats"].update_one({"name": 1}, {"$set": {"name": 2}})

    assert changed.modified_count == 1
    with pytest.raises(WriteError):
        await handle["boats"].insert_one({"name": 3})


async def test_documents_that_a_validator_would_refuse_are_counted_with_examples(handle: Handle) -> None:
    odd = [{"_id": ObjectId(f"{number:024x}"), "name": "n" * 11, "crew": ["a", number]} for number in range(7)]
    await handle["boats"].insert_many([*odd, {"name": "good"}, {"_id": ObjectId("f" * 24), "crew": None, "mast": 1}])

    refused = await find_refused(handle, BOATS)

    assert refused.count == 8
    assert list(refused.examples) == [str(one["_id"]) for one in odd[:5]]
    assert [fault.pointer for fault in refused.examples["0" * 24]] == ["/name", "/crew/1"]
    assert await handle.list_collection_names() == ["boats"], "what was tried leaves nothing behind"
    await handle["boats"].delete_many({"name": "n" * 11})
    [faults] = (await find_refused(handle, BOATS)).examples.values()
    assert {fault.pointer: fault.message for fault in faults} == {
        "/crew": "the database's validator does not take this value",
        "/mast": "the database's validator knows no such field",
        "/name": "the database's validator wants this field",
    }


async def test_where_all_is_valid_there_are_no_examples(handle: Handle) -> None:
    await handle["boats"].insert_one({"name": "good"})

    refused = await find_refused(handle, BOATS)

    assert (refused.count, refused.examples) == (0, {})


def test_options_are_moderate() -> None:
    options = options_of(BOATS)

    assert (options["validationLevel"], options["validationAction"]) == ("moderate", "error")


async def test_a_write_that_the_validator_of_another_release_refuses_is_a_fault_of_the_document(
    client: httpx.AsyncClient, services: Services
) -> None:
    users = services.repositories["users"].document_type
    other = options_of(users)
    schema = other["validator"]["$jsonSchema"]
    schema["properties"]["age"]["minimum"] = 18
    schema["properties"]["profile"]["properties"].pop("phone")
    schema["required"].append("motto")
    body = {"name": "Ada", "email": "ada@example.org", "age": 20}
    created = await client.post("/api/v1/users", json=body)
    try:
        await services.database.handle.command("collMod", "users", **other)

        inserted = await client.post(
            "/api/v1/users", json=body | {"email": "b@example.org", "age": 3, "profile": {"phone": "1"}}
        )
        replaced = await client.put(f"/api/v1/users/{created.json()['id']}", json=body)
    finally:
        await apply_validators(services.database.handle, [users], 10)

    assert (inserted.status_code, inserted.json()["code"]) == (422, "validation_failed")
    faults = {fault["pointer"]: fault["code"] for fault in inserted.json()["errors"]}
    assert faults == dict.fromkeys(["/age", "/motto", "/profile/phone"], "refused_by_validator")
    assert replaced.status_code == 200, "as it was not valid before, by that validator"
