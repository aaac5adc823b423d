"""JSON in and out, with nothing lost on the way."""

import json
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import bson
import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st

from service.documents.batches import decode_batch
from service.documents.json_text import ExactNumber, InvalidJsonError, cell_text, dump_json, load_json
from service.documents.values import is_key, to_stored
from service.errors import Fault

keys = st.text(min_size=1).filter(is_key)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5))
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 6000)  # noqa: DTZ001 - as the driver reads it


@given(st.dictionaries(keys, values, max_size=5), st.booleans())
def test_what_comes_in_is_stored_and_leaves_equal(document: dict[str, Any], ensure_ascii: bool) -> None:  # noqa: FBT001
    faults: list[Fault] = []
    kept = to_stored(load_json(json.dumps(document, ensure_ascii=ensure_ascii).encode()), faults)
    assert faults == []

    (stored,) = decode_batch(bson.encode(kept))

    assert json.loads(dump_json(stored)) == document


@given(st.binary() | st.text().map(str.encode) | st.from_regex(r'[\[\]{}",:0-9.eE+\-\\u]{1,60}').map(str.encode))
def test_any_bytes_are_json_or_refused(body: bytes) -> None:
    faults: list[Fault] = []
    try:
        value = to_stored(load_json(body), faults)
    except InvalidJsonError as error:
        assert str(error)  # noqa: PT017 - and nothing else may be raised
    else:
        assert all(fault.pointer is not None for fault in faults)
        assert bson.encode({"a": value})


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"{} {}", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b"\xff", "not UTF-8"),
        ('{"a": "é"}'.encode("latin-1"), "not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"a": 1, "a": 1}', "one key twice"),
        (b'{"a": {"b": 1, "\\u0062": 2}}', "one key twice"),
        (b"NaN", "no JSON number"),
        (b'{"a": [Infinity]}', "no JSON number"),
        (b"-Infinity", "no JSON number"),
        (b"[" * 100_000, "nested deeper"),
        (b'{"a":' * 100_000, "nested deeper"),
        (b"9" * 5000, "not JSON"),
    ],
)
def test_what_is_no_certain_json_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(InvalidJsonError, match=reason):
        load_json(body)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b'{"a": 9223372036854775808}', "/a"),
        (b'{"a": ["\\ud800"]}', "/a/0"),
        (b'{"$set": 1}', "/$set"),
        (b'{"a": {"b.c": 1}}', "/a/b.c"),
        (b'{"a$": 1}', "/a$"),
        (b'{"a\\u0000": 1}', "/a\0"),
        (b"[" * 33 + b"]" * 33, "/0" * 32),
    ],
)
def test_what_mongodb_cannot_keep_is_a_fault(body: bytes, pointer: str) -> None:
    faults: list[Fault] = []

    to_stored(load_json(body), faults)

    assert [fault.pointer for fault in faults] == [pointer]


@pytest.mark.parametrize(
    ("number", "value"),
    [
        ("0.1", 0.1),
        ("1.10", 1.1),
        ("1E2", 100.0),
        ("-0.0", -0.0),
        ("12345678901234.125", 12345678901234.125),
        ("0e99999999999", 0.0),
        ("5e-324", 5e-324),
        ("9007199254740993", 2**53 + 1),
        ("0.10000000000000001", ExactNumber("0.10000000000000001")),
        ("0.1000000000000000055511151231257827", ExactNumber("0.1000000000000000055511151231257827")),
        ("12345678901234567890.12345", ExactNumber("12345678901234567890.12345")),
        ("1e400", ExactNumber("1e400")),
        ("1e-400", ExactNumber("1e-400")),
        ("1e99999999999999999999", ExactNumber("1e99999999999999999999")),
        ('"1e400"', "1e400"),
    ],
)
def test_a_number_that_a_float_would_round_comes_as_its_text(number: str, value: float | str) -> None:
    loaded = load_json(number.encode())

    assert repr(loaded) == repr(value)
    assert type(loaded) is type(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (MOMENT, '"2026-01-02T03:04:05.006Z"'),
        (datetime(1, 1, 1), '"0001-01-01T00:00:00.000Z"'),  # noqa: DTZ001
        (date(2026, 1, 2), '"2026-01-02"'),
        (ObjectId("0123456789abcdef01234567"), '"0123456789abcdef01234567"'),
        (Decimal128("1.10"), '"1.10"'),
        (Decimal128("NaN"), '"NaN"'),
        (Decimal("1.10"), '"1.10"'),
        (Int64(2**62), str(2**62)),
        (b"\x00\xff", '"AP8="'),
        (Binary(b"\x00\xff"), '"AP8="'),
        ({"a": [None, True, 0.5, "ü"]}, '{"a":[null,true,0.5,"ü"]}'),
    ],
    ids=repr,
)
def test_each_stored_value_has_its_json(value: Any, text: str) -> None:
    assert dump_json(value).decode() == text


@pytest.mark.parametrize(
    "odd",
    [
        DatetimeMS(2**60),
        Regex("a"),
        Code("a"),
        MinKey(),
        MaxKey(),
        Timestamp(1, 2),
        float("nan"),
        Decimal128("-Infinity"),
    ],
    ids=repr,
)
def test_whatever_somebody_wrote_by_hand_leaves_as_some_json(odd: Any) -> None:
    (stored,) = decode_batch(bson.encode({"a": [odd]}))

    assert isinstance(json.loads(dump_json(stored))["a"], list)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1, "a", None], '[1,"a",null]'),
        ({"a": MOMENT}, '{"a":"2026-01-02T03:04:05.006Z"}'),
        (MOMENT, "2026-01-02T03:04:05.006Z"),
        (date(2026, 1, 2), "2026-01-02"),
        (Decimal128("1.10"), "1.10"),
        (ObjectId("0123456789abcdef01234567"), "0123456789abcdef01234567"),
    ],
    ids=repr,
)
def test_a_cell_has_what_json_has_without_the_quotes(value: Any, text: str) -> None:
    assert cell_text(value) == text
