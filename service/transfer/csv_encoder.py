"""Rows as CSV: RFC 4180, UTF-8."""

import csv
import io
import re
from collections.abc import Callable
from datetime import datetime
from types import NoneType
from typing import Any

from bson import Decimal128, Int64

from service.documents.json_text import cell_text, time_text
from service.transfer.table import Table

FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
"""What a spreadsheet would run, or what would look guarded already: either gets one ' more, and the importer takes
one off again."""


def guard_formula(text: str) -> str:
    """The text, so that a spreadsheet takes it as text."""
    return f"'{text}" if FORMULA.match(text) else text


Writer = Callable[[Any], Any]

_writers: dict[type, Writer] = {
    str: guard_formula,
    NoneType: lambda _: None,
    bool: lambda value: "true" if value else "false",
    int: lambda value: value,
    Int64: lambda value: value,
    float: repr,
    datetime: time_text,
    Decimal128: str,  # a negative one is a number all the same
}


class CsvEncoder:
    """Makes a CSV file, batch by batch."""

    def __init__(self, table: Table, *, delimiter: str = ",", bom: bool = False, raw: bool = False) -> None:
        """`bom` lets Excel see the UTF-8; `raw` leaves texts as they are, formulas too."""
        self._table = table
        self._is_raw = raw
        self._start = "\ufeff" if bom else ""
        self._buffer = io.StringIO(newline="")
        self._writer = csv.writer(self._buffer, delimiter=delimiter)
        self._writers: dict[type, Writer] = {**_writers, **({str: str} if raw else {})}

    def _other(self, value: Any) -> str:
        """What somebody wrote by hand may be any type of BSON, and so any text."""
        text = cell_text(value)
        return text if self._is_raw else guard_formula(text)

    def start(self) -> bytes:
        """The header row."""
        self._buffer.write(self._start)
        self._writer.writerow([column.path for column in self._table.columns])
        return self._drain()

    def encode(self, batch: bytes) -> bytes:
        """The rows of a raw BSON batch."""
        write: Callable[[type, Writer], Writer] = self._writers.get
        rows = self._table.rows(batch)
        self._writer.writerows([write(type(value), self._other)(value) for value in row] for row in rows)
        return self._drain()

    def end(self) -> bytes:
        """Nothing: a CSV file just stops."""
        return b""

    def _drain(self) -> bytes:
        text = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return text.encode()
