"""Rows as an Excel workbook (ECMA-376), streamed.

openpyxl makes the workbook: styles, header, widths, frozen pane, filter. The rows are written into its sheets as they
come, through a zip that is never held, so that the first byte leaves at once and memory stays as it is.
"""

import math
import re
import zipfile
from collections.abc import Callable
from datetime import date, datetime
from io import BytesIO
from types import NoneType
from typing import IO, Any

from bson import Decimal128, Int64
from openpyxl import Workbook
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter

from service.documents.fields import Field, Kind
from service.documents.json_text import cell_text
from service.transfer.table import Table

MAX_SHEET_ROWS = 1_048_576
MAX_SHEET_BYTES = 2**31 - 2**26
"""Uncompressed; past 2 GiB a zip member needs Zip64, which Excel does not read in a streamed file."""

MAX_CELL_LENGTH = 32_767
"""In UTF-16 units, as Excel counts."""

CUT_MARK = "… [cut]"
MAX_EXACT_DIGITS = 15
"""Excel's numbers are 64-bit floats, of which it shows so many digits; what has more stays text."""

EXPONENTS = range(-300, 300)
"""What a 64-bit float holds, and a little less."""

FIRST_DATE = date(1900, 3, 1)
"""Before it Excel counts a 29 February 1900 that never was."""

EPOCH = datetime(1899, 12, 30)  # noqa: DTZ001 - stored times are UTC without saying so
DATE_STYLE, TIME_STYLE = 1, 2
NUMBER_FORMATS = {DATE_STYLE: "yyyy-mm-dd", TIME_STYLE: "yyyy-mm-dd hh:mm:ss.000"}
"""By their places in the workbook's list of cell styles."""

COMPRESSION_LEVEL = 1
"""Level 6 makes files a fifth smaller in three times the time."""

FORBIDDEN = "\x00-\x08\x0b-\x1f\ufffe\uffff"
"""Characters that XML has not, or would change."""

UNWRITABLE = re.compile(f"_(?=x[0-9A-Fa-f]{{4}}[_{FORBIDDEN}])|[{FORBIDDEN}]")
"""Those, and the start of what would look like their escape."""

WIDTHS = {Kind.OBJECT_ID: 26, Kind.DATE: 12, Kind.DATETIME: 25, Kind.BOOLEAN: 10, Kind.INTEGER: 12, Kind.FLOAT: 14}
DEFAULT_WIDTH = 24


class XlsxEncoder:
    """Makes an XLSX file, batch by batch; a new sheet where one is full."""

    def __init__(self, table: Table, *, title: str) -> None:
        self._table = table
        self._title = title
        self._sink = _Sink()
        self._zip = zipfile.ZipFile(self._sink, "w", zipfile.ZIP_DEFLATED, compresslevel=COMPRESSION_LEVEL)
        self._row_counts: list[int] = []
        self._sheet: IO[bytes] | None = None
        self._sheet_bytes = 0

    def start(self) -> bytes:
        """The first sheet, down to its header row."""
        self._open_sheet()
        return self._sink.drain()

    def encode(self, batch: bytes) -> bytes:
        """The rows of a raw BSON batch."""
        rows = [_row(row) for row in self._table.rows(batch)]
        while rows:
            room = MAX_SHEET_ROWS - self._row_counts[-1]
            if room == 0 or self._sheet_bytes > MAX_SHEET_BYTES:
                self._close_sheet()
                self._open_sheet()
                continue
            self._write("".join(rows[:room]).encode())
            self._row_counts[-1] += min(room, len(rows))
            rows = rows[room:]
        return self._sink.drain()

    def end(self) -> bytes:
        """The rest of the last sheet, and the workbook around the sheets."""
        self._close_sheet()
        for name, part in _parts(self._workbook(self._row_counts)).items():
            if not name.startswith("xl/worksheets/"):
                self._zip.writestr(name, part)
        self._zip.close()
        return self._sink.drain()

    def _open_sheet(self) -> None:
        self._row_counts.append(1)
        number = len(self._row_counts)
        self._sheet = self._zip.open(f"xl/worksheets/sheet{number}.xml", "w")
        self._sheet_bytes = 0
        self._write(self._sheet_frame()[0])

    def _close_sheet(self) -> None:
        assert self._sheet is not None
        self._write(self._sheet_frame()[1])
        self._sheet.close()

    def _write(self, xml: bytes) -> None:
        assert self._sheet is not None
        self._sheet.write(xml)
        self._sheet_bytes += len(xml)

    def _sheet_frame(self) -> tuple[bytes, bytes]:
        """What stands before the current sheet's second row, and after its last."""
        number = len(self._row_counts)
        xml = _parts(self._workbook(self._row_counts))[f"xl/worksheets/sheet{number}.xml"]
        head, end, tail = xml.partition(b"</sheetData>")
        return re.sub(rb"<dimension [^>]*>", b"", head), end + tail  # its size is not known yet, and optional

    def _workbook(self, row_counts: list[int]) -> Workbook:
        """A workbook with a sheet for each count of rows, and nothing in them but the header."""
        workbook = Workbook()
        del workbook["Sheet"]
        columns = self._table.columns
        for number, rows in enumerate(row_counts, start=1):
            sheet = workbook.create_sheet(self._title[:31] if number == 1 else f"{self._title[:26]} {number}")
            sheet.append([column.path for column in columns])
            for style, number_format in NUMBER_FORMATS.items():
                cell = sheet.cell(2, style)
                cell.number_format = number_format
                assert cell.style_id == style  # asking for it is what adds it to the list
            sheet.delete_rows(2)
            for cell in sheet[1]:
                cell.font = Font(bold=True)
            for position, column in enumerate(columns, start=1):
                sheet.column_dimensions[get_column_letter(position)].width = _width(column)
            sheet.freeze_panes = "A2"
            sheet.auto_filter.ref = f"A1:{get_column_letter(len(columns))}{rows}"
        return workbook


