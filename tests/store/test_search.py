"""Searching on the real server: what the guard admits, MongoDB answers truly."""

import re

import httpx
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from service.api.dependencies import Services
from service.documents.user import User
from service.store.regex import RefusedPatternError, check_pattern

USERS = "/api/v1/users"
BIO_LENGTH = 500


async def found(client: httpx.AsyncClient, q: str, mode: str = "text") -> list[str]:
    response = await client.get(USERS, params={"q": q, "q_mode": mode, "sort": "name"})
    assert response.status_code == 200, response.text
    return [item["name"] for item in response.json()["items"]]


async def test_text_is_found_literally_in_every_script(client: httpx.AsyncClient, services: Services) -> None:
    names = ["a.b*c", "aXbXc", "50% (off)", "小中 健一", "ÄÖÜ", "Ελένη", "a\\b", "back\x00slash", "[x]{2}^$|?+"]
    users = services.repositories["users"]
    await users.load({"name": name, "email": f"u{i}@example.org"} for i, name in enumerate(names))

    assert await found(client, "小中") == ["小中 健一"]
    assert await found(client, "äöü") == ["ÄÖÜ"]
    assert await found(client, "ΕΛΈΝΗ") == ["Ελένη"]
    assert await found(client, "A.B") == ["a.b*c"]
    for name in names:
        assert await found(client, name) == [name]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [("^a.b", ["a.b*c", "aXbXc"]), ("x|\\(off\\)$", ["50% (off)", "aXbXc"]), ("小中.健", ["小中 健一"])],
)
async def test_a_pattern_is_a_regular_expression(
    client: httpx.AsyncClient, services: Services, pattern: str, names: list[str]
) -> None:
    every = ["a.b*c", "aXbXc", "50% (off)", "小中 健一"]
    users = services.repositories["users"]
    await users.load({"name": name, "email": f"u{i}@y.org"} for i, name in enumerate(every))

    assert await found(client, pattern, "regex") == sorted(names)


@pytest.mark.parametrize(
    "pattern",
    ["(a|b)*", "(a+)+", "(?=a)", "(?<!a)b", "(a)\\1", "(*COMMIT)a", "a.*b.*c.*d", "[", "(", "*", "x{2}{3}", "a" * 129],
)
async def test_a_pattern_past_the_guard_is_refused(client: httpx.AsyncClient, pattern: str) -> None:
    response = await client.get(USERS, params={"q": pattern, "q_mode": "regex"})

    assert response.status_code == 400
    assert response.json()["errors"][0]["parameter"] == "q"


@pytest.mark.parametrize("pattern", ["[z-a]", "\\p{Nonsense}", "a{3,2}", "a{65536}"])
async def test_a_pattern_that_only_the_server_refuses_is_the_callers_fault(
    client: httpx.AsyncClient, services: Services, pattern: str
) -> None:
    await services.repositories["users"].insert({"name": "a", "email": "a@example.org"})

    response = await client.get(USERS, params={"q": pattern, "q_mode": "regex"})

    assert response.status_code == 400
    assert response.json()["code"] == "invalid_query"
    assert response.json()["errors"][0]["parameter"] == "q"


@pytest.mark.parametrize("pattern", ["a.*a.*y|xb", "\\w+\\s*y|xb", "(?:a?a?a?a?a?a?a?y)|xb", "(a)*y|xb", "(aa)+y|xb"])
async def test_the_worst_that_is_admitted_is_still_answered_truly(client: httpx.AsyncClient, pattern: str) -> None:
    bio = "a" * (BIO_LENGTH - 2) + "xb"
    assert (
        await client.post(USERS, json={"name": "n", "email": "n@x.org", "profile": {"bio": bio}})
    ).status_code == 201

    assert await found(client, pattern, "regex") == ["n"]


ATOMS = st.sampled_from(["a", "b", "x", ".", "[ab]", "[^a]", "\\w", "\\s", "(a)", "(?:ab)", "(a|b)", "\\d", " "])
QUANTIFIERS = st.sampled_from(["", "", "*", "+", "?", "{1,3}", "{2}", "*?", "+?"])
PIECES = st.lists(st.tuples(ATOMS, QUANTIFIERS).map("".join), min_size=1, max_size=6).map("".join)
PATTERNS = st.lists(PIECES, min_size=1, max_size=3).map("|".join)
TEXTS = st.tuples(st.sampled_from(["a", "ab", "a b ", ""]), st.integers(0, 250), st.text("abx 1", max_size=20)).map(
    lambda parts: (parts[0] * parts[1] + parts[2])[:BIO_LENGTH]
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pattern=PATTERNS, text=TEXTS)
async def test_what_is_admitted_matches_as_python_matches(
    client: httpx.AsyncClient, services: Services, pattern: str, text: str
) -> None:
    try:
        check_pattern(pattern, BIO_LENGTH)
    except RefusedPatternError:
        reject()
    collection = User.get_pymongo_collection()
    await collection.delete_many({})
    await services.repositories["users"].insert({"name": "-", "email": "-@example.org", "profile": {"bio": text}})

    expected = any(re.search(pattern, value, re.IGNORECASE | re.ASCII) for value in ("-", "-@example.org", text))

    assert bool(await found(client, pattern, "regex")) == expected
