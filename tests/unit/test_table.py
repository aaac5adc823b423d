"""Nested documents as rows and columns."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.documents.batches import decode_batch
from service.documents.introspection import fields_of
from service.documents.presenter import Presenter
from service.documents.user import User
from service.transfer.encoding import FormatName
from service.transfer.formats import FORMATS
from service.transfer.table import Table
from tests.everything import Everything
from tests.unit.made_up import batch_of, everything_documents, file_spec, made_file, odd_values

USERS = fields_of(User)
EVERYTHING = fields_of(Everything)
ADDRESS_PATHS = [f"profile.addresses.{name}" for name in ("street", "city", "zipcode", "country")]

explodable = st.sampled_from(
    [None, "texts", "days", "branches", "branch.days", "branch.leaves", "branch.leaf.moments", "references"]
)
some_paths = st.lists(st.sampled_from(list(EVERYTHING)), max_size=6).map(tuple)


def rows(table: Table, *documents: dict[str, Any]) -> list[list[Any]]:
    count, columns = table.cells(batch_of(*documents))
    assert len(columns) == len(table.columns)
    assert {len(column) for column in columns} == {count}
    return [list(row) for row in zip(*columns, strict=True)]


def value_at(value: Any, path: Sequence[str]) -> Any:
    """What lies at the end of a path; of an array, the list of what lies there in each element."""
    if not path:
        return value
    if isinstance(value, list):
        return [value_at(element, path) for element in value]
    return value_at(value[path[0]], path[1:]) if isinstance(value, dict) and path[0] in value else None


def array_at(document: Any, path: Sequence[str]) -> list[Any] | None:
    """The array at the end of a path that leads through nothing but objects."""
    for name in path:
        if not isinstance(document, dict):
            return None
        document = document.get(name)
    return document if isinstance(document, list) else None


def expected_rows(document: dict[str, Any], columns: Sequence[str], explode: str | None) -> list[list[Any]]:
    """The rows of a presented document, each path followed from the top each time."""
    array_path = explode.split(".") if explode else []
    array = array_at(document, array_path)
    if array is None:
        return [[value_at(document, column.split(".")) for column in columns]]
    return [
        [
            value_at(element, column.split(".")[len(array_path) :])
            if column == explode or column.startswith(f"{explode}.")
            else value_at(document, column.split("."))
            for column in columns
        ]
        for element in array or [None]
    ]


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


@pytest.mark.parametrize(
    ("explode", "header"),
    [
        (None, ["branches[].label", "branches[].leaves[].text", "branches[].leaf.moments", "branch.leaves[].text"]),
        ("branches", ["branches.label", "branches.leaves[].text", "branches.leaf.moments", "branch.leaves[].text"]),
        (
            "branch.leaves",
            ["branches[].label", "branches[].leaves[].text", "branches[].leaf.moments", "branch.leaves.text"],
        ),
    ],
)
def test_a_column_says_which_arrays_it_has_all_elements_of(explode: str | None, header: list[str]) -> None:
    paths = ["branches.label", "branches.leaves.text", "branches.leaf.moments", "branch.leaves.text"]
    table = Table(EVERYTHING, paths, explode)

    assert list(table.header) == header
    assert [column.path for column in table.columns] == paths


def test_a_column_of_a_whole_array_has_its_path() -> None:
    table = Table(EVERYTHING)
    assert list(table.header) == [column.path for column in table.columns]


def test_an_exploded_array_of_objects_is_a_column_each_of_their_fields() -> None:
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


@pytest.mark.parametrize("profile", [{"addresses": []}, {"addresses": None}, {}, None, "odd", 1])
def test_a_document_with_nothing_to_explode_keeps_its_row(profile: Any) -> None:
    table = Table(USERS, ["name", "profile.addresses"], explode="profile.addresses")

    assert rows(table, {"name": "Ada", "profile": profile}) == [["Ada", None, None, None, None]]


@pytest.mark.parametrize(
    ("profile", "cell"), [([], []), ([{"addresses": [{"city": "x"}, {"city": "y"}]}], [["x", "y"]])]
)
def test_an_array_on_the_way_to_what_is_exploded_is_no_more_than_an_array(profile: Any, cell: list[Any]) -> None:
    table = Table(USERS, ["name", "profile.addresses.city"], explode="profile.addresses")

    assert rows(table, {"name": "Ada", "profile": profile}) == [["Ada", cell]]


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


@given(st.lists(everything_documents(), max_size=4), some_paths, explodable)
def test_each_cell_has_what_lies_at_its_path(
    documents: list[dict[str, Any]], paths: tuple[str, ...], explode: str | None
) -> None:
    table = Table(EVERYTHING, paths, explode)
    present = Presenter(EVERYTHING.values()).present
    columns = [column.path for column in table.columns]

    assert rows(table, *documents) == [
        row for stored in decode_batch(batch_of(*documents)) for row in expected_rows(present(stored), columns, explode)
    ]


@given(st.lists(everything_documents(), max_size=4), explodable)
def test_there_is_one_document_for_each_row(documents: list[dict[str, Any]], explode: str | None) -> None:
    table = Table(EVERYTHING, explode=explode)

    found = list(table.documents(batch_of(*documents)))

    columns = [column.path.split(".") for column in table.columns]
    assert [[value_at(document, path) for path in columns] for document in found] == rows(table, *documents)


@given(
    st.dictionaries(st.sampled_from([path for path in EVERYTHING if "." not in path and path != "id"]), odd_values()),
    explodable,
    st.sampled_from(list(FORMATS)),
)
def test_odd_documents_never_break_a_file(
    document: dict[str, Any], explode: str | None, format_name: FormatName
) -> None:
    batch = batch_of(document)
    table = Table(EVERYTHING, explode=explode)

    assert rows(table, document)
    assert made_file(file_spec(EVERYTHING.values(), format_name, explode=explode), batch)


def test_an_odd_value_where_an_array_is_exploded_is_not_lost() -> None:
    assert rows(Table(USERS, ["tags"], explode="tags"), {"tags": "alone"}) == [["alone"]]


def test_an_exploded_document_is_there_for_each_element() -> None:
    table = Table(USERS, explode="profile.addresses")
    profile = {"bio": "b", "addresses": [{"city": "x"}, {"city": "y"}]}

    assert list(table.documents(batch_of({"name": "Ada", "profile": profile}, {"name": "Bob"}))) == [
        {"id": 1, "name": "Ada", "profile": {"bio": "b", "addresses": {"city": "x"}}},
        {"id": 1, "name": "Ada", "profile": {"bio": "b", "addresses": {"city": "y"}}},
        {"id": 1, "name": "Bob"},
    ]
