"""Query strings that are not what they should be: 400 with every fault and its parameter, never a 5xx, nothing ignored.

What each type refuses over its own fields is in `tests/contract/test_lists.py`; here is the rest.
"""

import string
from collections.abc import Awaitable, Callable, Sequence

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from service.api.dependencies import Services
from tests.api.test_bodies import EVERYTHINGS, USERS

Parameters = Sequence[tuple[str, str]]
Faults = list[tuple[str, str]]
"""Parameters, each with the code of what is wrong with it."""


def faults_of(response: httpx.Response) -> Faults:
    """What a refusal says, which has to be all that a refusal should say."""
    assert response.status_code == 400, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["code"] == "invalid_query"
    assert problem["status"] == 400
    assert problem["request_id"] == response.headers["x-request-id"]
    assert all(fault.keys() == {"parameter", "code", "message"} and fault["message"] for fault in problem["errors"])
    assert all(fault["parameter"][:200] in problem["detail"] for fault in problem["errors"])
    return [(fault["parameter"], fault["code"]) for fault in problem["errors"]]


async def refused(client: httpx.AsyncClient, *parameters: tuple[str, str], address: str = EVERYTHINGS) -> Faults:
    return faults_of(await client.get(address, params=list(parameters)))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("limit", ""),
        ("limit", "0"),
        ("limit", "1001"),
        ("limit", "-1"),
        ("limit", "1.0"),
        ("limit", "ten"),
        ("limit", "NaN"),
        ("skip", ""),
        ("skip", "-1"),
        ("skip", "10001"),
        ("skip", "1e3"),
        ("count", ""),
        ("count", "all"),
        ("count", "EXACT"),
        ("count", "exact,none"),
        ("q_mode", ""),
        ("q_mode", "glob"),
        ("q", ""),
        ("q", "x" * 129),
        ("q", "小" * 129),
    ],
)
async def test_a_parameter_out_of_its_bounds_is_refused(client: httpx.AsyncClient, name: str, text: str) -> None:
    assert await refused(client, (name, text)) == [(name, "invalid_value")]


async def test_the_bounds_themselves_are_taken(client: httpx.AsyncClient) -> None:
    for params in ({"limit": "1", "skip": "10000"}, {"limit": "1000", "skip": "0"}, {"q": "小" * 128}):
        assert (await client.get(EVERYTHINGS, params=params)).status_code == 200, params


@pytest.mark.parametrize(
    ("name", "text", "codes"),
    [
        ("sort", "", ["unknown_field"]),
        ("sort", "code,", ["unknown_field"]),
        ("sort", "--code", ["unknown_field"]),
        ("sort", "+code", ["unknown_field"]),
        ("sort", "code:desc", ["unknown_field"]),
        ("sort", "_id", ["unknown_field"]),
        ("sort", "$natural", ["unknown_field"]),
        ("sort", "code,-code", ["repeated_field"]),
        ("sort", "code,left,right,integer", ["too_many_fields"]),
        ("sort", "code,left,right,id", ["too_many_fields"]),
        ("sort", "-integer,texts,nonsense", ["not_sortable", "unknown_field"]),
        ("sort", "branches.leaf.day,free", ["not_sortable", "not_sortable"]),
        ("fields", "", ["unknown_field"]),
        ("fields", "code,", ["unknown_field"]),
        ("fields", "code, left", ["unknown_field"]),
        ("fields", "code,code", ["repeated_field"]),
        ("fields", "_id", ["unknown_field"]),
        ("fields", "-code", ["unknown_field"]),
        ("fields", "*", ["unknown_field"]),
        ("fields", "branches.0.label,free.any", ["unknown_field", "unknown_field"]),
    ],
)
async def test_fields_to_sort_by_or_to_show_are_refused_one_by_one(
    client: httpx.AsyncClient, name: str, text: str, codes: list[str]
) -> None:
    assert await refused(client, (name, text)) == [(name, code) for code in codes]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("limit", "1"),
        ("skip", "1"),
        ("count", "none"),
        ("sort", "code"),
        ("fields", "code"),
        ("q", "x"),
        ("q_mode", "text"),
        ("cursor", "x"),
    ],
)
async def test_what_is_no_filter_comes_at_most_once(client: httpx.AsyncClient, name: str, text: str) -> None:
    assert await refused(client, (name, text), (name, text)) == [(name, "repeated_parameter")]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "__eq",
        "_id",
        "_id__in",
        "Code",
        "code.",
        "code ",
        "branch.nothing",
        "branches.0.label",
        "free.any",
        "code[$ne]",
        "code[$gt]",
        "$or",
        "code\x00",
        "小中",
        "password_hash",
        "limit.x",
        # Of an export, not of a list.
        "delimiter",
        "bom",
        "raw",
    ],
)
async def test_a_name_of_nothing_is_refused(client: httpx.AsyncClient, name: str) -> None:
    assert await refused(client, (name, "1")) == [(name, "unknown_parameter")]


