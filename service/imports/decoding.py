"""Rows of a file as the bodies of documents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

from jsonpointer import JsonPointerException, resolve_pointer

from service.documents.base import SERVER_FIELDS
from service.documents.json_text import InvalidJsonError, load_json
from service.documents.registry import DocumentType
from service.documents.strictness import strict_values
from service.documents.values import to_stored
from service.errors import Fault, InvalidQueryError
from service.imports.query import ImportQuery, key_fields, needless_parameter
from service.transfer.cells import shown
from service.transfer.decoding import Cell, Row, refuse_file
from service.transfer.row_decoder import RowDecoder

MAX_FAULTS = 100
"""Of one document: what is told of it is less, and what travels between processes should be little."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """One document of a file."""

    ordinal: int
    """Of its first row, among all rows of the file."""
    rows: Sequence[Row]
    body: Mapping[str, Any]
    """JSON values, strictly of their kinds but for the faults; without the server's fields."""
    faults: Sequence[Fault]
    key: Any
    """What its key's field holds; None: nothing."""

    @property
    def row(self) -> int:
        """The number of its first row, as a spreadsheet shows it; of NDJSON, the line's."""
        return self.rows[0][0]


class Decoding(Protocol):
    """How the rows of a file become documents."""

    @property
    def columns(self) -> Sequence[str]:
        """The header of a table; none, where it has none."""

    def group_of(self, row: Any) -> Any:
        """What rows have in common that follow each other and are one document."""

    def decode(self, ordinal: int, rows: Sequence[Any]) -> list[Incoming]:
        """The documents of rows, of which the first has this ordinal."""

    def place_of(self, incoming: Incoming, fault: Fault) -> tuple[str | None, Any]:
        """Where a person looks for a fault, and what is there: a table's column, else an RFC 6901 pointer."""


class TableDecoding:
    """Rows of cells below a header: CSV, XLSX."""

    def __init__(self, document_type: DocumentType, query: ImportQuery, header: Sequence[Cell]) -> None:
        """Raises InvalidFileError for what is wrong with the header, and InvalidQueryError for a needless key."""
        self._decoder = RowDecoder(
            document_type.fields,
            header,
            explode=query.explode,
            is_partial=query.mode == "upsert",
            masks=document_type.masked.masks,
        )
        self.columns = self._decoder.columns
        self._key = self._key_path(document_type, query)

    def group_of(self, row: Row) -> Any:
        """Each row is a document; where an array is exploded, rows that follow each other with the same key are."""
        key = self._cell(self._key, row[1]) if self._decoder.exploded is not None else None
        return (row[0],) if key in {None, ""} else key

    def decode(self, ordinal: int, rows: Sequence[Row]) -> list[Incoming]:
        """Their documents."""
        documents: list[Incoming] = []
        for _, group in groupby(rows, self.group_of):
            own = list(group)
            documents.append(self._incoming(ordinal, own))
            ordinal += len(own)
        return documents

    def place_of(self, incoming: Incoming, fault: Fault) -> tuple[str | None, Any]:
        """The column, and what its cell holds."""
        column = fault.column or self._decoder.column_of(fault.pointer)
        _, cells = incoming.rows[self._decoder.position_of(fault.pointer)]
        return column, shown(self._cell(column, cells))

    def _incoming(self, ordinal: int, rows: Sequence[Row]) -> Incoming:
        body, faults = self._decoder.body([cells for _, cells in rows])
        key = (self._cell("id", rows[0][1]) or None) if self._key == "id" else value_at(body, self._key)
        return Incoming(ordinal, rows, body, faults[:MAX_FAULTS], key)

    def _cell(self, column: str | None, cells: Sequence[Cell]) -> Cell:
        index = self._decoder.index_of(column) if column else None
        return cells[index] if index is not None and index < len(cells) else None

    def _key_path(self, document_type: DocumentType, query: ImportQuery) -> str | None:
        """The field by which a row finds its document, or the other rows of its own."""
        if query.mode == "create" and self._decoder.exploded is None:
            if query.key is not None:
                raise InvalidQueryError([needless_parameter("key")])
            return None
        if query.key is None and query.mode == "create":
            found = next((path for path in key_fields(document_type) if path in self.columns), None)
        else:
            found = query.key or "id"
        if found is None or found not in self.columns:
            others = ", ".join(key_fields(document_type))
            message = f"rows find their documents by this column, or by another that `key` names: {others}"
            refuse_file("missing_column", message, column=found or "id")
        return found


class LinesDecoding:
    """A JSON object on each line: NDJSON."""

    columns: Sequence[str] = ()

    def __init__(self, document_type: DocumentType, query: ImportQuery) -> None:
        self._fields = document_type.fields
        self._masks = document_type.masked.masks
        self._key = (query.key or "id") if query.mode == "upsert" else None

    def group_of(self, row: tuple[int, bytes]) -> Any:
        """Each line is a document."""
        return row[0]

    def decode(self, ordinal: int, rows: Sequence[tuple[int, bytes]]) -> list[Incoming]:
        """Their documents."""
        return [self._incoming(ordinal + position, *line) for position, line in enumerate(rows)]

    def place_of(self, incoming: Incoming, fault: Fault) -> tuple[str | None, Any]:
        """The pointer, and the value that it finds."""
        try:
            document = load_json(str(incoming.rows[0][1][0]).encode())
            value = resolve_pointer(document, fault.pointer) if fault.pointer else None
        except (InvalidJsonError, JsonPointerException, TypeError):
            value = None
        return fault.pointer, value

    def _incoming(self, ordinal: int, number: int, line: bytes) -> Incoming:
        rows = [(number, [line.decode(errors="replace")])]
        try:
            found = load_json(line)
        except InvalidJsonError as error:
            return Incoming(ordinal, rows, {}, [Fault("invalid_json", str(error), pointer="")], None)
        if not isinstance(found, dict):
            fault = Fault("object_expected", "a JSON object is expected", pointer="")
            return Incoming(ordinal, rows, {}, [fault], None)
        faults: list[Fault] = []
        own = {name: value for name, value in found.items() if name not in SERVER_FIELDS}
        body = strict_values(to_stored(own, faults), self._fields, faults, masks=self._masks)
        return Incoming(ordinal, rows, body, faults[:MAX_FAULTS], value_at(found, self._key))


def value_at(body: Mapping[str, Any], path: str | None) -> Any:
    """What is at a dotted path; None, where there is nothing."""
    value: Any = body
    for name in path.split(".") if path else ():
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if path else None
