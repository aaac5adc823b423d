"""Migrations: what the README shows does what it says, on a copy; each is run once, and whole or not at all."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from service.documents.registry import DocumentType
from service.documents.user import User
from service.errors import StartupError
from service.store.migrations import Course, Direction, MigrationError, Migrator, Step, heed_migrations
from service.store.repository import new_document
from service.store.validators import apply_validators, compare_validators

README = (Path(__file__).parents[2] / "README.md").read_text()
[EXAMPLE] = [
    block
    for block in re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    if "class Forward" in block
]
NAME = "20261122_telephone.py"
BROKEN = """
from beanie import Document, free_fall_migration


class Thing(Document):
    class Settings:
        name = "users"


class Forward:
    @free_fall_migration(document_models=[Thing])
    async def change(self, session):
        await Thing.get_pymongo_collection().update_many({}, {"$set": {"name": "half"}}, session=session)

    @free_fall_migration(document_models=[Thing])
    async def fail(self, session):
        raise ValueError("the second\\nstep fails")
"""

USERS = DocumentType(User)
Handle = AsyncDatabase[dict[str, Any]]


def user(number: int, profile: dict[str, Any] | None) -> dict[str, Any]:
    """A user as it is stored."""
    own = {"name": f"n{number}", "email": f"{number}@example.org", "age": number % 90, "is_active": True, "tags": ["a"]}
    return new_document(ObjectId(f"{number:024x}"), own | {"profile": profile})


def filled(number: int) -> dict[str, Any]:
    """One in three has a phone, one has another profile, one has none."""
    others: dict[str, Any] = {"bio": "b", "birthday": None, "addresses": []}
    return user(number, [others | {"phone": f"+{number}"}, others, None][number % 3])


@pytest.fixture
async def copy(mongodb_uri: str) -> AsyncIterator[Handle]:
    """A copy of a filled database, which is there too."""
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri, w="majority") as client:
        original = client["dossier-original"]
        await original["users"].insert_many(map(filled, range(300)))
        await original["users"].aggregate([{"$out": {"db": "dossier-copy", "coll": "users"}}])
        copy = client["dossier-copy"]
        await copy["items"].insert_one({"_id": 1, "profile": {"phone": "an item's"}})
        await apply_validators(copy, [USERS], 10)
        yield copy
        for name in ("dossier-original", "dossier-copy"):
            await client.drop_database(name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The README's migration."""
    (tmp_path / NAME).write_text(EXAMPLE)
    return tmp_path


@pytest.fixture
def migrator(copy: Handle) -> Migrator:
    """For the copy."""
    return Migrator(copy, [USERS], timeout_seconds=10)


async def contents(database: Handle, collection: str = "users") -> list[dict[str, Any]]:
    return await database[collection].find(sort=[("_id", 1)]).to_list()


async def state(database: Handle) -> str:
    [known] = await compare_validators(database, [USERS], 10)
    return known.state


def renamed(document: dict[str, Any]) -> dict[str, Any]:
    """As the migration should leave it."""
    profile = document["profile"]
    if not profile or "phone" not in profile:
        return document
    others = {name: value for name, value in profile.items() if name != "phone"}
    return document | {"profile": others | {"telephone": profile["phone"]}, "revision": document["revision"] + 1}


async def test_the_readmes_migration_renames_a_nested_field_forward_and_backward(
    copy: Handle, migrator: Migrator, folder: Path
) -> None:
    before = await contents(copy)
    items = await contents(copy, "items")

    assert await migrator.run(Course(folder=folder)) == [Step(NAME, has_run=False, is_next=True)]

    after = await contents(copy)
    assert after == [renamed(document) for document in before]
    assert sum("telephone" in (document["profile"] or {}) for document in after) == 100
    assert await state(copy) == "present", "all of this release's migrations have been run"

    assert await migrator.run(Course("backward", folder=folder)) == [Step(NAME, has_run=True, is_next=True)]

    again = await contents(copy)
    assert [document | {"revision": 1} for document in again] == before
    assert sum(document["revision"] == 3 for document in again) == 100
    assert await contents(copy, "items") == items
    assert await contents(copy.client["dossier-original"]) == before
    assert await state(copy) == "different", "no validator until the start of the release that these are of"


async def test_a_migration_is_run_once(copy: Handle, migrator: Migrator, folder: Path) -> None:
    other = Migrator(copy, [USERS], timeout_seconds=10)

    ran = await asyncio.gather(migrator.run(Course(folder=folder)), other.run(Course(folder=folder)))

    assert sorted(step.is_next for steps in ran for step in steps) == [False, True]
    assert {document["revision"] for document in await contents(copy)} == {1, 2}
    assert await copy["migrations_log"].count_documents({}) == 1


