"""Quotas in the database: what is granted, to however many at once, and by whose clock."""

import asyncio
import secrets
from datetime import timedelta

import pytest
from pymongo.read_concern import ReadConcern

from service.api.dependencies import Services
from service.documents.base import now
from service.errors import DatabaseUnavailableError
from service.store.quotas import Quota, QuotaCounter, Quotas

TEN = Quota(10, 60)


@pytest.fixture
def quotas(services: Services, _empty_database: None) -> Quotas:
    return Quotas(services.settings.operation_timeout_seconds)


async def end_window(key: str) -> None:
    """As if its time were over, and MongoDB had not removed it yet."""
    counters = QuotaCounter.get_pymongo_collection()
    await counters.update_one({"_id": key}, {"$set": {"expires_at": now() - timedelta(seconds=1)}})


async def test_as_many_are_granted_as_there_are_in_a_window(quotas: Quotas) -> None:
    answers = [await quotas.take("a", TEN) for _ in range(12)]

    assert [answer.is_granted for answer in answers] == [True] * 10 + [False] * 2
    assert [answer.remaining for answer in answers] == [*range(9, -1, -1), 0, 0]
    assert [answer.is_exhausted for answer in answers] == [False] * 9 + [True] * 3
    assert all(55 <= answer.reset_seconds <= 60 for answer in answers)
    assert (await quotas.take("b", TEN)).remaining == 9, "another key has a quota of its own"


async def test_the_next_window_begins_anew(quotas: Quotas) -> None:
    one = Quota(1, 60)
    assert (await quotas.take("a", one)).is_granted
    assert (await quotas.hold("a", one)).is_granted is False
    await end_window("a")

    assert (await quotas.hold("a", one)).is_granted
    await end_window("a")
    assert (await quotas.take("a", one)).is_granted, "what was held in a window that is over is forgotten"
    await quotas.release("a", counts=False)
    assert (await quotas.take("a", one)).is_granted is False, "and frees nothing in the next"


async def test_what_is_held_counts_only_if_it_is_said_to(quotas: Quotas) -> None:
    for counts in (False, False, True, True):
        assert (await quotas.hold("a", TEN)).is_granted
        await quotas.release("a", counts=counts)

    assert (await quotas.take("a", TEN)).remaining == 7


async def test_what_is_held_is_in_the_way_of_others_without_being_used(quotas: Quotas) -> None:
    for _ in range(10):
        assert (await quotas.hold("a", TEN)).is_granted

    refused = await quotas.hold("a", TEN)

    assert (refused.is_granted, refused.is_exhausted, refused.remaining) == (False, False, 0)


async def test_all_at_once_get_no_more_than_there_is(quotas: Quotas) -> None:
    for _ in range(3):  # each time the counter's first, which all want to insert
        key = secrets.token_hex(8)
        answers = await asyncio.gather(*(quotas.hold(key, TEN) for _ in range(200)))
        assert sum(answer.is_granted for answer in answers) == 10


async def test_nothing_is_released_that_was_never_held(quotas: Quotas) -> None:
    await quotas.release("nobody", counts=True)

    assert (await quotas.take("nobody", TEN)).remaining == 9


async def test_a_counter_goes_by_itself_when_its_window_is_over(quotas: Quotas) -> None:
    await quotas.take("a", TEN)

    # A majority may not have it yet.
    counters = QuotaCounter.get_pymongo_collection().with_options(read_concern=ReadConcern("local"))
    assert (await counters.index_information())["expires_at"]["expireAfterSeconds"] == 0
    counter = await counters.find_one({"_id": "a"})
    assert counter is not None
    assert counter["expires_at"] - counter["asked_at"] == timedelta(seconds=60)


async def test_what_cannot_be_counted_is_not_granted(quotas: Quotas) -> None:
    impatient = Quotas(0.000_001)

    with pytest.raises(DatabaseUnavailableError):
        await impatient.take("a", TEN)
