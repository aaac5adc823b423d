"""The keys of unique indexes, as far as they need no database."""

from decimal import Decimal
from typing import Any

import pytest
from bson import Decimal128, Int64
from hypothesis import given
from hypothesis import strategies as st
from pymongo import ASCENDING, IndexModel

from service.documents.base import index, unique
from service.documents.registry import DocumentType
from service.documents.user import User
from service.store.uniqueness import (
    SeenKeys,
    UniqueIndex,
    comparable,
    duplicates,
    key_digest,
    unique_field,
    unique_indexes,
)
from tests.everything import Everything
from tests.unit.made_up import record_class

DIGITS = "1234567890123456789012345678901234"
"""As many as a Decimal128 has."""

numbers = (
    st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0.1, 0.5, 2.0**53, -0.0, 1e22])
    | st.decimals("-1e9", "1e9", places=3).map(Decimal128)
    | st.sampled_from(["0.1", "0.5", "0.50", "-0", "1E+22", DIGITS, DIGITS[:-1] + "5", "9007199254740992"]).map(
        Decimal128
    )
)


def exact(value: Any) -> Decimal:
    """A number as it is, without rounding."""
    return value.to_decimal() if isinstance(value, Decimal128) else Decimal(value)


@given(numbers, numbers)
def test_numbers_of_equal_value_are_equal_whatever_their_types(one: Any, other: Any) -> None:
    is_equal = exact(one) == exact(other)

    assert (comparable(one) == comparable(other)) == is_equal
    assert (key_digest(["a"], [one]) == key_digest(["a"], [other])) == is_equal


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, True), (0, False), (None, 0), ("1", 1), (None, ""), ("a", "A"), ("é", "e\u0301"), ("1.0", Decimal128("1.0"))],
    ids=repr,
)
def test_values_of_different_types_differ(one: Any, other: Any) -> None:
    assert key_digest(["a"], [one]) != key_digest(["a"], [other])


def test_a_key_is_of_its_own_index() -> None:
    assert key_digest(["a"], [1]) != key_digest(["b"], [1])
    assert key_digest(["a", "b"], [1, 2]) != key_digest(["a", "b"], [2, 1])
    assert key_digest(["a"], [Int64(1)]) == key_digest(["a"], [1.0])


@pytest.mark.parametrize(
    ("paths", "stored", "values"),
    [
        (["a"], {"a": 1}, [(1,)]),
        (["a"], {"a": None}, [(None,)]),
        (["a"], {}, [(None,)]),
        (["a"], {"a": [1, 2, 1.0]}, [(1,), (2,)]),
        (["a.b"], {"a": {"b": 1}}, [(1,)]),
        (["a.b"], {"a": None}, [(None,)]),
        (["a.b"], {"a": [{"b": 1}, {"b": 2}, {}]}, [(1,), (2,), (None,)]),
        (["a", "b"], {"a": [1, 2], "b": 3}, [(1, 3), (2, 3)]),
        (["a", "b"], {"b": 3}, [(None, 3)]),
    ],
)
def test_a_document_has_a_key_for_each_element(
    paths: list[str], stored: dict[str, Any], values: list[tuple[Any, ...]]
) -> None:
    assert list(UniqueIndex(tuple(paths)).keys(stored).values()) == values


def test_an_empty_array_is_not_null() -> None:
    tags = UniqueIndex(("tags",))

    assert tags.keys({"tags": []}).keys().isdisjoint(tags.keys({"tags": None}))
    assert [tags.conditions(values) for values in tags.keys({"tags": []}).values()] == [[{"tags": []}]]


def test_where_nothing_is_an_array_may_be_empty_too() -> None:
    both = UniqueIndex(("parts.code", "name"), arrays=frozenset({"parts", "part"}))

    assert both.conditions([None, None]) == [{"parts.code": None, "name": None}, {"parts": [], "name": None}]
    assert both.conditions([1, 2]) == [{"parts.code": 1, "name": 2}]


def test_only_indexes_whose_key_says_all_are_known_beforehand() -> None:
    sparse = IndexModel([("a", ASCENDING)], unique=True, sparse=True)
    some = IndexModel([("b", ASCENDING)], unique=True, partialFilterExpression={"b": {"$gt": 1}})
    thing = record_class({"a": int, "b": int}, indexes=[unique("a"), index("b"), sparse, some, unique("a", "b")])

    assert [index.paths for index in unique_indexes(DocumentType(thing))] == [("a",), ("a", "b")]
    assert [index.paths for index in unique_indexes(DocumentType(User))] == [("email",)]
    assert [index.paths for index in unique_indexes(DocumentType(Everything))] == [("code",), ("left", "right")]


def test_a_unique_field_is_unique_by_itself() -> None:
    assert [unique_field(model) for model in (unique("a"), unique("a", "b"), index("a"))] == ["a", None, None]


def test_the_first_row_of_a_key_is_remembered() -> None:
    seen = SeenKeys()
    seen.add([b"a", b"b"], 2)
    seen.add([b"b", b"c"], 3)

    assert [seen.row_of(key) for key in (b"a", b"b", b"c", b"d")] == [2, 2, 3, None]
    seen.close()


def test_a_duplicate_is_a_fault_of_each_field_of_its_index() -> None:
    [fault] = duplicates(["a.b"], "row 2")
    first, second = duplicates(["a", "b"], "another document")

    assert (fault.code, fault.message, fault.pointer) == ("duplicate_value", "row 2 has this value", "/a/b")
    assert (first.pointer, second.pointer) == ("/a", "/b")
    assert first.message == second.message == "another document has these values of a, b"
