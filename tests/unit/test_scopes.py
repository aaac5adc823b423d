"""Which scopes there are, and what an account's patterns allow of them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.auth.scopes import ACTIONS, ROLES, allowed_scopes, covers, known_scopes, patterns_of
from service.documents.item import Item
from service.documents.registry import DocumentType
from service.documents.user import User
from service.settings import SCOPE_PATTERN

KNOWN = known_scopes([DocumentType(Item), DocumentType(User)])
parts = st.sampled_from(["*", "users", "items", "accounts", "read", "write", "admin", "user"])


def test_each_type_has_a_scope_for_each_action() -> None:
    assert list(KNOWN) == [*(f"{name}:{action}" for name in ("items", "users") for action in ACTIONS), "accounts:admin"]
    assert KNOWN["users:read"] == "Read and search users"
    assert KNOWN["items:export"] == "Download items as files"


@pytest.mark.parametrize("pattern", ["*", "*:*", "*:read", "users:*", "users:read", "my-things_2:read"])
def test_a_pattern_is_a_star_or_two_parts(pattern: str) -> None:
    assert re.fullmatch(SCOPE_PATTERN, pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "users",
        "users:",
        ":read",
        "users:read:more",
        "Users:read",
        "users:READ",
        "us*:read",
        "users:r?ad",
        "users:[rw]*",
        "**",
        "*:*:*",
        " *",
        "users:read ",
        "users:read\n",
        "users:read write",
        "1users:read",
    ],
)
def test_anything_else_is_none(pattern: str) -> None:
    assert not re.fullmatch(SCOPE_PATTERN, pattern)


@pytest.mark.parametrize(
    ("patterns", "allowed"),
    [
        ([], []),
        (["*"], list(KNOWN)),
        (["*:*"], list(KNOWN)),
        (["*:read"], ["items:read", "users:read"]),
        (["users:*"], [f"users:{action}" for action in ACTIONS]),
        (["users:read"], ["users:read"]),
        (["users:read", "*:read"], ["items:read", "users:read"]),
        (["accounts:admin"], ["accounts:admin"]),
        (["user:read"], []),
        (["users:rea"], []),
    ],
)
def test_patterns_allow_the_known_scopes_that_they_match(patterns: list[str], allowed: list[str]) -> None:
    assert allowed_scopes(patterns, KNOWN) == allowed


@given(st.lists(st.just("*") | st.builds("{}:{}".format, parts, parts)))
def test_no_patterns_allow_more_than_is_known(patterns: list[str]) -> None:
    allowed = allowed_scopes(patterns, KNOWN)

    assert all(re.fullmatch(SCOPE_PATTERN, pattern) for pattern in patterns)
    assert set(allowed) <= set(KNOWN)
    assert len(set(allowed)) == len(allowed)
    assert all(pattern in allowed for pattern in patterns if pattern in KNOWN)


@pytest.mark.parametrize(
    ("held", "pattern", "is_covered"),
    [
        ("*", "*", True),
        ("*", "users:read", True),
        ("*", "*:read", True),
        ("*:*", "*", True),
        ("*:read", "users:read", True),
        ("*:read", "*:read", True),
        ("users:*", "users:delete", True),
        ("users:read", "users:read", True),
        ("users:read", "users:*", False),
        ("users:*", "*:read", False),
        ("*:read", "*", False),
        ("*:read", "*:*", False),
        ("users:read", "items:read", False),
    ],
)
def test_a_pattern_covers_what_it_allows_whatever_types_there_will_be(
    held: str, pattern: str, *, is_covered: bool
) -> None:
    assert covers(held, pattern) is is_covered


@given(st.builds("{}:{}".format, parts, parts) | st.just("*"), st.builds("{}:{}".format, parts, parts) | st.just("*"))
def test_what_is_covered_allows_nothing_more(held: str, pattern: str) -> None:
    if covers(held, pattern):
        assert set(allowed_scopes([pattern], KNOWN)) <= set(allowed_scopes([held], KNOWN))


def test_roles_are_patterns_and_what_is_no_role_is_nothing() -> None:
    assert all(re.fullmatch(SCOPE_PATTERN, pattern) for patterns in ROLES.values() for pattern in patterns)
    assert patterns_of(["viewer", "emperor"], ["users:write"]) == ["*:read", "users:write"]
    assert "users:private" not in allowed_scopes(patterns_of(["viewer", "analyst", "editor"], []), KNOWN)
    assert allowed_scopes(patterns_of(["admin"], []), KNOWN) == list(KNOWN)
