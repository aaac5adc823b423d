"""One canary in each private field of a type, and how to find it again."""

import io
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import httpx
import openpyxl
import pytest
from pyarrow import parquet

from service.documents.fields import Field, Kind
from service.documents.registry import DocumentType
from tests.conftest import TYPES

PRIVATE_TYPES = [document_type for document_type in TYPES if document_type.masked is not document_type.whole]
every_type = pytest.mark.parametrize("document_type", PRIVATE_TYPES, ids=lambda document_type: document_type.name)

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
PARQUET = "application/vnd.apache.parquet"

CANARIES: Mapping[Kind, Any] = {
    Kind.TEXT: "canary",
    Kind.INTEGER: 918273645,
    Kind.FLOAT: 98765.4321,
    Kind.DECIMAL: "546372819.25",
    Kind.BOOLEAN: True,
    Kind.DATE: "1987-06-05",
    Kind.DATETIME: "1986-05-04T03:02:01.000Z",
    Kind.OBJECT_ID: "cafecafecafecafecafecafe",
    Kind.JSON: {"key": "canary"},
}
TRACES = ["canary", "918273645", "98765.4321", "546372819.25", "1987-06-05", "1986-05-04", "cafecafe"]
"""What is left of a canary, wherever it was."""


def canary_of(document_type: DocumentType, field: Field) -> Any:
    if field.kind is Kind.OBJECT:
        inner = [known for path, known in document_type.fields.items() if path.rpartition(".")[0] == field.path]
        plain = [known for known in inner if known.is_scalar and not known.is_array]
        return {known.path.rpartition(".")[2]: canary_of(document_type, known) for known in plain}
    if field.choices:
        return field.choices[0]
    return "canary@example.org" if field.is_email else CANARIES[field.kind]


def with_canaries(document_type: DocumentType) -> dict[str, Any]:
    """The example with canaries; a field of array elements has one in each of these."""
    body = deepcopy(document_type.example)
    for path in document_type.masked.masks:
        *parents, name = path.split(".")
        field = document_type.fields[path]
        value = [[98765.4321]] if field.inner is Kind.FLOAT else canary_of(document_type, field)
        for holder in holders_of(body, parents):
            holder[name] = [value] if field.is_array else value
    return body


def holders_of(value: Any, names: list[str]) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        for element in value:
            yield from holders_of(element, names)
    elif isinstance(value, dict):
        if not names:
            yield value
        elif value.get(names[0]) is not None:
            yield from holders_of(value[names[0]], names[1:])


def assert_masked(document_type: DocumentType, document: Any) -> None:
    """Each private field that there is has masks and nulls."""
    for path, mask in document_type.masked.masks.items():
        *parents, name = path.split(".")
        for holder in holders_of(document, parents):
            for value in holder[name] if isinstance(holder.get(name), list) else [holder.get(name)]:
                assert value is None or mask.is_mask(value), (path, value)


def traces_in(response: httpx.Response) -> set[str]:
    """What is left of canaries in an answer, read by another's reader where it is a file."""
    media_type = response.headers.get("content-type", "").partition(";")[0]
    text = response.text
    if media_type == XLSX:
        workbook = openpyxl.load_workbook(io.BytesIO(response.content))
        text = said([list(sheet.iter_rows(values_only=True)) for sheet in workbook])
    elif media_type == PARQUET:
        text = said(parquet.read_table(io.BytesIO(response.content)).to_pylist())
    return {trace for trace in TRACES if trace in text}


def said(value: Any) -> str:
    """All scalars as text."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else None
    return str(value) if inner is None else " ".join(map(said, inner))
