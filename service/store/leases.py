"""What only one process does at a time, while the others wait: documents in `locks` that run out by themselves."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from service.errors import DatabaseUnavailableError
from service.observability.logs import log
from service.store.failures import operation

LOCKS = "locks"
"""A collection of documents that processes write so that no two of them do, or decide, the same at the same time."""

PREPARATION = "preparation"
"""The lock for what a start makes ready, and for whatever else only the first start does."""

LEASE_SECONDS = 10
"""How long others wait for one that was killed."""

RENEWAL_SECONDS = 2
POLL_SECONDS = 0.1
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@asynccontextmanager
async def exclusive(database: AsyncDatabase[dict[str, Any]], name: str, timeout_seconds: float) -> AsyncIterator[None]:
    """Wait until no other process is inside under this name; then the others wait.

    Two can be inside where MongoDB hears nothing of the first one for too long, so that what is done there must do no
    harm if it is done twice. `timeout_seconds` is for each command. Raises DatabaseUnavailableError.
    """
    lease = _Lease(database[LOCKS], name, timeout_seconds)
    await lease.take()
    is_over = asyncio.Event()
    renewing = asyncio.create_task(lease.renew_until(is_over))
    try:
        yield
    finally:
        is_over.set()
        await renewing
        with suppress(DatabaseUnavailableError):  # then it runs out
            await lease.give_back()


class _Lease:
    """A document that says until when somebody is inside. Time is the database's, as our clock may be wrong."""

    def __init__(self, locks: AsyncCollection[dict[str, Any]], name: str, timeout_seconds: float) -> None:
        self._locks = locks
        self._name = name
        self._timeout_seconds = timeout_seconds
        self._mine = {"_id": name, "holder": secrets.token_hex(16)}

    async def take(self) -> None:
        """Wait for it."""
        free = {"$setOnInsert": {"expires_at": LONG_AGO}}
        with operation(self._timeout_seconds), suppress(DuplicateKeyError):  # somebody else's, made in this moment
            await self._locks.update_one({"_id": self._name}, free, upsert=True)
        has_said_so = False
        is_free = {"_id": self._name, "$expr": {"$lte": ["$expires_at", "$$NOW"]}}
        while not await self._extend(is_free):
            if not has_said_so:
                log.info("waiting for another process", lock=self._name)
                has_said_so = True
            await asyncio.sleep(POLL_SECONDS)

    async def renew_until(self, is_over: asyncio.Event) -> None:
        """Say again and again that its holder lives."""
        while True:
            try:
                async with asyncio.timeout(RENEWAL_SECONDS):
                    await is_over.wait()
            except TimeoutError:
                with suppress(DatabaseUnavailableError):
                    await self._extend(self._mine)
            else:
                return

    async def give_back(self) -> None:
        """Let the next one in."""
        with operation(self._timeout_seconds):
            await self._locks.update_one(self._mine, {"$set": {"expires_at": LONG_AGO}})

    async def _extend(self, which: dict[str, Any]) -> bool:
        until = {"$add": ["$$NOW", LEASE_SECONDS * 1000]}
        with operation(self._timeout_seconds):
            done = await self._locks.update_one(which, [{"$set": {**self._mine, "expires_at": until}}])
        return done.matched_count > 0
