"""What unique indexes would refuse, against what they do refuse."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest
from beanie import init_beanie
from bson import Decimal128, Int64, ObjectId
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.errors import DuplicateKeyError

from service.api.dependencies import Services
from service.documents.base import Part, Record, unique
from service.documents.registry import DocumentType
from service.store.uniqueness import CHECKED_AT_ONCE, UniquenessCheck

Stored = dict[str, Any]
TIMEOUT_SECONDS = 10


class Component(Part):
    """Something in an array."""

    code: float | None = None


class Keyed(Record):
    """Has unique indexes of every shape."""

    number: float | None = None
    texts: list[str] | None = None
    left: float | None = None
    right: str | None = None
    group: str | None = None
    numbers: list[float] | None = None
    component: Component | None = None
    components: list[Component] | None = None

    class Settings(Record.Settings):
        """Where they are kept."""

        name = "keyed"
        indexes = [
            unique("number"),
            unique("texts"),
            unique("left", "right"),
            unique("group", "numbers"),
            unique("component.code"),
            unique("components.code"),
        ]


KEYED = DocumentType(Keyed)
INDEXES = [["number"], ["texts"], ["left", "right"], ["group", "numbers"], ["component"], ["components"]]
"""The fields of each."""

DIGITS = "0.1000000000000000055511151231257827"
numbers = st.sampled_from(
    [None, 0, -0.0, 1, 1.0, Int64(1), True, 2, 2.5, 0.1, 2**53, 2.0**53, 2**53 + 1]
    + [Decimal128(text) for text in ("0", "-0", "1", "1.00", "2.5", "0.1", DIGITS, DIGITS[:-1] + "8")]
)
texts = st.sampled_from([None, "", "a", "b", "A", "é", "1"])
components = st.fixed_dictionaries({}, optional={"code": numbers})
documents = st.fixed_dictionaries(
    {},
    optional={
        "number": numbers,
        "texts": st.none() | st.lists(texts.filter(lambda text: text is not None), max_size=2),
        "left": numbers,
        "right": texts,
        "group": texts,
        "numbers": st.none() | st.lists(numbers, max_size=2),
        "component": st.none() | components,
        "components": st.none() | st.lists(components, max_size=2),
    },
)


@pytest.fixture(scope="module", autouse=True)
async def _keyed(services: Services) -> AsyncIterator[None]:
    await init_beanie(services.database.handle, document_models=[Keyed])
    yield
    await Keyed.get_pymongo_collection().drop()


def alone(document: Mapping[str, Any], paths: Sequence[str], number: int) -> Stored:
    """The document with something that nobody else has in each field but these."""
    others: Stored = {
        "number": number,
        "texts": [str(number)],
        "left": number,
        "right": str(number),
        "group": str(number),
        "numbers": [number],
        "component": {"code": number},
        "components": [{"code": number}],
    }
    return {
        "_id": ObjectId(number.to_bytes(12, "big")),
        **{name: document[name] for name in paths if name in document},
        **{name: value for name, value in others.items() if name not in paths},
    }


async def refused_by_mongodb(stored: Sequence[Stored]) -> list[set[str]]:
    """The paths of the index that refuses each document, one after the other."""
    found: list[set[str]] = []
    for document in stored:
        try:
            await Keyed.get_pymongo_collection().insert_one(document)
        except DuplicateKeyError as error:
            found.append(set((error.details or {})["keyPattern"]))
        else:
            found.append(set())
    return found


async def foreseen(stored: Sequence[Stored], rows_at_once: int = 1000) -> list[set[str]]:
    """The paths that the check names for each, when it is asked for some at a time."""
    check = UniquenessCheck(KEYED, TIMEOUT_SECONDS)
    rows = list(enumerate(stored, start=2))
    found: list[set[str]] = []
    for start in range(0, len(rows), rows_at_once):
        for faults in await check.faults(rows[start : start + rows_at_once]):
            assert {fault.code for fault in faults} <= {"duplicate_value"}
            found.append({(fault.pointer or "")[1:].replace("/", ".") for fault in faults})
    check.close()
    return found


@pytest.mark.parametrize("paths", INDEXES, ids=" ".join)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=st.lists(documents, min_size=2, max_size=8), present=st.integers(0, 7), rows_at_once=st.integers(1, 4))
async def test_what_an_index_would_refuse_is_known_beforehand(
    paths: list[str], made: list[Stored], present: int, rows_at_once: int
) -> None:
    await Keyed.get_pymongo_collection().delete_many({})
    stored = [alone(document, paths, number) for number, document in enumerate(made, start=10_000)]
    await refused_by_mongodb(stored[:present])

    expected = await foreseen(stored[present:], rows_at_once)

    assert expected == await refused_by_mongodb(stored[present:])


async def test_what_is_there_under_the_same_id_is_no_other() -> None:
    await Keyed.get_pymongo_collection().delete_many({})
    there, other = (alone({}, [], number) for number in (1, 2))
    await Keyed.get_pymongo_collection().insert_one(there)

    assert await foreseen([there]) == [set()]
    assert await foreseen([other | {"number": 1}]) == [{"number"}]


async def test_what_a_document_gives_up_others_may_have() -> None:
    await Keyed.get_pymongo_collection().delete_many({})
    first, second = (alone({}, [], number) for number in (1, 2))
    await Keyed.get_pymongo_collection().insert_many([first, second])
    check = UniquenessCheck(KEYED, TIMEOUT_SECONDS)

    taking = [(3, second | {"number": 1}), (4, alone({}, [], 3) | {"number": 7})]
    before = await check.faults(taking[:1], are_there=True)
    giving = await check.faults([(2, first | {"number": 7})], are_there=True)
    after = await check.faults(taking, are_there=True)

    assert [fault.message for fault in before[0]] == ["another document has this value"]
    assert giving == [[]]
    assert after[0] == []
    assert [fault.message for fault in after[1]] == ["row 2 has this value"]
    check.close()


async def test_all_indexes_are_told_together_and_who_is_in_the_way() -> None:
    await Keyed.get_pymongo_collection().delete_many({})
    await Keyed.get_pymongo_collection().insert_one(alone({}, [], 1))
    first, second = alone({}, [], 2), alone({}, [], 3) | {"number": 1, "left": 2, "right": "2"}
    check = UniquenessCheck(KEYED, TIMEOUT_SECONDS)

    [good, bad] = await check.faults([(2, first), (3, second)])

    assert good == []
    assert [(fault.pointer, fault.message) for fault in bad] == [
        ("/number", "another document has this value"),
        ("/left", "row 2 has these values of left, right"),
        ("/right", "row 2 has these values of left, right"),
    ]
    check.close()


async def test_what_was_refused_is_in_nobodys_way() -> None:
    await Keyed.get_pymongo_collection().delete_many({})
    first, second, third = (alone({}, [], number) for number in (1, 2, 3))

    found = await foreseen([first, second | {"number": 1, "texts": ["x"]}, third | {"texts": ["x"]}])

    assert found == [set(), {"number"}, set()]


async def test_many_keys_are_asked_for_in_parts() -> None:
    await Keyed.get_pymongo_collection().delete_many({})
    await Keyed.get_pymongo_collection().insert_one(alone({}, [], 0) | {"number": -1})
    many = [alone({}, [], number) for number in range(1, 2 * CHECKED_AT_ONCE + 10)]

    found = await foreseen([*many, alone({}, [], 10_000) | {"number": -1}])

    assert found == [*([set()] * len(many)), {"number"}]
