"""Rows of an Excel sheet (ECMA-376), whoever wrote it, in constant memory."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from operator import itemgetter
from pathlib import Path
from typing import NoReturn
from xml.sax.saxutils import unescape

from openpyxl.utils import get_column_letter

from service.transfer.decoding import MAX_CELL_LENGTH, MAX_COLUMNS, Cell, Row, Rows, refuse_file
from service.transfer.package_reader import Attributes, XmlParser, refuse_broken, shown
from service.transfer.workbook_reader import OpenWorkbook, open_workbook, refuse_length, unescaped

ROW_END = b"</row>"
TEXT_RUN = r"[^<>&\x00-\x08\x0b-\x1f\ufffe\uffff]*+"
TEXT = f"{TEXT_RUN}(?:&(?:amp|lt|gt|quot|apos);{TEXT_RUN})*+"
ATTRIBUTES = '(?: (?!r=)[A-Za-z][A-Za-z0-9:]*+="[A-Za-z0-9.:$ -]*+")*+'
FORMULA = f"<f{ATTRIBUTES}(?:/>|>{TEXT}</f>)"
PLAIN_ROW = re.compile(f'<row(?: r="([0-9]{{1,7}})")?{ATTRIBUTES}>')
PLAIN_CELL = re.compile(
    '(<c(?: r="([A-Z]{1,3})[0-9]{1,7}")?(?: s="([0-9]+)")?(?: t="([A-Za-z]+)")?(?: ?/>|(>)'
    f'(?:(?:{FORMULA})?+<v>|(<is><t(?: xml:space="preserve")?>))({TEXT})(?(6)</t></is>|</v>)</c>))'
)
"""The whole cell, its column, style and type, whether it has something in it, whether that is inline text, the text."""

QUOTES = {"&quot;": '"', "&apos;": "'"}
COLUMNS = {get_column_letter(number): number - 1 for number in range(1, 18_279)}
"""All of up to three letters; Excel's last is XFD."""

DIGITS = "0123456789"
MAX_ROW_DIGITS = 7

KINDS = {"": "number", "n": "number", "b": "truth value", "d": "date", "inlineStr": "text", "str": "text"}
"""What cell types are for people."""

NUMBER_TYPES = frozenset({"", "n"})
TEXT_TYPES = frozenset({"inlineStr", "str"})
TRUTH = {"1": True, "true": True, "0": False, "false": False}
PLAIN_NUMBER = re.compile("-?(?:0|[1-9][0-9]*)(?:[.][0-9]+)?")
NUMBER = re.compile("[+-]?(?:[0-9]+[.]?[0-9]*|[.][0-9]+)(?:[Ee][+-]?[0-9]+)?")
MAX_EXACT_DIGITS = 15
"""Excel's numbers are 64-bit floats, of which it shows so many digits; more of them only tell floats apart."""

EPOCH = datetime(1899, 12, 30, tzinfo=UTC)
DAYS_TO_1904 = 1462
PHANTOM_DAY = 60
"""1900-02-29, which Excel counts and which never was; the days before it have numbers that are too low by one."""

MAX_LISTED = 20


def read_sheet(path: Path, sheet: str | None = None) -> Rows:
    """The rows of the sheet of this name, or else of the first sheet and those that continue it, as in our exports.

    Row numbers are those that the row's own sheet shows. Raises InvalidFileError for a file that cannot be read.
    """
    with open_workbook(path) as workbook:
        names = _continued(list(workbook.sheets)) if sheet is None else [sheet]
        tables = (_table(_Sheet(workbook).rows(_part(workbook, name))) for name in names)
        first = next(tables)
        header = next(first, None)
        if header is None:
            refuse_file("empty_file", "The sheet has no rows, not even a header.")
        yield header
        yield from first
        for table in tables:
            if next(table, (0, []))[1] != header[1]:
                return
            yield from table


