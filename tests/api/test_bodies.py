"""Bodies that are not what they should be: a clear 4xx with all faults, nothing written, never a 5xx."""

import json
import math
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.settings import Settings
from tests.contract.test_documents import UNKNOWN_ID

USERS = "/api/v1/users"
EVERYTHINGS = "/api/v1/everythings"
ADA = {"name": "Ada", "email": "ada@example.org"}


def with_name(name: str) -> bytes:
    return b'{"email": "ada@example.org", "name": ' + name.encode() + b"}"


async def post(client: httpx.AsyncClient, content: bytes, address: str = USERS) -> httpx.Response:
    return await client.post(address, content=content, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        (b"", "invalid_json", ""),
        (b"{", "invalid_json", ""),
        (b"\xff{}", "invalid_json", ""),
        (b"[]", "object_expected", ""),
        (b'"x"', "object_expected", ""),
        (b"null", "object_expected", ""),
        (b"[" * 100_000, "invalid_json", ""),
        (b'{"name": "a", "name": "b"}', "invalid_json", ""),
        (with_name("NaN"), "invalid_json", ""),
        (with_name("-Infinity"), "invalid_json", ""),
        (with_name("9" * 5000), "invalid_json", ""),
        (with_name('"\\ud800"'), "not_storable", "/name"),
        (with_name("18446744073709551616"), "not_storable", "/name"),
        (with_name("[" * 40 + "]" * 40), "too_deep", "/name" + "/0" * 31),
        (with_name('{"$ne": null}'), "invalid_key", "/name/$ne"),
        (with_name('{"a.b": 1}'), "invalid_key", "/name/a.b"),
        (with_name('{"a\\u0000b": 1}'), "invalid_key", "/name/a\x00b"),
        (with_name('{"": 1}'), "invalid_key", "/name/"),
        (with_name("1"), "string_type", "/name"),
        (with_name('""'), "string_too_short", "/name"),
        (with_name('"' + "x" * 201 + '"'), "string_too_long", "/name"),
        (b'{"name": "Ada", "email": "nobody"}', "value_error", "/email"),
        (b'{"name": "Ada", "email": "a@example.org", "age": "36"}', "int_type", "/age"),
        (b'{"name": "Ada", "email": "a@example.org", "age": 151}', "less_than_equal", "/age"),
        (b'{"name": "Ada", "email": "a@example.org", "age": 36.5}', "int_type", "/age"),
        (b'{"name": "Ada", "email": "a@example.org", "is_active": 1}', "bool_type", "/is_active"),
        (b'{"name": "Ada", "email": "a@example.org", "$set": {"age": 1}}', "invalid_key", "/$set"),
        (b'{"name": "Ada", "email": "a@example.org", "_id": 1}', "unknown_field", "/_id"),
        (b'{"name": "Ada", "email": "a@example.org", "revision_id": null}', "unknown_field", "/revision_id"),
        (
            b'{"name": "Ada", "email": "a@example.org", "profile": {"birthday": "1815-13-10"}}',
            "date_parsing",
            "/profile/birthday",
        ),
    ],
)
async def test_a_bad_body_is_refused_with_its_place(
    client: httpx.AsyncClient, body: bytes, code: str, pointer: str
) -> None:
    response = await post(client, body)

    assert response.status_code == 422, response.text
    assert response.json()["code"] == "validation_failed"
    assert (code, pointer) in [(fault["code"], fault["pointer"]) for fault in response.json()["errors"]]
    assert (await client.get(USERS)).json()["total"] == 0


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("moment", "2026-01-01T00:00:00.123456Z", "time_format"),
        ("moment", "0001-01-01T00:00:00+14:00", "not_storable"),
        ("moment", "9999-12-31T23:59:59-14:00", "not_storable"),
        ("moment", 1_700_000_000, "datetime_type"),
        ("day", "2026-01-01T00:00:00", "date_format"),
        ("day", "0", "date_format"),
        ("moment", "0", "time_format"),
        ("level", True, "int_type"),
        ("integer", 1.0, "int_type"),
        ("float_number", 9007199254740993, "inexact_number"),
        ("email", "Name <a@example.org>", "email_format"),
        ("day", 0, "date_type"),
        ("decimal_number", "1" * 35, "not_storable"),
        ("decimal_number", "1e7000", "not_storable"),
        ("decimal_number", "NaN", "decimal_format"),
        ("decimal_number", "one", "decimal_format"),
        ("reference", "nonsense", "string_too_short"),
        ("colour", "green", "enum"),
        ("level", 3, "enum"),
        ("size", "medium", "literal_error"),
        ("free", {"a": {"$b": 1}}, "invalid_key"),
        ("free", {"a": [2**63]}, "not_storable"),
    ],
)
async def test_what_cannot_be_kept_whole_is_refused(
    client: httpx.AsyncClient, field: str, value: Any, code: str
) -> None:
    body = {"code": "x", "left": 1, "right": 2, field: value}

    response = await client.post(EVERYTHINGS, json=body)

    assert response.status_code == 422, response.text
    [fault] = response.json()["errors"]
    assert fault["code"] == code
    assert fault["pointer"].startswith(f"/{field}")