@pytest.mark.parametrize("is_first", [True, False])
async def test_one_that_fails_changes_nothing_and_those_before_it_stay(
    copy: Handle,
    migrator: Migrator,
    folder: Path,
    is_first: bool,  # noqa: FBT001 - pytest's
) -> None:
    (folder / ("0.py" if is_first else "3.py")).write_text(BROKEN)
    before = await contents(copy)

    with pytest.raises(
        MigrationError, match=r"[03]\.py has failed, and nothing of it is kept: .*the second step fails"
    ):
        await migrator.run(Course(folder=folder))

    assert await contents(copy) == (before if is_first else [renamed(document) for document in before])
    assert await state(copy) == ("present" if is_first else "different")
    steps = await migrator.plan(Course(folder=folder))
    assert [step.name for step in steps if step.has_run] == ([] if is_first else [NAME])


async def test_without_a_transaction_what_was_written_is_kept(copy: Handle, migrator: Migrator, folder: Path) -> None:
    (folder / "0.py").write_text(BROKEN)

    with pytest.raises(MigrationError, match="what it has written is kept"):
        await migrator.run(Course(folder=folder, uses_transactions=False))

    assert {document["name"] for document in await contents(copy)} == {"half"}


async def test_so_many_are_run_as_were_asked_for(copy: Handle, migrator: Migrator, folder: Path) -> None:
    for number in range(1, 4):
        (folder / f"{number}.py").write_text('"""Nothing to do."""\n')

    async def names(direction: Direction, distance: int | None = None) -> list[str]:
        course = Course(direction, distance, folder=folder)
        steps = await migrator.plan(course)
        await migrator.run(course)
        return [step.name for step in steps if step.is_next]

    assert await names("forward", 1) == ["1.py"]
    assert await names("forward", 2) == ["2.py", NAME]
    assert await names("forward") == ["3.py"]
    assert await names("forward") == []
    assert await names("backward") == ["3.py"]
    assert await names("backward", 2) == ["2.py", NAME]
    assert await names("backward", 9) == ["1.py"]
    assert await names("backward") == []


async def test_a_database_of_a_later_release_is_left_alone(copy: Handle, migrator: Migrator, folder: Path) -> None:
    await migrator.run(Course(folder=folder))
    (folder / NAME).rename(folder / "another.py")

    with pytest.raises(MigrationError, match=NAME):
        await migrator.run(Course(folder=folder))


async def test_a_migration_that_cannot_be_read_is_named(copy: Handle, migrator: Migrator, folder: Path) -> None:
    (folder / "9.py").write_text("import nothing_of_this_name\n")

    with pytest.raises(MigrationError, match=r"cannot be read: ModuleNotFoundError: .*nothing_of_this_name"):
        await migrator.run(Course(folder=folder))

    assert await state(copy) == "present"


async def test_a_start_refuses_documents_that_wait_for_migrations_until_they_have_had_them(
    copy: Handle, migrator: Migrator, folder: Path
) -> None:
    (folder / "1.py").write_text('"""Nothing to do."""\n')

    async def refusal() -> str:
        with pytest.raises(StartupError) as raised:
            await heed_migrations(copy, folder)
        return str(raised.value)

    assert f"has not had 1.py, {NAME}: stop all services, run `dossier database migrate`" in await refusal()
    await migrator.run(Course(distance=1, folder=folder))
    assert f"has not had {NAME}: " in await refusal()
    await migrator.run(Course(folder=folder))
    await heed_migrations(copy, folder)

    await migrator.run(Course("backward", 2, folder=folder))
    await copy["users"].delete_many({})
    assert "has not had 1.py" in await refusal(), "what was taken back is not done because nothing is there"


async def test_a_new_database_counts_as_having_had_all_migrations(
    copy: Handle, migrator: Migrator, folder: Path
) -> None:
    (folder / "1.py").write_text('"""Nothing to do."""\n')
    await copy["users"].delete_many({})

    with pytest.raises(StartupError):  # for there is an item
        await heed_migrations(copy, folder)
    await copy["items"].delete_many({})
    await copy["locks"].insert_one({"_id": "preparation"})
    for _ in range(2):
        await heed_migrations(copy, folder)

    assert [(step.has_run, step.is_next) for step in await migrator.plan(Course(folder=folder))] == [(True, False)] * 2
    assert await copy["migrations_log"].count_documents({}) == 1
    await copy["users"].insert_one(filled(0))
    await heed_migrations(copy, folder)


async def test_a_start_without_migrations_waits_for_the_first_one(copy: Handle, tmp_path: Path) -> None:
    await heed_migrations(copy, tmp_path)
    (tmp_path / NAME).write_text(EXAMPLE)

    with pytest.raises(StartupError, match=NAME):
        await heed_migrations(copy, tmp_path)


async def test_a_start_of_an_earlier_release_is_refused(copy: Handle, migrator: Migrator, folder: Path) -> None:
    await migrator.run(Course(folder=folder))
    (folder / NAME).unlink()

    with pytest.raises(StartupError, match=f"has had migration {NAME}, which is not in"):
        await heed_migrations(copy, folder)