@pytest.mark.parametrize("name", ["code__$ne", "code__EQ", "code__eq__eq", "code___eq", "limit__", "id__not"])
async def test_an_operator_that_nothing_takes_is_refused(client: httpx.AsyncClient, name: str) -> None:
    assert await refused(client, (name, "1")) == [(name, "unknown_operator")]


@pytest.mark.parametrize("field", ["float_number", "decimal_number", "day", "moment", "reference", "level", "days"])
@pytest.mark.parametrize("operator", ["contains", "startswith", "regex"])
async def test_only_texts_are_searched(client: httpx.AsyncClient, field: str, operator: str) -> None:
    name = f"{field}__{operator}"

    assert await refused(client, (name, "1")) == [(name, "not_filterable")]


NO_NUMBERS = ["NaN", "nan", "-nan", "sNaN", "inf", "-inf", "Infinity", "-Infinity", "+INF", "∞", "1e", "0x10", "1_000"]
NO_INTEGERS = ["1.0", "1e3", "9223372036854775808", "-9223372036854775809", "٣", " 1", "1 ", "--1"]
NO_DATES = ["0000-01-01", "0000-12-31", "10000-01-01", "+10000-01-01", "-0001-01-01", "2026-02-30", "20260101"]
NO_TIMES = [
    "0000-12-31T23:59:59Z",
    "10000-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",  # in UTC it is in year 0
    "9999-12-31T23:59:59-14:00",  # and this in year 10,000
    "2026-01-01",
    "2026-01-01T25:00:00Z",
    "2026-06-30T23:59:60Z",
    "2026-01-01T00:00:00.0001Z",
    "1767225600",
]
WRONG = [
    *(("integer", text) for text in [*NO_NUMBERS, *NO_INTEGERS]),
    *(("float_number", text) for text in [*NO_NUMBERS, "1e309", "-1e309", "1,5", "$1"]),
    *(("decimal_number", text) for text in [*NO_NUMBERS, "1e6145", "1e-6177", "1" * 35, "1,5", "$1"]),
    *(("boolean", text) for text in ["1", "True", "yes", "on", "null"]),
    *(("day", text) for text in [*NO_DATES, "2026-01-01T00:00:00Z"]),
    *(("moment", text) for text in NO_TIMES),
    *(("reference", text) for text in ["0" * 23, "0" * 25, "g" * 24, "0123456789abcdef0123456\n"]),
    *(("colour", text) for text in ["RED", "red ", "re"]),
    *(("level", text) for text in ["0", "LOW"]),
    ("branch.leaf.day", "0000-01-01"),
    ("branches.leaf.moments", "10000-01-01T00:00:00Z"),
]


@pytest.mark.parametrize("operator", ["eq", "ne", "lte", "in", "nin"])
async def test_a_value_of_no_such_kind_is_refused(client: httpx.AsyncClient, operator: str) -> None:
    for field, text in WRONG:
        if (operator == "lte" and field == "boolean") or (operator in {"in", "nin"} and text == "1,5"):
            continue  # not ordered; and two values
        name = f"{field}__{operator}"
        assert await refused(client, (name, text)) == [(name, "invalid_value")], (name, text)