@pytest.mark.parametrize(
    ("field", "sent", "answered"),
    [
        ("moment", "2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00.000Z"),
        ("moment", "2026-01-01T00:00:00", "2026-01-01T00:00:00.000Z"),
        ("moment", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
        ("day", "9999-12-31", "9999-12-31"),
        ("decimal_number", 19.99, "19.99"),
        ("decimal_number", 7, "7"),
        ("decimal_number", "1.10", "1.10"),
        ("email", "ADA@Example.ORG", "ada@example.org"),
        ("float_number", 2**53, 2.0**53),
        ("colours", ["red", "blue"], ["blue", "red"]),
        ("integer", -(2**63), -(2**63)),
        ("float_number", 5, 5.0),
        ("text", "a\x00b", "a\x00b"),
        ("texts", ["$a", "a.b", ""], ["$a", "a.b", ""]),
    ],
)
async def test_what_is_kept_is_shown_as_documented(
    client: httpx.AsyncClient, field: str, sent: Any, answered: Any
) -> None:
    response = await client.post(EVERYTHINGS, json={"code": "x", "left": 1, "right": 2, field: sent})

    assert response.status_code == 201, response.text
    assert response.json()[field] == answered
    assert (await client.get(response.headers["location"])).json() == response.json()


async def test_a_number_with_more_digits_than_a_float_holds_stays_exact(client: httpx.AsyncClient) -> None:
    body = b'{"code": "x", "left": 1, "right": 2, "decimal_number": 0.1234567890123456789}'

    response = await post(client, body, EVERYTHINGS)

    assert response.json()["decimal_number"] == "0.1234567890123456789"
    refused = await post(client, body.replace(b"decimal_number", b"float_number"), EVERYTHINGS)
    assert refused.json()["errors"][0]["pointer"] == "/float_number"


async def test_a_types_own_validator_is_heard(client: httpx.AsyncClient) -> None:
    response = await client.post(EVERYTHINGS, json={"code": "x", "left": 1, "right": 1})

    assert response.status_code == 422
    assert "left and right differ" in response.json()["errors"][0]["message"]


@pytest.mark.parametrize("media_type", ["text/plain", "", "application/x-www-form-urlencoded", "application/xml"])
async def test_another_media_type_is_refused_and_the_right_one_named(
    client: httpx.AsyncClient, media_type: str
) -> None:
    headers = {"Content-Type": media_type} if media_type else {}

    created = await client.post(USERS, content=b"{}", headers=headers)
    patched = await client.patch(f"{USERS}/{UNKNOWN_ID}", content=b"{}", headers=headers)

    assert (created.status_code, created.headers["accept"]) == (415, "application/json")
    assert patched.status_code == 415
    assert (
        patched.headers["accept-patch"] == "application/json, application/merge-patch+json, application/json-patch+json"
    )
    assert created.json()["code"] == "unsupported_media_type"


async def test_a_charset_is_no_other_media_type(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}

    response = await client.post(USERS, content=json.dumps(ADA).encode(), headers=headers)

    assert response.status_code == 201


@pytest.mark.parametrize("declares", [True, False])
async def test_a_body_past_the_limit_is_refused(
    client: httpx.AsyncClient, settings: Settings, *, declares: bool
) -> None:
    body = json.dumps(ADA | {"tags": ["x" * settings.max_body_bytes]}).encode()

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]

    response = await client.post(
        USERS, content=body if declares else chunks(), headers={"Content-Type": "application/json"}
    )

    assert response.status_code == 413
    assert response.json()["code"] == "body_too_large"


