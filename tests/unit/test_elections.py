"""From when on a primary is read."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from bson import ObjectId, Timestamp
from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.hello import Hello
from pymongo.monitoring import ServerHeartbeatSucceededEvent

from service.store.elections import Elections


@pytest.fixture
async def session() -> AsyncIterator[AsyncClientSession]:
    """One of a client that asks nobody."""
    async with AsyncMongoClient[dict[str, Any]](connect=False).start_session() as session:
        yield session


def hear(elections: Elections, **hello: Any) -> None:
    elections.succeeded(ServerHeartbeatSucceededEvent(0.001, Hello(hello), ("127.0.0.1", 27017)))


def hear_of_primary(elections: Elections, term: int, written: int) -> None:
    hear(
        elections,
        isWritablePrimary=True,
        electionId=ObjectId(f"7fffffff{term:016x}"),
        lastWrite={"opTime": {"ts": Timestamp(written, 1), "t": term}},
    )


def test_what_is_read_waits_for_what_the_primary_had_written(session: AsyncClientSession) -> None:
    elections = Elections()
    hear_of_primary(elections, term=1, written=100)

    elections.watch(session)

    assert session.operation_time == Timestamp(100, 1)


def test_a_read_that_is_repeated_waits_for_what_the_next_primary_had_written(session: AsyncClientSession) -> None:
    elections = Elections()
    hear_of_primary(elections, term=1, written=100)
    elections.watch(session)

    hear_of_primary(elections, term=2, written=200)

    assert session.operation_time == Timestamp(200, 1)


def test_nothing_waits_for_what_a_primary_writes_after_its_election(session: AsyncClientSession) -> None:
    elections = Elections()
    hear_of_primary(elections, term=1, written=100)
    hear_of_primary(elections, term=1, written=101)

    elections.watch(session)

    assert session.operation_time == Timestamp(100, 1)


def test_a_former_primary_that_knows_nothing_of_the_next_one_is_not_listened_to(session: AsyncClientSession) -> None:
    elections = Elections()
    hear_of_primary(elections, term=2, written=200)
    hear_of_primary(elections, term=1, written=300)

    elections.watch(session)

    assert session.operation_time == Timestamp(200, 1)


def test_secondaries_and_servers_of_no_set_change_nothing(session: AsyncClientSession) -> None:
    elections = Elections()
    hear(elections, isWritablePrimary=False, secondary=True, lastWrite={"opTime": {"ts": Timestamp(100, 1), "t": 1}})
    hear(elections, isWritablePrimary=True)

    elections.watch(session)

    assert session.operation_time is None
