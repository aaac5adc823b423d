"""Sample documents: such as POST takes, varied, and the same ones for the same seed."""

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Any, Literal

import orjson
import pytest
from beanie import PydanticObjectId
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, Field, TypeAdapter

from service.documents.base import Email, Record, Reference, index, unique
from service.documents.item import Item
from service.documents.registry import DocumentType, registered_types
from service.documents.user import User
from service.samples import Sampler
from service.samples.words import PEOPLE
from service.store.schemas import create_model_of
from tests.everything import Everything
from tests.unit.made_up import named, part_class, record_class

TYPES = (*registered_types(), DocumentType(Everything))
by_type = pytest.mark.parametrize("document_type", TYPES, ids=lambda document_type: document_type.name)
USERS = DocumentType(User)
COUNT = 300
IDS = ["0123456789abcdef01234567", "0123456789abcdef01234568"]


def type_of(fields: dict[str, Any], example: dict[str, Any], **options: Any) -> DocumentType:
    cls: type[Record] = record_class(fields, config={"json_schema_extra": {"examples": [example]}}, **options)
    return DocumentType(cls)


def values_of(annotation: Any, example: Any, count: int = 50, name: str = "mark", **options: Any) -> list[Any]:
    """What samples have in a field of this kind, all of which its type takes."""
    document_type = type_of({name: annotation}, {name: example}, **options)
    bodies = list(Sampler(document_type).bodies(count))
    for body in bodies:
        create_model_of(document_type).model_validate_json(orjson.dumps(body), strict=True)
    return [body[name] for body in bodies]


def unique_paths(document_type: DocumentType) -> Iterator[list[str]]:
    for model in document_type.indexes:
        if model.document.get("unique"):
            yield list(model.document["key"])


def values_at(value: Any, path: list[str]) -> Iterator[Any]:
    """What the objects on the way have there, in arrays too."""
    if isinstance(value, list):
        for element in value:
            yield from values_at(element, path)
    elif not path:
        yield value
    elif isinstance(value, Mapping) and path[0] in value:
        yield from values_at(value[path[0]], path[1:])


@by_type
def test_each_sample_is_a_body(document_type: DocumentType) -> None:
    model = create_model_of(document_type)

    for body in Sampler(document_type).bodies(COUNT):
        model.model_validate_json(orjson.dumps(body), strict=True)


@by_type
def test_no_two_samples_conflict(document_type: DocumentType) -> None:
    bodies = list(Sampler(document_type).bodies(COUNT))

    for paths in unique_paths(document_type):
        assert len({tuple(str(body[path]).lower() for path in paths) for body in bodies}) == COUNT


@by_type
def test_the_same_seed_and_number_make_the_same_sample(document_type: DocumentType) -> None:
    ten = list(Sampler(document_type).bodies(10))

    assert list(Sampler(document_type).bodies(1000))[:10] == ten
    assert list(Sampler(document_type).bodies(6, start=5)) == ten[4:]


@by_type
def test_a_sample_has_the_members_of_the_example(document_type: DocumentType) -> None:
    for body in Sampler(document_type).bodies(5):
        assert set(body) >= set(document_type.example)


@by_type
def test_every_field_of_the_example_varies(document_type: DocumentType) -> None:
    bodies = list(Sampler(document_type).bodies(COUNT))

    for path, field in document_type.fields.items():
        if field.is_scalar and list(values_at(document_type.example, path.split("."))):
            assert len({str(value) for body in bodies for value in values_at(body, path.split("."))}) > 1, path


@by_type
def test_what_may_be_null_is_so_now_and_then_and_nothing_else(document_type: DocumentType) -> None:
    bodies = list(Sampler(document_type).bodies(COUNT))

    for name in document_type.example:
        share = sum(body[name] is None for body in bodies) / COUNT
        assert (0 < share < 0.3) == document_type.fields[name].is_nullable, name