@pytest.mark.parametrize("tag", ["1", '"1', "nonsense", '"1" "2"', ",", ""])
async def test_an_entity_tag_without_its_quotes_is_refused(client: httpx.AsyncClient, tag: str) -> None:
    created = await client.post(USERS, json=ADA)

    for method in ("PUT", "PATCH", "DELETE"):
        response = await client.request(method, created.headers["location"], json=ADA, headers={"If-Match": tag})
        assert response.status_code == 400
        assert response.json()["code"] == "invalid_header"
    assert (await client.get(created.headers["location"])).json()["revision"] == 1


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec=None), max_size=8), inner),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=JSON_VALUES, field=st.sampled_from(["free", "text", "texts", "matrix", "integer", "float_number"]))
async def test_any_json_is_kept_equal_or_refused(client: httpx.AsyncClient, value: Any, field: str) -> None:
    content = json.dumps({"code": "x", "left": 1, "right": 2, field: value}).encode()

    response = await post(client, content, EVERYTHINGS)

    assert response.status_code in {201, 422}, response.text
    if response.status_code == 201:
        read = await client.get(response.headers["location"])
        assert equal(read.json()[field], value)
        assert (await client.delete(response.headers["location"])).status_code == 204


def equal(left: Any, right: Any) -> bool:
    """Equal as JSON, in which 1 is no true."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(equal, left, right))
    if isinstance(left, float) and isinstance(right, float):
        return math.copysign(1, left) == math.copysign(1, right) and left == right
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


async def test_faults_of_all_kinds_come_at_once(client: httpx.AsyncClient) -> None:
    body = b'{"left": 9223372036854775808, "right": 1.5, "day": "0", "zz": 1, "free": {"$a": 1}, "text": "\\ud800"}'

    response = await post(client, body, EVERYTHINGS)

    assert response.status_code == 422
    pointers = [fault["pointer"] for fault in response.json()["errors"]]
    assert sorted(pointers) == ["/code", "/day", "/free/$a", "/left", "/right", "/text", "/zz"]


@pytest.mark.parametrize("digits", ["3.14159265358979323846264338", "1e400", "123456789012345678.5"])
async def test_a_number_never_becomes_text(client: httpx.AsyncClient, digits: str) -> None:
    for member in ('"text": %s', '"free": {"x": %s}', '"texts": [%s]', '"integer": %s'):
        body = '{"code": "x", "left": 1, "right": 2, ' + member % digits + "}"
        response = await post(client, body.encode(), EVERYTHINGS)
        assert response.status_code == 422, (member, response.text)


async def test_a_floats_17_digits_are_the_float(client: httpx.AsyncClient) -> None:
    body = b'{"code": "x", "left": 1, "right": 2, "float_number": 0.10000000000000001}'

    assert (await post(client, body, EVERYTHINGS)).json()["float_number"] == 0.1


@pytest.mark.parametrize(
    ("patch", "pointers"),
    [
        ({"nonsense": None}, ["/nonsense"]),
        ({"profile": {"nonsense": None}, "name": None}, ["/profile/nonsense", "/name"]),
        ({"nonsense": None, "more": 1}, ["/nonsense", "/more"]),
    ],
)
async def test_a_merge_patch_may_not_remove_what_is_no_field(
    client: httpx.AsyncClient, patch: dict[str, Any], pointers: list[str]
) -> None:
    created = await client.post(USERS, json=ADA)

    refused = await client.patch(created.headers["location"], json=patch)

    assert refused.status_code == 422
    assert {fault["pointer"] for fault in refused.json()["errors"]} == set(pointers)


async def test_null_removes_a_member_of_free_json(client: httpx.AsyncClient) -> None:
    created = await client.post(
        EVERYTHINGS, json={"code": "a", "left": 1, "right": 2, "free": {"keep": 1, "drop": {"inner": 2, "stay": 3}}}
    )

    changed = await client.patch(created.headers["location"], json={"free": {"drop": {"inner": None}}})

    assert changed.json()["free"] == {"keep": 1, "drop": {"stay": 3}}


async def test_a_set_takes_nothing_twice(client: httpx.AsyncClient) -> None:
    refused = await client.post(
        EVERYTHINGS, json={"code": "a", "left": 1, "right": 2, "colours": ["blue", "red", "blue"]}
    )

    assert refused.status_code == 422
    assert [(fault["code"], fault["pointer"]) for fault in refused.json()["errors"]] == [
        ("duplicate_element", "/colours/2")
    ]


async def test_a_json_patch_fault_says_nothing_of_python(client: httpx.AsyncClient) -> None:
    created = await client.post(USERS, json=ADA)
    operations = [{"op": "test", "path": "/nope", "value": 1}]

    refused = await client.patch(
        created.headers["location"], json=operations, headers={"Content-Type": "application/json-patch+json"}
    )

    assert [fault["message"] for fault in refused.json()["errors"]] == [
        "the document has no such place, or something else there"
    ]