async def test_all_texts_of_another_kind_are_refused_together(client: httpx.AsyncClient) -> None:
    assert await refused(client, *WRONG) == [(field, "invalid_value") for field, _ in WRONG]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("code__in", ",".join(["x"] * 1001)),
        ("code__nin", ",".join(["x"] * 1001)),
        ("code__in", ",".join(["x"] * 10_000)),
        ("code__nin", "," * 10_000),
        ("integer__in", ",".join(["7"] * 10_000)),
        ("integer__in", ""),
        ("integer__in", "1,,2"),
        ("integer__in", "1,2,"),
        ("integer__in", "1, 2"),
        ("integer__in", "[1]"),
        ("colour__nin", "red,green"),
        ("boolean__in", "true,1"),
        ("float_number__in", "1,NaN"),
        ("day__in", "2026-01-01,0000-01-01"),
        ("code__contains", ""),
        ("code__contains", "x" * 129),
        ("code__startswith", ""),
        ("code__startswith", "小" * 129),
        ("code__regex", ""),
        ("code__regex", "x" * 129),
        ("texts__regex", "x"),  # which may be of any length
        ("code__exists", ""),
        ("code__exists", "1"),
        ("branch__exists", "True"),
        ("free__exists", "null"),
    ],
)
async def test_an_operators_own_rules_are_kept(client: httpx.AsyncClient, name: str, text: str) -> None:
    assert await refused(client, (name, text)) == [(name, "invalid_value")]


async def test_a_thousand_values_are_not_too_many(client: httpx.AsyncClient) -> None:
    for name in ("code__in", "code__nin"):
        assert (await client.get(EVERYTHINGS, params={name: ",".join(["x"] * 1000)})).status_code == 200


@pytest.mark.parametrize(
    ("pattern", "rule", "position"),
    [
        ("a\0b", "write NUL as \\x00", 1),
        ("a.*b.*c.*d", "too many repetitions", 8),
        ("a)b", "a ) without its (", 1),
        ("^(a|b)*$", "a quantifier over a group that repeats, alternates or holds a group", 6),
        ("(a+)+", "a quantifier over a group that repeats, alternates or holds a group", 4),
        ("a{2}{3}", "a quantifier over a quantifier", 4),
        ("ab(?=c)", "no look-around", 2),
        ("(?<!a)b", "no look-around", 0),
        ("(?i)a", "of the groups that start with (? only (?: is allowed", 0),
        ("a(*COMMIT)b", "no PCRE verbs", 1),
        ("a(b", "a ( without its )", 1),
        ("(a)\\1", "there are no backreferences", 3),
        ("a\\", "this escape is not allowed", 1),
        ("ab[c", "a [ without its ]", 2),
        ("|*", "a quantifier with nothing to repeat", 1),
        ("a{,3}", "write {0, instead of {,", 1),
    ],
)
async def test_each_rule_of_patterns_says_what_is_wrong_and_where(
    client: httpx.AsyncClient, pattern: str, rule: str, position: int
) -> None:
    response = await client.get(EVERYTHINGS, params={"q": pattern, "q_mode": "regex", "text__regex": pattern})

    assert faults_of(response) == [("q", "refused_pattern"), ("text__regex", "invalid_value")]
    for fault in response.json()["errors"]:
        assert rule in fault["message"]
        assert fault["message"].endswith(f"(at character {position})")


@pytest.mark.parametrize("pattern", ["[z-a]", "\\p{Nonsense}", "a{3,2}", "a{65536}"])
async def test_a_filters_pattern_that_only_the_server_refuses_is_refused_by_its_name(
    client: httpx.AsyncClient, pattern: str
) -> None:
    assert await refused(client, ("text__regex", pattern)) == [("text__regex", "invalid_pattern")]


async def cursor_of(client: httpx.AsyncClient, **params: str) -> str:
    """A cursor after the first of two documents."""
    for number in range(2):
        await client.post(EVERYTHINGS, json={"code": f"a{number}", "left": number, "right": 9})
    cursor: str = (await client.get(EVERYTHINGS, params={"limit": "1"} | params)).json()["next_cursor"]
    return cursor


