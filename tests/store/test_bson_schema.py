"""What MongoDB accepts by a class's schema, held against what the class accepts."""

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from enum import IntEnum
from typing import Annotated, Any

import bson
import orjson
import pytest
from annotated_types import MultipleOf
from bson import DatetimeMS, Decimal128, Int64, ObjectId
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, SecretStr, StringConstraints
from pymongo.asynchronous.collection import AsyncCollection

from service.api.dependencies import Services
from service.documents.base import Part, Record
from service.documents.batches import CODEC
from service.documents.json_text import dump_json
from service.documents.presenter import Presenter
from service.documents.registry import DocumentType
from service.errors import ValidationFailedError
from service.settings import Settings
from service.store.bson_schema import bson_schema_of
from service.store.database import open_database
from service.store.repository import new_document
from service.store.schemas import validate_body
from tests.bodies import bodies_of
from tests.conftest import TYPES

Document = dict[str, Any]


class Grade(IntEnum):
    """An enumeration of integers."""

    ONE = 1
    TWO = 2


class Inner(Part):
    """An object with limits."""

    code: Annotated[str, Field(pattern="^[a-c]+$", max_length=5)]
    level: Annotated[int, Field(gt=0, lt=10)] = 3


class Limited(Record):
    """A field for each limit that pydantic knows, and for code that changes what was checked."""

    whole: Annotated[int, Field(gt=-5, le=2**63, multiple_of=3)] = 0
    ratio: Annotated[float, Field(ge=0.1, lt=2.5)] = 0.1
    plain_ratio: float = 0
    price: Annotated[Decimal, Field(ge=Decimal("0.05"), max_digits=4, decimal_places=2)] = Decimal(1)
    digits: Annotated[Decimal, Field(max_digits=3)] = Decimal(1)
    step: Annotated[Decimal, MultipleOf(Decimal("0.25"))] = Decimal(1)
    short: Annotated[str, Field(min_length=1, max_length=2)] = ""
    sentinel: Annotated[int, Field(ge=0)] = -1
    shouted: Annotated[str, StringConstraints(to_upper=True, max_length=2, pattern="^[a-zßΐ]*$")] = "A"
    trimmed: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2)] = "a"
    doubled: Annotated[str, Field(max_length=2), AfterValidator(lambda text: text * 2)] = ""
    prepared: Annotated[str, BeforeValidator(lambda text: str(text)[:2]), Field(max_length=2)] = ""
    made: Annotated[str, PlainValidator(lambda value: f"{value}!")] = ""
    digit: Annotated[str, Field(pattern=r"^\d+$", max_length=3)] = "1"
    word: Annotated[str, Field(pattern=r"^\w+\b", max_length=5)] = "a"
    greedy: Annotated[str, Field(pattern="^[a-z]++$", max_length=5)] = "a"
    choice: Annotated[str, Field(pattern="^(?:red|blue)$")] = "red"
    endless: Annotated[str, Field(pattern="^[a-z ]*$")] = ""
    grade: Grade | None = None
    grades: Annotated[set[Grade], Field(max_length=1)] = set()
    numbers: Annotated[list[int | None], Field(min_length=1, max_length=3)] = [0]
    counts: Annotated[dict[str, int], Field(max_length=2)] = {}
    table: list[list[Annotated[int, Field(ge=0)]]] = []
    moments: dict[str, datetime | None] | None = None
    anything: Any = None
    inner: Inner | None = None
    inners: Annotated[list[Inner], Field(max_length=2)] = []

    class Settings(Record.Settings):
        """Where and how they are kept."""

        name = "limited"

    model_config = {"json_schema_extra": {"examples": [{}]}}


LIMITED = DocumentType(Limited)

