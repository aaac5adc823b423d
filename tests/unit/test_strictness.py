"""JSON values, held against the kinds of their fields."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.documents.fields import Kind
from service.documents.introspection import fields_of
from service.documents.json_text import ExactNumber, load_json
from service.documents.strictness import strict_values
from service.documents.values import MAX_INTEGER, MIN_INTEGER
from service.errors import Fault
from tests.everything import Everything

FIELDS = fields_of(Everything)
LONG_NUMBER = "0.1000000000000000055511151231257827"
"""One that a float would round."""

NOT_DECIMAL = [path for path, field in FIELDS.items() if "." not in path and field.kind is not Kind.DECIMAL]
"""Fields of the top level, of every kind but the one that takes any number."""

numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(MIN_INTEGER, MAX_INTEGER)  # larger ones are refused before
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10)
    | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,7})?)?Z?)?", fullmatch=True)
    | numbers
    | numbers.map(ExactNumber)
)
names = st.sampled_from(["label", "leaf", "leaves", "day", "moments", "number", "a/b", "m~n"]) | st.text(max_size=3)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4))
bodies = st.dictionaries(st.sampled_from([path for path in FIELDS if "." not in path]) | names, values, max_size=5)


def strict(path: str, text: str) -> tuple[Any, list[tuple[str | None, str]]]:
    """What becomes of a field's JSON text, and where it is wrong and how."""
    faults: list[Fault] = []
    body = strict_values(load_json(f'{{"{path}": {text}}}'.encode()), FIELDS, faults)
    return body[path], [(fault.pointer, fault.code) for fault in faults]


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("code", '"0"', "0"),
        ("code", '"2026-02-30T25:00 <a@b.c>"', "2026-02-30T25:00 <a@b.c>"),
        ("integer", "9007199254740993", 2**53 + 1),
        ("integer", "-0", 0),
        ("integer", "null", None),
        ("level", "2", 2),
        ("integers", "[1, null, 2]", [1, None, 2]),
        ("float_number", "0.1", 0.1),
        ("float_number", "1", 1),
        ("float_number", "9007199254740992", 2**53),
        ("float_number", "0.10000000000000001", 0.1),  # 17 digits, as C's %.17g has them
        ("float_number", "1.0000000000000001e+25", 1e25),
        ("float_number", "1.0000000000000001E-05", 1e-5),
        ("decimal_number", '"19.99"', "19.99"),
        ("decimal_number", '"-.5e+3"', "-.5e+3"),
        ("decimal_number", "19.99", 19.99),
        ("decimal_number", "1", 1),
        ("decimal_number", "12345678901234567890.12345", "12345678901234567890.12345"),
        ("decimal_number", LONG_NUMBER, LONG_NUMBER),
        ("decimals", f'[{LONG_NUMBER}, 1, "2.50"]', [LONG_NUMBER, 1, "2.50"]),
        ("boolean", "true", True),
        ("day", '"2024-02-29"', "2024-02-29"),
        ("days", '["1899-12-31"]', ["1899-12-31"]),
        ("moment", '"2026-11-22T09:30:00.123Z"', "2026-11-22T09:30:00.123Z"),
        ("moment", '"2026-11-22T09:30:00.1230000000Z"', "2026-11-22T09:30:00.1230000000Z"),
        ("moment", '"2026-11-22t09:30:00z"', "2026-11-22t09:30:00z"),
        ("moment", '"2026-11-22 09:30"', "2026-11-22 09:30"),
        ("moment", '"2026-11-22T09:30:00-0130"', "2026-11-22T09:30:00-0130"),
        ("email", '"Ada@Example.org"', "Ada@Example.org"),
        ("email", "null", None),
        ("free", '{"day": "x", "a": [true, 1.5, {"moment": 0}]}', {"day": "x", "a": [True, 1.5, {"moment": 0}]}),
        ("free", '{"a": 0.10000000000000001}', {"a": 0.1}),
        ("free", '{"a": 9007199254740993}', {"a": 2**53 + 1}),
        ("branch", '{"label": "x", "leaf": {"number": 1}}', {"label": "x", "leaf": {"number": 1}}),
    ],
)
def test_a_value_of_its_fields_kind_passes_as_it_is(path: str, text: str, value: Any) -> None:
    strictly, faults = strict(path, text)

    assert strictly == value
    assert type(strictly) is type(value)
    assert faults == []


