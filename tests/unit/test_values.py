"""Values as BSON keeps them, as JSON shows them and as a query has them."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from service.documents.batches import CODEC, decode_batch
from service.documents.fields import Field, Kind
from service.documents.introspection import fields_of
from service.documents.json_text import MAX_DEPTH
from service.documents.presenter import Presenter
from service.documents.values import (
    UnstorableError,
    is_key,
    parse_text,
    pointer_to,
    stored_datetime,
    stored_decimal,
    to_stored,
)
from service.errors import Fault
from tests.everything import Colour, Everything, Leaf, Level

ID = "0123456789abcdef01234567"
FIELDS = fields_of(Everything)
SCALARS = [field for field in FIELDS.values() if field.is_scalar]
offsets = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (None, None),
        (True, True),
        (0, 0),
        (-(2**63), -(2**63)),
        (2**63 - 1, 2**63 - 1),
        (0.1, 0.1),
        ("", ""),
        ("a\0b 小😀", "a\0b 小😀"),
        (Decimal("1.10"), Decimal128("1.10")),
        (Decimal("12345678901234567890.12345"), Decimal128("12345678901234567890.12345")),
        (date(1899, 12, 31), datetime(1899, 12, 31)),  # noqa: DTZ001 - as BSON has it
        (datetime(2026, 11, 22, 10, 30, tzinfo=timezone(timedelta(hours=1))), datetime(2026, 11, 22, 9, 30)),  # noqa: DTZ001
        (datetime(2026, 11, 22, 10, 30), datetime(2026, 11, 22, 10, 30)),  # noqa: DTZ001
        (ObjectId(ID), ObjectId(ID)),
        (Colour.RED, "red"),
        (Level.HIGH, 2),
        ((1, 2), [1, 2]),
        ({Colour.BLUE}, ["blue"]),
        (Decimal("1e6144"), Decimal128("1.000000000000000000000000000000000E+6144")),
        ({"a": [date(2026, 1, 1)]}, {"a": [datetime(2026, 1, 1)]}),  # noqa: DTZ001
        (Leaf(text="x"), {"text": "x", "number": None, "day": None, "moments": []}),
        ({}, {}),
        ([], []),
    ],
    ids=repr,
)
def test_each_value_is_stored_as_bson_keeps_it(value: Any, stored: Any) -> None:
    faults: list[Fault] = []

    assert to_stored(value, faults) == stored
    assert faults == []


@pytest.mark.parametrize("kind", [set, frozenset])
def test_a_set_is_stored_in_order(kind: type[set[Any] | frozenset[Any]]) -> None:
    assert to_stored(kind("hgfedcba"), []) == list("abcdefgh")
    assert to_stored(kind([Colour.RED, Colour.BLUE]), []) == ["blue", "red"]


@pytest.mark.parametrize(
    ("value", "pointer", "code"),
    [
        (2**63, "", "not_storable"),
        ([1, -(2**63) - 1], "/1", "not_storable"),
        (float("nan"), "", "not_storable"),
        ({"a": float("inf")}, "/a", "not_storable"),
        ({"a": {"b": "\ud800"}}, "/a/b", "not_storable"),
        (Decimal("NaN"), "", "not_storable"),
        (Decimal("-Infinity"), "", "not_storable"),
        (Decimal("1." + "1" * 34), "", "not_storable"),
        (Decimal("1e6145"), "", "not_storable"),
        (Decimal("1" * 35), "", "not_storable"),
        (Decimal("1.1e-6176"), "", "not_storable"),
        (datetime(2026, 1, 1, microsecond=1500, tzinfo=UTC), "", "not_storable"),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))), "", "not_storable"),
        (datetime(9999, 12, 31, 23, 30, tzinfo=timezone(timedelta(hours=-1))), "", "not_storable"),
        ({"": 1}, "/", "invalid_key"),
        ({"$ne": 1}, "/$ne", "invalid_key"),
        ({"a$": 1}, "/a$", "invalid_key"),
        ({"a$b": 1}, "/a$b", "invalid_key"),
        ({".": 1}, "/.", "invalid_key"),
        ({"a": {"b.c": 1}}, "/a/b.c", "invalid_key"),
        ({"a\0b": 1}, "/a\0b", "invalid_key"),
        ({"a/b~c": 2**63}, "/a~1b~0c", "not_storable"),
        ({"\udc00": 1}, "/?", "invalid_key"),
    ],
    ids=repr,
)
def test_what_cannot_be_kept_is_a_fault_with_its_pointer(value: Any, pointer: str, code: str) -> None:
    faults: list[Fault] = []

    to_stored(value, faults)

    assert [(fault.pointer, fault.code) for fault in faults] == [(pointer, code)]


def test_all_faults_of_a_value_come_together() -> None:
    faults: list[Fault] = []

    to_stored({"a": [2**63, 1, "\ud800"], "$b": 1, "c": {"d": Decimal("NaN"), "e.f": 1}}, faults)

    assert sorted(fault.pointer or "" for fault in faults) == ["/$b", "/a/0", "/a/2", "/c/d", "/c/e.f"]


def test_a_member_with_a_bad_key_is_left_out_and_the_others_stay() -> None:
    faults: list[Fault] = []

    assert to_stored({"a": {"b": 1, "c.d": 2, "": 3}, "$e": {"f": 2**63}}, faults) == {"a": {"b": 1}}
    assert sorted(fault.pointer or "" for fault in faults) == ["/$e", "/a/", "/a/c.d"]


def test_what_is_as_deep_as_allowed_is_kept_and_one_deeper_is_not() -> None:
    faults: list[Fault] = []

    assert to_stored(nested(MAX_DEPTH), faults) == nested(MAX_DEPTH)
    assert faults == []
    to_stored(nested(MAX_DEPTH + 1), faults)
    assert [(fault.pointer, fault.code) for fault in faults] == [("/0" * MAX_DEPTH, "too_deep")]


@pytest.mark.parametrize("key", ["a", "_", "ключ", " ", "a/b", "😀"])
def test_a_key_may_be_any_other_text(key: str) -> None:
    assert is_key(key)


@given(st.decimals())
def test_a_decimal_is_kept_exactly_or_refused(number: Decimal) -> None:
    try:
        stored = stored_decimal(number)
    except UnstorableError:
        assert not number.is_finite() or len(number.as_tuple().digits) > 34 or abs(number.adjusted()) > 6000
    else:
        assert stored.to_decimal() == number


@given(st.datetimes(timezones=offsets))
def test_a_time_is_kept_exactly_or_refused(moment: datetime) -> None:
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    try:
        stored = stored_datetime(moment)
    except UnstorableError:
        assert moment.year in {1, 9999}
    else:
        assert stored.replace(tzinfo=UTC) == moment
        assert bson.decode(bson.encode({"a": stored}), CODEC) == {"a": stored}


@pytest.mark.parametrize(
    ("pointer", "part", "result"),
    [("", "a", "/a"), ("/a", 0, "/a/0"), ("", "a/b", "/a~1b"), ("", "~1", "/~01"), ("", "", "/"), ("", "\ud800", "/?")],
)
def test_a_pointer_is_escaped(pointer: str, part: str | int, result: str) -> None:
    assert pointer_to(pointer, part) == result


def test_a_batch_is_read_whatever_somebody_wrote_into_it() -> None:
    past_9999 = b"\x13\x00\x00\x00\x09a\x00" + (2**60).to_bytes(8, "little") + b"\x00\x00\x00\x00"
    past_9999 = len(past_9999[:-3]).to_bytes(4, "little") + past_9999[4:-3]
    no_utf8 = bson.encode({"a": "xy"}).replace(b"xy", b"\xff\xfe")

    documents = decode_batch(past_9999 + no_utf8)

    assert int(documents[0]["a"]) == 2**60
    assert documents[1] == {"a": "\ufffd\ufffd"}


def test_dates_are_restored_at_any_depth_and_times_stay_times() -> None:
    midnight = datetime(2026, 1, 2)  # noqa: DTZ001
    day = date(2026, 1, 2)
    stored = {
        "_id": 1,
        "day": midnight,
        "moment": midnight,
        "days": [midnight, None],
        "free": {"day": midnight},
        "branch": {"leaf": {"day": midnight, "moments": [midnight]}},
        "branches": [{"days": [midnight], "leaf": {"day": midnight}}, {"leaves": [{"day": midnight}]}],
    }

    assert Presenter(FIELDS.values()).present(stored) == {
        "id": 1,
        "day": day,
        "moment": midnight,
        "days": [day, None],
        "free": {"day": midnight},
        "branch": {"leaf": {"day": day, "moments": [midnight]}},
        "branches": [{"days": [day], "leaf": {"day": day}}, {"leaves": [{"day": day}]}],
    }


def test_of_what_somebody_wrote_by_hand_only_declared_fields_are_shown() -> None:
    leaf = {"text": "x", "secret": 1, "moments": []}
    shown_leaf = {"text": "x", "moments": []}
    stored = {
        "_id": 1,
        "branch": {"secret": {"a": 1}, "label": "b", "_class": "c", "leaf": leaf},
        "branches": [{"leaves": [leaf, None, {"secret": 1}], "secret": 1}, [{"secret": 1, "label": "x"}], 1],
        "free": {"secret": {"$a.b": [1]}},
    }

    assert Presenter(FIELDS.values()).present(stored) == {
        "id": 1,
        "branch": {"label": "b", "leaf": shown_leaf},
        "branches": [{"leaves": [shown_leaf, None, {}]}, [{"label": "x"}], 1],
        "free": {"secret": {"$a.b": [1]}},
    }


@pytest.mark.parametrize("odd", [None, 1, "text", [], {}, [1], [[None]], {"leaf": 1}, [{"leaf": [1]}], Decimal128("1")])
def test_values_of_odd_types_are_shown_as_they_are(odd: Any) -> None:
    document = {"day": odd, "days": odd, "branch": odd, "branches": odd}

    assert Presenter(FIELDS.values()).present({"_id": 1, **document}) == {"id": 1, **document}


def test_the_id_comes_first() -> None:
    assert list(Presenter([]).present({"a": 1, "_id": 2, "b": 3})) == ["id", "a", "b"]


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("code", "", ""),
        ("code", '{"$ne": null}', '{"$ne": null}'),
        ("code", "a,b", "a,b"),
        ("email", "Ada@Example.ORG", "ada@example.org"),
        ("integer", "0", 0),
        ("integer", "+7", 7),
        ("integer", "-9223372036854775808", -(2**63)),
        ("float_number", "1", 1.0),
        ("float_number", ".5", 0.5),
        ("float_number", "-1.5e-3", -0.0015),
        ("decimal_number", "1.10", Decimal128("1.10")),
        ("decimal_number", "-0", Decimal128("-0")),
        ("decimal_number", "1e-6176", Decimal128("1E-6176")),
        ("boolean", "true", True),
        ("boolean", "false", False),
        ("day", "2024-02-29", datetime(2024, 2, 29)),  # noqa: DTZ001
        ("moment", "2026-11-22T10:30:00.123Z", datetime(2026, 11, 22, 10, 30, 0, 123_000)),  # noqa: DTZ001
        ("moment", "2026-11-22T10:30:00+01:00", datetime(2026, 11, 22, 9, 30)),  # noqa: DTZ001
        ("moment", "2026-11-22T10:30:00 01:00", datetime(2026, 11, 22, 9, 30)),  # noqa: DTZ001
        ("moment", "2026-11-22T10:30:00 0100", datetime(2026, 11, 22, 9, 30)),  # noqa: DTZ001
        ("moment", "2026-11-22T10:30:00-01:00", datetime(2026, 11, 22, 11, 30)),  # noqa: DTZ001
        ("moment", "2026-11-22T10:30:00", datetime(2026, 11, 22, 10, 30)),  # noqa: DTZ001
        ("moment", "2026-11-22T10:30", datetime(2026, 11, 22, 10, 30)),  # noqa: DTZ001
        ("moment", "2026-11-22 10:30:00-0100", datetime(2026, 11, 22, 11, 30)),  # noqa: DTZ001
        ("moment", "2026-11-22T10:30:00.5Z", datetime(2026, 11, 22, 10, 30, 0, 500_000)),  # noqa: DTZ001
        ("moment", "2026-11-22T10:30:00.1230000000Z", datetime(2026, 11, 22, 10, 30, 0, 123_000)),  # noqa: DTZ001
        ("moment", "2026-11-22t10:30:00z", datetime(2026, 11, 22, 10, 30)),  # noqa: DTZ001 - RFC 3339 §5.6
        ("reference", ID.upper(), ObjectId(ID)),
        ("id", ID, ObjectId(ID)),
        ("colour", "red", "red"),
        ("level", "2", 2),
        ("size", "small", "small"),
        ("texts", "a", "a"),
        ("integers", "1", 1),
        ("colours", "blue", "blue"),
    ],
)
def test_text_is_parsed_as_the_kind_of_its_field(path: str, text: str, value: Any) -> None:
    parsed = parse_text(FIELDS[path], text)

    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("code", "\ud800"),
        ("integer", ""),
        ("integer", "1.0"),
        ("integer", "1_000"),
        ("integer", " 1"),
        ("integer", "1\n"),
        ("integer", "٣"),
        ("integer", "9223372036854775808"),
        ("integer", "9" * 5000),
        ("float_number", ""),
        ("float_number", "nan"),
        ("float_number", "inf"),
        ("float_number", "1e999"),
        ("float_number", "1_0.0"),
        ("float_number", "0x10"),
        ("float_number", "."),
        ("decimal_number", "NaN"),
        ("decimal_number", "1,5"),
        ("decimal_number", "1e999999"),
        ("decimal_number", "1" * 35),
        ("boolean", "True"),
        ("boolean", "1"),
        ("boolean", ""),
        ("day", "2026-02-30"),
        ("day", "22.11.2026"),
        ("day", "2026-W01-1"),
        ("day", "20260101"),
        ("day", "2026-11-22T00:00:00Z"),
        ("day", ""),
        ("moment", "now"),
        ("moment", "2026-11-22"),
        ("moment", "2026-11-22T10"),
        ("moment", "20261122T103000Z"),
        ("moment", "2026-W47-7T10:30:00Z"),
        ("moment", "2026-11-22T10:30:00,123Z"),
        ("moment", "2026-11-22T10:30:00+01:00:30"),
        ("moment", "2026-11-22T25:00:00Z"),
        ("moment", "2026-11-22T10:30:00.1234Z"),
        ("moment", "0001-01-01T00:00:00+01:00"),
        ("reference", ID[:-1]),
        ("reference", "xyz"),
        ("id", '{"$gt": ""}'),
        ("colour", "green"),
        ("colour", "RED"),
        ("level", "3"),
        ("level", "LOW"),
        ("size", "medium"),
    ],
)
def test_text_of_another_kind_is_refused_with_what_is_expected(path: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|64 bits|34 digits|surrogate|millisecond|years 1 to 9999"):
        parse_text(FIELDS[path], text)


@pytest.mark.parametrize("fraction", ["0001", "1234", "1230009", "123000000001"])
def test_a_time_that_is_finer_than_a_millisecond_is_never_rounded(fraction: str) -> None:
    with pytest.raises(ValueError, match=r"2026-11-22T09:30:00\.123Z is expected"):
        parse_text(FIELDS["moment"], f"2026-11-22T10:30:00.{fraction}Z")


@given(st.sampled_from(SCALARS), st.text() | st.from_regex(r"[-+0-9.eE:TZ ]{1,30}", fullmatch=True))
def test_any_text_is_parsed_into_what_bson_takes_or_refused(field: Field, text: str) -> None:
    try:
        value = parse_text(field, text)
    except ValueError as error:
        assert str(error)  # noqa: PT017 - and nothing else may be raised
    else:
        assert bson.decode(bson.encode({"a": value}), CODEC) == {"a": value}


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_integer_of_64_bits_is_found_again(number: int) -> None:
    assert parse_text(Field("a", Kind.INTEGER), str(number)) == number
    assert bson.decode(bson.encode({"a": number}), CODEC)["a"] == Int64(number)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_float_is_found_again(number: float) -> None:
    assert parse_text(Field("a", Kind.FLOAT), repr(number)) == number
