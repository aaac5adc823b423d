"""Rows of CSV, read in constant memory: RFC 4180, and what spreadsheets make of it."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, TextIO

from service.transfer.csv_encoder import unguard_formula
from service.transfer.decoding import MAX_CELL_LENGTH, MAX_COLUMNS, Cell, Rows, refuse_file
from service.transfer.file_kinds import delimiter_of, encoding_of, read_head, refuse_foreign

MAX_ROW_LENGTH = 4 * MAX_CELL_LENGTH
"""In characters, with line breaks: what Python makes of a row may take fifty times as much memory."""

QUOTED_EMPTY = "\udc22"
"""Stands for `""` while the csv module reads: half of a surrogate pair, which decoded text never has in it."""

LINE_END = re.compile(r"\r\n?|\n")

CUT_CHARACTER = frozenset({"unexpected end of data", "truncated data"})
"""What decoders say of a last character of which bytes are missing."""


def read_csv(path: Path, delimiter: str | None = None, *, raw: bool = False) -> Rows:
    """The rows of a CSV file, the header first; without a delimiter, the one that the header shows.

    A cell with nothing is None, a quoted empty one an empty text. The ' that our export puts before formulas is taken
    off, except from a `raw` file. Cells beyond the header's last are dropped if nothing is in them. Raises
    InvalidFileError.
    """
    head = read_head(path)
    refuse_foreign(head, "not_csv", 'CSV; save it as "CSV UTF-8"')
    with path.open(encoding=encoding_of(head), newline="") as file:
        lines = _Lines(file, delimiter or delimiter_of(head))
        records = _records(lines, raw=raw)
        number, cells = next(records, (0, []))
        if not cells:
            refuse_file("empty_file", "The file has no rows, not even a header.")
        header = _trimmed([name.strip() if isinstance(name, str) else name for name in cells], 0)
        _check_width(header, number)
        yield number, header
        width = len(header)
        for number, cells in records:
            if len(cells) < width and lines.stops_short:
                message = "The last row has too few cells and no line break at its end: the file seems to be cut off."
                refuse_file("file_cut_off", message, number)
            if len(cells) > width:
                _check_width(_trimmed(cells, width), number)
            yield number, cells


class _Lines:
    """The lines of a file as the csv module shall see them, and what is known of the row that they make."""

    def __init__(self, file: TextIO, delimiter: str) -> None:
        self.delimiter = delimiter
        self.row = 1
        self.is_plain = True
        """Whether its cells are what the csv module makes of them."""
        self.last = ""
        self._length = 0
        self._file = file
        # Where the parts of a pattern come in this order, `re` looks for "" first, which is what makes it quick.
        self._quoted_empty = re.compile(rf'""(?<![^{re.escape(delimiter)}\r\n]"")(?![^{re.escape(delimiter)}\r\n])')

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(MAX_ROW_LENGTH + 1):
            self.last = line
            self._length += len(line)
            if self._length > MAX_ROW_LENGTH:
                message = f"This row is longer than {MAX_ROW_LENGTH:,} characters; is a quote open, or no line broken?"
                refuse_file("row_too_long", message, self.row)
            if '""' in line:
                self.is_plain = False
                line = self._quoted_empty.sub(QUOTED_EMPTY, line)
            elif "'" in line:
                self.is_plain = False
            yield line

    def start_row(self) -> None:
        """The row is complete; what comes belongs to the next."""
        self.row += 1
        self.is_plain = True
        self._length = 0

    @property
    def stops_short(self) -> bool:
        """Whether the last line has no end, as it can be only at the end of the file."""
        return not self.last.endswith(("\n", "\r"))


def _records(lines: _Lines, *, raw: bool) -> Iterator[tuple[int, list[Cell]]]:
    """The rows that have anything in them, with their numbers."""
    csv.field_size_limit(MAX_CELL_LENGTH)  # the module has but one, and another library may have set it
    records = csv.reader(lines, delimiter=lines.delimiter, strict=True)
    try:
        for cells in records:
            if any(cells):
                yield lines.row, [cell or None for cell in cells] if lines.is_plain else _restored(cells, raw=raw)
            lines.start_row()
    except csv.Error as error:
        _refuse_record(str(error), lines)
    except UnicodeDecodeError as error:
        _refuse_bytes(error, records.line_num)


def _restored(cells: list[str], *, raw: bool) -> list[Cell]:
    """What the cells of a row say that is not plain."""
    restore = _unmarked if raw else _unguarded
    return [(restore(cell) if "'" in cell or QUOTED_EMPTY in cell else cell) if cell else None for cell in cells]


def _unguarded(cell: str) -> str:
    return unguard_formula(_unmarked(cell))


def _unmarked(cell: str) -> str:
    """Within a longer text, `""` meant one quote."""
    return "" if cell == QUOTED_EMPTY else cell.replace(QUOTED_EMPTY, '"')


def _trimmed(cells: list[Cell], width: int) -> list[Cell]:
    """The same row without the cells past `width` that have nothing in them, nor anything behind them."""
    while len(cells) > width and cells[-1] is None:
        del cells[-1]
    return cells


def _check_width(cells: list[Cell], row: int) -> None:
    if len(cells) > MAX_COLUMNS:
        refuse_file("too_many_columns", f"There are {len(cells):,} columns; {MAX_COLUMNS:,} can be read.", row)


def _refuse_record(error: str, lines: _Lines) -> NoReturn:
    if error == "unexpected end of data":
        refuse_file("unclosed_quote", "A quote that opens in this row is never closed.", lines.row)
    if error.startswith("field larger"):
        message = f"A cell is longer than {MAX_CELL_LENGTH:,} characters, or a quote that opens here is never closed."
        refuse_file("cell_too_long", message, lines.row)
    message = f"After the quote that ends a cell comes no {lines.delimiter!r}; within a cell, a quote is written twice."
    refuse_file("misplaced_quote", message, lines.row)


def _refuse_bytes(error: UnicodeDecodeError, lines_before: int) -> NoReturn:
    """All lines before have been read, but for those that were to be decoded together with these bytes."""
    line = lines_before + len(LINE_END.findall(error.object[: error.start].decode(error.encoding))) + 1
    if error.reason in CUT_CHARACTER:
        refuse_file("file_cut_off", f"The file ends within a character, in line {line:,}: it seems to be cut off.")
    refuse_file("not_utf8", f'Line {line:,} is not UTF-8. In a spreadsheet, save the file as "CSV UTF-8".')
