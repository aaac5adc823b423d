"""Sample documents: such as POST takes, and the same ones for the same seed."""

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any

import orjson
import pytest
from beanie import PydanticObjectId
from pydantic import Field, TypeAdapter

from service.documents.base import Email, Record, Reference, unique
from service.documents.item import Item
from service.documents.registry import DocumentType, registered_types
from service.documents.user import User
from service.samples import Sampler
from service.store.schemas import create_model_of
from tests.everything import Everything
from tests.unit.made_up import record_class

TYPES = (*registered_types(), DocumentType(Everything))
by_type = pytest.mark.parametrize("document_type", TYPES, ids=lambda document_type: document_type.name)
USERS = DocumentType(User)
COUNT = 300


def unique_paths(document_type: DocumentType) -> Iterator[list[str]]:
    for model in document_type.indexes:
        if model.document.get("unique"):
            yield list(model.document["key"])


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
def test_the_same_seed_makes_the_same_samples(document_type: DocumentType) -> None:
    assert list(Sampler(document_type).bodies(20)) == list(Sampler(document_type).bodies(20))


@by_type
def test_a_sample_has_the_members_of_the_example(document_type: DocumentType) -> None:
    for body in Sampler(document_type).bodies(5):
        assert set(body) == set(document_type.example)


def test_another_seed_makes_others() -> None:
    assert list(Sampler(USERS, seed=1).bodies(20)) != list(Sampler(USERS, seed=2).bodies(20))


def test_the_samples_of_people_are_not_all_alike() -> None:
    bodies = list(Sampler(USERS).bodies(COUNT))

    assert len({body["name"] for body in bodies}) > 10
    assert len({body["profile"]["addresses"][0]["city"] for body in bodies}) > 5
    assert {len(body["profile"]["addresses"]) for body in bodies} == {1, 2, 3}
    assert any(not body["name"].isascii() for body in bodies)


def test_an_item_refers_to_users_that_there_are() -> None:
    ids = ["0123456789abcdef01234567", "0123456789abcdef01234568"]

    bodies = list(Sampler(DocumentType(Item), ids={"users": ids, "items": ["0" * 24]}).bodies(50))

    assert {body["owner_id"] for body in bodies} == set(ids)


@pytest.mark.parametrize("ids", [None, {}, {"users": []}, {"items": ["0" * 24]}])
def test_an_item_has_no_owner_where_there_are_no_users(ids: dict[str, list[str]] | None) -> None:
    assert all("owner_id" not in body for body in Sampler(DocumentType(Item), ids=ids).bodies(5))


def test_an_array_of_references_is_sampled_as_an_array() -> None:
    owners = list[Annotated[PydanticObjectId, Reference("users")]]
    document_type = DocumentType(record_class({"owner_ids": (owners, [])}))
    ids = ["0123456789abcdef01234567", "0123456789abcdef01234568"]

    for body in Sampler(document_type, ids={"users": ids}).bodies(20):
        assert set(body["owner_ids"]) <= set(ids)
        create_model_of(document_type).model_validate_json(orjson.dumps(body), strict=True)


@pytest.mark.parametrize(
    ("annotation", "example"),
    [
        (str, "a"),
        (Annotated[str, Field(max_length=4)], "abcd"),
        (int, 1),
        (Email, "a@example.org"),
        (Decimal, "1.10"),
        (date, "2026-01-01"),
        (datetime, "2026-01-01T00:00:00Z"),
        (PydanticObjectId, "0123456789abcdef01234567"),
    ],
    ids=str,
)
def test_a_unique_field_of_any_kind_is_sampled(annotation: Any, example: Any) -> None:
    cls: type[Record] = record_class(
        {"mark": annotation}, config={"json_schema_extra": {"examples": [{"mark": example}]}}, indexes=[unique("mark")]
    )
    adapter = TypeAdapter(annotation)

    marks = [body["mark"] for body in Sampler(DocumentType(cls)).bodies(50)]

    assert len({str(adapter.validate_python(mark)) for mark in marks}) == 50
