"""What the cells of a file hold, as the JSON values that a body would have for them."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NoReturn

from service.documents.fields import Field, Kind
from service.documents.json_text import MAX_DEPTH, ExactNumber, InvalidJsonError, exact_number, load_json
from service.documents.masks import NO_MASKS, Mask, Masks
from service.documents.strictness import strict_values
from service.documents.values import DATE, INTEGER, NUMBER, OBJECT_ID, TIME, UnstorableError, stored_integer, to_stored
from service.errors import Fault
from service.transfer.decoding import Cell
from service.transfer.xlsx_encoder import EPOCH

Convert = Callable[[Cell], Any]
"""Takes a cell that is not empty. Raises CellError."""

JSON_START = tuple('{["')
WILD = re.compile(r"\\|[0-9]{19}")


class CellError(ValueError):
    """What a cell holds is nothing that its field takes; with faults for whoever filled it in."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__()
        self.faults = faults

    @classmethod
    def of(cls, code: str, message: str) -> "CellError":
        """One fault."""
        return cls(Fault(code, message))


def converter_of(
    known: Field, fields: Mapping[str, Field], *, is_element: bool = False, masks: Masks = NO_MASKS
) -> Convert:
    """What makes JSON values of a column's cells, and leaves masks for the Restorer.

    `is_element`: where an array has a row for each element.
    """
    mask = masks.get(known.path)
    convert = _converter_of(known, fields, is_element=is_element, masks=masks)
    return convert if mask is None else partial(_unless_mask, mask, convert)


def _converter_of(known: Field, fields: Mapping[str, Field], *, is_element: bool, masks: Masks) -> Convert:
    if known.kind in {Kind.JSON, Kind.OBJECT} or (known.is_array and not is_element):
        return partial(_from_json, known, fields, masks)
    if known.kind is Kind.FLOAT:
        return partial(_to_float, known, fields)
    return CONVERTERS[known.kind]


def shown(cell: Cell) -> str | None:
    """A cell as CSV has it."""
    if isinstance(cell, bytes):
        return cell.decode()
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        try:
            return str(_to_date(cell) if cell.is_integer() else _to_datetime(cell))
        except CellError:
            return repr(cell)
    return cell


def _unless_mask(mask: Mask, convert: Convert, cell: Cell) -> Any:
    return cell if isinstance(cell, str) and mask.is_mask(cell) else convert(cell)


def _strictly(
    value: Any, known: Field, fields: Mapping[str, Field], masks: Masks = NO_MASKS, *, is_tame: bool = False
) -> Any:
    faults: list[Fault] = []
    value = strict_values(value if is_tame else to_stored(value, faults), fields, faults, known.path, masks)
    if faults:
        raise CellError(*faults)
    return value


def _is_tame(known: Field, text: str) -> bool:
    """Whether nothing in a JSON text can be what MongoDB would not keep, unless its field forbids it anyway.

    No escapes, and so no surrogates; no long numbers; not deep. Nearly all texts are so, and to look at each value
    takes as long as all else that is done with a row.
    """
    return (
        known.kind is not Kind.JSON
        and text.count("[") + text.count("{") <= MAX_DEPTH - known.path.count(".") - 1
        and not WILD.search(text)
    )


def _from_json(known: Field, fields: Mapping[str, Field], masks: Masks, cell: Cell) -> Any:
    """An array, an object or free JSON; of the latter, what is no JSON is text."""
    if isinstance(cell, bytes):
        _refuse_formula_error(cell)
    if not isinstance(cell, str):
        return cell
    try:
        value = load_json(cell.encode())
    except InvalidJsonError as error:
        if known.kind is not Kind.JSON or known.is_array or cell.lstrip().startswith(JSON_START):
            message = f'{error}; an array is written like ["a", "b"]' if known.is_array else str(error)
            raise CellError.of("invalid_json", message) from None
        value = cell
    return _strictly(value, known, fields, masks, is_tame=_is_tame(known, cell))


def _to_float(known: Field, fields: Mapping[str, Field], cell: Cell) -> Any:
    if not isinstance(cell, str) or not NUMBER.fullmatch(cell):
        raise CellError.of("float_parsing", "a number is expected")
    number = exact_number(cell)
    return _strictly(number, known, fields) if isinstance(number, ExactNumber) else number


def _to_text(cell: Cell) -> Any:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bytes):
        _refuse_formula_error(cell)
    found = "a truth value" if isinstance(cell, bool) else "a date"
    raise CellError.of("text_expected", f"text is expected, and this is {found}; format the cell as text")


def _refuse_formula_error(cell: bytes) -> NoReturn:
    raise CellError.of("formula_error", f"a value is expected, and this is a formula that came to {cell.decode()}")


def _to_integer(cell: Cell) -> Any:
    text = cell.removesuffix(".0") if isinstance(cell, str) else ""  # as some programs write a column with gaps
    if not INTEGER.fullmatch(text):
        raise CellError.of("int_parsing", "an integer is expected")
    try:
        return stored_integer(int(text))
    except UnstorableError as error:
        raise CellError.of("not_storable", str(error)) from None


def _to_decimal(cell: Cell) -> Any:
    if isinstance(cell, str) and NUMBER.fullmatch(cell):
        return cell
    raise CellError.of("decimal_format", "a decimal is written like 19.99")


def _to_boolean(cell: Cell) -> Any:
    if isinstance(cell, bool):
        return cell
    if isinstance(cell, str) and cell.lower() in {"true", "false"}:
        return cell.lower() == "true"
    raise CellError.of("bool_parsing", "true or false is expected")


def _to_date(cell: Cell) -> Any:
    if isinstance(cell, str) and DATE.fullmatch(cell):
        return cell
    if isinstance(cell, float) and cell.is_integer():
        return _moment(cell).date().isoformat()
    raise CellError.of("date_format", "a date is written like 2026-11-22")


def _to_datetime(cell: Cell) -> Any:
    if isinstance(cell, float):
        return _moment(cell).isoformat(timespec="milliseconds") + "Z"
    if isinstance(cell, str) and DATE.fullmatch(cell):
        return f"{cell}T00:00:00Z"
    if isinstance(cell, str) and TIME.fullmatch(cell):
        return cell
    raise CellError.of("time_format", "a time is written like 2026-11-22T09:30:00.123Z, to the millisecond")


def _moment(days: float) -> datetime:
    """A spreadsheet's moment, to the millisecond."""
    try:
        return EPOCH + timedelta(milliseconds=round(days * 86_400_000))
    except OverflowError:
        raise CellError.of("date_format", "this is outside of the years 1 to 9999") from None


def _to_object_id(cell: Cell) -> Any:
    if isinstance(cell, str) and OBJECT_ID.fullmatch(cell):
        return cell
    raise CellError.of("object_id_format", "24 hexadecimal digits are expected")


CONVERTERS: Mapping[Kind, Convert] = {
    Kind.TEXT: _to_text,
    Kind.INTEGER: _to_integer,
    Kind.DECIMAL: _to_decimal,
    Kind.BOOLEAN: _to_boolean,
    Kind.DATE: _to_date,
    Kind.DATETIME: _to_datetime,
    Kind.OBJECT_ID: _to_object_id,
}
"""What becomes of a cell that is not empty."""
