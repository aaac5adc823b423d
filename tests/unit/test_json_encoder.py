"""JSON files, read back by Python's own reader."""

import json
import math
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, ObjectId, Regex
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st

from service.documents.introspection import fields_of
from service.documents.user import User
from service.transfer.encoders import ENCODERS
from service.transfer.encoding import FormatName
from tests.everything import Everything
from tests.unit.made_up import STARTED_AT, batch_of, everything_documents, file_spec, made_file, odd_values

USERS = fields_of(User).values()
EVERYTHING = fields_of(Everything).values()
explodable = st.sampled_from([None, "texts", "branches", "branch.leaves", "branch.leaf.moments"])
some_paths = st.lists(st.sampled_from([field.path for field in EVERYTHING]), max_size=6).map(tuple)


def read_lines(file: bytes) -> list[Any]:
    """An NDJSON file: each line is one text, and ends with a line break."""
    assert file.endswith(b"\n") or not file
    return [json.loads(line) for line in file.split(b"\n")[:-1]]


READERS: dict[FormatName, Callable[[bytes], list[Any]]] = {"ndjson": read_lines, "json": json.loads}
each_format = pytest.mark.parametrize("name", READERS)


def plain(value: Any) -> Any:
    """What JSON has for a presented value."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [plain(element) for element in value]
    if isinstance(value, bool | int | str | None):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return b64encode(value).decode()
    return f"{value.isoformat(timespec='milliseconds')}Z" if isinstance(value, datetime) else str(value)


def kept(value: Any, paths: set[tuple[str, ...]]) -> Any:
    """The value with nothing but what lies at these paths, or below."""
    if () in paths:
        return value
    if isinstance(value, list):
        return [kept(element, paths) for element in value]
    if not isinstance(value, dict):
        return value
    return {
        name: kept(inner, {path[1:] for path in paths if path[0] == name})
        for name, inner in value.items()
        if any(path[0] == name for path in paths)
    }


def same(first: Any, second: Any) -> bool:
    """Equal as JSON is: `1` is neither `1.0` nor `true`."""
    return json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)


@given(
    st.lists(everything_documents() | st.fixed_dictionaries({"free": odd_values(), "day": odd_values()}), max_size=4),
    some_paths,
    explodable,
    st.sampled_from(list(READERS)),
)
def test_what_is_read_back_is_what_callers_see(
    documents: list[dict[str, Any]], paths: tuple[str, ...], explode: str | None, name: FormatName
) -> None:
    spec = file_spec(EVERYTHING, name, paths=paths, explode=explode)
    wanted = {tuple(path.split(".")) for path in paths} or {()}

    found = READERS[name](made_file(spec, batch_of(*documents)))

    seen = [plain(kept(document, wanted)) for document in spec.table().documents(batch_of(*documents))]
    assert same(found, seen)


@each_format
@given(st.lists(st.lists(st.integers(0, 9), max_size=3), max_size=5))
def test_batches_follow_each_other_without_a_seam(name: FormatName, batches: list[list[int]]) -> None:
    spec = file_spec(USERS, name, paths=("age",))

    file = made_file(spec, *(batch_of(*({"age": age} for age in ages)) for ages in batches))

    assert READERS[name](file) == [{"age": age} for ages in batches for age in ages]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("ndjson", b'{"id":1,"name":"a"}\n{"id":1,"name":"b"}\n{"id":2}\n'),
        ("json", b'[\n{"id":1,"name":"a"},\n{"id":1,"name":"b"},\n{"id":2}\n]\n'),
    ],
)
def test_each_document_has_its_line(name: FormatName, file: bytes) -> None:
    batches = [batch_of({"name": "a"}, {"name": "b"}), b"", batch_of({"_id": 2})]

    assert made_file(file_spec(USERS, name), *batches) == file


@pytest.mark.parametrize(("name", "file"), [("ndjson", b""), ("json", b"[\n]\n")])
@pytest.mark.parametrize("batches", [(), (b"",)])
def test_a_file_of_nothing_is_sound(name: FormatName, file: bytes, batches: tuple[bytes, ...]) -> None:
    assert made_file(file_spec(USERS, name), *batches) == file
    assert READERS[name](file) == []


@each_format
def test_rows_are_counted(name: FormatName) -> None:
    encode = ENCODERS[name](file_spec(USERS, name, explode="tags"))

    assert [piece.rows for piece in encode(batch_of({"tags": ["a", "b"]}, {"tags": []}, {}))] == [4]
    assert encode(b"") == []


@each_format
def test_only_what_was_asked_for_is_written_in_that_order(name: FormatName) -> None:
    spec = file_spec(USERS, name, paths=("profile.addresses.city", "id", "profile.bio"))
    profile = {"phone": "1", "bio": "b", "addresses": [{"city": "c", "street": "s"}, {"street": "t"}]}

    (found,) = READERS[name](made_file(spec, batch_of({"name": "Ada", "profile": profile})))

    assert list(found.items()) == [("profile", {"addresses": [{"city": "c"}, {}], "bio": "b"}), ("id", 1)]
    assert list(found["profile"]) == ["addresses", "bio"]


@each_format
def test_an_exploded_array_is_a_document_for_each_element(name: FormatName) -> None:
    spec = file_spec(USERS, name, paths=("name", "profile.addresses.city"), explode="profile.addresses")
    profile = {"bio": "b", "addresses": [{"city": "x", "street": "s"}, {"city": "y"}]}

    file = made_file(spec, batch_of({"name": "Ada", "profile": profile}, {"name": "Bob", "profile": {"addresses": []}}))

    assert READERS[name](file) == [
        {"name": "Ada", "profile": {"addresses": {"city": "x"}}},
        {"name": "Ada", "profile": {"addresses": {"city": "y"}}},
        {"name": "Bob", "profile": {"addresses": None}},
    ]


@each_format
def test_what_is_exploded_need_not_be_shown(name: FormatName) -> None:
    spec = file_spec(USERS, name, paths=("name",), explode="tags")

    assert READERS[name](made_file(spec, batch_of({"name": "Ada", "tags": ["a", "b"]}))) == [{"name": "Ada"}] * 2


@each_format
@pytest.mark.parametrize(
    ("odd", "shown"),
    [
        (float("nan"), None),
        (float("-inf"), None),
        (Int64(2**63 - 1), 2**63 - 1),
        (Decimal128("1.10"), "1.10"),
        (Decimal128("NaN"), "NaN"),
        (ObjectId("0123456789abcdef01234567"), "0123456789abcdef01234567"),
        (Code("=a"), "=a"),
        (Binary(b"\x00\xff", 128), "AP8="),
        (b"\x00\xff", "AP8="),
        (Regex("a"), "Regex('a', 0)"),
        (MaxKey(), "MaxKey()"),
        (DatetimeMS(2**60), "DatetimeMS(1152921504606846976)"),
        (STARTED_AT, "2026-01-02T03:04:05.000Z"),
        ("a\nb\r\u2028\x00", "a\nb\r\u2028\x00"),
        ({"": {"$a.b": [None, True]}}, {"": {"$a.b": [None, True]}}),
    ],
    ids=repr,
)
def test_each_value_has_its_json(name: FormatName, odd: Any, shown: Any) -> None:
    file = made_file(file_spec(EVERYTHING, name, paths=("free",)), batch_of({"free": odd}))

    assert same(READERS[name](file), [{"free": shown}])