TEXTS = ["", "a", "ab", "abc", "ß", "ßß", "ΐΐ", "İ", " a ", "٣", "123", "é", "red", "blue", "blue\n", "a b", "c" * 9]
INTEGERS = [-6, -5, -3, 0, 1, 2, 3, 9, 10, 2**62 // 3 * 3, 2**63 - 1]
DECIMALS = ["0.05", "0.04", "9.990", "1E1", "99.99", "0.25", "0.3", "1E2", "1E3", "999", "-999", "1E+6144"]
FLOATS = [0.1, 0.09, 2.4999, 2.5, 1e300, 5e-324]

texts = st.sampled_from(TEXTS) | st.text("abß1 \n", max_size=4)
integers = st.sampled_from(INTEGERS)
numbers = integers | st.sampled_from(FLOATS)
decimals = st.decimals(-1100, 1100, places=3).map(str) | st.sampled_from(DECIMALS)
scalars = st.none() | st.booleans() | texts | numbers | decimals
inners = st.fixed_dictionaries({"code": texts}, optional={"level": integers})
values = (
    scalars
    | inners
    | st.lists(scalars | inners | st.lists(integers, max_size=2), max_size=4)
    | st.dictionaries(st.sampled_from("abc"), scalars | st.just("2026-01-01T00:00:00Z"), max_size=3)
)
NAMES = [
    name for name in LIMITED.fields if "." not in name and name not in {"id", "created_at", "updated_at", "revision"}
]
limited_bodies = st.tuples(st.sampled_from(NAMES), values).map(lambda pair: {pair[0]: pair[1]})

one_by_one = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture
async def unchecked(services: Services) -> AsyncIterator[AsyncCollection[Document]]:
    """A collection that takes anything."""
    collection = services.database.handle["unchecked"]
    yield collection
    await collection.drop()


@pytest.fixture
async def checked(services: Services, document_type: DocumentType) -> AsyncIterator[AsyncCollection[Document]]:
    """A collection that takes what the type's schema says, and nothing else."""
    validator = {"$jsonSchema": bson_schema_of(document_type)}
    yield await services.database.handle.create_collection("checked", validator=validator)
    await services.database.handle.drop_collection("checked")


@pytest.fixture(scope="module")
async def _limited(services: Services, mongodb_uri: str) -> AsyncIterator[None]:
    """Beanie makes instances of a class only once it has a database."""
    chosen = Settings(_env_file=None, mongodb_uri=SecretStr(mongodb_uri), mongodb_database="dossier-limited")
    async with open_database(chosen, [Limited]):
        yield


def stored_documents(document_type: DocumentType, bodies: Iterable[Any]) -> list[Document]:
    """What the API would store, of those bodies that it would take."""
    stored = []
    for body in bodies:
        try:
            stored.append(new_document(ObjectId(), validate_body(document_type.whole, body)))
        except ValidationFailedError:
            continue
    return stored


@pytest.mark.parametrize("document_type", TYPES, ids=lambda document_type: document_type.name)
@one_by_one
@given(data=st.data())
async def test_what_the_api_stores_is_valid(
    document_type: DocumentType, checked: AsyncCollection[Document], data: st.DataObject
) -> None:
    bodies = data.draw(st.lists(bodies_of(document_type), max_size=8))

    await checked.insert_many(stored_documents(document_type, [document_type.example, *bodies]))


@pytest.mark.usefixtures("_limited")
@pytest.mark.parametrize("document_type", [LIMITED], ids=["limited"])
async def test_at_the_edge_of_each_limit_what_is_stored_is_valid(
    document_type: DocumentType, checked: AsyncCollection[Document]
) -> None:
    edges = [None, *TEXTS, *INTEGERS, *DECIMALS, *FLOATS]
    stored = stored_documents(document_type, [{}, *({name: value} for name in NAMES for value in edges)])

    await checked.insert_many(stored)

    changed = {name for one in stored for name in NAMES if one[name] != stored[0][name]}
    assert changed >= set(NAMES) - {"counts", "grades", "inner", "inners", "moments", "numbers", "table"}


@pytest.mark.usefixtures("_limited")
@pytest.mark.parametrize("document_type", [LIMITED], ids=["limited"])
@one_by_one
@given(bodies=st.lists(limited_bodies, min_size=30, max_size=60))
async def test_whatever_limits_a_class_has_what_it_stores_is_valid(
    document_type: DocumentType, checked: AsyncCollection[Document], bodies: list[Any]
) -> None:
    await checked.insert_many(stored_documents(document_type, [{}, *bodies]))


UNSAID = {
    "value_error": "a validator of the class's own, or an email address that is none for more than its @",
    "date_format": "a date with a time of day, or a moment past the year 9999",
    "time_format": "a moment past the year 9999",
    "inexact_number": "an integer that no float is equal to, in a field of floats",
    "invalid_key": "a key of free JSON that has $ or . in it",
}
"""What a class refuses of stored values though no JSON Schema can say it: the faults, and why."""

ODDITIES: list[Any] = [
    *(None, True, 0, 1, 2, -1, 151, 7.0, 1.5, float("nan"), float("-inf"), Int64(2**40), 2**63 - 1),
    *("", "a", "red", "ab", "x" * 51, "小" * 1001, "ada@example.org", "two@at@example.org", "ada@no-domain"),
    *map(Decimal128, ["0", "0.01", "0.001", "1E+12", "NaN", "Infinity", "-1"]),
    *(ObjectId("0" * 24), datetime(2026, 1, 1), datetime(2026, 1, 1, 12), DatetimeMS(2**48), b"bytes"),  # noqa: DTZ001 - as stored
    *([], [None], ["red", "red"], ["a"] * 51, [[1]], [{}], {}, {"stray": 1}, {"a.b": 1}, {"number": float("nan")}),
]
DELETED = object()


def places_in(value: Any, place: tuple[Any, ...] = ()) -> Iterable[tuple[Any, ...]]:
    """Where there is something in a document, from the outside in."""
    members: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        members = value.items()
    elif isinstance(value, list):
        members = enumerate(value)
    for name, inner in members:
        yield (*place, name)
        yield from places_in(inner, (*place, name))


def mutated(stored: Document, place: tuple[Any, ...], value: Any) -> Document:
    """The document with another value at a place, or without it."""
    copy: Document = bson.decode(bson.encode({**stored, "_id": ObjectId()}), CODEC)
    holder: Any = copy
    for name in place[:-1]:
        holder = holder[name]
    if value is not DELETED:
        holder[place[-1]] = value
    else:
        del holder[place[-1]]
    return copy


def as_json(document_type: DocumentType, stored: Document) -> Any:
    """What GET would show."""
    copy = bson.decode(bson.encode(stored), CODEC)
    return orjson.loads(dump_json(Presenter(document_type.fields.values()).present(copy)))


async def faults_of_valid(
    document_type: DocumentType, unchecked: AsyncCollection[Document], documents: list[Document]
) -> set[str]:
    """The codes of what the API refuses of those documents that are valid, were they sent as GET shows them."""
    await unchecked.delete_many({})
    await unchecked.insert_many(documents)
    codes: set[str] = set()
    async for valid in unchecked.find({"$jsonSchema": bson_schema_of(document_type)}):
        try:
            validate_body(document_type.whole, as_json(document_type, valid))
        except ValidationFailedError as error:
            assert {fault.code for fault in error.faults} <= UNSAID.keys(), (error.faults, valid)  # noqa: PT017
            codes |= {fault.code for fault in error.faults}
    return codes


def changes_of(stored: Document) -> tuple[list[tuple[Any, ...]], list[Any]]:
    """The places of a document where something else may be put, and what."""
    return [place for place in places_in(stored) if place[0] != "_id"], [*ODDITIES, DELETED]


@pytest.mark.parametrize("document_type", TYPES, ids=lambda document_type: document_type.name)
async def test_whatever_is_put_anywhere_if_it_is_valid_the_api_takes_it(
    document_type: DocumentType, unchecked: AsyncCollection[Document]
) -> None:
    [stored] = stored_documents(document_type, [document_type.example])
    places, values = changes_of(stored)
    mutants = [mutated(stored, place, value) for place in places for value in values]
    strays = [{**mutated(stored, place, DELETED), "stray": 1} for place in places]

    codes = await faults_of_valid(document_type, unchecked, [*mutants, *strays])

    assert document_type.name != "everythings" or codes == UNSAID.keys(), "it has all that no schema can say"
    assert not await unchecked.count_documents({"stray": 1, "$jsonSchema": bson_schema_of(document_type)})


@pytest.mark.parametrize("document_type", TYPES, ids=lambda document_type: document_type.name)
@one_by_one
@given(data=st.data())
async def test_what_is_valid_the_api_takes_but_for_what_no_schema_can_say(
    document_type: DocumentType, unchecked: AsyncCollection[Document], data: st.DataObject
) -> None:
    [stored] = stored_documents(document_type, [data.draw(bodies_of(document_type))])
    places, values = changes_of(stored)
    changes = data.draw(st.lists(st.tuples(st.sampled_from(places), st.sampled_from(values)), min_size=20))

    await faults_of_valid(document_type, unchecked, [mutated(stored, *change) for change in changes])