async def test_a_cursor_that_was_altered_is_refused(client: httpx.AsyncClient) -> None:
    cursor = await cursor_of(client)
    # Of the last character only the first bits count.
    changed = [cursor[:at] + ("A" if cursor[at] not in "ABCD" else "z") + cursor[at + 1 :] for at in range(len(cursor))]

    others = [cursor[:-1], cursor[1:], cursor + "A", cursor * 2, f" {cursor}", f"{cursor}\n", "小", "="]

    for altered in [*changed, *others]:
        assert await refused(client, ("cursor", altered)) == [("cursor", "invalid_cursor")], altered
    assert (await client.get(EVERYTHINGS, params={"cursor": cursor})).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"q": "a1"},
        {"q": "a", "q_mode": "regex", "sort": "left"},
        {"q": "a", "code__ne": "x"},
        {"q": "a", "sort": "-left"},
        {"q": "a", "sort": "left,right"},
        {"sort": "left"},
    ],
)
async def test_a_cursor_of_another_question_is_refused(client: httpx.AsyncClient, change: dict[str, str]) -> None:
    cursor = await cursor_of(client, q="a", sort="code")

    assert await refused(client, ("cursor", cursor), *change.items()) == [("cursor", "invalid_cursor")]


async def test_a_cursor_of_another_type_is_refused(client: httpx.AsyncClient) -> None:
    cursor = await cursor_of(client)

    assert await refused(client, ("cursor", cursor), address=USERS) == [("cursor", "invalid_cursor")]


async def test_a_cursor_does_not_hide_what_else_is_wrong(client: httpx.AsyncClient) -> None:
    faults = await refused(client, ("cursor", "x"), ("skip", "1"), ("limit", "0"), ("nonsense", "1"))

    assert sorted(faults) == [
        ("cursor", "cursor_and_skip"),
        ("limit", "invalid_value"),
        ("nonsense", "unknown_parameter"),
    ]


async def test_all_faults_come_together(client: httpx.AsyncClient) -> None:
    faults = {
        ("limit", "1001"): "invalid_value",
        ("skip", "10001"): "invalid_value",
        ("count", "everything"): "invalid_value",
        ("sort", "code,left,right,texts"): "not_sortable too_many_fields",
        ("fields", "nowhere"): "unknown_field",
        ("q", "(a+)+"): "refused_pattern",
        ("q_mode", "regex"): "",
        ("nonsense", "1"): "unknown_parameter",
        ("code[$gt]", ""): "unknown_parameter",
        ("code__near", "x"): "unknown_operator",
        ("branch", "x"): "not_filterable",
        ("boolean__gt", "true"): "not_filterable",
        ("integer", "NaN"): "invalid_value",
        ("day__lt", "10000-01-01"): "invalid_value",
        ("level__in", ",".join(["1"] * 10_000)): "invalid_value",
        ("code__exists", ""): "invalid_value",
    }

    found = await refused(client, *faults)

    assert sorted(found) == sorted((name, code) for (name, _), codes in faults.items() for code in codes.split())


async def test_one_right_parameter_makes_up_for_no_wrong_one(client: httpx.AsyncClient) -> None:
    faults = await refused(client, ("code", "x"), ("code", "y"), ("integer", "1"), ("integer", "one"), ("integer", ""))

    assert faults == [("integer", "invalid_value")] * 2


@pytest.mark.parametrize(
    "text",
    [
        '{"$ne": null}',
        '{"$gt": ""}',
        "{$where: 'sleep(1000)'}",
        "$$ROOT",
        "$text",
        "$",
        "null",
        "/.*/",
        '["$in"]',
        '{"$oid": "0123456789abcdef01234567"}',
        "a.b",
        "\x00",
        "",
    ],
)
async def test_mongodbs_operators_are_text_among_texts(client: httpx.AsyncClient, text: str) -> None:
    texts = {"literal": text, "other": "something else", "none": None}
    for number, (code, value) in enumerate(texts.items()):
        body = {"code": code, "left": number, "right": 9, "text": value, "texts": [] if value is None else [value]}
        assert (await client.post(EVERYTHINGS, json=body)).status_code == 201

    async def found(name: str) -> list[str]:
        response = await client.get(EVERYTHINGS, params={name: text})
        assert response.status_code == 200, response.text
        return [item["code"] for item in response.json()["items"]]

    for name in ("text", "text__eq", "text__in", "texts", "texts__in"):
        assert await found(name) == ["literal"], name
    for name in ("text__ne", "text__nin", "texts__ne", "texts__nin"):
        assert await found(name) == ["other", "none"], name
    if text:
        for name in ("text__contains", "text__startswith", "q"):
            assert await found(name) == ["literal"], name


