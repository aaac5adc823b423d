"""JSON in and out: bodies that lose nothing on the way in, stored values as text on the way out."""

import json
from base64 import b64encode
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import orjson
from bson import ObjectId

MAX_DEPTH = 32
"""Levels of objects and arrays in one document; MongoDB itself stops at 100."""


class InvalidJsonError(ValueError):
    """A text that is no JSON, or none whose meaning is certain."""


class ExactNumber(str):
    """The text of a number that a 64-bit float would round."""

    __slots__ = ()


def load_json(body: bytes) -> Any:
    """A JSON text as Python values, in which numbers that a float would round are ExactNumbers.

    Raises InvalidJsonError.
    """
    try:
        return DECODER.decode(body.decode())
    except UnicodeDecodeError:
        raise InvalidJsonError("this is not UTF-8") from None
    except RecursionError:
        raise InvalidJsonError(f"this is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise InvalidJsonError(f"this is not JSON: {error}") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("an object has one key twice")  # RFC 8259 §4: what receivers make of it is unpredictable
    return members


def exact_number(text: str) -> float | ExactNumber:
    """The number that a text says, as a float if that is the same."""
    number = float(text)
    try:
        return number if Decimal(repr(number)) == Decimal(text) else ExactNumber(text)
    except ArithmeticError:
        return ExactNumber(text)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_float=exact_number, parse_constant=_refuse_constant)


def dump_json(value: Any) -> bytes:
    """Stored or presented values as JSON: ids and decimals as strings, times as ISO 8601 in UTC to the millisecond."""
    return orjson.dumps(value, _to_json, orjson.OPT_PASSTHROUGH_DATETIME)


def _to_json(value: Any) -> str:
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, ObjectId):
        return value.binary.hex()
    if isinstance(value, bytes):
        return b64encode(value).decode()
    return str(value)  # date, Decimal128, and whatever else somebody wrote by hand


@lru_cache(maxsize=8192)
def time_text(moment: datetime) -> str:
    """A stored time, which is UTC, as ISO 8601.

    Remembered, as the same times come again: both times of a document that nobody has changed, all times of a file
    that was loaded at once, and each page that is read again.
    """
    return moment.isoformat("T", "milliseconds") + "Z"


def cell_text(value: Any) -> str:
    """A value that is no text, as the text of one cell: what JSON has for it, without the quotes around a scalar."""
    if isinstance(value, list | dict):
        return dump_json(value).decode()
    return str(_to_json(value))
