"""Files to fill in, read back by openpyxl, calamine and csv."""

import csv
import io
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, get_args

import bson
import orjson
import pytest
from beanie import PydanticObjectId
from openpyxl import Workbook, load_workbook
from openpyxl.utils import get_column_letter
from pydantic import Field
from python_calamine import CalamineWorkbook

from service.documents.base import SERVER_FIELDS, Email, Reference, unique
from service.documents.registry import DocumentType, registered_types
from service.documents.user import User
from service.documents.values import to_stored
from service.imports.columns import explained
from service.imports.template import TemplateFormat, template
from service.store.schemas import create_model_of
from tests.everything import Colour, Everything, Level
from tests.unit.made_up import file_spec, made_file, named, part_class, record_class

TYPES = (*registered_types(), DocumentType(Everything))
FORMATS: tuple[TemplateFormat, ...] = get_args(TemplateFormat)
by_type = pytest.mark.parametrize("document_type", TYPES, ids=lambda document_type: document_type.name)
USERS = DocumentType(User)


def csv_rows(file: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(file.decode("utf-8-sig"), newline="")))


def workbook_of(document_type: DocumentType) -> Workbook:
    return load_workbook(io.BytesIO(template(document_type, "xlsx")))


def exported(document_type: DocumentType, format_name: TemplateFormat) -> bytes:
    """An export of the type's example."""
    model = create_model_of(document_type).model_validate_json(orjson.dumps(document_type.example), strict=True)
    spec = file_spec(document_type.fields.values(), format_name, bom=True)
    return made_file(spec, bson.encode({"_id": None, **to_stored(model, [])}))


def without_servers(row: list[Any], header: list[Any]) -> list[Any]:
    return [cell for cell, name in zip(row, header, strict=True) if name not in SERVER_FIELDS]


def words_for(annotation: Any, **settings: Any) -> dict[str, str]:
    """What is said of a column that holds this."""
    document_type = DocumentType(record_class({"mark": annotation, "other": (str, "")}, **settings))
    [words] = explained(document_type, [document_type.fields["mark"]])
    return dict(zip(("column", "type", "required", "allowed", "meaning"), words, strict=True))


@by_type
def test_a_csv_template_is_an_export_of_the_example_without_the_servers_columns(document_type: DocumentType) -> None:
    header, row = csv_rows(exported(document_type, "csv"))

    assert csv_rows(template(document_type, "csv")) == [
        without_servers(header, header),
        without_servers(row, header),
    ]


@by_type
def test_a_workbook_template_is_an_export_of_the_example_without_the_servers_columns(
    document_type: DocumentType,
) -> None:
    header, row = ([*row] for row in load_workbook(io.BytesIO(exported(document_type, "xlsx"))).worksheets[0].values)

    rows = [[*row] for row in workbook_of(document_type).worksheets[0].values]

    assert rows == [without_servers(header, header), without_servers(row, header)]
    assert set(SERVER_FIELDS).isdisjoint(rows[0])


@by_type
def test_another_reader_finds_the_same_in_a_workbook(document_type: DocumentType) -> None:
    workbook = CalamineWorkbook.from_filelike(io.BytesIO(template(document_type, "xlsx")))

    assert workbook.sheet_names == [document_type.name, "Columns"]
    header, row = workbook.get_sheet_by_index(0).to_python()
    assert header == csv_rows(template(document_type, "csv"))[0]
    assert len(row) == len(header)


def test_a_workbook_is_ready_to_be_filled_in() -> None:
    for sheet in workbook_of(USERS).worksheets:
        assert sheet.freeze_panes == "A2"
        assert all(cell.font.bold for cell in sheet[1])
        assert not any(cell.font.bold for cell in sheet[2])
        assert sheet.auto_filter.ref == sheet.dimensions
        for position, name in enumerate(next(sheet.values), start=1):
            assert sheet.column_dimensions[get_column_letter(position)].width > len(str(name))


def test_dates_and_numbers_of_a_workbook_are_true_ones() -> None:
    sheet = workbook_of(DocumentType(Everything)).worksheets[0]
    found = {str(header.value): cell for header, cell in zip(sheet[1], sheet[2], strict=True)}

    assert found["branch.leaf.day"].value == datetime(2000, 1, 1)  # noqa: DTZ001 - a date has no zone
    assert found["branch.leaf.day"].number_format == "yyyy-mm-dd"
    assert found["boolean"].value is True
    assert found["left"].value == 1
    assert found["text"].value == "=1+1, ‘quoted’, 小中"
    assert found["text"].data_type == "s"


