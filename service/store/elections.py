"""Reads that miss nothing that was acknowledged, whoever is primary by now.

A new primary has all of it, but for a moment it does not know that a majority has it too, and shows what it knew
before. So reads name the time up to which it had written when it was elected, and MongoDB lets them wait until a
majority has that.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from weakref import WeakSet

from beanie import Document
from bson import ObjectId, Timestamp
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.monitoring import (
    ServerHeartbeatFailedEvent,
    ServerHeartbeatListener,
    ServerHeartbeatStartedEvent,
    ServerHeartbeatSucceededEvent,
)

from service.store.failures import TIMEOUTS, answers

T = TypeVar("T")
Model = TypeVar("Model", bound=Document)


class Elections(ServerHeartbeatListener):
    """Hears of each new primary before the driver asks it anything."""

    def __init__(self, told: Sequence[Callable[[], None]] = ()) -> None:
        """`told` are called at each election after the first, which may have been long ago."""
        self._told = told
        self._latest: ObjectId | None = None
        self._settled: ObjectId | None = None
        self._written: Timestamp | None = None
        self._sessions: WeakSet[AsyncClientSession] = WeakSet()

    @property
    def latest(self) -> ObjectId | None:
        """The present primary's; None where nobody elects one."""
        return self._latest

    @classmethod
    def of(cls, collection: AsyncCollection[dict[str, Any]]) -> "Elections":
        """Those that the collection's client hears of."""
        for listener in collection.database.client.options.event_listeners:
            if isinstance(listener, cls):
                return listener
        return cls()

    @asynccontextmanager
    async def waiting(self, collection: AsyncCollection[dict[str, Any]]) -> AsyncGenerator[AsyncClientSession]:
        """A session whose reads wait for the present primary, or for the next one where the driver asks again."""
        async with collection.database.client.start_session() as session:
            self._sessions.add(session)
            if self._written is not None:
                session.advance_operation_time(self._written)
            yield session

    async def read(
        self, collection: AsyncCollection[dict[str, Any]], ask: Callable[[AsyncClientSession | None], Awaitable[T]]
    ) -> T:
        """What `ask` finds. It waits only until something was read since the election, as a session has its price."""
        election = self._latest
        if election == self._settled:
            found = await ask(None)
            if election == self._latest:
                return found
        async with self.waiting(collection) as session:
            election = self._latest
            found = await ask(session)
        self._settled = election
        return found

    def started(self, event: ServerHeartbeatStartedEvent) -> None:
        """Nothing is known yet."""

    def succeeded(self, event: ServerHeartbeatSucceededEvent) -> None:
        """One of them has said what it is. Who was primary before may say so still; elections are numbered upwards."""
        hello = event.reply.document
        election = hello.get("electionId")
        if election is None or (self._latest is not None and election <= self._latest):
            return
        for tell in self._told if self._latest is not None else ():
            tell()
        self._latest, self._written = election, hello["lastWrite"]["opTime"]["ts"]
        for session in self._sessions:
            session.advance_operation_time(self._written)

    def failed(self, event: ServerHeartbeatFailedEvent) -> None:
        """Another one will be elected."""


async def was_too_slow(
    collection: AsyncCollection[dict[str, Any]], error: BaseException | None, election: ObjectId | None
) -> bool:
    """Whether a query failed by its own slowness: its time ran out, and whom it asked is still primary, and answers."""
    if not isinstance(error, TIMEOUTS) or not await answers(collection.database):
        return False
    return Elections.of(collection).latest == election


async def find_one(model: type[Model], condition: Mapping[str, Any]) -> Model | None:
    """A document of which this is true, as it was acknowledged last."""
    collection = model.get_pymongo_collection()
    return await Elections.of(collection).read(collection, lambda session: model.find_one(condition, session=session))


async def find_all(
    collection: AsyncCollection[dict[str, Any]], condition: Mapping[str, Any], projection: Mapping[str, int]
) -> list[dict[str, Any]]:
    """All documents of which this is true, as they are stored and were acknowledged last."""
    return await Elections.of(collection).read(
        collection, lambda session: collection.find(condition, projection, session=session).to_list()
    )
