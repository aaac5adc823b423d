"""What one process does while the others wait: it is not done twice at a time, and nobody who died holds it up."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from service.store import leases
from service.store.leases import LOCKS, exclusive

SECONDS = 5.0


@pytest.fixture
async def database(mongodb_uri: str) -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
    """A database without a lock in it."""
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as client:
        await client.drop_database("dossier-leases")
        yield client["dossier-leases"]
        await client.drop_database("dossier-leases")


async def test_only_one_is_inside_at_a_time(database: AsyncDatabase[dict[str, Any]]) -> None:
    inside, most, entered = 0, 0, 0

    async def enter() -> None:
        nonlocal inside, most, entered
        async with exclusive(database, "it", SECONDS):
            inside, entered = inside + 1, entered + 1
            most = max(most, inside)
            await database.command("ping")
            inside -= 1

    async with asyncio.timeout(20):
        await asyncio.gather(*(enter() for _ in range(5)))

    assert (entered, most) == (5, 1)


async def test_other_names_are_other_locks(database: AsyncDatabase[dict[str, Any]]) -> None:
    async with asyncio.timeout(5), exclusive(database, "one", SECONDS), exclusive(database, "other", SECONDS):
        assert await database[LOCKS].count_documents({}) == 2


async def test_one_that_lives_keeps_others_out_for_longer_than_a_lease(
    database: AsyncDatabase[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.4)
    monkeypatch.setattr(leases, "RENEWAL_SECONDS", 0.1)
    is_inside = asyncio.Event()

    async def enter() -> None:
        async with exclusive(database, "it", SECONDS):
            is_inside.set()

    async with exclusive(database, "it", SECONDS):
        waiting = asyncio.create_task(enter())
        await asyncio.wait([waiting], timeout=1)
        assert not is_inside.is_set()
    async with asyncio.timeout(5):
        await waiting


async def test_one_that_died_is_outwaited(
    database: AsyncDatabase[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.3)
    dead = leases._Lease(database[LOCKS], "it", SECONDS)
    await dead.take()

    async with asyncio.timeout(5), exclusive(database, "it", SECONDS):
        await dead.give_back()  # had it only been slow: this is not its lease any more
        held = await database[LOCKS].count_documents({"_id": "it", "$expr": {"$gt": ["$expires_at", "$$NOW"]}})

    assert held == 1


async def test_a_failure_inside_lets_the_next_one_in(database: AsyncDatabase[dict[str, Any]]) -> None:
    with pytest.raises(RuntimeError):
        async with exclusive(database, "it", SECONDS):
            raise RuntimeError

    async with asyncio.timeout(1), exclusive(database, "it", SECONDS):
        pass