@by_type
def test_each_column_is_explained_in_its_order(document_type: DocumentType) -> None:
    columns, explanations = workbook_of(document_type).worksheets

    header, *rows = explanations.values

    assert header == ("Column", "Type", "Required", "Allowed", "Meaning")
    assert [row[0] for row in rows] == [cell.value for cell in columns[1]]
    assert all(row[1] and row[2] for row in rows)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (str, "text"),
        (str | None, "text"),
        (Email, "email address"),
        (int, "whole number"),
        (float, "number"),
        (Decimal, "decimal number, like 19.99"),
        (bool, "true or false"),
        (date, "date, like 2026-11-22"),
        (datetime, "time, like 2026-11-22T09:30:00.123Z"),
        (PydanticObjectId, "id, 24 hexadecimal digits"),
        (Annotated[PydanticObjectId, Reference("users")], "id, 24 hexadecimal digits, of users"),
        (Colour, "text"),
        (Level, "whole number"),
        (dict[str, Any], "JSON"),
        (list[list[int]], "JSON"),
        (list[str], "JSON array of texts"),
        (list[bool], "JSON array of true and false"),
        (set[int], "JSON array of whole numbers, each only once"),
        (list[part_class("Inner", a=str, b=int)], "JSON array of objects with a, b"),  # type: ignore[misc]
    ],
    ids=named,
)
def test_a_type_is_said_in_plain_words(annotation: Any, words: str) -> None:
    assert words_for(annotation)["type"] == words


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (str, ""),
        (Colour | None, "red, blue"),
        (Literal[1, 2], "1, 2"),
        (list[Colour], "red, blue"),
        (Annotated[str, Field(max_length=200)] | None, "at most 200 characters"),
        (Annotated[str, Field(min_length=1)], "at least 1 character"),
        (
            Annotated[str, Field(min_length=2, max_length=2, pattern="^[A-Z]+$")],
            "exactly 2 characters; matches ^[A-Z]+$",
        ),
        (Annotated[int, Field(ge=0, le=150)], "from 0 to 150"),
        (Annotated[int, Field(gt=0, multiple_of=5)], "more than 0; a multiple of 5"),
        (Annotated[float, Field(lt=0.5)], "less than 0.5"),
        (
            Annotated[Decimal, Field(ge=1, max_digits=5, decimal_places=2)],
            "at least 1; at most 5 digits; at most 2 decimal places",
        ),
        (
            Annotated[list[Annotated[str, Field(max_length=50)]], Field(min_length=1, max_length=20)],
            "from 1 to 20 elements; each at most 50 characters",
        ),
        (PydanticObjectId, ""),
    ],
    ids=named,
)
def test_what_is_allowed_is_said_in_plain_words(annotation: Any, words: str) -> None:
    assert words_for(annotation)["allowed"] == words


def test_a_column_says_whether_it_is_unique() -> None:
    assert words_for(str, indexes=[unique("mark")])["allowed"] == "unique"
    assert words_for(str, indexes=[unique("mark", "other")])["allowed"] == "unique together with other"


def test_a_column_says_what_it_means() -> None:
    assert words_for(Annotated[str, Field(description="A mark.")])["meaning"] == "A mark."


def test_a_nested_column_is_required_only_where_its_object_is_given() -> None:
    inner = part_class("Inner", must=str, may=(str, ""))
    outer = part_class("Outer", inner=inner)
    document_type = DocumentType(
        record_class({"must": outer, "may": (outer | None, None), "open": (part_class("Open", inner=(inner, None)))})
    )

    required = {
        column: required
        for column, _, required, _, _ in explained(document_type, [*document_type.fields.values()][1:-3])
    }

    assert required == {
        "must": "yes",
        "must.inner": "yes",
        "must.inner.must": "yes",
        "must.inner.may": "no",
        "may": "no",
        "may.inner": "if may is given",
        "may.inner.must": "if may is given",
        "may.inner.may": "no",
        "open": "yes",
        "open.inner": "no",
        "open.inner.must": "if open.inner is given",
        "open.inner.may": "no",
    }


def test_a_description_is_no_formula_and_has_nothing_that_a_sheet_cannot_hold() -> None:
    cls = record_class(
        {"mark": Annotated[str, Field(description="=1+1\x00\n2")]},
        config={"json_schema_extra": {"examples": [{"mark": "a"}]}},
    )

    cell = workbook_of(DocumentType(cls)).worksheets[1]["E2"]

    assert (cell.value, cell.data_type) == ("=1+1\n2", "s")
