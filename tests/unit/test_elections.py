"""From when on a primary is read."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from bson import ObjectId, Timestamp
from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import AutoReconnect
from pymongo.hello import Hello
from pymongo.monitoring import ServerHeartbeatSucceededEvent

from service.store.elections import Elections


@pytest.fixture
def elections() -> Elections:
    """None yet."""
    return Elections()


@pytest.fixture
def collection(elections: Elections) -> AsyncCollection[dict[str, Any]]:
    """One of a client that asks nobody."""
    return AsyncMongoClient[dict[str, Any]](connect=False, event_listeners=[elections])["dossier"]["users"]


async def times_of_reads(
    elections: Elections, collection: AsyncCollection[dict[str, Any]], *meanwhile: Callable[[], None]
) -> list[Timestamp | None]:
    """For what time each try of a read waits, while these things happen, one in each."""
    times: list[Timestamp | None] = []
    events = iter(meanwhile)

    async def ask(session: AsyncClientSession | None) -> str:
        next(events, lambda: None)()
        times.append(session.operation_time if session else None)
        return f"answer {len(times)}"

    answer = await Elections.of(collection).read(collection, ask)
    assert answer == f"answer {len(times)}"
    return times


def hear(elections: Elections, **hello: Any) -> None:
    elections.succeeded(ServerHeartbeatSucceededEvent(0.001, Hello(hello), ("127.0.0.1", 27017)))


def hear_of_primary(elections: Elections, term: int, written: int) -> None:
    hear(
        elections,
        isWritablePrimary=True,
        electionId=ObjectId(f"7fffffff{term:016x}"),
        lastWrite={"opTime": {"ts": Timestamp(written, 1), "t": term}},
    )


async def test_the_first_read_waits_for_what_the_primary_had_written(
    elections: Elections, collection: AsyncCollection[dict[str, Any]]
) -> None:
    hear_of_primary(elections, term=1, written=100)

    assert await times_of_reads(elections, collection) == [Timestamp(100, 1)]
    assert await times_of_reads(elections, collection) == [None]

    hear_of_primary(elections, term=2, written=200)
    assert await times_of_reads(elections, collection) == [Timestamp(200, 1)]


async def test_a_read_in_an_election_is_repeated_and_waits(
    elections: Elections, collection: AsyncCollection[dict[str, Any]]
) -> None:
    election = partial(hear_of_primary, elections, term=1, written=100)

    assert await times_of_reads(elections, collection, election) == [None, Timestamp(100, 1)]


async def test_a_read_that_the_driver_repeats_waits_for_what_the_next_primary_had_written(
    elections: Elections, collection: AsyncCollection[dict[str, Any]]
) -> None:
    hear_of_primary(elections, term=1, written=100)
    another = partial(hear_of_primary, elections, term=2, written=200)

    assert await times_of_reads(elections, collection, another) == [Timestamp(200, 1)]
    assert await times_of_reads(elections, collection) == [Timestamp(200, 1)]
    assert await times_of_reads(elections, collection) == [None]


async def test_a_read_that_fails_settles_nothing(
    elections: Elections, collection: AsyncCollection[dict[str, Any]]
) -> None:
    def fail() -> None:
        raise AutoReconnect

    hear_of_primary(elections, term=1, written=100)
    with pytest.raises(AutoReconnect):
        await times_of_reads(elections, collection, fail)

    assert await times_of_reads(elections, collection) == [Timestamp(100, 1)]


async def test_a_former_primary_that_knows_nothing_of_the_next_one_is_not_listened_to(
    elections: Elections, collection: AsyncCollection[dict[str, Any]]
) -> None:
    hear_of_primary(elections, term=2, written=200)
    hear_of_primary(elections, term=1, written=300)
    hear_of_primary(elections, term=2, written=400)

    assert await times_of_reads(elections, collection) == [Timestamp(200, 1)]


async def test_secondaries_and_servers_of_no_set_change_nothing(
    elections: Elections, collection: AsyncCollection[dict[str, Any]]
) -> None:
    hear(elections, isWritablePrimary=False, secondary=True, lastWrite={"opTime": {"ts": Timestamp(100, 1), "t": 1}})
    hear(elections, isWritablePrimary=True)

    assert await times_of_reads(elections, collection) == [None]
