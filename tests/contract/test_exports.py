"""What every document type's files promise; each is read back by another's reader."""

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Context, Decimal
from typing import Any
from urllib.parse import urlencode

import httpx
import openpyxl
import pyarrow as pa
import pytest
from bson import DatetimeMS, Decimal128, Regex
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openpyxl.utils.escape import unescape
from pyarrow import parquet
from python_calamine import CalamineWorkbook

from service.documents.base import now
from service.documents.fields import Kind
from service.documents.registry import DocumentType
from tests.conftest import TYPES
from tests.contract.test_documents import address, bodies, create
from tests.contract.test_lists import hide_canaries, values_at

Document = dict[str, Any]
Row = list[Any]

FORMATS = ["csv", "xlsx", "ndjson", "json", "parquet"]
DOCUMENT_FORMATS = {"ndjson", "json"}
"""Those that have whole documents; the others have columns."""

ABOUT = "About this file"
PARQUET_DIGITS, PARQUET_PLACES = 38, 18

every_type = pytest.mark.parametrize("document_type", TYPES, ids=lambda document_type: document_type.name)
every_format = pytest.mark.parametrize("file_format", FORMATS)
[EVERYTHING] = [document_type for document_type in TYPES if document_type.name == "everythings"]


@dataclass(frozen=True)
class Asked:
    """Which file is asked for."""

    document_type: DocumentType
    file_format: str
    fields: Sequence[str] = ()
    explode: str | None = None

    @property
    def path(self) -> str:
        """Where it is."""
        return f"{address(self.document_type)}/export/{self.file_format}"

    @property
    def columns(self) -> list[str]:
        """One for each field; an object has one for each of its own, unless it stands in an array."""
        paths = self.fields or [path for path in self.document_type.fields if "." not in path]
        return list(dict.fromkeys(column for path in paths for column in self._opened(path)))

    @property
    def header(self) -> list[str]:
        """Their names, which say of what is below an array that there is a list of it."""
        return [self._named(path) for path in self.columns]

    def _named(self, path: str) -> str:
        parent, _, name = path.rpartition(".")
        if not parent:
            return name
        is_list = self.document_type.fields[parent].is_array and parent != self.explode
        return f"{self._named(parent)}{'[]' if is_list else ''}.{name}"

    def _opened(self, path: str) -> list[str]:
        field = self.document_type.fields[path]
        if field.kind is not Kind.OBJECT or (field.is_array and path != self.explode):
            return [path]
        inner = [other for other in self.document_type.fields if other.rpartition(".")[0] == path]
        return [column for other in inner for column in self._opened(other)]

    def kind(self, path: str) -> Kind:
        """What the column is for; of arrays, what each of their elements is."""
        return self.document_type.fields[path].kind

    def is_list(self, path: str) -> bool:
        """Whether the column has an array in each cell."""
        names = path.split(".")
        on_the_way = {".".join(names[:depth]) for depth in range(1, len(names) + 1)} - {self.explode}
        return any(self.document_type.fields[above].is_array for above in on_the_way)

    def holds_json(self, path: str) -> bool:
        """Whether a cell of text has JSON in it."""
        return self.kind(path) is Kind.JSON or self.is_list(path)


async def load(client: httpx.AsyncClient, document_type: DocumentType, count: int) -> list[Document]:
    """Some documents, and one with as little as a document may have."""
    info = document_type.document_class.model_fields
    *whole, sparse = bodies(document_type, count)
    sparse = {name: value for name, value in sparse.items() if info[name].is_required()}
    return [await create(client, document_type, body) for body in [*whole, sparse]]


async def listed(client: httpx.AsyncClient, document_type: DocumentType, **params: str) -> list[Document]:
    """The documents as the API lists them."""
    page = (await client.get(address(document_type), params={"limit": "1000"} | params)).json()
    assert page["next_cursor"] is None
    items: list[Document] = page["items"]
    return items