def _continued(names: Sequence[str]) -> list[str]:
    """The first, and those after it that are named as `users 2` and `users 3` are after `users`."""
    first, *others = names
    following = takewhile(lambda pair: pair[1] == f"{first[:26]} {pair[0]}", enumerate(others, start=2))
    return [first, *(name for _, name in following)]


def _part(workbook: OpenWorkbook, sheet: str) -> str:
    part = workbook.sheets.get(sheet)
    if part is None:
        names = ", ".join(map(repr, list(workbook.sheets)[:MAX_LISTED]))
        refuse_file("no_such_sheet", f"The file has no sheet {sheet!r}; its sheets: {names}.")
    return part


def _table(rows: Rows) -> Rows:
    """The header, without empty cells at its end, and rows of its width, or wider where something stands beyond it."""
    width = 0
    for number, row in rows:
        cells = list(row) if width else [name.strip() if isinstance(name, str) else name for name in row]
        while len(cells) > width and cells[-1] in {None, ""}:
            cells.pop()
        if cells.count(None) < len(cells):
            width = width or len(cells)
            cells += [None] * (width - len(cells))
            yield number, cells


class _Sheet:
    """Makes rows of a sheet's XML; each ends with its last value, and those without any are left out.

    Nearly all rows are written in a few plain shapes, and between two rows the parser is always in the same state. So
    the parser need not see a plain row: a regular expression takes it apart in half the time, and whatever is written
    otherwise is parsed. Both find the same; only an attribute that a tag has twice, which is no XML, goes unnoticed.
    """

    def __init__(self, workbook: OpenWorkbook) -> None:
        self._package = workbook.package
        self._shared_texts = workbook.shared_texts
        self._date_styles = workbook.date_styles
        self._is_1904 = workbook.is_1904
        self._readers: dict[str, Callable[[str], Cell]] = {
            "": _number,
            "n": _number,
            "s": self._shared_text,
            "inlineStr": unescaped,
            "str": unescaped,
            "b": TRUTH.__getitem__,
            "d": _iso_days,
            "e": str.encode,
        }
        self._rows: list[Row] = []
        self._cells: list[Cell] = []
        self._row = 0
        self._column = -1
        """The latest cell's, from 0."""
        self._attributes: Attributes = {}
        """Of the cell that the parser is in."""
        self._text: list[str] | None = None
        """What it has in it so far."""

    def rows(self, part: str) -> Iterator[Row]:
        """The rows of this part."""
        self._xml = XmlParser(part, self._start, self._end)
        self._parser_row_end = -1
        rest = b""
        for chunk in self._package.chunks(part):
            whole, end, rest = (rest + chunk).rpartition(ROW_END)
            self._read(whole + end)
            if not end:
                self._feed(rest)
                rest = b""
            yield from self._rows
            self._rows.clear()
        self._feed(rest)
        self._xml.finish()
        yield from self._rows

    def _read(self, xml: bytes) -> None:
        """Read what ends with a row's end."""
        try:
            text = xml.decode()
        except UnicodeDecodeError:  # what it is, the parser knows
            self._feed(xml)
            return
        start = 0
        while start < len(text):
            end = text.index("</row>", start)
            after = end + len(ROW_END)
            if self._xml.bytes_fed != self._parser_row_end or not self._read_plain_row(text, start, end):
                self._feed(text[start:after].encode())
            start = after

    def _read_plain_row(self, text: str, start: int, end: int) -> bool:
        """Read the row, if its tag and all its cells are written in the plain shapes."""
        tag = PLAIN_ROW.match(text, start, end)
        if tag is None:
            return False
        cells = PLAIN_CELL.findall(text, tag.end(), end)
        if sum(map(len, map(itemgetter(0), cells))) < end - tag.end():
            return False
        self._start_row(tag[1])
        for _, letters, style, kind, has_text, _, value in cells:
            self._column = COLUMNS[letters] if letters else self._column + 1
            if has_text:
                self._put(kind, style, unescape(value, QUOTES) if "&" in value else value)
        self._end_row()
        return True

    def _feed(self, xml: bytes) -> None:
        self._xml.feed(xml)
        if self._text and sum(map(len, self._text)) > MAX_CELL_LENGTH:
            self._end_cell()  # which refuses it without having seen the rest

    def _start(self, tag: str, attributes: Attributes) -> None:
        if tag == "c":
            self._attributes, self._text = attributes, None
            letters = attributes.get("r", "").rstrip(DIGITS)
            self._column = COLUMNS.get(letters, -1) if letters else self._column + 1
            if self._column < 0:
                refuse_broken(f"In row {self._row} a cell is named {shown(letters)}.")
        elif tag in {"v", "t"} and "rPh" not in self._xml.open_tags:  # phonetic runs say how the text is pronounced
            self._text = self._text or []
            self._xml.collect(self._text)
        elif tag == "row":
            self._start_row(attributes.get("r"))

    def _end(self, tag: str) -> None:
        if tag == "c":
            self._end_cell()
        elif tag in {"v", "t"}:
            self._xml.collect(None)
        elif tag == "row":
            self._end_row()
            self._parser_row_end = self._xml.position + len(ROW_END) if self._xml.is_utf8 else -1

    def _start_row(self, number: str | None) -> None:
        if number and not (number.isascii() and number.isdecimal() and len(number) <= MAX_ROW_DIGITS):
            refuse_broken(f"A row is numbered {shown(number)}.")
        self._row = int(number) if number else self._row + 1
        self._column = -1
        self._cells = []

    def _end_row(self) -> None:
        if self._cells:
            self._rows.append((self._row, self._cells))

    def _end_cell(self) -> None:
        if self._text is not None:
            self._put(self._attributes.get("t", ""), self._attributes.get("s", ""), "".join(self._text))
            self._text = None

    def _put(self, kind: str, style: str, text: str) -> None:
        """Put what is written at the present column into the row."""
        column, cells = self._column, self._cells
        if column >= MAX_COLUMNS:
            self._refuse("too_many_columns", f"There is something beyond the column {MAX_COLUMNS:,}.")
        if len(text) > MAX_CELL_LENGTH:
            refuse_length(self._row, get_column_letter(column + 1))
        if not text and kind not in TEXT_TYPES:
            return
        is_date = style in self._date_styles and kind in NUMBER_TYPES
        try:
            value = self._serial_days(text) if is_date else self._readers[kind](text)
        except (ValueError, LookupError):
            name = KINDS.get(kind, f"value of type {shown(kind)}")
            self._refuse("invalid_cell", f"The cell should hold a {name}, but holds {shown(text)}.")
        if column > len(cells):
            cells += [None] * (column - len(cells))
        if column == len(cells):
            cells.append(value)
        else:  # no program is known to write cells in another order
            cells[column] = value

    def _shared_text(self, index: str) -> str:
        return self._shared_texts[int(index)]

    def _serial_days(self, number: str) -> float:
        days = _float(number)
        if self._is_1904:
            return days + DAYS_TO_1904
        return days + 1 if 1 <= days < PHANTOM_DAY else days

    def _refuse(self, code: str, message: str) -> NoReturn:
        refuse_file(code, message, self._row, get_column_letter(self._column + 1))


def _number(text: str) -> str:
    """A number as it is written, or where Excel shows it shorter, as that."""
    if PLAIN_NUMBER.fullmatch(text) and (
        len(text) <= MAX_EXACT_DIGITS or _significant_digits(text) <= MAX_EXACT_DIGITS
    ):
        return text
    return repr(_float(text)).removesuffix(".0")


def _significant_digits(number: str) -> int:
    return len(number.replace(".", "").lstrip("-0"))


def _float(text: str) -> float:
    number = float(text) if NUMBER.fullmatch(text.strip()) else math.nan
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _iso_days(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH) / timedelta(days=1)
