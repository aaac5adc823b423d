"""What each operator of a filter means to MongoDB, and what it refuses."""

from datetime import datetime
from typing import Any

import pytest
from bson import Decimal128

from service.documents.fields import Field
from service.documents.introspection import fields_of
from service.documents.user import User
from service.store.operators import MAX_VALUES, OPERATORS, operators_of
from tests.everything import Everything

FIELDS = fields_of(Everything)


@pytest.mark.parametrize(
    ("operator", "path", "text", "condition"),
    [
        ("eq", "text", '{"$ne": null}', {"$eq": '{"$ne": null}'}),
        ("ne", "integer", "-5", {"$ne": -5}),
        ("gt", "day", "2026-01-31", {"$gt": datetime(2026, 1, 31)}),  # noqa: DTZ001 - as it is stored
        ("gte", "decimal_number", "1.10", {"$gte": Decimal128("1.10")}),
        ("lt", "text", "$a", {"$lt": "$a"}),
        ("lte", "moment", "2026-01-01T01:00:00+01:00", {"$lte": datetime(2026, 1, 1)}),  # noqa: DTZ001 - likewise
        ("in", "email", "A@x.org,b@X.org", {"$in": ["a@x.org", "b@x.org"]}),
        ("nin", "level", "1,2", {"$nin": [1, 2]}),
        ("contains", "text", "a.b", {"$regex": "a\\.b"}),
        ("startswith", "email", "A+", {"$regex": "^a\\+"}),
        ("regex", "code", "^a.*b$", {"$regex": "^a.*b$"}),
        ("exists", "branch", "true", {"$ne": None}),
        ("exists", "free", "false", {"$eq": None}),
    ],
)
def test_a_value_becomes_a_condition_of_the_fields_own_type(
    operator: str, path: str, text: str, condition: dict[str, Any]
) -> None:
    assert OPERATORS[operator].condition(FIELDS[path], text) == condition


@pytest.mark.parametrize(
    ("operator", "field", "text"),
    [
        ("in", FIELDS["integer"], ",".join(["1"] * (MAX_VALUES + 1))),
        ("in", FIELDS["integer"], "1,,2"),
        ("nin", FIELDS["colour"], "red,green"),
        ("gt", FIELDS["float_number"], "NaN"),
        ("lt", FIELDS["float_number"], "inf"),
        ("gt", FIELDS["day"], "0000-01-01"),
        ("lt", FIELDS["day"], "10000-01-01"),
        ("contains", FIELDS["text"], ""),
        ("startswith", FIELDS["text"], "x" * 129),
        ("regex", FIELDS["texts"], "a"),
        ("regex", FIELDS["code"], "(a+)+"),
        ("regex", FIELDS["code"], ""),
        ("exists", FIELDS["code"], "yes"),
    ],
)
def test_what_is_no_value_of_the_field_is_refused(operator: str, field: Field, text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        OPERATORS[operator].condition(field, text)


def test_each_kind_takes_its_own_operators() -> None:
    users = fields_of(User)

    assert operators_of(users["is_active"]) == ["eq", "ne", "in", "nin", "exists"]
    assert operators_of(users["age"]) == ["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "exists"]
    assert operators_of(users["profile"]) == ["exists"]
    assert operators_of(users["name"]) == list(OPERATORS)