@pytest.mark.parametrize(
    ("path", "text", "pointer", "code"),
    [
        ("integer", "true", "/integer", "int_type"),
        ("integer", "false", "/integer", "int_type"),
        ("integer", "1.0", "/integer", "int_type"),
        ("integer", "1e2", "/integer", "int_type"),
        ("integer", "1.00000000000000000001", "/integer", "inexact_number"),
        ("integers", "[1, true]", "/integers/1", "int_type"),
        ("level", "true", "/level", "int_type"),
        ("branch", '{"leaf": {"number": true}}', "/branch/leaf/number", "int_type"),
        ("float_number", LONG_NUMBER, "/float_number", "inexact_number"),
        ("float_number", "1e400", "/float_number", "inexact_number"),
        ("float_number", "-1e400", "/float_number", "inexact_number"),
        ("float_number", "1e-400", "/float_number", "inexact_number"),
        ("float_number", "1e99999999999999999999", "/float_number", "inexact_number"),
        ("float_number", "9007199254740993", "/float_number", "inexact_number"),
        ("float_number", "9223372036854775807", "/float_number", "inexact_number"),
        ("float_number", "1" + "0" * 400, "/float_number", "inexact_number"),
        ("decimal_number", '""', "/decimal_number", "decimal_format"),
        ("decimal_number", '" 1_000 "', "/decimal_number", "decimal_format"),
        ("decimal_number", '"1_000"', "/decimal_number", "decimal_format"),
        ("decimal_number", '"1,5"', "/decimal_number", "decimal_format"),
        ("decimal_number", '"1\\n"', "/decimal_number", "decimal_format"),
        ("decimal_number", '"\\u0663"', "/decimal_number", "decimal_format"),
        ("decimal_number", '"NaN"', "/decimal_number", "decimal_format"),
        ("decimal_number", '"Infinity"', "/decimal_number", "decimal_format"),
        ("decimals", '["1", "x"]', "/decimals/1", "decimal_format"),
        ("day", '"0"', "/day", "date_format"),
        ("day", '"20260101"', "/day", "date_format"),
        ("day", '"2026-W01-1"', "/day", "date_format"),
        ("day", '"2026-1-1"', "/day", "date_format"),
        ("day", '" 2026-01-01"', "/day", "date_format"),
        ("day", '"2026-01-01\\n"', "/day", "date_format"),
        ("day", '"2026-01-01T00:00:00Z"', "/day", "date_format"),
        ("day", '"\\u0662026-01-01"', "/day", "date_format"),
        ("days", '["2026-01-01", "1"]', "/days/1", "date_format"),
        ("moment", '"0"', "/moment", "time_format"),
        ("moment", '"2026-01-01"', "/moment", "time_format"),
        ("moment", '"2026-01-01T00"', "/moment", "time_format"),
        ("moment", '"2026-01-01T00:00:00+01"', "/moment", "time_format"),
        ("moment", '"2026-01-01T00:00:00.Z"', "/moment", "time_format"),
        ("moment", '"2026-01-01T00:00:00,123Z"', "/moment", "time_format"),
        ("moment", '"2026-01-01_00:00:00Z"', "/moment", "time_format"),
        ("moment", '"20260101T000000Z"', "/moment", "time_format"),
        ("moment", '"2026-01-01T00:00:00.0001Z"', "/moment", "time_format"),
        ("moment", '"2026-01-01T00:00:00.1230009Z"', "/moment", "time_format"),
        ("moment", '"2026-01-01T00:00:00.123000000001Z"', "/moment", "time_format"),
        ("branch", '{"leaf": {"moments": ["1"]}}', "/branch/leaf/moments/0", "time_format"),
        ("branches", '[{}, {"leaves": [{"day": "1"}]}]', "/branches/1/leaves/0/day", "date_format"),
        ("email", '"Ada <ada@example.org>"', "/email", "email_format"),
        ("email", '"<ada@example.org>"', "/email", "email_format"),
        ("free", '{"x": 1e400}', "/free/x", "inexact_number"),
        ("free", f'{{"a/b": [{{"decimal_number": {LONG_NUMBER}}}]}}', "/free/a~1b/0/decimal_number", "inexact_number"),
        ("matrix", f"[[1, {LONG_NUMBER}]]", "/matrix/0/1", "inexact_number"),
    ],
)
def test_what_is_not_strictly_of_its_fields_kind_is_a_fault(path: str, text: str, pointer: str, code: str) -> None:
    _, faults = strict(path, text)

    assert faults == [(pointer, code)]