async def export(client: httpx.AsyncClient, asked: Asked, **params: str) -> bytes:
    if asked.fields:
        params["fields"] = ",".join(asked.fields)
    if asked.explode:
        params["explode"] = asked.explode
    response = await client.get(asked.path, params=params)
    assert response.status_code == 200, response.text
    return response.content


# What a file should have


def value_at(value: Any, path: str) -> Any:
    """What lies at a path; of an array, what lies there in each of its elements."""
    if not path:
        return value
    if isinstance(value, list):
        return [value_at(element, path) for element in value]
    name, _, rest = path.partition(".")
    return value_at(value.get(name), rest) if isinstance(value, dict) else None


def exploded(document: Document, path: str | None) -> list[Document]:
    """The document once for each element of an array, which stands in the array's place."""
    elements = value_at(document, path) if path else None
    if path is None or not isinstance(elements, list):
        return [document]
    return [_replaced(document, path, element) for element in elements or [None]]


def _replaced(document: Document, path: str, value: Any) -> Document:
    name, _, rest = path.partition(".")
    return document | {name: _replaced(document[name], rest, value) if rest else value}


def picked(value: Any, fields: Sequence[str]) -> Any:
    """Of a value nothing but what lies at these paths, in their order."""
    if not fields or "" in fields:
        return value
    if isinstance(value, list):
        return [picked(element, fields) for element in value]
    if not isinstance(value, dict):
        return value
    fields = [path for path in fields if not any(path.startswith(f"{other}.") for other in fields)]
    names = dict.fromkeys(path.partition(".")[0] for path in fields)
    return {
        name: picked(value[name], [path.partition(".")[2] for path in fields if path.partition(".")[0] == name])
        for name in names
        if name in value
    }


# What a file has


def csv_rows(content: bytes, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode(), newline=""), delimiter=delimiter))


def from_csv(asked: Asked, path: str, cell: str) -> Any:
    """What a data team reads out of a cell, knowing the column."""
    if cell == "":
        return None
    if asked.holds_json(path):
        return json.loads(cell)
    match asked.kind(path):
        case Kind.INTEGER:
            return int(cell)
        case Kind.FLOAT:
            return float(cell)
        case Kind.BOOLEAN:
            return {"true": True, "false": False}[cell]
        case Kind.TEXT:
            return unguarded(cell)
    return cell


def unguarded(cell: str) -> str:
    """A text without the ' that keeps a spreadsheet from running it."""
    return cell[1:] if re.match(r"'+[=+\-@\t\r\n]", cell) else cell


def sheets_of(content: bytes) -> dict[str, list[Row]]:
    """All sheets, as openpyxl and calamine alike find them."""
    workbook = openpyxl.load_workbook(io.BytesIO(content))
    other = CalamineWorkbook.from_filelike(io.BytesIO(content))
    assert other.sheet_names == workbook.sheetnames
    sheets = {}
    for sheet in workbook.worksheets:
        assert not any(cell.data_type == "f" for row in sheet.iter_rows() for cell in row), "a formula"
        rows = [[_plain_cell(cell.value, is_escaped=True) for cell in row] for row in sheet.iter_rows()]
        found = other.get_sheet_by_name(sheet.title).to_python(skip_empty_area=False)
        nothing = [[None] * len(rows[0])] * (
            len(rows) - len(found)
        )  # calamine ends with the last cell that is not empty
        assert [[_plain_cell(cell) for cell in row] for row in found] + nothing == rows
        sheets[sheet.title] = rows
    return sheets


def _plain_cell(cell: Any, *, is_escaped: bool = False) -> Any:
    """A cell as either reader gives it; openpyxl leaves escapes to its caller."""
    if isinstance(cell, str):
        return unescape(cell) if is_escaped and cell else cell or None
    if isinstance(cell, date) and not isinstance(cell, datetime):  # calamine, of a time at midnight
        return datetime(cell.year, cell.month, cell.day)  # noqa: DTZ001 - a sheet knows no zones
    if isinstance(cell, datetime):
        rest = cell.microsecond % 1000  # calamine leaves what a float has past the millisecond
        return cell + timedelta(microseconds=1000 - rest if rest >= 500 else -rest)
    return cell


