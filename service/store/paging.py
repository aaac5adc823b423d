"""Keyset pages: where a list goes on, whatever it is sorted by; pure.

A cursor holds the sort keys of the last document that was seen. It is signed, and bound to the query that it came from.
"""

import base64
import hashlib
import hmac
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import NoneType
from typing import Any
from uuid import UUID

import bson
from bson import Code, DatetimeMS, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.errors import BSONError

from service.documents.batches import CODEC
from service.store.query import Selection, SortKey

SIGNATURE_BYTES = 16
TYPE_ORDER: tuple[tuple[str, ...], ...] = (
    ("minKey",),
    ("null", "undefined"),
    ("int", "long", "double", "decimal"),
    ("string", "symbol"),
    ("object",),
    ("array",),
    ("binData",),
    ("objectId",),
    ("bool",),
    ("date",),
    ("timestamp",),
    ("regex",),
    ("javascript", "javascriptWithScope"),
    ("maxKey",),
)
"""MongoDB sorts values of different types by their types, in this order; but it compares only within one."""

NULL, NUMBER, TEXT = 1, 2, 3
PLACES: Mapping[type, int] = {
    NoneType: NULL,
    bool: 8,  # before int, of which it is a kind
    Code: 12,  # before str, likewise
    int: NUMBER,
    float: NUMBER,
    Decimal128: NUMBER,
    str: TEXT,
    dict: 4,
    list: 5,
    bytes: 6,
    UUID: 6,
    ObjectId: 7,
    datetime: 9,
    DatetimeMS: 9,
    Timestamp: 10,
    Regex: 11,
    MinKey: 0,
    MaxKey: 13,
}
"""Where in TYPE_ORDER the types belong as which the driver reads them."""

Condition = Mapping[str, Any]


class InvalidCursorError(ValueError):
    """A cursor that was changed, or that came from another query."""


class CursorSigner:
    """Makes cursors, and takes its own back."""

    def __init__(self, secret_key: str) -> None:
        self._key = hmac.digest(secret_key.encode(), b"cursor", hashlib.sha256)

    def encode(self, selection: Selection, name: str, last: Mapping[str, Any]) -> str:
        """The cursor after this stored document of the type `name`."""
        body = bson.encode({"keys": sort_keys(last, selection.sort)})
        return base64.urlsafe_b64encode(self._sign(selection, name, body) + body).rstrip(b"=").decode()

    def decode(self, selection: Selection, name: str, cursor: str) -> list[Any]:
        """The sort keys in a cursor of this query. Raises InvalidCursorError."""
        try:
            token = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), b"-_", validate=True)
            signature, body = token[:SIGNATURE_BYTES], token[SIGNATURE_BYTES:]
            if not hmac.compare_digest(signature, self._sign(selection, name, body)):
                raise InvalidCursorError("this is no cursor of this query")
            keys: list[Any] = bson.decode(body, CODEC)["keys"]
        except (ValueError, BSONError) as error:
            raise InvalidCursorError("this is no cursor of this query") from error
        return keys

    def _sign(self, selection: Selection, name: str, body: bytes) -> bytes:
        query = bson.encode({"name": name, "filter": selection.filter, "sort": [list(key) for key in selection.sort]})
        return hashlib.blake2b(query + body, key=self._key, digest_size=SIGNATURE_BYTES).digest()


def sort_keys(document: Mapping[str, Any], sort: Sequence[SortKey]) -> list[Any]:
    """What MongoDB sorts a stored document by, key by key."""
    return [_key_of(document, path, direction) for path, direction in sort]


def _key_of(document: Mapping[str, Any], path: str, direction: int) -> Any:
    """What MongoDB sorts the document by."""
    value: Any = document
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, list):  # only by hand: a field that can be an array cannot be sorted by
        try:
            return min(value) if direction > 0 else max(value)
        except (TypeError, ValueError):
            return None
    return value


def after(sort: Sequence[SortKey], keys: Sequence[Any]) -> Condition:
    """What follows the document with these sort keys.

    Of the first key nothing that comes before; and of it what comes after, or the same and of the next key what comes
    after, and so on. The first part says nothing new, but is what MongoDB can start an index scan by.
    """
    branches: list[Condition] = []
    same: list[Condition] = []
    for (path, direction), key in zip(sort, keys, strict=True):
        branches.append({"$and": [*same, *_beyond(path, direction, key, includes_key=False)]})
        same.append({path: {"$eq": key}})
    (path, direction), key = sort[0], keys[0]
    return {"$and": [*_beyond(path, direction, key, includes_key=True), {"$or": branches}]}


def _beyond(path: str, direction: int, key: Any, *, includes_key: bool) -> list[Condition]:
    """What comes after a key in a direction, in MongoDB's order over all types.

    `$not` and a comparison, as a comparison alone would leave out the other types.
    """
    position = _type_position(key)
    passed = TYPE_ORDER[:position] if direction > 0 else TYPE_ORDER[position + 1 :]
    conditions: list[Condition] = [{path: {"$not": {"$type": [name for names in passed for name in names]}}}]
    if direction > 0 and position > NULL:
        conditions.append({path: {"$ne": None}})  # also where the field is missing, which sorts as null
    if position == NULL:
        return conditions if includes_key else [*conditions, {path: {"$ne": None}}]
    if position == NUMBER and direction > 0 and not _is_nan(key):
        conditions.append({path: {"$ne": math.nan}})  # which is less than any number, but compares with none
    if position == NUMBER and direction < 0 and _is_nan(key):
        return conditions if includes_key else [*conditions, {path: {"$not": {"$type": "number"}}}]
    passing = ("$lt" if includes_key else "$lte") if direction > 0 else ("$gt" if includes_key else "$gte")
    return [*conditions, {path: {"$not": {passing: key}}}]


def _type_position(key: Any) -> int:
    places = (place for python_type, place in PLACES.items() if isinstance(key, python_type))
    return next(places, PLACES[dict])  # a DBRef, which the driver makes of an object


def _is_nan(key: Any) -> bool:
    return (isinstance(key, float) and math.isnan(key)) or (isinstance(key, Decimal128) and key.to_decimal().is_nan())
