"""Walks by cursor over whatever may lie in a collection: each document once, in MongoDB's own order."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest
from bson import Binary, Decimal128, Int64, ObjectId, Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.asynchronous.collection import AsyncCollection

from service.api.dependencies import Services
from service.store.paging import after
from service.store.query import SortKey
from tests.conftest import TYPES

pytestmark = pytest.mark.usefixtures("anonymous")

MISSING = "missing"
NUMBERS = st.sampled_from([0, 1, 1.0, 1.5, -3, Int64(2**40), Decimal128("1.5"), Decimal128("-7"), math.inf, -math.inf])
ODD = st.sampled_from(
    [
        True,
        False,
        "",
        "a",
        "ab",
        "小",
        ObjectId("0" * 24),
        datetime(2026, 1, 1),  # noqa: DTZ001 - as the driver reads it
        {"x": 1},
        Binary(b"x"),
        Timestamp(1, 1),
    ]
)
VALUES = st.one_of(NUMBERS, st.sampled_from([None, MISSING, 5, 5, 5]), ODD, st.just(math.nan))
DOCUMENTS = st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=25)
SORTS = st.sampled_from(
    [
        (("a", 1), ("_id", 1)),
        (("a", -1), ("_id", -1)),
        (("a", 1), ("b", -1), ("_id", -1)),
        (("a", -1), ("b", 1), ("_id", 1)),
        (("_id", -1),),
    ]
)


@pytest.fixture
async def collection(services: Services) -> AsyncCollection[dict[str, Any]]:
    """One with an index, as sorts have."""
    collection = services.database.handle["walks"]
    await collection.create_index([("a", 1), ("_id", 1)])
    return collection


async def walk(
    collection: AsyncCollection[dict[str, Any]], sort: tuple[SortKey, ...], size: int
) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []
    condition: Mapping[str, Any] = {}
    while page := await collection.find(condition, sort=list(sort), limit=size).to_list():
        seen += page
        assert len(seen) < 1000, "it goes in circles"
        condition = after(sort, [page[-1].get(path) for path, _ in sort])
    return seen


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=DOCUMENTS, sort=SORTS, size=st.integers(1, 7))
async def test_a_walk_is_the_whole_list_in_its_order(
    collection: AsyncCollection[dict[str, Any]],
    values: list[tuple[Any, Any]],
    sort: tuple[SortKey, ...],
    size: int,
) -> None:
    await collection.delete_many({})
    await collection.insert_many(
        [
            {"_id": number} | {name: value for name, value in zip("ab", pair, strict=True) if value is not MISSING}
            for number, pair in enumerate(values)
        ]
    )
    whole = [document["_id"] async for document in collection.find(sort=list(sort))]

    assert [document["_id"] for document in await walk(collection, sort, size)] == whole


async def test_a_walk_sees_what_was_there_all_along_once(collection: AsyncCollection[dict[str, Any]]) -> None:
    sort: tuple[SortKey, ...] = (("a", 1), ("_id", 1))
    await collection.delete_many({})
    await collection.insert_many([{"_id": number, "a": number % 7} for number in range(0, 200, 2)])
    seen: list[int] = []
    condition: Mapping[str, Any] = {}
    number = 1
    while page := await collection.find(condition, sort=list(sort), limit=9).to_list():
        seen += [document["_id"] for document in page]
        condition = after(sort, [page[-1].get(path) for path, _ in sort])
        # Others write meanwhile, on both sides, and take away what was just seen.
        await collection.insert_many([{"_id": 1000 + number, "a": number % 7}, {"_id": -number, "a": 6 - number % 7}])
        await collection.delete_one({"_id": page[-1]["_id"]})
        number += 1

    there_all_along = [number for number in seen if 0 <= number < 1000]
    assert sorted(there_all_along) == list(range(0, 200, 2))
    assert len(set(seen)) == len(seen)


async def test_a_page_far_in_starts_at_its_place_in_the_index(collection: AsyncCollection[dict[str, Any]]) -> None:
    await collection.delete_many({})
    await collection.insert_many([{"_id": number, "a": number // 3} for number in range(3000)])
    for direction, key in ((1, 900), (-1, 100)):
        sort = [("a", direction), ("_id", direction)]
        condition = after(sort, [key, key * 3 + 1])  # type: ignore[arg-type]

        plan = await collection.find(condition, sort=sort, limit=20).explain()

        statistics = plan["executionStats"]
        assert "'stage': 'SORT'" not in str(plan["queryPlanner"]["winningPlan"])
        assert statistics["totalKeysExamined"] < 40, direction


def test_each_types_sorts_are_covered_by_its_indexes() -> None:
    for document_type in TYPES:
        for index in document_type.indexes:
            keys = list(index.document["key"])
            assert index.document.get("unique") or keys[-1] == "_id"