def from_xlsx(asked: Asked, path: str, cell: Any) -> Any:
    """What a data team reads out of a cell of a workbook."""
    kind = asked.kind(path)
    if cell is None:
        return None
    if asked.holds_json(path):
        return json.loads(cell)
    if isinstance(cell, datetime):
        return cell.date().isoformat() if kind is Kind.DATE else f"{cell.isoformat(timespec='milliseconds')}Z"
    if kind is Kind.DECIMAL:
        return Decimal(str(cell))
    if isinstance(cell, str) and kind in {Kind.INTEGER, Kind.FLOAT}:
        return int(cell) if kind is Kind.INTEGER else float(cell)
    return cell


def from_parquet(asked: Asked, path: str, value: Any) -> Any:
    """What a data team reads out of a Parquet file, whose arrays and objects are Arrow's own."""
    if value is None:
        return None
    if isinstance(value, list):
        return [from_parquet(asked, path, element) for element in value]
    if isinstance(value, dict):
        return {name: from_parquet(asked, f"{path}.{name}", inner) for name, inner in value.items()}
    match asked.kind(path):
        case Kind.JSON:
            return json.loads(value)
        case Kind.DATETIME:
            return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case Kind.DATE:
            return value.isoformat()
    return value


def read_csv(asked: Asked, content: bytes) -> tuple[list[str], list[Row]]:
    header, *rows = csv_rows(content)
    return header, [[from_csv(asked, *cell) for cell in zip(asked.columns, row, strict=True)] for row in rows]


def read_xlsx(asked: Asked, content: bytes) -> tuple[list[str], list[Row]]:
    header, *rows = sheets_of(content)[asked.document_type.name]
    return header, [[from_xlsx(asked, *cell) for cell in zip(asked.columns, row, strict=True)] for row in rows]


def read_parquet(asked: Asked, content: bytes) -> tuple[list[str], list[Row]]:
    table = parquet.read_table(io.BytesIO(content))
    header: list[str] = table.column_names
    columns = dict(zip(header, asked.columns, strict=True))
    return header, [[from_parquet(asked, columns[name], row[name]) for name in header] for row in table.to_pylist()]


READERS: Mapping[str, Callable[[Asked, bytes], tuple[list[str], list[Row]]]] = {
    "csv": read_csv,
    "xlsx": read_xlsx,
    "parquet": read_parquet,
}


# Whether both are the same


def assert_file_has(documents: list[Document], asked: Asked, content: bytes) -> None:
    """The file has these documents, each of them whole, and in this order."""
    expected = [row for document in documents for row in exploded(document, asked.explode)]
    if asked.file_format in DOCUMENT_FORMATS:
        # As text, so that the order of members counts too.
        found = map(json.dumps, read_documents(asked.file_format, content))
        assert list(found) == [json.dumps(picked(row, asked.fields)) for row in expected]
        return
    header, rows = READERS[asked.file_format](asked, content)
    assert header == asked.header
    assert len(rows) == len(expected)
    for document, row in zip(expected, rows, strict=True):
        for path, cell in zip(asked.columns, row, strict=True):
            assert cell == expected_cell(asked, path, value_at(document, path)), path


def read_documents(file_format: str, content: bytes) -> list[Any]:
    if file_format == "ndjson":
        assert content.endswith(b"\n") or not content
        return [json.loads(line) for line in content.split(b"\n")[:-1]]
    documents: list[Any] = json.loads(content)
    return documents


