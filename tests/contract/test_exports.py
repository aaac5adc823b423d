"""What every document type's files promise; each is read back by another's reader."""

import csv
import io
import json
import re
from datetime import date, datetime
from typing import Any

import httpx
import openpyxl
import pytest
from openpyxl.utils.escape import unescape
from python_calamine import CalamineWorkbook

from service.documents.fields import Field, Kind
from service.documents.registry import DocumentType
from tests.conftest import TYPES
from tests.contract.test_documents import address
from tests.contract.test_lists import load, values_at

pytestmark = pytest.mark.parametrize("document_type", TYPES, ids=lambda document_type: document_type.name)


def columns_of(document_type: DocumentType) -> list[str]:
    """The columns by the contract's words: each field that holds no others, and each outermost array."""
    arrays = [field.path for field in document_type.fields.values() if field.is_array]
    return [
        field.path
        for field in document_type.fields.values()
        if (field.kind is not Kind.OBJECT or field.is_array)
        and not any(field.path.startswith(f"{array}.") for array in arrays)
    ]


def value_at(document: Any, path: str) -> Any:
    """What lies at a path that leads through no array."""
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


def from_csv(field: Field, cell: str) -> Any:
    """What a data team reads out of a cell, knowing the column."""
    if field.is_array or field.kind is Kind.JSON:
        return json.loads(cell) if cell else None
    if cell == "":
        return None
    match field.kind:
        case Kind.INTEGER:
            return int(cell)
        case Kind.FLOAT:
            return float(cell)
        case Kind.BOOLEAN:
            return {"true": True, "false": False}[cell]
        case Kind.TEXT:
            return cell[1:] if re.match(r"'+[=+\-@\t\r\n]", cell) else cell
    return cell


def from_xlsx(field: Field, cell: Any) -> Any:
    """The same of a cell of a workbook."""
    if isinstance(cell, datetime):
        text = f"{cell.isoformat(timespec='milliseconds')}Z"
        return text[:10] if field.kind is Kind.DATE else text
    if isinstance(cell, date):
        return cell.isoformat()
    if field.kind is Kind.DECIMAL and isinstance(cell, int | float):
        return f"{cell:.2f}"
    if isinstance(cell, str):
        if field.is_array or field.kind is Kind.JSON:
            return json.loads(cell)
        if field.kind in {Kind.INTEGER, Kind.FLOAT}:
            return float(cell)
    return cell


async def export(client: httpx.AsyncClient, document_type: DocumentType, file_format: str, **params: str) -> bytes:
    response = await client.get(f"{address(document_type)}/export/{file_format}", params=params)
    assert response.status_code == 200, response.text
    pattern = rf'attachment; filename="{document_type.name}-\d{{4}}-\d\d-\d\dT\d{{4}}Z\.{file_format}"'
    assert re.fullmatch(pattern, response.headers["content-disposition"])
    return response.content


async def csv_rows(client: httpx.AsyncClient, document_type: DocumentType, **params: str) -> list[list[str]]:
    content = await export(client, document_type, "csv", **params)
    return list(csv.reader(io.StringIO(content.decode(), newline="")))


