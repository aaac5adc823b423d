"""Import templates: a file to fill in, with the columns that an export has and one row as an example."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any, Literal

import bson
import orjson
from openpyxl import Workbook, load_workbook
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.styles import Alignment, Font

from service.documents.base import SERVER_FIELDS, now
from service.documents.fields import Field
from service.documents.registry import DocumentType
from service.documents.values import to_stored
from service.imports.columns import explained
from service.store.schemas import create_model_of
from service.transfer.assembly import Assembly
from service.transfer.encoders import ENCODERS
from service.transfer.encoding import About, FileSpec
from service.transfer.formats import FORMATS

TemplateFormat = Literal["csv", "xlsx"]

COLUMNS_SHEET = "Columns"
WIDTHS = {"Column": 28, "Type": 34, "Required": 24, "Allowed": 40, "Meaning": 60}
"""Of the columns that explain the columns."""


def template(document_type: DocumentType, format_name: TemplateFormat) -> bytes:
    """The whole file; its media type is that of FORMATS. Needs no database."""
    own_paths = tuple(path for path in document_type.fields if "." not in path and path not in SERVER_FIELDS)
    spec = FileSpec(format_name, document_type.name, document_type.fields, own_paths, bom=True)
    file = _exported(spec, bson.encode({"_id": None, **_stored_example(document_type)}))
    return _with_columns(file, document_type, spec) if format_name == "xlsx" else file


def _stored_example(document_type: DocumentType) -> dict[str, Any]:
    own = {name: value for name, value in document_type.example.items() if name not in SERVER_FIELDS}
    model = create_model_of(document_type).model_validate_json(orjson.dumps(own), strict=True)
    stored: dict[str, Any] = to_stored(model, [])
    return stored


def _exported(spec: FileSpec, document: bytes) -> bytes:
    """The file that an export of this document alone would be."""
    assembly = Assembly(FORMATS[spec.format_name].file(spec))
    start, rows = assembly.start(), assembly.add(ENCODERS[spec.format_name](spec)(document))
    about = About(spec.title, "", now().replace(tzinfo=None), assembly.rows, assembly.cut_cells)
    return start + rows + assembly.end(about)


def _with_columns(file: bytes, document_type: DocumentType, spec: FileSpec) -> bytes:
    """The workbook with its columns explained, where an export tells about itself."""
    workbook = load_workbook(BytesIO(file))
    del workbook[workbook.sheetnames[-1]]
    _add_columns(workbook, document_type, spec.table().columns)
    buffer = BytesIO()
    workbook.save(buffer)
    return buffer.getvalue()


def _add_columns(workbook: Workbook, document_type: DocumentType, columns: Sequence[Field]) -> None:
    sheet = workbook.create_sheet(COLUMNS_SHEET)
    for row, texts in enumerate([tuple(WIDTHS), *explained(document_type, columns)], start=1):
        for column, text in enumerate(texts, start=1):
            cell = sheet.cell(row, column, ILLEGAL_CHARACTERS_RE.sub("", text))
            cell.data_type = "s"  # even where it looks like a formula
            cell.alignment = Alignment(wrap_text=True, vertical="top")
    for cell, width in zip(sheet[1], WIDTHS.values(), strict=True):
        cell.font = Font(bold=True)
        sheet.column_dimensions[cell.column_letter].width = width
    sheet.freeze_panes = "A2"
    sheet.auto_filter.ref = sheet.dimensions