def expected_cell(asked: Asked, path: str, value: Any) -> Any:
    """The value as the format can hold it."""
    if asked.file_format == "parquet":
        return fitting(asked, path, value)
    if value == "":
        return None  # a cell has no empty text that is not nothing
    if asked.file_format == "xlsx" and value is not None and asked.kind(path) is Kind.DECIMAL:
        return value if asked.is_list(path) else Decimal(value)
    return value


def fitting(asked: Asked, path: str, value: Any) -> Any:
    """A value as Parquet can hold it: a decimal as such, or not at all."""
    kind = asked.kind(path)
    if value is None or kind is Kind.JSON:
        return value
    if isinstance(value, list):
        return [fitting(asked, path, element) for element in value]
    if isinstance(value, dict):
        return {name: fitting(asked, f"{path}.{name}", inner) for name, inner in value.items()}
    if kind is not Kind.DECIMAL:
        return value
    number = Decimal(value)
    if number.adjusted() >= PARQUET_DIGITS - PARQUET_PLACES:
        return None
    held = number.quantize(Decimal(1).scaleb(-PARQUET_PLACES), context=Context(prec=PARQUET_DIGITS))
    return number if held == number else None


# Every type, every format


@every_type
@every_format
async def test_a_file_has_every_document_whole(
    client: httpx.AsyncClient, document_type: DocumentType, file_format: str
) -> None:
    documents = await load(client, document_type, 12)
    asked = Asked(document_type, file_format)

    content = await export(client, asked)

    assert_file_has(documents, asked, content)
    assert documents == await listed(client, document_type)


@every_type
@every_format
async def test_a_file_of_nothing_still_says_what_it_has(
    client: httpx.AsyncClient, document_type: DocumentType, file_format: str
) -> None:
    asked = Asked(document_type, file_format)

    content = await export(client, asked)

    assert_file_has([], asked, content)


@every_type
@every_format
async def test_a_file_has_what_the_list_has_in_its_order(
    client: httpx.AsyncClient, document_type: DocumentType, file_format: str
) -> None:
    documents = await load(client, document_type, 9)
    chosen = documents[3]
    path = next(iter(document_type.indexes[0].document["key"]))
    this_one = {path: str(value_at(chosen, path))}
    some_text = {"q": str(values_at(chosen, document_type.search[0])[0])[:30]}
    queries: list[dict[str, str]] = [
        this_one,
        some_text,
        {f"{path}__ne": this_one[path]},
        {"sort": "-id"},
        {f"{path}__gte": this_one[path], "sort": f"-{path}"},
        {"id__in": f"{documents[5]['id']},{documents[2]['id']}", "sort": "-created_at,id"},
        {**this_one, **some_text, "sort": path},
        {f"{path}__eq": "nobody has this", "sort": path}
        if document_type.fields[path].kind is Kind.TEXT
        else {"id": "0" * 24},
    ]
    asked = Asked(document_type, file_format)
    for query in queries:
        items = await listed(client, document_type, **query)

        content = await export(client, asked, **query)

        assert_file_has(items, asked, content)
    assert [len(await listed(client, document_type, **query)) for query in (this_one, queries[-1])] == [1, 0]


@every_type
@every_format
async def test_fields_choose_and_order_what_a_file_has(
    client: httpx.AsyncClient, document_type: DocumentType, file_format: str
) -> None:
    documents = await load(client, document_type, 5)
    paths = list(document_type.fields)
    inner = [path for path in paths if "." in path]
    choices = [
        *([path] for path in paths),
        paths[::-1],  # what lies inside of an object before the object itself
        inner[::2] + paths[::3],
        ["updated_at", "id"],
    ]
    for choice in choices:
        asked = Asked(document_type, file_format, list(dict.fromkeys(choice)))

        content = await export(client, asked)

        assert_file_has(documents, asked, content)