async def test_a_csv_file_has_every_document_whole(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    documents = await load(client, document_type, 12)

    header, *rows = await csv_rows(client, document_type)

    assert header == columns_of(document_type)
    assert len(rows) == len(documents)
    for document, row in zip(documents, rows, strict=True):
        for path, cell in zip(header, row, strict=True):
            assert from_csv(document_type.fields[path], cell) == value_at(document, path), path


async def test_an_xlsx_file_has_every_document_whole(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    documents = await load(client, document_type, 12)

    content = await export(client, document_type, "xlsx")

    sheet = openpyxl.load_workbook(io.BytesIO(content)).active
    assert sheet is not None
    header, *rows = [[cell.value for cell in row] for row in sheet.iter_rows()]
    assert header == columns_of(document_type)
    assert len(rows) == len(documents)
    for document, row in zip(documents, rows, strict=True):
        for path, cell in zip(columns_of(document_type), row, strict=True):
            value = unescape(cell) if isinstance(cell, str) else cell
            assert from_xlsx(document_type.fields[path], value) == value_at(document, path), path
    assert not any(cell.data_type == "f" for row in sheet.iter_rows() for cell in row)
    calamine = CalamineWorkbook.from_filelike(io.BytesIO(content)).get_sheet_by_name(document_type.name).to_python()
    assert calamine[0] == header
    assert len(calamine) == len(documents) + 1


@pytest.mark.parametrize("file_format", ["csv", "xlsx"])
async def test_an_empty_file_has_its_header(
    client: httpx.AsyncClient, document_type: DocumentType, file_format: str
) -> None:
    content = await export(client, document_type, file_format)

    if file_format == "csv":
        assert content.decode() == ",".join(columns_of(document_type)) + "\r\n"
    else:
        assert CalamineWorkbook.from_filelike(io.BytesIO(content)).get_sheet_by_index(0).to_python() == [
            columns_of(document_type)
        ]


async def test_a_file_has_what_the_list_has_in_its_order(
    client: httpx.AsyncClient, document_type: DocumentType
) -> None:
    documents = await load(client, document_type, 9)
    chosen = documents[3]
    path = next(iter(document_type.indexes[0].document["key"]))
    params = {path: str(value_at(chosen, path)), "q": str(values_at(chosen, document_type.search[0])[0])[:30]}

    header, *rows = await csv_rows(client, document_type, **params, fields=f"{path},id")
    _, *all_rows = await csv_rows(client, document_type, fields="id", sort="-id")

    assert header == [path, "id"]
    assert rows == [[str(value_at(chosen, path)), chosen["id"]]]
    assert all_rows == [[document["id"]] for document in reversed(documents)]


async def test_an_exploded_array_gives_a_row_for_each_element(
    client: httpx.AsyncClient, document_type: DocumentType
) -> None:
    documents = await load(client, document_type, 9)
    arrays = [field for field in document_type.fields.values() if field.is_array]
    for field in arrays:
        is_inner = any(field.path.startswith(f"{other.path}.") for other in arrays)
        if is_inner:
            response = await client.get(f"{address(document_type)}/export/csv", params={"explode": field.path})
            assert response.status_code == 400
            assert response.json()["errors"][0]["parameter"] == "explode"
            continue
        header, *rows = await csv_rows(client, document_type, explode=field.path)

        lengths = [max(len(value_at(document, field.path) or []), 1) for document in documents]
        assert len(rows) == sum(lengths)
        ids = [document["id"] for document, length in zip(documents, lengths, strict=True) for _ in range(length)]
        assert [row[0] for row in rows] == ids
        elements = [element for document in documents for element in (value_at(document, field.path) or [None])]
        for path in header:
            if path.startswith(f"{field.path}."):
                inner = path.removeprefix(f"{field.path}.")
                cells = [from_csv(document_type.fields[path], row[header.index(path)]) for row in rows]
                assert cells == [value_at(element, inner) for element in elements], path


@pytest.mark.parametrize(
    ("file_format", "params", "parameter"),
    [
        ("pdf", {}, "format_name"),
        ("csv", {"delimiter": "pipe"}, "delimiter"),
        ("csv", {"bom": "yes"}, "bom"),
        ("csv", {"explode": "id"}, "explode"),
        ("csv", {"explode": "nonsense"}, "explode"),
        ("csv", {"limit": "5"}, "limit"),
        ("csv", {"fields": "nonsense"}, "fields"),
        ("xlsx", {"delimiter": "tab"}, "delimiter"),
        ("xlsx", {"nonsense": "1"}, "nonsense"),
    ],
)
async def test_what_cannot_be_done_is_refused_before_the_first_byte(
    client: httpx.AsyncClient, document_type: DocumentType, file_format: str, params: dict[str, str], parameter: str
) -> None:
    response = await client.get(f"{address(document_type)}/export/{file_format}", params=params)

    assert response.status_code == 400
    assert response.json()["code"] == "invalid_query"
    assert [fault["parameter"] for fault in response.json()["errors"]] == [parameter]
