"""What became of a file: counts, and the rows that failed."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from service.documents.json_text import dump_json
from service.errors import Fault, cut
from service.imports.decoding import Incoming
from service.imports.source import Source
from service.transfer.cells import shown
from service.transfer.csv_encoder import csv_text
from service.transfer.row_decoder import REASONS_COLUMN

MAX_FAILED_ROWS = 1000
"""What a report lists; the rest is counted."""

MAX_FAULTS_OF_ROW = 10
MAX_VALUE_LENGTH = 100
MAX_TEXT_LENGTH = 200
"""Of a column's name and of a message, in characters."""

MAX_LISTED_BYTES = 8 * 1024 * 1024
MAX_TABLE_CHARACTERS = 1024 * 1024
"""Of the failed rows as they came, in at most four bytes each: what an import leaves is one document of 16 MiB."""

Outcome = Literal["created", "updated", "unchanged"]
Fate = Outcome | Sequence[Fault]
"""What was done with a document, or why nothing was."""


class Report:
    """Counts documents, one for each row but where an array is exploded, and lists those that failed."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._counts: dict[str, int] = {"created": 0, "updated": 0, "unchanged": 0}
        self.failed = 0
        self.failed_rows: list[Mapping[str, Any]] = []
        self._table: list[Sequence[Any]] = []
        self._table_characters = 0
        self._in_table = 0
        self._listed_bytes = 0

    def counts(self) -> dict[str, int]:
        """How many had which fate."""
        return {"rows": self._source.row_count, **self._counts, "failed": self.failed}

    def count(self, outcome: Outcome) -> None:
        """One document more to which this was done."""
        self._counts[outcome] += 1

    @property
    def has_room(self) -> bool:
        """Whether another document that failed would be listed."""
        return len(self.failed_rows) < MAX_FAILED_ROWS and self._listed_bytes < MAX_LISTED_BYTES

    def add_failed(self, incoming: Incoming | None, faults: Sequence[Fault]) -> None:
        """One document more to which nothing was done, and why; where there is no room, it need not be at hand."""
        self.failed += 1
        if incoming is not None and self.has_room:
            errors = [self._error(incoming, fault) for fault in faults[:MAX_FAULTS_OF_ROW]]
            self.failed_rows.append({"row": incoming.row, "errors": errors})
            self._listed_bytes += len(dump_json(errors))
            self._keep(incoming, errors)

    def nothing_was_done(self) -> None:
        """Count only those that are at fault, as they have kept the others from being written."""
        self._counts = dict.fromkeys(self._counts, 0)

    def table(self) -> tuple[str, int]:
        """The failed rows as CSV: as they came, with a column that says what is wrong; and how many are left out."""
        columns = [name for name in self._source.decoding.columns or ["line"] if name != REASONS_COLUMN]
        return csv_text([[*columns, REASONS_COLUMN], *self._table]), self.failed - self._in_table

    def _error(self, incoming: Incoming, fault: Fault) -> dict[str, Any]:
        place, value = self._source.decoding.place_of(incoming, fault)
        return {
            "column": place and cut(place, MAX_TEXT_LENGTH),
            "code": fault.code,
            "message": cut(fault.message, MAX_TEXT_LENGTH),
            "value": None if value is None else cut(_storable(value), MAX_VALUE_LENGTH),
        }

    def _keep(self, incoming: Incoming, errors: Sequence[Mapping[str, Any]]) -> None:
        reasons = "; ".join(
            f"{error['column']}: {error['message']}" if error["column"] else error["message"] for error in errors
        )
        columns = list(self._source.decoding.columns)
        rows: list[list[str | None]] = []
        for _, cells in incoming.rows:
            row = [
                shown(cell) for name, cell in zip(columns or ["line"], cells, strict=False) if name != REASONS_COLUMN
            ]
            row += [None] * (len(columns) - (REASONS_COLUMN in columns) - len(row))
            rows.append([*row, reasons])
        size = sum(len(cell) for row in rows for cell in row if cell)
        if self._table_characters + size <= MAX_TABLE_CHARACTERS:
            self._table_characters += size
            self._table += rows
            self._in_table += 1


def _storable(value: Any) -> str:
    """A value of a file as text; a lone surrogate, which JSON can have and BSON cannot, as `?`."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode(errors="replace").decode()
