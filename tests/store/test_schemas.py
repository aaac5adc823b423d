"""A body, checked through its document class. Beanie makes instances of that only once it has a database."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import bson
import pytest
from bson import Decimal128, ObjectId
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.documents.base import SERVER_FIELDS
from service.documents.batches import decode_batch
from service.documents.fields import Field, Kind
from service.documents.json_text import ExactNumber, dump_json, load_json
from service.documents.presenter import Presenter
from service.documents.registry import DocumentType
from service.errors import Fault, ValidationFailedError
from service.store.schemas import validate_body
from tests.conftest import TYPES
from tests.everything import Everything

EVERYTHING = DocumentType(Everything)
REQUIRED = {"code": "a", "left": 1, "right": 2}
LONG_NUMBER = "0.1000000000000000055511151231257827"
"""One that a float would round."""

SCALARS = [
    field
    for path, field in EVERYTHING.fields.items()
    if field.is_sortable and "." not in path and path not in {*SERVER_FIELDS, "left", "right"}
]
numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10)
    | numbers
    | st.dates().map(str)
    | st.datetimes().map(str)
    | st.from_regex(
        r"20[0-9]{2}-0[0-9]-[0-2][0-9][Tt _][0-2][0-9]:[0-5][0-9](:[0-5][0-9](\.[0-9]{1,7})?)?", fullmatch=True
    )
    | st.from_regex(r" ?(a |<)?[A-Za-z]{1,5}@[a-z]{1,5}\.org>? ?", fullmatch=True)
    | st.sampled_from(["red", "small", "large", "0123456789abcdef01234567", 1, 2])
)

pytestmark = pytest.mark.usefixtures("services")


def faults_of(body: Any) -> tuple[Fault, ...]:
    with pytest.raises(ValidationFailedError) as caught:
        validate_body(EVERYTHING.whole, body)
    return caught.value.faults


@pytest.mark.parametrize("document_type", TYPES, ids=lambda document_type: document_type.name)
def test_a_valid_body_is_every_declared_field_as_bson_keeps_it(document_type: DocumentType) -> None:
    stored = validate_body(document_type.whole, document_type.example)

    assert list(stored) == [
        path
        for path in document_type.fields
        if "." not in path and path not in {"id", "created_at", "updated_at", "revision"}
    ]
    assert decode_batch(bson.encode(stored)) == [stored]


def test_each_kind_of_value_is_stored_as_itself() -> None:
    stored = validate_body(EVERYTHING.whole, EVERYTHING.example)

    assert stored["decimal_number"] == Decimal128("12345678901234567890.12345")
    assert stored["day"] == datetime(1899, 12, 31)  # noqa: DTZ001 - as BSON has it
    assert stored["moment"] == datetime(2026, 11, 22, 9, 30, 0, 123_000)  # noqa: DTZ001
    assert stored["reference"] == ObjectId("0123456789abcdef01234567")
    assert stored["email"] == "every@thing.example.org"
    assert stored["colours"] == ["blue"]
    assert stored["branch"]["leaf"]["day"] == datetime(2000, 1, 1)  # noqa: DTZ001


def test_the_fields_of_the_server_are_ignored_whatever_they_hold() -> None:
    server = {"id": {"$ne": 1}, "created_at": "x", "updated_at": None, "revision": -1}

    assert validate_body(EVERYTHING.whole, REQUIRED | server) == validate_body(EVERYTHING.whole, REQUIRED)


def test_the_validators_of_the_class_see_the_whole_document() -> None:
    (fault,) = faults_of(REQUIRED | {"right": 1})

    assert (fault.pointer, fault.code) == ("", "value_error")
    assert "left and right differ" in fault.message


@pytest.mark.parametrize(
    ("change", "pointer", "code"),
    [
        ({"moment": "2026-01-01T00:00:00.0001Z"}, "/moment", "time_format"),
        ({"moment": "2026-01-01T00:00:00.1230009Z"}, "/moment", "time_format"),
        ({"moment": "2026-01-01T00:00:00.123000000001Z"}, "/moment", "time_format"),
        ({"moment": "0"}, "/moment", "time_format"),
        ({"day": "0"}, "/day", "date_format"),
        ({"decimal_number": " 1_000 "}, "/decimal_number", "decimal_format"),
        ({"email": "A <a@b.org>"}, "/email", "email_format"),
        ({"email": " a@b.org "}, "/email", "email_format"),
        ({"float_number": 2**53 + 1}, "/float_number", "inexact_number"),
        ({"matrix": [[0.5, 2**53 + 1]]}, "/matrix/0/1", "inexact_number"),
        ({"code": ExactNumber(LONG_NUMBER)}, "/code", "inexact_number"),
        ({"texts": [ExactNumber(LONG_NUMBER)]}, "/texts/0", "inexact_number"),
        ({"texts": [ExactNumber("0.10000000000000001")]}, "/texts/0", "string_type"),
        ({"free": {"x": ExactNumber(LONG_NUMBER)}}, "/free/x", "inexact_number"),
        ({"free": {"x": ExactNumber("1e400")}}, "/free/x", "inexact_number"),
        ({"free": {"x": 2**63}}, "/free/x", "not_storable"),
        ({"free": {"x": "\ud800"}}, "/free/x", "not_storable"),
        ({"free": {"a$": 1}}, "/free/a$", "invalid_key"),
        ({"integer": True}, "/integer", "int_type"),
        ({"level": True}, "/level", "int_type"),
        ({"moment": "0001-01-01T00:00:00+01:00"}, "/moment", "not_storable"),
        ({"decimal_number": "1" * 35}, "/decimal_number", "not_storable"),
        ({"decimals": ["1", "1e7000"]}, "/decimals/1", "not_storable"),
        ({"free": {"$set": 1}}, "/free/$set", "invalid_key"),
        ({"free": {"a": {"b.c": 1}}}, "/free/a/b.c", "invalid_key"),
        ({"branches": [{"label": "x", "nothing": 1}]}, "/branches/0/nothing", "unknown_field"),
        ({"integer": "1"}, "/integer", "int_type"),
    ],
    ids=str,
)
def test_what_would_change_on_the_way_is_refused(change: dict[str, Any], pointer: str, code: str) -> None:
    assert [(fault.pointer, fault.code) for fault in faults_of(REQUIRED | change)] == [(pointer, code)]


def test_all_faults_come_at_once_each_once() -> None:
    body = {
        "left": True,
        "nothing": 1,
        "day": "0",
        "email": "A <a@b.org>",
        "integers": [2**63, "x"],
        "free": {"$a": 1, "b": ExactNumber("1e400")},
        "branch": {"leaf": {"moments": ["0"]}},
    }

    assert sorted((fault.pointer or "", fault.code) for fault in faults_of(body)) == [
        ("/branch/label", "missing"),
        ("/branch/leaf/moments/0", "time_format"),
        ("/code", "missing"),
        ("/day", "date_format"),
        ("/email", "email_format"),
        ("/free/$a", "invalid_key"),
        ("/free/b", "inexact_number"),
        ("/integers/0", "not_storable"),
        ("/integers/1", "int_type"),
        ("/left", "int_type"),
        ("/nothing", "unknown_field"),
        ("/right", "missing"),
    ]


@pytest.mark.parametrize("depth", [32, 33, 100, 300, 500, 900])
def test_a_body_that_is_too_deep_is_refused_however_deep_it_is(depth: int) -> None:
    (fault,) = faults_of(REQUIRED | {"free": load_json(b'{"a":' * depth + b"1" + b"}" * depth)})

    assert (fault.pointer, fault.code) == ("/free" + "/a" * 31, "too_deep")


@settings(max_examples=500)
@given(st.sampled_from(SCALARS), scalars)
def test_what_is_taken_leaves_as_it_came(field: Field, value: Any) -> None:
    try:
        shown = stored_and_shown(REQUIRED | {field.path: value})[field.path]
    except ValidationFailedError as error:
        assert error.faults  # noqa: PT017 - and nothing else may be raised
    else:
        assert meaning(field, shown) == meaning(field, value)


def stored_and_shown(body: Any) -> Any:
    stored = validate_body(EVERYTHING.whole, body)
    (read,) = decode_batch(bson.encode({"_id": 1, **stored}))
    return json.loads(dump_json(Presenter(EVERYTHING.fields.values()).present(read)))


def meaning(field: Field, value: Any) -> Any:
    """What a JSON value says in this field, in whichever way it is written."""
    if value is None:
        return None
    match field.kind:
        case Kind.DECIMAL:
            return Decimal(str(value))
        case Kind.DATETIME:
            moment = datetime.fromisoformat(value.upper())
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        case Kind.BOOLEAN | Kind.INTEGER:
            return type(value), value
    return value.lower() if field.is_lower_case else value


@settings(max_examples=500)
@given(st.sampled_from(["float_number", "decimal_number", "integer", "matrix", "free"]), numbers)
@example("matrix", "9007199254740993")
@example("float_number", "9007199254740993")
@example("free", "9007199254740993")
@example("decimal_number", "9007199254740993")
def test_a_number_that_is_taken_leaves_as_it_came(path: str, number: str) -> None:
    places = {"matrix": f"[[{number}]]", "free": f'{{"a": {number}}}'}
    body = load_json(f'{{"{path}": {places.get(path, number)}}}'.encode())
    try:
        shown = stored_and_shown(REQUIRED | body)[path]
    except ValidationFailedError as error:
        assert error.faults  # noqa: PT017 - and nothing else may be raised
        return
    value = {"matrix": lambda: shown[0][0], "free": lambda: shown["a"]}.get(path, lambda: shown)()

    # A float may come with its 17 digits, and leaves with as few as name it.
    assert Decimal(str(value)) == Decimal(number) or number.lower() == f"{float(number):.17g}"
