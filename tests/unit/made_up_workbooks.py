"""Excel workbooks by hand, and what the reader makes of them."""

import io
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from service.errors import Fault, InvalidFileError
from service.transfer.decoding import Cell
from service.transfer.xlsx_reader import read_sheet

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
RELATED = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
SHEET, SHARED, STYLES = "xl/worksheets/sheet1.xml", "xl/sharedStrings.xml", "xl/styles.xml"
BOOK, BOOK_RELATED = "xl/workbook.xml", "xl/_rels/workbook.xml.rels"
HEADER = '<row><c t="str"><v>a</v></c><c t="str"><v>b</v></c></row>'


def read(file: bytes, sheet: str | None = None) -> list[tuple[int, list[Cell]]]:
    """All rows of a file."""
    with tempfile.NamedTemporaryFile() as stored:
        stored.write(file)
        stored.flush()
        return [(number, list(cells)) for number, cells in read_sheet(Path(stored.name), sheet)]


def fault_of(file: bytes, sheet: str | None = None) -> Fault:
    """Why a file is refused."""
    with pytest.raises(InvalidFileError) as caught:
        read(file, sheet)
    [fault] = caught.value.faults
    return fault


def zipped(parts: Mapping[str, str | bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return buffer.getvalue()


def sheet_xml(rows: str) -> str:
    return f'<worksheet xmlns="{MAIN}"><sheetData>{rows}</sheetData></worksheet>'


def parts_of(rows: str = HEADER, others: Mapping[str, str | bytes] | None = None) -> dict[str, str | bytes]:
    """What a workbook by hand is made of."""
    return {
        "_rels/.rels": related(("r", "officeDocument", "xl/workbook.xml")),
        BOOK: book("s"),
        BOOK_RELATED: related(
            ("r0", "worksheet", "worksheets/sheet1.xml"),
            ("shared", "sharedStrings", "sharedStrings.xml"),
            ("styles", "styles", "/xl/styles.xml"),
        ),
        SHARED: f'<sst xmlns="{MAIN}"/>',
        STYLES: f'<styleSheet xmlns="{MAIN}"/>',
        SHEET: sheet_xml(rows),
        **(others or {}),
    }


def by_hand(rows: str = HEADER, others: Mapping[str, str | bytes] | None = None) -> bytes:
    return zipped(parts_of(rows, others))


def related(*relationships: tuple[str, str, str]) -> str:
    listed = (
        f'<Relationship Id="{id_}" Type="{RELATED}/{kind}" Target="{target}"/>' for id_, kind, target in relationships
    )
    return f'<Relationships xmlns="{PACKAGE}">{"".join(listed)}</Relationships>'


def book(*names: str, more: str = "") -> str:
    sheets = (f'<sheet name="{name}" sheetId="{place + 1}" r:id="r{place}"/>' for place, name in enumerate(names))
    return f'<workbook xmlns="{MAIN}" xmlns:r="{RELATED}">{more}<sheets>{"".join(sheets)}</sheets></workbook>'


def styles(*formats: int | str) -> str:
    """Cell styles with these number formats."""
    own = {code: 164 + place for place, code in enumerate(formats) if isinstance(code, str)}
    listed = "".join(f'<numFmt numFmtId="{number}" formatCode="{code}"/>' for code, number in own.items())
    cell_styles = "".join(f'<xf numFmtId="{own[code] if isinstance(code, str) else code}"/>' for code in formats)
    others = '<cellStyleXfs><xf numFmtId="14"/></cellStyleXfs>'
    return (
        f'<styleSheet xmlns="{MAIN}"><numFmts>{listed}</numFmts>{others}<cellXfs>{cell_styles}</cellXfs></styleSheet>'
    )


def cells_of(*cells: str, others: Mapping[str, str | bytes] | None = None) -> list[Cell]:
    """What these cells of one row are read as."""
    header = "".join(f'<c t="str"><v>{number}</v></c>' for number in range(len(cells)))
    rows = read(by_hand(f"<row>{header}</row><row>{''.join(cells)}<c/></row>", others))
    return rows[1][1] if len(rows) > 1 else [None] * len(cells)