def _width(column: Field) -> int:
    return max(WIDTHS.get(column.kind, DEFAULT_WIDTH), len(column.path) + 4)


def _parts(workbook: Workbook) -> dict[str, bytes]:
    buffer = BytesIO()
    workbook.save(buffer)
    with zipfile.ZipFile(buffer) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _row(values: list[Any]) -> str:
    cells = "".join([_writers.get(type(value), _other_cell)(value) for value in values])
    return f"<row>{cells}</row>"


def _text_cell(text: str) -> str:
    if UNWRITABLE.search(text):
        text = UNWRITABLE.sub(lambda match: f"_x{ord(match[0]):04X}_", text)
    if "&" in text or "<" in text or ">" in text:
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f'<c t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>'


def _fitting_text_cell(text: str) -> str:
    if len(text) * 2 > MAX_CELL_LENGTH:  # no character has more than two units, so shorter texts fit for sure
        units = text.encode("utf-16-le")
        if len(units) > MAX_CELL_LENGTH * 2:
            text = units[: (MAX_CELL_LENGTH - len(CUT_MARK)) * 2].decode("utf-16-le", "ignore") + CUT_MARK
    return _text_cell(text)


def _integer_cell(number: int) -> str:
    return f"<c><v>{number}</v></c>" if len(str(abs(number))) <= MAX_EXACT_DIGITS else _text_cell(str(number))


def _float_cell(number: float) -> str:
    return f"<c><v>{number!r}</v></c>" if math.isfinite(number) else _text_cell(repr(number))


def _decimal_cell(number: Decimal128) -> str:
    value = number.to_decimal()
    is_exact = value.is_finite() and len(value.as_tuple().digits) <= MAX_EXACT_DIGITS and value.adjusted() in EXPONENTS
    return f"<c><v>{value}</v></c>" if is_exact else _text_cell(str(value))


def _date_cell(day: date) -> str:
    if day < FIRST_DATE:
        return _text_cell(day.isoformat())
    return f'<c s="{DATE_STYLE}"><v>{day.toordinal() - EPOCH.toordinal()}</v></c>'


def _time_cell(moment: datetime) -> str:
    if moment.date() < FIRST_DATE:
        return _text_cell(cell_text(moment))
    days = (moment - EPOCH).total_seconds() / 86_400
    return f'<c s="{TIME_STYLE}"><v>{days!r}</v></c>'


def _other_cell(value: Any) -> str:
    return _fitting_text_cell(cell_text(value))


_writers: dict[type, Callable[[Any], str]] = {
    NoneType: lambda _: "<c/>",
    str: _fitting_text_cell,
    bool: lambda value: f'<c t="b"><v>{value:d}</v></c>',
    int: _integer_cell,
    Int64: _integer_cell,
    float: _float_cell,
    Decimal128: _decimal_cell,
    date: _date_cell,
    datetime: _time_cell,
}


class _Sink:
    """A file that can only be written to, and is emptied as it fills."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._chunks.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing waits anywhere."""

    def close(self) -> None:
        """Nothing is held."""

    def drain(self) -> bytes:
        """What was written since the last time."""
        data = b"".join(self._chunks)
        self._chunks.clear()
        return data
