"""Rows as CSV: RFC 4180, UTF-8.

An empty text is `""` and nothing is nothing, which PostgreSQL's COPY tells apart too. Only in a file of one column
nothing is `""` as well, as an empty line would be no row, and so it comes back as an empty text.
"""

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from types import NoneType
from typing import Any

from bson import Decimal128, Int64, ObjectId

from service.documents.batches import parts_of
from service.documents.json_text import cell_text, time_text
from service.transfer.encoding import DELIMITERS, Encode, FileSpec, Piece, PlainFile

FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
"""What a spreadsheet would run, or what would look guarded already: either gets one ' more, and the importer takes
one off again."""

RISKY = frozenset("'=+-@\t\r\n")
"""What such a text starts with."""

Write = Callable[[Any], str]


def guard_formula(text: str) -> str:
    """The text, so that a spreadsheet takes it as text."""
    return f"'{text}" if FORMULA.match(text) else text


def unguard_formula(text: str) -> str:
    """The text that was guarded so; one that was left as it was stays so."""
    return text[1:] if text.startswith("'") and FORMULA.match(text, 1) else text


def csv_file(spec: FileSpec) -> PlainFile:
    """A CSV file, which starts with its header row; `bom` lets Excel see the UTF-8."""
    delimiter = DELIMITERS[spec.delimiter]
    header = _lines([_quoted([name], delimiter) for name in spec.table().header], delimiter)
    return PlainFile((("\ufeff" if spec.bom else "") + header).encode())


def csv_encoder(spec: FileSpec) -> Encode:
    """Encodes rows; `raw` leaves texts as they are, formulas too."""
    table = spec.table()
    delimiter = DELIMITERS[spec.delimiter]
    is_raw = spec.raw

    def other(value: Any) -> str:
        """What somebody wrote by hand may be any type of BSON, and so any text."""
        text = cell_text(value)
        return text if is_raw else guard_formula(text)

    writers: dict[type, Write] = {**WRITERS, **({} if is_raw else {str: guard_formula})}
    writer_for: Callable[[type, Write], Write] = writers.get

    def write(column: Sequence[Any]) -> list[str]:
        kinds = set(map(type, column))
        if kinds <= INTEGERS:
            return ["" if number is None else str(number) for number in column]
        if not kinds <= TEXTS:
            return [writer_for(type(value), other)(value) for value in column]
        if is_raw:
            return [text or "" for text in column]
        return [guard_formula(text) if text and text[0] in RISKY else text or "" for text in column]

    def encode(batch: bytes) -> list[Piece]:
        pieces = []
        for part in parts_of(batch):
            rows, columns = table.cells(part)
            cells = [_told_from_nothing(_quoted(write(column), delimiter), column) for column in columns]
            pieces.append(Piece(_lines(cells, delimiter).encode(), rows))
        return pieces

    return encode


def csv_text(rows: Sequence[Sequence[str | None]]) -> str:
    """Rows of texts as an export would write them."""
    columns = list(zip(*rows, strict=True))
    cells = [_quoted([guard_formula(text or "") for text in column], ",") for column in columns]
    return _lines([_told_from_nothing(*pair) for pair in zip(cells, columns, strict=True)], ",")


def _lines(columns: Sequence[list[str]], delimiter: str) -> str:
    """Columns of cells as lines."""
    if len(columns) == 1:
        columns = [[cell or '""' for cell in columns[0]]]  # a line with nothing on it would be no row
    return "\r\n".join([*map(delimiter.join, zip(*columns, strict=True)), ""])


def _told_from_nothing(cells: list[str], values: Sequence[Any]) -> list[str]:
    """The cells of these values, with `""` for each that is empty though there is a value."""
    if "" not in cells or cells.count("") == values.count(None):
        return cells
    return [cell if cell or value is None else '""' for cell, value in zip(cells, values, strict=True)]


def _quoted(column: list[str], delimiter: str) -> list[str]:
    """As csv.writer does it, but a column of which nothing has to be quoted is looked at once, not cell by cell."""
    joined = "".join(column)
    if '"' in joined:
        return [
            '"' + text.replace('"', '""') + '"'
            if '"' in text or delimiter in text or "\n" in text or "\r" in text
            else text
            for text in column
        ]
    if delimiter in joined or "\n" in joined or "\r" in joined:
        return [f'"{text}"' if delimiter in text or "\n" in text or "\r" in text else text for text in column]
    return column


def _as_it_is(text: str) -> str:
    return text


WRITERS: dict[type, Write] = {
    str: _as_it_is,
    NoneType: lambda _: "",
    bool: lambda value: "true" if value else "false",
    int: str,
    Int64: str,
    float: repr,
    datetime: time_text,
    date: date.isoformat,
    ObjectId: str,
    Decimal128: str,  # a negative one is a number all the same
}
INTEGERS = frozenset({int, NoneType})
TEXTS = frozenset({str, NoneType})
