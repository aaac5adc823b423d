"""What an Excel workbook has beside its sheets: their names, which styles are dates, and the texts that cells share."""

import os
import re
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn, Self

from openpyxl.styles.numbers import is_date_format, is_timedelta_format

from service.transfer.decoding import MAX_CELL_LENGTH, refuse_file
from service.transfer.package_reader import (
    Attributes,
    Package,
    XmlParser,
    open_package,
    refuse_broken,
    refuse_size,
    shown,
)

WORKBOOK_PART = "xl/workbook.xml"
NOT_A_WORKBOOK = "The file is a zip archive, but no Excel workbook (.xlsx)."
OTHER_FILES = {
    "word/document.xml": "a Word document",
    "ppt/presentation.xml": "a PowerPoint presentation",
    "xl/workbook.bin": "a binary workbook (.xlsb)",
    "mimetype": "an OpenDocument file, such as .ods",
}
"""What else a zip may be, by a part that only that has."""

BUILTIN_DATES = frozenset({*range(14, 23), *range(27, 37), 45, 47, *range(50, 59)})
"""Number formats that every workbook has (ECMA-376, 18.8.30); 46, `[h]:mm:ss`, is a duration."""

MAX_FORMAT_LENGTH = 255
"""In characters, as Excel has it."""

MAX_KEPT_BYTES = 16 * 1024**2
TEXT_BYTES = 64
"""Of a text in memory, beside its characters."""

MAX_SHARED_TEXTS = 2**24
"""16 different texts in each row of a full sheet; in memory there are 8 bytes for each."""

ESCAPE = re.compile("_x([0-9A-Fa-f]{4})_")


@dataclass(frozen=True, slots=True)
class OpenWorkbook:
    """What is needed to read a sheet's cells."""

    package: Package
    sheets: dict[str, str]
    """The part of each, by name, in the workbook's order."""
    date_styles: frozenset[str]
    """Those cell styles that show a number as a date."""
    is_1904: bool
    """Whether days are counted from 1904-01-01."""
    shared_texts: "SharedTexts"


@contextmanager
def open_workbook(path: Path) -> Iterator[OpenWorkbook]:
    """The workbook, as long as it is open. Raises InvalidFileError."""
    with open_package(path) as package, SharedTexts() as shared_texts:
        part = _workbook_part(package)
        related = package.relationships(part)
        targets = {relationship.id: relationship.target for relationship in related}
        parts = {relationship.kind: relationship.target for relationship in related}
        sheets = {}
        is_1904 = False
        for place, attributes in package.elements(part, "sheets/sheet", "workbook/workbookPr"):
            if place == "sheets/sheet":
                sheets[attributes.get("name", "")] = targets.get(attributes.get("id", ""), "")
            else:
                is_1904 = attributes.get("date1904") in {"1", "true"}
        if not sheets:
            refuse_broken("It has no sheets.")
        if "sharedStrings" in parts:
            shared_texts.read(package, parts["sharedStrings"])
        date_styles = _date_styles(package, parts["styles"]) if "styles" in parts else frozenset[str]()
        yield OpenWorkbook(package, sheets, date_styles, is_1904, shared_texts)


class SharedTexts:
    """A workbook's table of texts, of which the first are held and the others lie in a file.

    Most programs number texts as they come, so that those which a sheet uses again and again are among the first.
    """

    def __init__(self) -> None:
        self._kept: list[str] = []
        self._room = MAX_KEPT_BYTES
        self._file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the table
        self._ends = array("Q", [0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getitem__(self, index: int) -> str:
        """The text. Raises IndexError."""
        if 0 <= index < len(self._kept):
            return self._kept[index]
        index -= len(self._kept)
        if index < 0:
            raise IndexError(index)
        start, end = self._ends[index], self._ends[index + 1]
        return os.pread(self._file.fileno(), end - start, start).decode()

    def read(self, package: Package, part: str) -> None:
        """Fill the table."""
        pieces: list[str] = []

        def start(tag: str, _: Attributes) -> None:
            if tag == "t" and "rPh" not in parser.open_tags:  # phonetic runs say how the text is pronounced
                parser.collect(pieces)

        def end(tag: str) -> None:
            if tag == "t":
                parser.collect(None)
            elif tag == "si":
                self._add("".join(pieces))
                pieces.clear()

        parser = XmlParser(part, start, end)
        for chunk in package.chunks(part):
            parser.feed(chunk)
            if sum(map(len, pieces)) > MAX_CELL_LENGTH:
                refuse_length()
        parser.finish()
        self._file.flush()

    def _add(self, written: str) -> None:
        if len(written) > MAX_CELL_LENGTH:
            refuse_length()
        try:
            text = unescaped(written)
        except ValueError:
            refuse_file("invalid_cell", f"The workbook should share texts, but shares {shown(written)}.")
        self._room -= len(text) + TEXT_BYTES
        if self._room >= 0:
            self._kept.append(text)
            return
        if len(self._ends) > MAX_SHARED_TEXTS:
            refuse_size(f"it has more than {MAX_SHARED_TEXTS:,} different texts")
        self._ends.append(self._ends[-1] + self._file.write(text.encode()))


def refuse_length(row: int | None = None, column: str | None = None) -> NoReturn:
    """A text is too long for a cell."""
    refuse_file("cell_too_long", f"A cell has more than {MAX_CELL_LENGTH:,} characters.", row, column)


def unescaped(text: str) -> str:
    """A text with Excel's escapes (`_x000D_`, ECMA-376, 22.9.2.19) decoded. Raises ValueError for half a character."""
    if "_x" not in text:
        return text
    units = ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), text)
    return units.encode("utf-16-le", "surrogatepass").decode("utf-16-le")  # which joins the halves of a character


def _workbook_part(package: Package) -> str:
    for part, kind in OTHER_FILES.items():
        if part in package:
            refuse_file("not_a_workbook", f"The file is {kind}, not an Excel workbook: save it as .xlsx.")
    if "_rels/.rels" not in package:
        refuse_file("not_a_workbook", NOT_A_WORKBOOK)
    main = [relationship.target for relationship in package.relationships() if relationship.kind == "officeDocument"]
    part = main[0] if main else WORKBOOK_PART
    if part not in package:
        refuse_file("not_a_workbook", NOT_A_WORKBOOK)
    return part


def _date_styles(package: Package, part: str) -> frozenset[str]:
    dates = {str(number) for number in BUILTIN_DATES}
    styles = set()
    count = 0
    for place, attributes in package.elements(part, "numFmts/numFmt", "cellXfs/xf"):
        number = attributes.get("numFmtId", "0")
        if place == "numFmts/numFmt":
            (dates.add if _is_date(attributes.get("formatCode", "")) else dates.discard)(number)
        else:
            if number in dates:
                styles.add(str(count))
            count += 1
    return frozenset(styles)


def _is_date(number_format: str) -> bool:
    code = number_format[:MAX_FORMAT_LENGTH]
    return is_date_format(code) and not is_timedelta_format(code)
