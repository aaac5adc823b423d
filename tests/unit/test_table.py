"""Nested documents as rows and columns."""

from datetime import date, datetime
from typing import Any

import bson
import pytest
from bson import Binary, Code, Decimal128, MaxKey, ObjectId, Regex
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st

from service.documents.introspection import fields_of
from service.documents.user import User
from service.transfer.csv_encoder import CsvEncoder
from service.transfer.table import Table
from service.transfer.xlsx_encoder import XlsxEncoder
from tests.everything import Everything

USERS = fields_of(User)
EVERYTHING = fields_of(Everything)
ADDRESS_PATHS = [f"profile.addresses.{name}" for name in ("street", "city", "zipcode", "country")]

odd_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=3)
    | st.datetimes().map(lambda moment: moment.replace(microsecond=0))
    | st.sampled_from(
        [
            ObjectId(),
            Decimal128("NaN"),
            Decimal128("1.5"),
            DatetimeMS(2**60),
            Regex("a"),
            Code("=a"),
            MaxKey(),
            Binary(b"a"),
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["label", "leaf", "leaves", "day", "days", "moments", "text", "x"]), inner, max_size=3
        )
    ),
)


def rows(table: Table, *documents: dict[str, Any]) -> list[list[Any]]:
    return list(table.rows(b"".join(bson.encode({"_id": 1, **document}) for document in documents)))


def test_every_field_is_a_column_and_an_object_is_one_for_each_of_its_fields() -> None:
    assert [column.path for column in Table(USERS).columns] == [
        "id",
        "name",
        "email",
        "age",
        "is_active",
        "tags",
        "profile.bio",
        "profile.birthday",
        "profile.phone",
        "profile.addresses",
        "created_at",
        "updated_at",
        "revision",
    ]


def test_objects_in_objects_are_opened_too() -> None:
    paths = [column.path for column in Table(EVERYTHING, ["branch"]).columns]

    assert paths == [
        "branch.label",
        "branch.leaf.text",
        "branch.leaf.number",
        "branch.leaf.day",
        "branch.leaf.moments",
        "branch.leaves",
        "branch.days",
    ]


@pytest.mark.parametrize(
    ("paths", "columns"),
    [
        (["name"], ["name"]),
        (["name", "id"], ["name", "id"]),
        (["profile.phone", "profile.bio"], ["profile.phone", "profile.bio"]),
        (["profile"], ["profile.bio", "profile.birthday", "profile.phone", "profile.addresses"]),
        (["profile.bio", "profile"], ["profile.bio", "profile.birthday", "profile.phone", "profile.addresses"]),
        (["profile.addresses.city"], ["profile.addresses.city"]),
    ],
)
def test_the_columns_are_those_asked_for_in_that_order_and_once(paths: list[str], columns: list[str]) -> None:
    assert [column.path for column in Table(USERS, paths).columns] == columns


def test_an_exploded_array_of_objects_is_a_column_for_each_of_their_fields() -> None:
    paths = [column.path for column in Table(USERS, ["name", "profile"], explode="profile.addresses").columns]

    assert paths == ["name", "profile.bio", "profile.birthday", "profile.phone", *ADDRESS_PATHS]


def test_an_array_is_one_cell() -> None:
    address = {"street": "s", "city": "c"}
    table = Table(USERS, ["tags", "profile.addresses", "profile.addresses.city"])

    assert rows(table, {"tags": ["a", "b"], "profile": {"addresses": [address, {}]}}) == [
        [["a", "b"], [address, {}], ["c", None]]
    ]


def test_an_exploded_array_of_objects_is_a_row_for_each_element() -> None:
    table = Table(USERS, ["name", "profile.addresses"], explode="profile.addresses")
    addresses = [{"street": "1", "city": "a"}, {"street": "2", "zipcode": "z", "country": "DE"}]

    assert rows(table, {"name": "Ada", "profile": {"addresses": addresses}}) == [
        ["Ada", "1", "a", None, None],
        ["Ada", "2", None, "z", "DE"],
    ]


def test_an_exploded_array_of_scalars_is_a_row_for_each_element() -> None:
    table = Table(USERS, ["tags", "name"], explode="tags")

    assert rows(table, {"name": "Ada", "tags": ["a", None, "b"]}) == [["a", "Ada"], [None, "Ada"], ["b", "Ada"]]


@pytest.mark.parametrize("profile", [{"addresses": []}, {"addresses": None}, {}, None, "odd", [], 1])
def test_a_document_with_nothing_to_explode_keeps_its_row(profile: Any) -> None:
    table = Table(USERS, ["name", "profile.addresses"], explode="profile.addresses")

    assert rows(table, {"name": "Ada", "profile": profile}) == [["Ada", None, None, None, None]]


def test_what_is_inside_of_an_exploded_element_stays_one_cell() -> None:
    table = Table(EVERYTHING, ["branches"], explode="branches")
    branch = {"label": "x", "leaf": {"number": 1}, "leaves": [{"text": "a"}, {"text": "b"}], "days": []}

    (row,) = rows(table, {"branches": [branch]})

    assert dict(zip([column.path for column in table.columns], row, strict=True)) == {
        "branches.label": "x",
        "branches.leaf.text": None,
        "branches.leaf.number": 1,
        "branches.leaf.day": None,
        "branches.leaf.moments": None,
        "branches.leaves": [{"text": "a"}, {"text": "b"}],
        "branches.days": [],
    }


def test_dates_are_dates_and_times_are_times() -> None:
    moment = datetime(2026, 1, 2)  # noqa: DTZ001 - as BSON has it
    table = Table(EVERYTHING, ["id", "day", "moment", "branches"], explode="branches")

    (row,) = rows(table, {"day": moment, "moment": moment, "branches": [{"days": [moment], "leaf": {"day": moment}}]})

    day = date(2026, 1, 2)
    assert row == [1, day, moment, None, None, None, day, None, None, [day]]


def test_a_document_without_a_field_has_an_empty_cell() -> None:
    assert rows(Table(USERS), {}) == [[1, *[None] * 12]]


def test_a_batch_of_several_documents_is_read_in_order() -> None:
    assert rows(Table(USERS, ["name"]), {"name": "a"}, {"name": "b"}) == [["a"], ["b"]]
    assert rows(Table(USERS, ["name"])) == []


@given(
    st.dictionaries(st.sampled_from([path for path in EVERYTHING if "." not in path and path != "id"]), odd_values),
    st.sampled_from([None, "texts", "branches", "branch.leaves", "branch.leaf.moments", "days"]),
)
def test_odd_documents_never_break_a_file(document: dict[str, Any], explode: str | None) -> None:
    batch = bson.encode({"_id": 1, **document})
    table = Table(EVERYTHING, explode=explode)

    read = list(table.rows(batch))

    assert read
    assert {len(row) for row in read} == {len(table.columns)}
    assert CsvEncoder(table).encode(batch).endswith(b"\r\n")
    xlsx = XlsxEncoder(table, title="odd")
    xlsx.start()
    xlsx.encode(batch)


def test_an_odd_value_where_an_array_is_exploded_is_not_lost() -> None:
    assert rows(Table(USERS, ["tags"], explode="tags"), {"tags": "alone"}) == [["alone"]]
