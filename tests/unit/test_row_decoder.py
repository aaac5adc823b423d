"""Rows as bodies: what an export wrote comes back, and what people write is read or refused by its column."""

import tempfile
from collections.abc import Sequence
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson
import pytest
from bson import Decimal128, ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st

from service.documents.base import Record
from service.documents.item import Item
from service.documents.registry import DocumentType
from service.documents.user import User
from service.documents.values import to_stored
from service.errors import Fault, InvalidFileError
from service.store.schemas import create_model_of
from service.transfer.csv_reader import read_csv
from service.transfer.decoding import MAX_COLUMNS, Cell
from service.transfer.encoding import DELIMITERS, Delimiter, FileSpec
from service.transfer.row_decoder import REASONS_COLUMN, RowDecoder
from service.transfer.xlsx_reader import read_sheet
from tests.bodies import Body, bodies_of
from tests.everything import Everything
from tests.unit.made_up import batch_of, made_file, part_class, record_class

USERS, ITEMS, EVERYTHINGS = map(DocumentType, (User, Item, Everything))
every_type = pytest.mark.parametrize("document_type", [USERS, ITEMS, EVERYTHINGS], ids=lambda found: found.name)
every_array = pytest.mark.parametrize(
    ("document_type", "path"),
    [
        (document_type, path)
        for document_type in (USERS, ITEMS, EVERYTHINGS)
        for path, field in document_type.fields.items()
        if field.is_array and not any(path.startswith(f"{other}.") for other in ("branches", "branch.leaves"))
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)

Thing = record_class(
    {
        "name": str,
        "note": (str | None, None),
        "number": (int, 7),
        "size": (int | None, None),
        "tags": (list[str], []),
        "numbers": (list[int] | None, None),
        "free": (Any, None),
        "extra": (dict[str, Any], {}),
        "place": (part_class("Place", city=str, street=(str | None, None)) | None, None),
        "owner": part_class("Owner", name=(str | None, None), age=(int, 1)),
        "parts": (list[part_class("Component", code=str, weight=(float | None, None))], []),  # type: ignore[misc]
    }
)
THINGS = DocumentType(Thing)
REQUIRED = ("name", "owner.name")


def stored_of(document_type: DocumentType, body: Body) -> dict[str, Any]:
    """What is stored of a body. Raises ValidationError."""
    faults: list[Fault] = []
    model = create_model_of(document_type).model_validate_json(orjson.dumps(body), strict=True)
    stored: dict[str, Any] = to_stored(model, faults)
    assert not faults
    return stored


def exported(document_type: DocumentType, stored: Sequence[dict[str, Any]], **options: Any) -> bytes:
    """These documents as the export writes them."""
    spec = FileSpec(title=document_type.name, fields=document_type.fields, **options)
    return made_file(spec, batch_of(*({"_id": ObjectId(), **one, "revision": 1} for one in stored)))


def rows_of(file: bytes, **options: Any) -> tuple[Sequence[Cell], list[Sequence[Cell]]]:
    """The header, and the cells of each row below it."""
    with tempfile.NamedTemporaryFile() as kept:
        kept.write(file)
        kept.flush()
        path = Path(kept.name)
        found = read_sheet(path) if file.startswith(b"PK") else read_csv(path, **options)
        (_, header), *rows = found
    return header, [cells for _, cells in rows]


def decoded(
    document_type: DocumentType, file: bytes, explode: str | None = None, **options: Any
) -> list[dict[str, Any]]:
    """What would be stored of a file's rows."""
    header, rows = rows_of(file, **options)
    decoder = RowDecoder(document_type.fields, header, explode=explode)
    key = decoder.index_of("id")
    assert key is not None
    documents = []
    for _, group in groupby(rows, lambda cells: cells[key]):
        body, faults = decoder.body(list(group))
        assert faults == []
        documents.append(stored_of(document_type, body))
    return documents


def by_value(value: Any) -> Any:
    """The same without the zeros at the end of decimals, which a spreadsheet's numbers have not."""
    if isinstance(value, dict):
        return {name: by_value(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [by_value(inner) for inner in value]
    return value.to_decimal() if isinstance(value, Decimal128) else value


def body_of(*rows: Sequence[Cell], header: Sequence[str], **options: Any) -> Body:
    """The body that rows of things make, which are good."""
    body, faults = RowDecoder(THINGS.fields, header, **options).body(rows)
    assert faults == []
    return body


def part_of(header: str, *cells: Cell) -> Body:
    """The body that a row of an upsert makes."""
    return body_of(cells, header=header.split(), is_partial=True)


def header_faults(*header: Cell, cls: type[Record] = Thing, **options: Any) -> list[tuple[str, str | None]]:
    """Code and column of all that is wrong with a header."""
    with pytest.raises(InvalidFileError) as refused:
        RowDecoder(DocumentType(cls).fields, header, **options)
    return [(fault.code, fault.column) for fault in refused.value.faults]


# What an export wrote


@every_type
@settings(max_examples=50)
@given(data=st.data())
def test_a_csv_export_comes_back_as_it_was(document_type: DocumentType, data: st.DataObject) -> None:
    bodies = data.draw(st.lists(bodies_of(document_type), min_size=1, max_size=3))
    delimiter: Delimiter = data.draw(st.sampled_from(list(DELIMITERS)))
    raw = data.draw(st.booleans())
    stored = [stored_of(document_type, body) for body in bodies]

    file = exported(
        document_type, stored, format_name="csv", delimiter=delimiter, raw=raw, bom=data.draw(st.booleans())
    )

    assert decoded(document_type, file, raw=raw) == stored


@every_type
@settings(max_examples=20)
@given(data=st.data())
def test_an_excel_export_comes_back_as_it_was(document_type: DocumentType, data: st.DataObject) -> None:
    bodies = data.draw(st.lists(bodies_of(document_type), min_size=1, max_size=3))
    stored = [stored_of(document_type, body) for body in bodies]

    file = exported(document_type, stored, format_name="xlsx")

    assert by_value(decoded(document_type, file)) == by_value(stored)


@every_array
@settings(max_examples=15)
@given(data=st.data())
def test_an_exploded_export_is_put_together_again(document_type: DocumentType, path: str, data: st.DataObject) -> None:
    bodies = data.draw(st.lists(bodies_of(document_type), min_size=1, max_size=2))
    stored = [stored_of(document_type, body) for body in bodies]

    file = exported(document_type, stored, format_name="csv", explode=path)

    for document in stored:
        if path == "profile.addresses" and not any((document["profile"] or {}).values()):
            document["profile"] = None  # as there is nothing in any of its columns
    assert decoded(document_type, file, explode=path) == stored


@settings(max_examples=20)
@given(st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans())
def test_free_json_that_is_no_text_comes_back_as_it_was(value: Any) -> None:
    stored = [stored_of(THINGS, {"name": "a", "owner": {}, "free": value})]

    for format_name in ("csv", "xlsx"):
        [found] = decoded(THINGS, exported(THINGS, stored, format_name=format_name))
        assert found["free"] == value
        assert isinstance(found["free"], bool) == isinstance(value, bool)


def test_what_a_table_cannot_say_comes_back_as_nothing() -> None:
    stored = [stored_of(THINGS, {"name": "a", "owner": {}, "free": ""})]

    [found] = decoded(THINGS, exported(THINGS, stored, format_name="csv"))

    assert found == stored[0] | {"free": None}


# What people write


@pytest.mark.parametrize("empty", [None, ""])
@pytest.mark.parametrize(
    ("column", "members"),
    [
        ("number", {}),
        ("size", {"size": None}),
        ("tags", {}),
        ("numbers", {"numbers": None}),
        ("extra", {}),
        ("free", {"free": None}),
        ("parts", {}),
        ("place.city", {"place": None}),
    ],
)
def test_a_cell_with_nothing_is_null_where_that_is_allowed_and_else_says_nothing(
    column: str, members: Body, empty: Cell
) -> None:
    if column == "place.city" and empty == "":
        members = {"place": {"city": ""}}  # of a text, an empty one is a value

    body = body_of(["a", "b", empty], header=[*REQUIRED, column])

    assert body == {"name": "a", "owner": {"name": "b"}} | members


def test_an_empty_text_is_a_text_and_nothing_is_null() -> None:
    header = [*REQUIRED, "note"]

    assert body_of(["", "b", ""], header=header) == {"name": "", "owner": {"name": "b"}, "note": ""}
    assert body_of([None, "b", None], header=header) == {"owner": {"name": "b"}, "note": None}


def test_an_object_that_must_be_there_is_there_though_nothing_is_in_it() -> None:
    assert body_of(["a", None], header=REQUIRED) == {"name": "a", "owner": {"name": None}}


def test_an_object_is_null_where_no_column_of_it_has_anything() -> None:
    header = [*REQUIRED, "place.city", "place.street"]

    assert body_of(["a", "b", None, None], header=header)["place"] is None
    assert body_of(["a", "b", None, "s"], header=header)["place"] == {"street": "s"}


def test_an_object_or_an_array_may_be_one_cell_of_json() -> None:
    header = [*REQUIRED, "place", "tags", "parts", "free"]

    body = body_of(["a", "b", '{"city": "c"}', '["x", ""]', '[{"code": "c"}]', "[1, 0.5]"], header=header)

    assert body["place"] == {"city": "c"}
    assert body["tags"] == ["x", ""]
    assert body["parts"] == [{"code": "c"}]
    assert body["free"] == [1, 0.5]


def test_the_servers_columns_and_the_one_of_reasons_are_ignored() -> None:
    header = ["id", "created_at", "updated_at", "revision", *REQUIRED, REASONS_COLUMN]

    body = body_of(["no id", "never", True, "x", "a", "b", "number: an integer is expected"], header=header)

    assert body == {"name": "a", "owner": {"name": "b"}}


def test_all_faults_of_a_row_come_together_with_their_columns() -> None:
    header = [*REQUIRED, "number", "size", "tags", "extra"]

    _, faults = RowDecoder(THINGS.fields, header).body([[True, "b", "x", "1.5", "a, b", "{"]])

    assert [(fault.column, fault.code) for fault in faults] == [
        ("name", "text_expected"),
        ("number", "int_parsing"),
        ("size", "int_parsing"),
        ("tags", "invalid_json"),
        ("extra", "invalid_json"),
    ]
    assert all(fault.message for fault in faults)


def test_a_fault_knows_its_place_in_the_document_too() -> None:
    header = [*REQUIRED, "place.city", "parts.code", "parts.weight"]
    rows: list[list[Cell]] = [["a", "b", True, "c", "1"], ["a", "b", True, True, "x"]]

    _, faults = RowDecoder(THINGS.fields, header).body(rows)
    _, [of_element] = RowDecoder(THINGS.fields, [*REQUIRED, "tags"], explode="tags").body([["a", "b", True]])

    assert [fault.pointer for fault in faults] == ["/place/city", "/parts/1/code", "/parts/1/weight"]
    assert of_element.pointer == "/tags/0"


@pytest.mark.parametrize("cells", [[], ["a"], ["a", "b", None], ["a", "b", "c"]])
def test_a_row_of_another_length_is_a_fault(cells: list[Cell]) -> None:
    _, [fault] = RowDecoder(THINGS.fields, REQUIRED).body([cells])

    assert fault.code == "row_length"
    assert fault.message == f"this row has {len(cells)} cells, the header has 2"


def test_a_number_stays_exactly_what_it_was() -> None:
    header = ["sku", "title", "price", "stock"]
    body, faults = RowDecoder(ITEMS.fields, header).body([["1", "2", "0.10", "3"]])

    assert faults == []
    assert stored_of(ITEMS, body)["price"].to_decimal() == Decimal("0.10")
    assert body["sku"] == "1"


# Headers


def test_all_faults_of_a_header_come_together() -> None:
    assert header_faults("colour", "name", None, "name", "owner", "owner.age", "Name") == [
        ("unknown_column", "colour"),
        ("unnamed_column", None),
        ("duplicate_column", "name"),
        ("duplicate_column", "owner.age"),
        ("unknown_column", "Name"),
    ]


def test_a_column_is_missing_if_it_is_required_and_its_object_is_there() -> None:
    assert header_faults("number") == [("missing_column", "name"), ("missing_column", "owner")]
    assert header_faults("name", "owner.age", "place.street") == [("missing_column", "place.city")]
    assert header_faults("name", "owner", "parts.weight") == [("missing_column", "parts.code")]


def test_no_column_is_missing_where_documents_may_be_there_already() -> None:
    assert part_of("number", "1") == {"number": 1}


def test_elements_of_documents_that_may_be_there_have_all_their_columns() -> None:
    assert header_faults("parts.code", is_partial=True) == [("missing_column", "parts.weight")]
    assert header_faults("branches.label", "branches.leaf", cls=Everything, is_partial=True) == [
        ("missing_column", "branches.leaves"),
        ("missing_column", "branches.days"),
    ]
    assert part_of("parts.code parts.weight", "a", None) == {"parts": [{"code": "a", "weight": None}]}


def test_a_column_of_a_part_of_all_elements_is_refused() -> None:
    header = ("name", "owner.age", "parts[].code")
    assert header_faults(*header) == header_faults(*header, is_partial=True) == [("not_exploded", "parts[].code")]
    assert header_faults("name", "owner", "parts[].nothing", "[]") == [
        ("unknown_column", "parts[].nothing"),
        ("unknown_column", "[]"),
    ]


def test_there_are_not_too_many_columns() -> None:
    assert header_faults(*(f"c{number}" for number in range(MAX_COLUMNS + 1))) == [("too_many_columns", None)]


@pytest.mark.parametrize("header", [["name", "owner", "tags.0"], ["name", "owner", "free.a"], ["name", "owner", True]])
def test_what_is_below_no_object_is_unknown(header: list[Cell]) -> None:
    assert [code for code, _ in header_faults(*header)] == ["unknown_column"]


def test_only_one_array_has_a_row_for_each_element() -> None:
    assert header_faults("name", "owner", "parts.code", "tags", explode="tags") == [
        ("exploded_twice", "parts"),
        ("exploded_twice", "tags"),
    ]
    assert header_faults("code", "left", "right", "branch.leaves.text", "branches.label", cls=Everything) == [
        ("missing_column", "branch.label"),
    ]


def test_what_is_to_be_exploded_has_a_column() -> None:
    assert header_faults(*REQUIRED, explode="tags") == [("missing_column", "tags")]


# Rows of one document


def test_the_rows_of_one_document_are_the_elements_of_its_array() -> None:
    header = [*REQUIRED, "parts.code", "parts.weight"]

    body = body_of(["a", "b", "x", "1.5"], ["a", "b", "y", None], header=header)

    assert body["parts"] == [{"code": "x", "weight": 1.5}, {"code": "y", "weight": None}]


def test_a_single_row_without_an_element_is_an_empty_array() -> None:
    assert body_of(["a", "b", None], header=[*REQUIRED, "parts.code"])["parts"] == []
    assert body_of(["a", "b", None], header=[*REQUIRED, "tags"], explode="tags")["tags"] == []
    assert body_of(["a", "b", None], header=[*REQUIRED, "numbers"], explode="numbers")["numbers"] is None


def test_elements_of_an_array_of_scalars_need_no_json() -> None:
    header = [*REQUIRED, "tags"]

    assert body_of(["a", "b", "[x]"], ["a", "b", ""], header=header, explode="tags")["tags"] == ["[x]", ""]


def test_the_rows_of_one_document_say_the_same_of_all_but_the_array() -> None:
    header = ["id", *REQUIRED, "parts.code", "revision"]
    rows: list[list[Cell]] = [["1", "a", "b", "x", "1"], ["1", "c", "b", "y", "2"], ["1", "a", None, "z", "1"]]

    _, faults = RowDecoder(THINGS.fields, header).body(rows)

    assert [(fault.code, fault.column) for fault in faults] == [
        ("differs_in_document", "name"),
        ("differs_in_document", "owner.name"),
    ]


# Parts of documents


def test_a_part_names_only_what_has_a_column() -> None:
    assert part_of("name note number", "a", None, None) == {"name": "a", "note": None}


def test_a_part_makes_an_object_null_only_if_the_file_has_all_of_it() -> None:
    assert part_of("place.city place.street", None, None) == {"place": None}
    assert part_of("place.street", None) == {"place": {"street": None}}
    assert part_of("place.city", None) == {}


# Where a fault is


@pytest.mark.parametrize(
    ("pointer", "column"),
    [
        ("/name", "name"),
        ("/owner/name", "owner.name"),
        ("/owner/age", "owner.age"),
        ("/tags/0", "tags"),
        ("/tags/10/x", "tags"),
        ("/parts/3/code", "parts.code"),
        ("/extra/a~1b/0", "extra"),
        ("/size", "size"),
        ("", None),
        (None, None),
    ],
)
def test_a_pointer_leads_to_the_column_that_its_value_came_from(pointer: str | None, column: str | None) -> None:
    header = [*REQUIRED, "tags", "parts.code", "extra"]

    assert RowDecoder(THINGS.fields, header).column_of(pointer) == column


@given(st.lists(st.lists(st.none() | st.text(max_size=5) | st.booleans() | st.floats(), max_size=12), min_size=1))
def test_any_cells_are_a_body_or_faults_with_columns(rows: list[list[Cell]]) -> None:
    header = [path for path, field in THINGS.fields.items() if field.is_scalar and "parts" not in path]
    decoder = RowDecoder(THINGS.fields, [*header[:8], "parts.code", "parts.weight", "free"], is_partial=True)

    _, faults = decoder.body(rows)

    assert all(fault.column in decoder.columns or fault.code == "row_length" for fault in faults)
