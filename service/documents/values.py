"""The values a document may hold: how they are stored as BSON and written in a query.

Stored: a date is midnight UTC, a time is UTC to the millisecond, a Decimal is a Decimal128. Nothing is rounded or
cut on the way: what cannot be kept is a fault.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any

from bson import Decimal128, ObjectId
from pydantic import BaseModel

from service.documents.fields import Field, Kind
from service.documents.json_text import MAX_DEPTH
from service.errors import Fault

MIN_INTEGER, MAX_INTEGER = -(2**63), 2**63 - 1
INVALID_KEY = "a key is not empty and has no $, . or NUL in it"
MEANINGFUL = re.compile(r"[$.\0]")
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
INTEGER = re.compile("[+-]?[0-9]{1,19}")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,6})?")
DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,3}0*)?)?([Zz]|[+-]\d\d:?\d\d)?", re.ASCII)
"""RFC 3339, to the millisecond; seconds and offset may be left out."""

OBJECT_ID = re.compile("[0-9a-fA-F]{24}")
ARRAYS = (list, tuple, set, frozenset)
UNESCAPED_PLUS = re.compile(r" (\d\d:?\d\d)$")
"""The + of an offset that was not escaped in a query string arrives as a space."""


class UnstorableError(ValueError):
    """A value that MongoDB would change or refuse; says why."""


def to_stored(value: Any, faults: list[Fault]) -> Any:
    """The value as BSON keeps it; what cannot be kept is added to `faults` with its RFC 6901 pointer."""
    return store_nested(value, faults, None, 1)


def store_nested(value: Any, faults: list[Fault], place: "Place", depth: int) -> Any:
    """The same for what is at some place, so deep in a document."""
    if type(value) not in _scalars:
        members = _members(value, faults, place)
        if members is not None:
            if depth > MAX_DEPTH:
                faults.append(Fault("too_deep", f"nested deeper than {MAX_DEPTH} levels", pointer_of(place)))
                return None
            if isinstance(value, ARRAYS):
                return [store_nested(inner, faults, (place, name), depth + 1) for name, inner in members]
            return {name: store_nested(inner, faults, (place, name), depth + 1) for name, inner in members}
    try:
        return stored_scalar(value)
    except UnstorableError as error:
        faults.append(Fault("not_storable", str(error), pointer_of(place)))
        return None


def stored_scalar(value: Any) -> Any:
    """What is neither an array nor an object, as BSON keeps it. Raises UnstorableError."""
    convert = _scalars.get(type(value))
    if convert is None:
        convert = next((convert for kind, convert in _scalars.items() if isinstance(value, kind)), _as_it_is)
    return convert(value)


def _members(value: Any, faults: list[Fault], place: "Place") -> Iterable[tuple[str | int, Any]] | None:
    """What is in an array or an object; None for a scalar."""
    if isinstance(value, ARRAYS):
        return enumerate(sorted(value, key=str) if isinstance(value, set | frozenset) else value)
    if isinstance(value, Mapping):
        faults += [Fault("invalid_key", INVALID_KEY, pointer_of((place, key))) for key in value if not is_key(key)]
        return [(key, inner) for key, inner in value.items() if is_key(key)]
    if isinstance(value, BaseModel):
        return [(name, getattr(value, name)) for name, info in type(value).model_fields.items() if not info.exclude]
    return None


def is_key(key: str) -> bool:
    """Whether a free-form object may have this key: MongoDB's syntax uses `$` and `.`, and BSON ends keys at NUL."""
    return bool(key) and not MEANINGFUL.search(key) and _is_unicode(key)


def stored_text(text: str) -> str:
    """Text; a lone surrogate has no UTF-8."""
    if not _is_unicode(text):
        raise UnstorableError("the text has a lone surrogate, which is no character")
    return text


def _is_unicode(text: str) -> bool:
    return text.isascii() or not LONE_SURROGATE.search(text)


def stored_integer(number: int) -> int:
    """An integer of 64 bits."""
    if not MIN_INTEGER <= number <= MAX_INTEGER:
        raise UnstorableError("an integer has at most 64 bits")
    return number


def stored_decimal(number: Decimal) -> Decimal128:
    """A Decimal128: 34 digits, an exponent from -6143 to 6144."""
    if not number.is_finite():
        raise UnstorableError("a number is finite")
    try:
        return Decimal128(number)  # its context traps what would be rounded
    except ArithmeticError:
        raise UnstorableError("a decimal has at most 34 digits and an exponent from -6143 to 6144") from None


