"""Cursors: opaque, signed, and good for one query only."""

from datetime import datetime
from typing import Any

import pytest
from bson import Decimal128, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from service.store.paging import CursorSigner, InvalidCursorError
from service.store.query import Selection

SIGNER = CursorSigner("a secret key")
SELECTION = Selection({"$and": [{"age": {"$gt": 1}}]}, (("profile.bio", -1), ("_id", -1)), ())
LAST = {"_id": ObjectId("0" * 24), "age": 5, "profile": {"bio": "x"}}


@pytest.mark.parametrize(
    "value",
    [None, "text", 5, 2**40, 1.5, True, Decimal128("1.10"), ObjectId(), datetime(2026, 1, 1), b"x"],  # noqa: DTZ001
)
def test_a_cursor_holds_the_sort_keys_of_the_last_document(value: Any) -> None:
    cursor = SIGNER.encode(SELECTION, "users", LAST | {"profile": {"bio": value}})

    assert SIGNER.decode(SELECTION, "users", cursor) == [value, LAST["_id"]]
    assert cursor.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize("profile", [None, "odd", 5, {}])
def test_what_is_not_there_is_null(profile: Any) -> None:
    cursor = SIGNER.encode(SELECTION, "users", LAST | {"profile": profile})

    assert SIGNER.decode(SELECTION, "users", cursor)[0] is None


@pytest.mark.parametrize(
    ("selection", "name"),
    [
        (SELECTION, "items"),
        (Selection({}, SELECTION.sort, ()), "users"),
        (Selection(SELECTION.filter, (("profile.bio", 1), ("_id", 1)), ()), "users"),
        (Selection(SELECTION.filter, (("_id", -1),), ()), "users"),
    ],
)
def test_a_cursor_is_good_for_no_other_query(selection: Selection, name: str) -> None:
    cursor = SIGNER.encode(SELECTION, "users", LAST)

    with pytest.raises(InvalidCursorError):
        SIGNER.decode(selection, name, cursor)


def test_the_fields_that_are_shown_make_no_other_query() -> None:
    cursor = SIGNER.encode(SELECTION, "users", LAST)

    assert SIGNER.decode(Selection(SELECTION.filter, SELECTION.sort, ("name",)), "users", cursor)


def test_another_services_cursor_is_none() -> None:
    with pytest.raises(InvalidCursorError):
        CursorSigner("another key").decode(SELECTION, "users", SIGNER.encode(SELECTION, "users", LAST))


@given(st.integers(min_value=0), st.integers(1, 255))
def test_a_changed_cursor_is_refused(place: int, change: int) -> None:
    cursor = bytearray(SIGNER.encode(SELECTION, "users", LAST).encode())
    changed = bytes(cursor[: place % len(cursor)]) + bytes([cursor[place % len(cursor)] ^ change])
    changed += bytes(cursor[place % len(cursor) + 1 :])
    try:
        keys = SIGNER.decode(SELECTION, "users", changed.decode("latin-1"))
    except InvalidCursorError:
        return
    assert keys == ["x", LAST["_id"]]  # base64's last character may be written in several ways


@given(st.text())
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    with pytest.raises(InvalidCursorError):
        SIGNER.decode(SELECTION, "users", text)