@pytest.mark.parametrize("path", NOT_DECIMAL)
def test_a_number_that_a_float_would_round_fits_only_a_decimal_field(path: str) -> None:
    value, faults = strict(path, LONG_NUMBER)

    assert type(value) is float
    assert faults == [(f"/{path}", "inexact_number")]


@pytest.mark.parametrize("path", NOT_DECIMAL)
def test_a_number_is_no_text_however_many_digits_it_has(path: str) -> None:
    value, faults = strict(path, "0.10000000000000001")

    assert type(value) is float
    assert faults == []


def test_all_faults_come_together() -> None:
    faults: list[Fault] = []

    strict_values({"day": "0", "integers": [True, 1, 1.5], "free": {"day": "0"}, "email": "A <a@b.c>"}, FIELDS, faults)

    assert {fault.pointer: fault.code for fault in faults} == {
        "/day": "date_format",
        "/integers/0": "int_type",
        "/integers/2": "int_type",
        "/email": "email_format",
    }
    assert all(fault.message for fault in faults)


@given(bodies)
def test_a_body_keeps_its_shape_and_no_number_is_text_by_mistake(body: dict[str, Any]) -> None:
    faults: list[Fault] = []

    strictly = strict_values(body, FIELDS, faults)

    assert all(type(leaf) is not ExactNumber for _, leaf in leaves(strictly))
    unknown = {fault.pointer for fault in faults if fault.code == "unknown_field"}
    before = {
        place: value
        for place, value in leaves(body)
        if not any(place == pointer or place.startswith(f"{pointer}/") for pointer in unknown)
    }
    after = dict(leaves(strictly))
    assert list(before) == [place for place in after if place in before]
    assert all(
        type(after[place]) is type(value) and after[place] == value
        for place, value in before.items()
        if not isinstance(value, ExactNumber)
    )


def leaves(value: Any, pointer: str = "") -> list[tuple[str, Any]]:
    """The innermost values, each with its RFC 6901 pointer."""
    if not isinstance(value, dict | list):
        return [(pointer, value)]
    members = value.items() if isinstance(value, dict) else enumerate(value)
    return [
        leaf
        for name, inner in members
        for leaf in leaves(inner, f"{pointer}/{str(name).replace('~', '~0').replace('/', '~1')}")
    ]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_taken_however_a_language_writes_it(number: float) -> None:
    for text in (json.dumps(number), f"{number:.17g}", f"{number:.17G}"):
        value, faults = strict("float_number", text)

        assert value == number
        assert faults == []


@given(st.integers(-(2**64), 2**64))
def test_an_integer_is_taken_for_a_float_where_it_is_one(number: int) -> None:
    _, faults = strict("float_number", str(number))

    assert faults == ([] if int(float(number)) == number else [("/float_number", "inexact_number")])


@given(numbers)
def test_a_number_passes_into_a_decimal_field_as_it_was_written(text: str) -> None:
    value, faults = strict("decimal_number", text)

    assert faults == []
    assert type(value) is not ExactNumber
    assert type(value) is not str or value == text


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"nothing": 1}, ["/nothing"]),
        ({"branch": {"label": "x", "leaf": {"nothing": {"deeper": 1}}}}, ["/branch/leaf/nothing"]),
        ({"branches": [{"leaves": [{}, {"a": 1, "b": 2}]}]}, ["/branches/0/leaves/1/a", "/branches/0/leaves/1/b"]),
        ({"free": {"any": {"thing": 1}}, "matrix": [[{"x": 1}]], "code": {"no": "object"}}, []),
    ],
)
def test_unknown_fields_are_faults_at_every_depth(body: Any, pointers: list[str]) -> None:
    faults: list[Fault] = []

    strict_values(body, FIELDS, faults)

    assert [(fault.code, fault.pointer) for fault in faults] == [("unknown_field", pointer) for pointer in pointers]