@every_type
@every_format
async def test_an_exploded_array_gives_a_row_for_each_element(
    client: httpx.AsyncClient, document_type: DocumentType, file_format: str
) -> None:
    documents = await load(client, document_type, 9)
    arrays = [field.path for field in document_type.fields.values() if field.is_array]
    outermost = [path for path in arrays if not any(path.startswith(f"{other}.") for other in arrays)]
    assert not arrays or any(len(value_at(document, path) or []) > 1 for document in documents for path in outermost)
    for path in outermost:
        inside = [other for other in document_type.fields if other.startswith(f"{path}.")]
        for fields in ([], ["id", path], ["id"], [*inside[::-1], path]):
            asked = Asked(document_type, file_format, fields, path)

            content = await export(client, asked)

            assert_file_has(documents, asked, content)
    for path in set(arrays) - set(outermost):
        response = await client.get(f"{address(document_type)}/export/{file_format}", params={"explode": path})
        assert response.status_code == 400
        assert [fault["parameter"] for fault in response.json()["errors"]] == ["explode"]


@every_type
async def test_a_workbooks_last_sheet_says_what_it_is(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    await load(client, document_type, 5)
    query = {"id__ne": "0" * 24, "sort": "-id", "q": "==nobody"}
    for asked, rows in ((query, 0), ({}, 5)):
        text = urlencode(asked)
        before = now().replace(tzinfo=None)
        response = await client.get(f"{address(document_type)}/export/xlsx?{text}")
        sheets = sheets_of(response.content)

        assert list(sheets) == [document_type.name, ABOUT]
        about = {row[0]: row[1] for row in sheets[ABOUT]}
        started = about.pop("Started (UTC)")
        assert before <= started <= now().replace(tzinfo=None)
        assert about == {
            "Asked for": f"{document_type.name}, xlsx, {text or 'everything'}",
            "By": "tester",
            "Rows": len(await listed(client, document_type, **asked)),
            "Cells cut": 0,
            "Complete": "yes",
        }
        assert about["Rows"] == rows


ARROW_TYPES: Mapping[Kind, pa.DataType] = {
    Kind.TEXT: pa.string(),
    Kind.INTEGER: pa.int64(),
    Kind.FLOAT: pa.float64(),
    Kind.DECIMAL: pa.decimal128(PARQUET_DIGITS, PARQUET_PLACES),
    Kind.BOOLEAN: pa.bool_(),
    Kind.DATE: pa.date32(),
    Kind.DATETIME: pa.timestamp("ms", tz="UTC"),
    Kind.OBJECT_ID: pa.string(),
    Kind.JSON: pa.string(),
}


@every_type
@pytest.mark.parametrize("count", [0, 3])
async def test_a_parquet_file_has_true_types(
    client: httpx.AsyncClient, document_type: DocumentType, count: int
) -> None:
    if count:
        await load(client, document_type, count)

    schema = parquet.read_schema(io.BytesIO(await export(client, Asked(document_type, "parquet"))))

    assert schema.names == Asked(document_type, "parquet").columns
    for path in schema.names:
        found = schema.field(path).type
        expected = document_type.fields[path]
        if expected.is_array:
            assert pa.types.is_list(found), path
            found = found.value_type
        if expected.kind is Kind.OBJECT:
            assert pa.types.is_struct(found), path
            names = [found.field(number).name for number in range(found.num_fields)]
            inner = [other for other in document_type.fields if other.rpartition(".")[0] == path]
            assert [f"{path}.{name}" for name in names] == inner
        else:
            assert found == ARROW_TYPES[expected.kind], path


# Documents that no schema covers


ODDITIES = [
    {"a": [1]},
    [[1], {"b": None}],
    3.5,
    None,
    "=text",
    b"bytes",
    DatetimeMS(10**15),
    Regex("x"),
    True,
    2**63 - 1,
    Decimal128("1E+6000"),
    datetime(1, 1, 1, 0, 0, 0, 1000),  # noqa: DTZ001 - as the driver reads it
]


@every_type
@every_format
async def test_an_odd_document_is_exported_as_far_as_it_goes(
    client: httpx.AsyncClient, document_type: DocumentType, file_format: str
) -> None:
    collection = document_type.document_class.get_pymongo_collection()
    names = [name for name in document_type.fields if "." not in name and name != "id"]
    keys = [[path for path in model.document["key"] if path != "_id"] for model in document_type.indexes]
    # Of a compound index only one field may be an array, even by hand.
    plain = {path: 1 for key in keys for path in key[1:]}
    bare = {key[0]: "by hand" for key in keys}
    odd_documents = [*(dict.fromkeys(names, odd) | plain for odd in ODDITIES), {"_id": "by hand", **bare}]
    await collection.insert_many(odd_documents, bypass_document_validation=True)
    document = await create(client, document_type)
    items = await listed(client, document_type)
    assert document in items
    assert len(items) == len(ODDITIES) + 2

    asked = Asked(document_type, file_format)
    response = await client.get(asked.path)

    assert response.status_code == 200
    record = (await client.get(f"/api/v1/exports/{response.headers['export-id']}")).json()
    assert (record["state"], record["rows"]) == ("complete", len(items))
    if file_format in DOCUMENT_FORMATS:
        assert_file_has(items, asked, response.content)
        return
    shown: Mapping[str, Callable[[bytes], list[Row]]] = {
        "csv": lambda content: [[unguarded(cell) for cell in row] for row in csv_rows(content)[1:]],
        "xlsx": lambda content: sheets_of(content)[document_type.name][1:],
        "parquet": lambda content: read_parquet(asked, content)[1],
    }
    is_whole = [
        _shows(cell, value_at(item, path))
        for item, row in zip(items, shown[file_format](response.content), strict=True)
        for path, cell in zip(asked.columns, row, strict=True)
    ]
    assert record["cut_cells"] == is_whole.count(False)
    assert all(is_whole) == (file_format != "parquet")  # whose columns hold nothing but what they are for


def _shows(cell: Any, value: Any) -> bool:
    """Whether a cell shows what the API lists, whatever the column is for."""
    if value is None or value == "":
        return cell in (None, "")
    if isinstance(value, list | dict) and isinstance(cell, str):
        return bool(json.loads(cell) == value)
    if isinstance(value, list):
        return isinstance(cell, list) and all(map(_shows, cell, value))
    if isinstance(value, dict):
        return isinstance(cell, dict) and all(_shows(cell[name], value.get(name)) for name in cell)
    if isinstance(value, bool):
        return cell in (value, str(value).lower())
    if isinstance(cell, datetime):
        return f"{cell.isoformat(timespec='milliseconds')}Z".startswith(value)
    if isinstance(cell, int | float | Decimal) and not isinstance(cell, bool):
        return Decimal(str(value)) == Decimal(str(cell))
    return bool(cell == str(value))


@every_type
@every_format
async def test_what_no_class_declares_is_in_no_file(
    client: httpx.AsyncClient, document_type: DocumentType, file_format: str
) -> None:
    document = await create(client, document_type)
    await hide_canaries(document_type)
    arrays = [path for path, field in document_type.fields.items() if field.is_array and "." not in path]
    objects = [path for path, field in document_type.fields.items() if field.kind is Kind.OBJECT]
    queries: list[dict[str, str]] = [
        {},
        {"fields": ",".join(objects or ["id"])},
        *({"explode": path} for path in arrays),
    ]
    for query in queries:
        content = await export(client, Asked(document_type, file_format), **query)

        assert document["id"] in everything_in(file_format, content) or "fields" in query
        assert "canary" not in everything_in(file_format, content)


def everything_in(file_format: str, content: bytes) -> str:
    """All texts of a file, uncompressed."""
    if file_format == "parquet":
        table = parquet.read_table(io.BytesIO(content))
        return f"{table.schema} {table.to_pylist()}"
    if file_format == "xlsx":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return "".join(archive.read(name).decode() for name in archive.namelist())
    return content.decode()


# Values that try to break out of their cells


PIECES = st.sampled_from(
    [
        *("=", "+", "-", "@", "'", "'=1", '"', '""', ",", ";", "|", " ", "\\", "1", "1e5", "TRUE", "null", "#N/A"),
        *("\t", "\r", "\n", "\r\n", "\x00", "\x07", "\x1f", "\x7f", "\x85", "\u2028", "\ufeff"),
        *("_x0041_", "_x", "_x005F_", "x0041_", "&lt;", "&#10;", "<![CDATA[", "]]>", "</t>", "{", "[", "]"),
        *("😀", "小", "e\u0301", "\u202e"),
    ]
)
TEXTS = st.lists(PIECES, max_size=8).map("".join) | st.text(
    st.characters(codec="utf-8", exclude_characters="\ufffe\uffff"),  # which calamine leaves escaped
    max_size=20,
)
INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([10**15 - 1, 10**15, 2**53 + 1, -(10**15)])
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
DAYS = st.dates().map(date.isoformat) | st.sampled_from(["1900-02-28", "1900-03-01", "0001-01-01", "9999-12-31"])
MOMENTS = st.datetimes().map(lambda moment: moment.isoformat(timespec="milliseconds") + "Z")
DIGITS = (st.integers(-(10**34) + 1, 10**34 - 1) | st.integers(-(10**15), 10**15)).filter(bool)
EXPONENTS = st.integers(-25, 10) | st.integers(-6100, 6000)
DECIMALS = st.builds("{}E{}".format, DIGITS, EXPONENTS) | st.sampled_from(["0", "0.00"])
KEYS = TEXTS.filter(lambda key: key and not re.search(r"[$.\0]", key))
JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
LEAVES = st.fixed_dictionaries(
    {}, optional={"text": TEXTS, "number": INTEGERS, "day": DAYS, "moments": st.lists(MOMENTS, max_size=3)}
)
BRANCHES = st.fixed_dictionaries(
    {"label": TEXTS},
    optional={
        "leaf": st.none() | LEAVES,
        "leaves": st.lists(LEAVES, max_size=3),
        "days": st.lists(DAYS, max_size=3),
    },
)
BODIES = st.fixed_dictionaries(
    {"code": TEXTS},
    optional={
        "text": TEXTS,
        "integer": INTEGERS,
        "float_number": FLOATS,
        "decimal_number": DECIMALS,
        "boolean": st.booleans(),
        "day": DAYS,
        "moment": MOMENTS,
        "texts": st.lists(TEXTS, max_size=4),
        "integers": st.lists(INTEGERS, max_size=3),
        "days": st.lists(DAYS, max_size=3),
        "decimals": st.lists(DECIMALS, max_size=3),
        "matrix": st.lists(st.lists(FLOATS, max_size=3), max_size=3),
        "free": st.dictionaries(KEYS, JSON, max_size=3),
        "branch": BRANCHES,
        "branches": st.lists(BRANCHES, max_size=3),
    },
)


@pytest.mark.slow
@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[
        Phase.explicit,
        Phase.reuse,
        Phase.generate,
    ],  # to shrink so much takes minutes; the first wrong cell is named
)
@given(drawn=st.lists(BODIES, min_size=20, max_size=40))
async def test_no_value_breaks_out_of_its_cell(client: httpx.AsyncClient, drawn: list[Document]) -> None:
    await EVERYTHING.document_class.get_pymongo_collection().delete_many({})
    for number, body in enumerate(drawn):
        await create(client, EVERYTHING, body | {"code": f"{body['code']}{number}", "left": number, "right": -1})
    documents = await listed(client, EVERYTHING)
    assert len(documents) == len(drawn)

    for file_format in FORMATS:
        for explode in (None, "texts", "branches", "branch.leaf.moments"):
            asked = Asked(EVERYTHING, file_format, explode=explode)

            content = await export(client, asked)

            assert_file_has(documents, asked, content)