async def test_brackets_in_a_name_are_no_operators(client: httpx.AsyncClient) -> None:
    await client.post(USERS, json={"name": "Ada", "email": "ada@example.org"})

    for name in ("name[$gt]", "name[$ne]", "email[$regex]", "$where", "name.$gt"):
        response = await client.get(f"{USERS}?{name}=")  # unescaped, as a program for another service sends it
        assert faults_of(response) == [(name, "unknown_parameter")]


Ask = Callable[[str], Awaitable[httpx.Response]]


@pytest.fixture
def ask(app: FastAPI, services: Services, client: httpx.AsyncClient) -> Ask:
    """Asks for a list with a query string of any length; a client's own limit is 64 kB."""

    async def answer_of(query: str) -> httpx.Response:
        async def with_query(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": {"services": services}, "query_string": query.encode()}, receive, send)

        transport = httpx.ASGITransport(app=with_query)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://dossier", headers=client.headers
        ) as long_client:
            return await long_client.get(EVERYTHINGS)

    return answer_of


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("limit", "1" * 60_000, "invalid_value"),
        ("q", "x" * 60_000, "invalid_value"),
        ("fields", "x" * 60_000, "unknown_field"),
        ("sort", "x" * 60_000, "unknown_field"),
        ("cursor", "A" * 60_000, "invalid_cursor"),
        ("code__contains", "x" * 60_000, "invalid_value"),
        ("code__regex", "(" * 60_000, "invalid_value"),
        ("code__in", "x," * 30_000, "invalid_value"),
        ("integer", "1" * 60_000, "invalid_value"),
        ("decimal_number", "1" * 60_000, "invalid_value"),
        ("float_number", "1" * 60_000, "invalid_value"),
        ("day", "1" * 60_000, "invalid_value"),
        ("x" * 60_000, "1", "unknown_parameter"),
    ],
    ids=lambda value: value[:20],
)
async def test_sixty_kilobytes_are_refused_for_what_they_say(ask: Ask, name: str, text: str, code: str) -> None:
    assert faults_of(await ask(f"{name}={text}")) == [(name, code)]


@pytest.mark.parametrize("name", ["limit", "q", "cursor", "code__in", "nonsense"])
async def test_a_hundred_kilobytes_are_refused_by_name(ask: Ask, name: str) -> None:
    assert faults_of(await ask(f"sort=code&{name}={'x,' * 50_000}&limit=1")) == [(name, "query_too_long")]


async def test_no_more_than_a_hundred_faults_are_told(ask: Ask) -> None:
    response = await ask("&".join(f"unknown{number}=1" for number in range(3000)))

    assert len(response.json()["errors"]) == 100
    assert response.json()["detail"].startswith("3000 faults: unknown0, ")


NAMES = st.sampled_from(
    [
        *["q", "q_mode", "sort", "fields", "limit", "skip", "count", "cursor", "code", "text__ne", "integer__gt"],
        *["float_number__lte", "decimal_number__in", "boolean", "day__lt", "moment", "level__nin", "texts__contains"],
        *["text__startswith", "branches.label__gte", "branch.leaf.day", "free__exists"],
    ]
)
TEXTS = st.sampled_from(
    [
        *["", "0", "1", "-1", "1.5", "1e400", "1e-6176", "9" * 34, "-9223372036854775808", "NaN", "true", "1,2", ","],
        *[
            "regex",
            "exact",
            "none",
            "code",
            "-left,id",
            "2026-01-01",
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999Z",
        ],
    ]
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(NAMES | st.text(max_size=6), TEXTS | st.text(string.printable, max_size=8) | st.text(max_size=8)),
        max_size=5,
    )
)
@example([("q", "\ufffe"), ("text", "\U0010ffff")])
async def test_whatever_is_asked_is_answered_or_refused_by_name(
    client: httpx.AsyncClient, parameters: list[tuple[str, str]]
) -> None:
    response = await client.get(EVERYTHINGS, params=list(parameters))

    if response.status_code == 200:
        assert response.json()["items"] == []
    else:
        assert {name for name, _ in faults_of(response)} <= {name for name, _ in parameters}