def test_another_seed_makes_others() -> None:
    first, second = (list(Sampler(USERS, seed=seed).bodies(20)) for seed in (1, 2))

    assert all(one != other for one, other in zip(first, second, strict=True))


def test_the_samples_of_people_are_not_all_alike() -> None:
    bodies = list(Sampler(USERS).bodies(COUNT))
    addresses = [body["profile"]["addresses"] for body in bodies if body["profile"]]

    assert len({body["name"] for body in bodies}) > 80
    assert len({address["city"] for some in addresses for address in some}) > 10
    assert {len(some) for some in addresses} == {0, 1, 2, 3}
    assert {body["is_active"] for body in bodies} == {True, False}
    assert all(18 <= body["age"] <= 99 for body in bodies if body["age"] is not None)


def test_an_email_address_goes_with_its_name() -> None:
    beginnings = dict(PEOPLE)

    for body in Sampler(USERS).bodies(20):
        assert body["email"].startswith(f"{beginnings[body['name']]}.")


def test_an_item_refers_to_users_that_there_are() -> None:
    bodies = list(Sampler(DocumentType(Item), ids={"users": IDS, "items": ["0" * 24]}).bodies(50))

    assert {body["owner_id"] for body in bodies} == {*IDS, None}


@pytest.mark.parametrize("ids", [None, {}, {"users": []}, {"items": ["0" * 24]}])
def test_an_item_has_no_owner_where_there_are_no_users(ids: dict[str, list[str]] | None) -> None:
    assert all("owner_id" not in body for body in Sampler(DocumentType(Item), ids=ids).bodies(5))


def test_an_array_of_references_is_sampled_as_an_array() -> None:
    owners = list[Annotated[PydanticObjectId, Reference("users")]]
    document_type = DocumentType(record_class({"owner_ids": (owners, [])}))

    bodies = list(Sampler(document_type, ids={"users": IDS}).bodies(20))

    assert {owner for body in bodies for owner in body["owner_ids"]} == set(IDS)
    for body in bodies:
        create_model_of(document_type).model_validate_json(orjson.dumps(body), strict=True)


def test_a_reference_stays_true_where_something_else_can_be_unique() -> None:
    owner = Annotated[PydanticObjectId, Reference("users")]
    example = {"owner_id": IDS[0], "name": "a"}
    fields = {"owner_id": owner, "name": str}
    together = type_of(fields, example, indexes=[unique("owner_id", "name")])
    alone = type_of(fields, example, indexes=[unique("owner_id"), index("name")])

    assert {body["owner_id"] for body in Sampler(together, ids={"users": IDS}).bodies(20)} == set(IDS)
    assert len({body["owner_id"] for body in Sampler(alone, ids={"users": IDS}).bodies(20)}) == 20


@pytest.mark.parametrize(
    ("annotation", "example"),
    [
        (str, "a"),
        (str, "INV-0098"),
        (Annotated[str, Field(max_length=4)], "abcd"),
        (Annotated[str, Field(pattern=r"^[A-Z]{2}-[0-9]{4}$")], "AE-1843"),
        (int, 0),
        (float, 0.5),
        (Email, "a@example.org"),
        (Decimal, "1.10"),
        (date, "2026-01-01"),
        (datetime, "2026-01-01T00:00:00Z"),
        (PydanticObjectId, "0123456789abcdef01234567"),
        (list[str], ["a"]),
    ],
    ids=named,
)
def test_a_unique_field_of_any_kind_is_sampled(annotation: Any, example: Any) -> None:
    adapter = TypeAdapter(annotation)

    marks = values_of(annotation, example, indexes=[unique("mark")])

    assert len({str(adapter.validate_python(mark)) for mark in marks}) == 50


def test_texts_count_on_from_the_number_at_the_end_of_the_example() -> None:
    assert values_of(str, "INV-0098", 3, indexes=[unique("mark")]) == ["INV-0099", "INV-0100", "INV-0101"]


