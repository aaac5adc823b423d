"""Sheets of rows as an Excel workbook (ECMA-376), streamed.

openpyxl makes the workbook: styles, header, widths, frozen pane, filter. The rows are put into its sheets as they come,
deflated already, through a zip that is never held, so that the first byte leaves at once and memory stays as it is.
"""

import re
import zipfile
from io import BytesIO

from openpyxl import Workbook
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter

from service.documents.fields import Field, Kind
from service.transfer.encoding import About, FileSpec, Piece
from service.transfer.xlsx_encoder import DATE_STYLE, TIME_STYLE
from service.transfer.zip_stream import ZipStream

MAX_SHEET_ROWS = 1_048_576
MAX_SHEET_BYTES = 2**31 - 2**26
"""Uncompressed; past 2 GiB a zip member needs Zip64, which Excel does not read in a streamed file."""

NUMBER_FORMATS = {DATE_STYLE: "yyyy-mm-dd", TIME_STYLE: "yyyy-mm-dd hh:mm:ss.000"}
WIDTHS = {Kind.OBJECT_ID: 26, Kind.DATE: 12, Kind.DATETIME: 25, Kind.BOOLEAN: 10, Kind.INTEGER: 12, Kind.FLOAT: 14}
DEFAULT_WIDTH = 24
ABOUT_SHEET = "About this file"
ABOUT_WIDTHS = {"A": 18, "B": 80}


class XlsxFile:
    """Puts an XLSX file together; a new sheet where one is full, and a last one that tells about the file."""

    def __init__(self, spec: FileSpec) -> None:
        table = spec.table()
        self._columns, self._header = table.columns, table.header
        self._title = spec.title
        self._zip = ZipStream()
        self._row_counts: list[int] = []
        self._sheet_bytes = 0

    def start(self) -> bytes:
        """The first sheet, down to its header row."""
        return self._open_sheet()

    def add(self, piece: Piece) -> bytes:
        """The next rows; in a sheet of their own, if the present one has no room for all of them."""
        is_full = self._row_counts[-1] + piece.rows > MAX_SHEET_ROWS or self._sheet_bytes + piece.size > MAX_SHEET_BYTES
        between = self._close_sheet() + self._open_sheet() if is_full else b""
        self._row_counts[-1] += piece.rows
        self._sheet_bytes += piece.size
        return between + self._zip.add(piece)

    def end(self, about: About) -> bytes:
        """The rest of the last sheet, and the workbook around the sheets."""
        chunks = [self._close_sheet()]
        streamed = {_sheet_part(number) for number in range(1, len(self._row_counts) + 1)}
        for name, part in _parts(self._workbook(about)).items():
            if name not in streamed:
                chunks += [self._zip.open(name), self._zip.write(part), self._zip.close()]
        return b"".join([*chunks, self._zip.finish()])

    def _open_sheet(self) -> bytes:
        self._row_counts.append(1)
        self._sheet_bytes = 0
        return self._zip.open(_sheet_part(len(self._row_counts))) + self._zip.write(self._sheet_frame()[0])

    def _close_sheet(self) -> bytes:
        return self._zip.write(self._sheet_frame()[1]) + self._zip.close()

    def _sheet_frame(self) -> tuple[bytes, bytes]:
        """What stands before the current sheet's second row, and after its last."""
        xml = _parts(self._workbook())[_sheet_part(len(self._row_counts))]
        head, end, tail = xml.partition(b"</sheetData>")
        return re.sub(rb"<dimension [^>]*>", b"", head), end + tail  # its size is not known yet, and optional

    def _workbook(self, about: About | None = None) -> Workbook:
        """A workbook with the sheets there are, and nothing in them but the header."""
        workbook = Workbook()
        del workbook["Sheet"]
        for number, rows in enumerate(self._row_counts, start=1):
            sheet = workbook.create_sheet(self._title[:31] if number == 1 else f"{self._title[:26]} {number}")
            sheet.append(self._header)
            for style, number_format in NUMBER_FORMATS.items():
                cell = sheet.cell(2, style)
                cell.number_format = number_format
                assert cell.style_id == style  # asking for it is what adds it to the list
            sheet.delete_rows(2)
            for cell in sheet[1]:
                cell.font = Font(bold=True)
            for position, column in enumerate(self._columns, start=1):
                sheet.column_dimensions[get_column_letter(position)].width = _width(column)
            sheet.freeze_panes = "A2"
            sheet.auto_filter.ref = f"A1:{get_column_letter(len(self._columns))}{rows}"
        if about is not None:
            _add_about(workbook, about)
        return workbook


def _add_about(workbook: Workbook, about: About) -> None:
    sheet = workbook.create_sheet(ABOUT_SHEET)
    for row, (name, value) in enumerate(about.lines(), start=1):
        label, cell = sheet.cell(row, 1, name), sheet.cell(row, 2)
        label.font = Font(bold=True)
        cell.value = ILLEGAL_CHARACTERS_RE.sub("", value) if isinstance(value, str) else value
        if isinstance(value, str):
            cell.data_type = "s"  # even where it looks like a formula
    for letter, width in ABOUT_WIDTHS.items():
        sheet.column_dimensions[letter].width = width


def _width(column: Field) -> int:
    return max(WIDTHS.get(column.kind, DEFAULT_WIDTH), len(column.path) + 4)


def _sheet_part(number: int) -> str:
    return f"xl/worksheets/sheet{number}.xml"


def _parts(workbook: Workbook) -> dict[str, bytes]:
    buffer = BytesIO()
    workbook.save(buffer)
    with zipfile.ZipFile(buffer) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
