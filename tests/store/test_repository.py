"""The repository over a real MongoDB: atomic writes, the commands it sends, what it does when time runs out."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import httpx
import pytest
from beanie import init_beanie
from bson import Decimal128, ObjectId
from pymongo import MongoClient

from service.api.dependencies import Services
from service.auth.accounts import Account
from service.documents.item import Item
from service.documents.user import User
from service.errors import (
    DatabaseUnavailableError,
    DuplicateValueError,
    NotFoundError,
    QueryTooExpensiveError,
    RevisionMismatchError,
    WriteConflictError,
)
from service.settings import Settings
from service.store import elections
from service.store import repository as repository_module
from service.store.database import open_database
from service.store.elections import Elections
from service.store.paging import CursorSigner
from service.store.query import ListQuery, Selection, read_list_query
from service.store.repository import CAPPED_TOTAL, PATCH_ATTEMPTS, Limits, Repository
from tests.conftest import DATABASE, TYPES, CommandRecorder

ADA = {"name": "Ada", "email": "ada@example.org"}
pytestmark = pytest.mark.usefixtures("anonymous")


@pytest.fixture
def users(services: Services) -> Repository:
    """The users."""
    return services.repositories["users"]


def operators_in(value: Any) -> set[str]:
    """Every key with a $ that a command holds, but for what $literal protects."""
    if isinstance(value, dict):
        inner = [operators_in(member) for name, member in value.items() if name != "$literal"]
        return {name for name in value if name.startswith("$")}.union(*inner)
    if isinstance(value, list):
        return set().union(*map(operators_in, value))
    return set()


async def test_what_is_stored_has_its_own_types(services: Services) -> None:
    await services.repositories["items"].insert(
        {"sku": "x", "title": "t", "price": "1.50", "released_on": "2026-01-31", "owner_id": "0" * 24}
    )

    stored = await Item.get_pymongo_collection().find_one({})

    assert stored is not None
    assert stored["price"] == Decimal128("1.50")
    assert stored["released_on"].isoformat() == "2026-01-31T00:00:00"
    assert stored["owner_id"] == ObjectId("0" * 24)
    assert stored["description"] is None
    assert stored["tags"] == []


async def test_fifty_patches_at_once_are_all_kept(users: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository_module, "PATCH_ATTEMPTS", 1000)
    document = await users.insert(ADA | {"age": 0})

    def grow(present: Any) -> Any:
        return present | {"age": present["age"] + 1}

    await asyncio.gather(*(users.patch(str(document["id"]), grow) for _ in range(50)))

    present = await users.get(str(document["id"]))
    assert (present["age"], present["revision"]) == (50, 51)


async def test_of_fifty_writes_to_one_revision_one_is_done(users: Repository) -> None:
    document = await users.insert(ADA)

    async def write(number: int) -> str:
        try:
            await users.replace(str(document["id"]), ADA | {"age": number}, frozenset({1}))
        except RevisionMismatchError:
            return "refused"
        return "done"

    results = await asyncio.gather(*map(write, range(50)))

    assert sorted(results) == ["done"] + ["refused"] * 49
    assert (await users.get(str(document["id"])))["revision"] == 2


async def test_of_fifty_equal_inserts_one_is_done(users: Repository) -> None:
    async def insert() -> str:
        try:
            await users.insert(ADA)
        except DuplicateValueError:
            return "refused"
        return "done"

    assert sorted(await asyncio.gather(*(insert() for _ in range(50)))) == ["done"] + ["refused"] * 49


async def test_a_patch_that_others_always_overtake_gives_up(users: Repository, mongodb_uri: str) -> None:
    document = await users.insert(ADA)
    with MongoClient[dict[str, Any]](mongodb_uri) as others:

        def change(present: Any) -> Any:
            others[DATABASE]["users"].update_one({"_id": document["id"]}, {"$inc": {"revision": 1}})
            return present

        with pytest.raises(WriteConflictError):
            await users.patch(str(document["id"]), change)

    assert (await users.get(str(document["id"])))["revision"] == 1 + PATCH_ATTEMPTS


async def test_a_document_written_by_hand_counts_as_revision_0(users: Repository) -> None:
    result = await User.get_pymongo_collection().insert_one({"name": "Hand", "email": "hand@example.org"})
    key = str(result.inserted_id)

    with pytest.raises(RevisionMismatchError):
        await users.replace(key, ADA, frozenset({1}))
    replaced = await users.replace(key, ADA, frozenset({0}))

    assert replaced["revision"] == 1
    assert replaced["created_at"] == replaced["updated_at"]


async def test_texts_are_never_read_as_expressions(users: Repository) -> None:
    document = await users.insert(ADA)
    hostile = ADA | {"name": "$email", "tags": ["$$ROOT", "$name"], "profile": {"bio": "$$REMOVE"}}

    replaced = await users.replace(str(document["id"]), hostile)

    assert (replaced["name"], replaced["tags"], replaced["profile"]["bio"]) == (
        "$email",
        ["$$ROOT", "$name"],
        "$$REMOVE",
    )


async def test_after_an_election_reads_name_the_time_from_which_on_nothing_is_missed(
    users: Repository, recorder: CommandRecorder
) -> None:
    ada = str((await users.insert(ADA))["id"])
    everything = read_list_query(users.view, [])
    elections = Elections.of(User.get_pymongo_collection())

    async def commands_of(read: Awaitable[object]) -> list[tuple[str, bool]]:
        """The reads that name a time, and those that need not, as something was read since."""
        elections._settled = None
        recorder.commands.clear()
        await read
        reads = [command for command in recorder.commands if "readConcern" in command]
        return [(next(iter(command)), "afterClusterTime" in command["readConcern"]) for command in reads]

    assert await commands_of(users.get(ada)) == [("find", True)]
    assert await commands_of(users.page(everything)) == [("find", True), ("aggregate", False)]
    assert await commands_of(users.patch(ada, lambda present: present)) == [("find", True)]
    assert await commands_of(anext(users.stream(everything.selection))) == [("find", True)]


async def test_each_request_sends_few_commands_with_known_operators(
    client: httpx.AsyncClient, recorder: CommandRecorder
) -> None:
    created = await client.post("/api/v1/users", json=ADA)
    location = created.headers["location"]
    await client.get(location)
    await client.put(location, json=ADA)
    await client.patch(location, json={"age": 1})
    await client.get("/api/v1/users", params={"q": "a", "email": '{"$ne": null}', "age": "1", "sort": "-name"})
    await client.get("/api/v1/users", params={"count": "none"})
    await client.get("/api/v1/users/export/csv")
    await client.delete(location)

    assert recorder.names == [
        "insert",
        "find",
        "findAndModify",
        *("find", "findAndModify"),
        *("find", "aggregate"),
        "find",
        # The file's record, when it begins and when it ends, and what the audit trail has of both these requests.
        *("find", "insert", "insert", "update"),
        *("findAndModify", "insert"),
    ]
    allowed = {"$eq", "$and", "$or", "$regex", "$options", "$in", "$match", "$group", "$sum", "$limit"}
    allowed |= {"$set", "$inc", "$replaceWith", "$mergeObjects", "$literal", "$cond", "$eq", "$type", "$in", "$add"}
    fields = {"$db", "$clusterTime", "$readPreference", "$created_at", "$revision", "$_id"}
    assert operators_in([dict(command) for command in recorder.commands]) <= allowed | fields


async def test_a_filter_on_an_indexed_field_uses_the_index(users: Repository) -> None:
    await users.load({"name": f"n{number}", "email": f"{number}@example.org"} for number in range(1000))
    await users.insert(ADA | {"profile": {"addresses": [{"street": "s", "city": "London", "country": "GB"}]}})
    for params, expected in {
        (("email", "ada@example.org"),): "email",
        (("email__startswith", "ADA@"),): "email",
        (("profile.addresses.city", "London"),): "profile.addresses.city",
        (("name__gte", "Ada"), ("name__lt", "Adb")): "name",
    }.items():
        query = read_list_query(users.view, params)
        cursor = User.get_pymongo_collection().find(query.selection.filter, sort=list(query.selection.sort), limit=51)
        plan = str((await cursor.explain())["queryPlanner"]["winningPlan"])
        assert "IXSCAN" in plan
        assert f"'indexName': '{expected}" in plan


COUNTING = {"$reduce": {"input": {"$range": [0, 100_000]}, "initialValue": 0, "in": {"$add": ["$$value", 1]}}}
ENDLESS = Selection({"$expr": {"$lt": [COUNTING, 0]}}, sort=(("_id", 1),), fields=())
"""What MongoDB takes some seconds for, with few documents."""


async def test_a_query_that_runs_out_of_time_is_the_callers_fault(services: Services, users: Repository) -> None:
    await users.load({"name": f"n{number}", "email": f"{number}@example.org"} for number in range(500))
    hurried = Repository(users.document_type, Limits(query_seconds=0.05, operation_seconds=10), CursorSigner("x"))

    with pytest.raises(QueryTooExpensiveError):
        await hurried.page(ListQuery(ENDLESS, limit=1, skip=0, cursor=None, count="none"))


async def test_time_that_runs_out_in_an_election_is_nobodys_fault(
    services: Services, users: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    await users.load({"name": f"n{number}", "email": f"{number}@example.org"} for number in range(500))
    hurried = Repository(users.document_type, Limits(query_seconds=0.05, operation_seconds=10), CursorSigner("x"))
    known = Elections.of(User.get_pymongo_collection())

    async def by_another(_database: object) -> bool:
        monkeypatch.setattr(known, "_latest", ObjectId())
        return True

    monkeypatch.setattr(elections, "answers", by_another)

    with pytest.raises(DatabaseUnavailableError):
        await hurried.page(ListQuery(ENDLESS, limit=1, skip=0, cursor=None, count="none"))


async def test_a_total_stops_at_ten_thousand(services: Services) -> None:
    users = services.repositories["users"]
    await users.load({"name": "n", "email": f"{number}@example.org"} for number in range(CAPPED_TOTAL + 1))

    capped = await users.page(read_list_query(users.view, [("limit", "1")]))
    exact = await users.page(read_list_query(users.view, [("limit", "1"), ("count", "exact")]))

    assert (capped.total, capped.total_relation) == (CAPPED_TOTAL, "gte")
    assert (exact.total, exact.total_relation) == (CAPPED_TOTAL + 1, "eq")


async def test_what_is_not_there_cannot_be_changed(users: Repository) -> None:
    for document_id in ("0" * 24, "nonsense"):
        with pytest.raises(NotFoundError):
            await users.get(document_id)
        with pytest.raises(NotFoundError):
            await users.replace(document_id, ADA)
        with pytest.raises(NotFoundError):
            await users.patch(document_id, lambda present: present)
        with pytest.raises(NotFoundError):
            await users.delete(document_id)


async def test_an_export_whose_first_batch_takes_too_long_is_the_callers_fault(
    settings: Settings, services: Services
) -> None:
    users = services.repositories["users"]
    await users.load({"name": "n", "email": f"{number}@example.org"} for number in range(500))
    hurried = settings.model_copy(update={"operation_timeout_seconds": 0.5, "query_time_limit_seconds": 0.5})
    everything = [document_type.document_class for document_type in TYPES]
    try:
        async with open_database(hurried, [User]):
            with pytest.raises(QueryTooExpensiveError):
                await anext(users.stream(ENDLESS))
    finally:
        # Beanie's classes know one database at a time: back to the tests' own.
        await init_beanie(services.database.handle, document_models=[*everything, Account])