async def test_a_decimal_that_parquet_cannot_hold_is_left_out_and_counted(client: httpx.AsyncClient) -> None:
    fits = ["0", "-1.5", "99999999999999999999.99999999999999", "1E-18", "1.10E+19", "0E-6000"]
    unfit = ["1E+20", "1E-19", "1.0000000000000000001", "9.99E-19", "1E+6111", "1E-6143"]
    unfit += [f"1.{'0' * 32}7E-{places}" for places in (1, 18, 23, 24, 25, 50, 6100)]
    for number, text in enumerate([*fits, *unfit]):
        await create(client, EVERYTHING, {"code": text, "left": number, "right": -1, "decimal_number": text})

    response = await client.get(Asked(EVERYTHING, "parquet").path, params={"fields": "code,decimal_number"})

    rows = parquet.read_table(io.BytesIO(response.content)).to_pylist()
    found = {row["code"]: row["decimal_number"] for row in rows}
    assert found == {text: Decimal(text) for text in fits} | dict.fromkeys(unfit)
    record = (await client.get(f"/api/v1/exports/{response.headers['export-id']}")).json()
    assert record["cut_cells"] == len(unfit)


# What is refused


@every_type
@pytest.mark.parametrize(
    ("file_format", "params", "parameter"),
    [
        ("pdf", {}, "format_name"),
        ("CSV", {}, "format_name"),
        ("csv", {"delimiter": "pipe"}, "delimiter"),
        ("csv", {"bom": "yes"}, "bom"),
        ("csv", {"raw": ""}, "raw"),
        *((file_format, {"explode": "id"}, "explode") for file_format in FORMATS),
        ("csv", {"explode": "nonsense"}, "explode"),
        ("csv", {"explode": ""}, "explode"),
        ("csv", {"explode": ["id", "id"]}, "explode"),
        ("csv", {"limit": "5"}, "limit"),
        *((file_format, {"fields": "id,nonsense"}, "fields") for file_format in FORMATS),
        ("csv", {"fields": ""}, "fields"),
        ("csv", {"fields": "id,id"}, "fields"),
        *((file_format, {"snapshot": "maybe"}, "snapshot") for file_format in FORMATS),
        ("csv", {"snapshot": ["true", "true"]}, "snapshot"),
        *((file_format, {"delimiter": "tab"}, "delimiter") for file_format in FORMATS if file_format != "csv"),
        ("parquet", {"bom": "true"}, "bom"),
        ("json", {"raw": "true"}, "raw"),
        ("xlsx", {"nonsense": "1"}, "nonsense"),
        ("ndjson", {"cursor": "x"}, "cursor"),
    ],
)
async def test_what_cannot_be_done_is_refused_before_the_first_byte(
    client: httpx.AsyncClient, document_type: DocumentType, file_format: str, params: dict[str, Any], parameter: str
) -> None:
    response = await client.get(f"{address(document_type)}/export/{file_format}", params=params)

    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "invalid_query"
    assert {fault["parameter"] for fault in response.json()["errors"]} == {parameter}
    assert "export-id" not in response.headers


@every_type
async def test_every_parameter_is_described(app: FastAPI, document_type: DocumentType) -> None:
    path = Asked(document_type, "{format_name}").path
    described = {parameter["name"] for parameter in app.openapi()["paths"][path]["get"]["parameters"]}
    named = {"format_name", "q", "q_mode", "sort", "fields", "delimiter", "bom", "raw", "snapshot"}
    if any(field.is_array for field in document_type.fields.values()):
        named.add("explode")
    other = {"limit", "skip", "count", "cursor", "explode"}  # names that are never a filter
    filters = {field.path for field in document_type.fields.values() if field.is_scalar}
    assert described == named | {f"{path}__eq" if path in named | other else path for path in filters}