@pytest.mark.parametrize(
    ("annotation", "example", "name"),
    [
        (Annotated[int, Field(ge=30, le=33)], 31, "mark"),
        (Annotated[int, Field(gt=10, lt=13)], 11, "mark"),
        (Annotated[int, Field(le=16)], 12, "age"),
        (Annotated[int, Field(multiple_of=5)], 20, "mark"),
        (Annotated[int, Field(ge=-5, lt=0)], -2, "mark"),
        (int, 0, "mark"),
        (int, 2**63 - 1, "mark"),
        (Annotated[float, Field(ge=0, le=1)], 0.999, "mark"),
        (float, 1e300, "mark"),
        (Annotated[Decimal, Field(max_digits=3, decimal_places=1)], "99.9", "mark"),
        (Annotated[Decimal, Field(max_digits=4, decimal_places=2)], "90", "price"),
        (Decimal, "-1E+5", "mark"),
        (Annotated[str, Field(max_length=3)], "a b", "title"),
        (Annotated[str, Field(min_length=6)], "sixsix", "mark"),
        (Annotated[list[int], Field(min_length=2, max_length=2)], [1, 2], "mark"),
        (Annotated[set[Literal["a", "b"]], Field(min_length=2)], ["a", "b"], "mark"),
        (Annotated[list[str], Field(max_length=1)], ["a"], "tags"),
    ],
    ids=named,
)
def test_values_stay_within_their_limits(annotation: Any, example: Any, name: str) -> None:
    values_of(annotation, example, 200, name)


def test_numbers_have_as_many_places_as_the_example() -> None:
    prices = values_of(Decimal, "12.50")

    assert {Decimal(price).as_tuple().exponent for price in prices} == {-2}
    assert len(set(prices)) > 40


@settings(max_examples=50)
@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**63), st.integers(0, 2**63))
def test_any_two_bounds_of_an_integer_are_kept(example: int, below: int, above: int) -> None:
    low, high = max(example - below, -(2**63)), min(example + above, 2**63 - 1)

    for value in values_of(Annotated[int, Field(ge=low, le=high)], example, 5):
        assert low <= value <= high


@settings(max_examples=50)
@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9))
def test_a_decimal_keeps_to_its_digits(example: Decimal) -> None:
    places, digits = 3, len(str(abs(int(example)))) + 3

    values_of(Annotated[Decimal, Field(max_digits=digits, decimal_places=places)], str(example), 5)


def only_this(text: str) -> str:
    if text != "as it is":
        raise ValueError("not this")
    return text


def test_what_a_class_checks_with_code_of_its_own_is_left_as_in_the_example() -> None:
    checked = Annotated[str, AfterValidator(only_this)]

    assert set(values_of(checked, "as it is")) == {"as it is"}
    assert {text for texts in values_of(list[checked], ["as it is"]) for text in texts} == {"as it is"}
    assert set(values_of(Annotated[date, Field(ge=date(2026, 1, 1))], "2026-02-03")) == {"2026-02-03"}


def test_an_enumeration_that_the_example_leaves_out_is_sampled_and_a_text_is_not() -> None:
    fields = {
        "size": (Literal["s", "l"], "s"),
        "sizes": (list[Literal["s", "l"]], Field(default_factory=list)),
        "is_new": (bool, Field(default_factory=bool)),
        "note": (str | None, None),
    }
    bodies = list(Sampler(type_of(fields, {})).bodies(20))

    assert {body["size"] for body in bodies} == {"s", "l"}
    assert all(body.keys() == {"size"} for body in bodies)


def test_members_of_a_nested_object_may_be_called_as_the_servers_fields() -> None:
    part = part_class("Part", id=str, revision=int)

    parts = values_of(part, {"id": "x", "revision": 3})

    assert all(set(part) == {"id", "revision"} for part in parts)


def test_numbers_go_on_after_those_before() -> None:
    skus = [body["sku"] for body in Sampler(DocumentType(Item)).bodies(20, start=99_990)]

    assert all(int(after[3:]) == int(before[3:]) + 1 for before, after in pairwise(skus))
