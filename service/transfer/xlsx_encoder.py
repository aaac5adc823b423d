"""Rows as the cells of an Excel sheet (ECMA-376)."""

import math
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from functools import lru_cache
from types import NoneType
from typing import Any

from bson import Decimal128, Int64, ObjectId

from service.documents.batches import parts_of
from service.documents.json_text import cell_text
from service.transfer.deflate import crc32, deflate
from service.transfer.encoding import Encode, FileSpec, Piece

PIECE_ROWS = 1024
"""At most so many rows are compressed together; a sheet ends with a piece, so a little before it is full."""

MAX_CELL_LENGTH = 32_767
"""In UTF-16 units, as Excel counts."""

CUT_MARK = "… [cut]"
MAX_EXACT_DIGITS = 15
"""Excel's numbers are 64-bit floats, of which it shows so many digits; what has more stays text."""

MAX_EXACT_INTEGER = 10**MAX_EXACT_DIGITS - 1
EXPONENTS = range(-300, 300)
"""What a 64-bit float holds, and a little less."""

FIRST_DATE = date(1900, 3, 1)
"""Before it Excel counts a 29 February 1900 that never was."""

EPOCH = datetime(1899, 12, 30)  # noqa: DTZ001 - stored times are UTC without saying so
DATE_STYLE, TIME_STYLE = 1, 2
"""Places in the workbook's list of cell styles."""

FORBIDDEN = "\x00-\x08\x0b-\x1f\ufffe\uffff"
"""Characters that XML has not, or would change."""

UNWRITABLE = re.compile(f"_(?=x[0-9A-Fa-f]{{4}}[_{FORBIDDEN}])|[{FORBIDDEN}]")
"""Those, and the start of what would look like their escape."""

CONTROLS = bytes({*range(9), *range(11, 32)})
TEXTS = frozenset({str, NoneType})
INTEGERS = frozenset({int, NoneType})
NESTED = frozenset({list, dict, NoneType})
EMPTY = "<c/>"


def xlsx_encoder(spec: FileSpec) -> Encode:
    """Encodes rows as deflated XML."""
    table = spec.table()

    def encode(batch: bytes) -> list[Piece]:
        pieces = []
        for part in parts_of(batch):
            cells = _Cells()
            _, columns = table.cells(part)
            lines = list(map("".join, zip(*map(cells.column, columns), strict=True)))
            for start in range(0, len(lines), PIECE_ROWS):
                some = lines[start : start + PIECE_ROWS]
                xml = f"<row>{'</row><row>'.join(some)}</row>".encode()
                # All that were cut are counted with the first rows: what matters is their sum.
                pieces.append(Piece(deflate(xml), len(some), 0 if start else cells.cut, len(xml), crc32(xml)))
        return pieces

    return encode


class _Cells:
    """Writes columns of cells, and counts the texts that had to be cut.

    What a whole column has in common is looked at once: most columns are all texts, with nothing to escape.
    """

    def __init__(self) -> None:
        self.cut = 0
        self._writers: dict[type, Callable[[Any], str]] = {**WRITERS, str: self._text}

    def column(self, values: Sequence[Any]) -> list[str]:
        """The cell of each value."""
        kinds = set(map(type, values))
        if kinds <= TEXTS:
            return self._texts(values)
        if kinds <= NESTED:
            return self._texts([None if value is None else cell_text(value) for value in values])
        if kinds <= INTEGERS:
            return [EMPTY if value is None else _integer_cell(value) for value in values]
        return [self._writers.get(type(value), self._other)(value) for value in values]

    def _texts(self, values: Sequence[str | None]) -> list[str]:
        joined = "".join(filter(None, values))
        data = joined.encode()
        is_hard = (
            len(data.translate(None, CONTROLS)) < len(data)
            or "_x" in joined
            or "\ufffe" in joined
            or "\uffff" in joined
            or len(max(filter(None, values), key=len, default="")) * 2 > MAX_CELL_LENGTH
        )
        if is_hard:
            return [EMPTY if text is None else self._text(text) for text in values]
        if "&" in joined or "<" in joined or ">" in joined:
            return [EMPTY if text is None else _text_cell(_escaped(text)) for text in values]
        return [EMPTY if text is None else _text_cell(text) for text in values]

    def _text(self, text: str) -> str:
        if len(text) * 2 > MAX_CELL_LENGTH:  # no character has more than two units, so shorter texts fit for sure
            units = text.encode("utf-16-le")
            if len(units) > MAX_CELL_LENGTH * 2:
                text = units[: (MAX_CELL_LENGTH - len(CUT_MARK)) * 2].decode("utf-16-le", "ignore") + CUT_MARK
                self.cut += 1
        return _text_cell(_escaped(UNWRITABLE.sub(lambda match: f"_x{ord(match[0]):04X}_", text)))

    def _other(self, value: Any) -> str:
        return self._text(cell_text(value))


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _text_cell(xml: str) -> str:
    return f'<c t="inlineStr"><is><t xml:space="preserve">{xml}</t></is></c>'


def _integer_cell(number: int) -> str:
    if -MAX_EXACT_INTEGER <= number <= MAX_EXACT_INTEGER:
        return f"<c><v>{number}</v></c>"
    return _text_cell(str(number))


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


@lru_cache(maxsize=8192)  # as json_text.time_text is, and for the same reason
def _time_cell(moment: datetime) -> str:
    if moment.date() < FIRST_DATE:
        return _text_cell(cell_text(moment))
    days = (moment - EPOCH).total_seconds() / 86_400
    return f'<c s="{TIME_STYLE}"><v>{days!r}</v></c>'


WRITERS: dict[type, Callable[[Any], str]] = {
    NoneType: lambda _: EMPTY,
    bool: lambda value: f'<c t="b"><v>{value:d}</v></c>',
    int: _integer_cell,
    Int64: _integer_cell,
    float: _float_cell,
    Decimal128: _decimal_cell,
    date: _date_cell,
    datetime: _time_cell,
    ObjectId: lambda value: _text_cell(str(value)),
}