def stored_datetime(moment: datetime) -> datetime:
    """A time in UTC, to the millisecond; without an offset it is taken as UTC."""
    if moment.microsecond % 1000:
        raise UnstorableError("a time is kept to the millisecond")
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).replace(tzinfo=None)
    except OverflowError:
        raise UnstorableError("the time is outside of the years 1 to 9999 in UTC") from None


def _stored_float(number: float) -> float:
    if not math.isfinite(number):
        raise UnstorableError("a number is finite")
    return number


def _as_it_is(value: Any) -> Any:
    return value


_scalars: Mapping[type, Callable[[Any], Any]] = {
    Enum: lambda member: member.value,  # before the types that its members may be of too
    str: stored_text,
    NoneType: _as_it_is,
    bool: _as_it_is,
    int: stored_integer,
    float: _stored_float,
    Decimal: stored_decimal,
    datetime: stored_datetime,  # before date, of which it is a kind
    date: lambda day: datetime.combine(day, time.min),
    ObjectId: lambda key: ObjectId(key.binary),
}
"""By exact type, as nearly all values are: to ask for a base class costs more than all the rest."""

Place = tuple["Place", str | int] | None
"""Where a value is, from the inside out, as pointers are only needed where something is wrong."""


def pointer_of(place: Place) -> str:
    """The RFC 6901 pointer to it."""
    return "" if place is None else pointer_to(pointer_of(place[0]), place[1])


def pointer_to(pointer: str, part: str | int) -> str:
    """The RFC 6901 pointer to a member of what `pointer` points to."""
    text = str(part).replace("~", "~0").replace("/", "~1")
    return f"{pointer}/{text}".encode(errors="replace").decode()


POSITION = re.compile(r"/(?:0|[1-9][0-9]*|-)(?=/|$)")
"""An element of an array in a pointer, or (RFC 6902) the place behind its last."""


def parts_of(pointer: str) -> list[str]:
    """The names and positions that an RFC 6901 pointer leads through."""
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def path_of(pointer: str) -> str:
    """The dotted path of the field that an RFC 6901 pointer leads to: that of an array for its elements."""
    return POSITION.sub("", pointer).removeprefix("/").replace("/", ".").replace("~1", "/").replace("~0", "~")


# Text, as a query string has it


def parse_text(field: Field, text: str) -> Any:
    """A value of the field's kind, as it is stored. Raises ValueError with a message for the caller."""
    value = _parsers[field.kind](text)
    if field.choices and value not in field.choices:
        raise ValueError(f"one of {', '.join(map(str, field.choices))} is expected")
    return value.lower() if field.is_lower_case else value


def _parse_integer(text: str) -> int:
    if not INTEGER.fullmatch(text):
        raise ValueError("an integer is expected")
    return stored_integer(int(text))


def _parse_float(text: str) -> float:
    if not NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise ValueError("a number is expected")
    return float(text)


def _parse_decimal(text: str) -> Decimal128:
    if not NUMBER.fullmatch(text):
        raise ValueError("a decimal number is expected")
    return stored_decimal(Decimal(text))


def _parse_boolean(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError("true or false is expected")
    return text == "true"


def _parse_date(text: str) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(text if DATE.fullmatch(text) else ""), time.min)
    except ValueError:
        raise ValueError("a date like 2026-11-22 is expected") from None


def _parse_datetime(text: str) -> datetime:
    text = UNESCAPED_PLUS.sub(r"+\1", text)
    try:
        moment = datetime.fromisoformat(text.upper() if TIME.fullmatch(text) else "")
    except ValueError:
        raise ValueError("a time like 2026-11-22T09:30:00.123Z is expected") from None
    return stored_datetime(moment)


def _parse_object_id(text: str) -> ObjectId:
    if not OBJECT_ID.fullmatch(text):
        raise ValueError("24 hexadecimal digits are expected")
    return ObjectId(text)


_parsers: Mapping[Kind, Callable[[str], Any]] = {
    Kind.TEXT: stored_text,
    Kind.INTEGER: _parse_integer,
    Kind.FLOAT: _parse_float,
    Kind.DECIMAL: _parse_decimal,
    Kind.BOOLEAN: _parse_boolean,
    Kind.DATE: _parse_date,
    Kind.DATETIME: _parse_datetime,
    Kind.OBJECT_ID: _parse_object_id,
}
