"""Reads that miss nothing that was acknowledged, whoever is primary by now.

A new primary has all of it, but for a moment it does not know that a majority has it too, and shows what it knew
before. So reads name the time up to which it had written when it was elected, and MongoDB lets them wait until a
majority has that.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakSet

from bson import ObjectId, Timestamp
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.monitoring import (
    ServerHeartbeatFailedEvent,
    ServerHeartbeatListener,
    ServerHeartbeatStartedEvent,
    ServerHeartbeatSucceededEvent,
)


class Elections(ServerHeartbeatListener):
    """Hears of each new primary before the driver asks it anything."""

    def __init__(self) -> None:
        self._election: ObjectId | None = None
        self._written: Timestamp | None = None
        self._sessions: WeakSet[AsyncClientSession] = WeakSet()

    def watch(self, session: AsyncClientSession) -> None:
        """Let what is read in it wait for the present primary, or for the next one where the driver asks again."""
        self._sessions.add(session)
        if self._written is not None:
            session.advance_operation_time(self._written)

    def started(self, event: ServerHeartbeatStartedEvent) -> None:
        """Nothing is known yet."""

    def succeeded(self, event: ServerHeartbeatSucceededEvent) -> None:
        """One of them has said what it is. Who was primary before may say so still; elections are numbered upwards."""
        hello = event.reply.document
        election = hello.get("electionId")
        if election is None or (self._election is not None and election <= self._election):
            return
        self._election, self._written = election, hello["lastWrite"]["opTime"]["ts"]
        for session in self._sessions:
            session.advance_operation_time(self._written)

    def failed(self, event: ServerHeartbeatFailedEvent) -> None:
        """Another one will be elected."""


@asynccontextmanager
async def reading(collection: AsyncCollection[dict[str, Any]]) -> AsyncGenerator[AsyncClientSession]:
    """A session for reads, and only for them."""
    client = collection.database.client
    async with client.start_session() as session:
        for listener in client.options.event_listeners:
            if isinstance(listener, Elections):
                listener.watch(session)
        yield session
