"""Passwords as argon2id hashes. Hashing runs in threads, so these need an event loop."""

import re

import pytest

from service.auth.passwords import PasswordHasher, WeakPasswordError


@pytest.fixture(scope="module")
def hasher() -> PasswordHasher:
    """One for all: to make it, it makes a hash."""
    return PasswordHasher()


async def test_a_password_is_known_by_its_hash(hasher: PasswordHasher) -> None:
    password_hash = await hasher.hash("correct horse")

    assert await hasher.verify("correct horse", password_hash)
    assert not await hasher.verify("correct horsf", password_hash)
    assert not await hasher.verify("", password_hash)


async def test_a_hash_costs_what_owasp_asks_for_and_has_its_own_salt(hasher: PasswordHasher) -> None:
    first, second = await hasher.hash("correct horse"), await hasher.hash("correct horse")

    found = re.match(r"\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$", first)
    assert found is not None
    memory, passes, lanes = map(int, found.groups())
    assert (memory >= 19 * 1024, passes >= 2, lanes >= 1) == (True, True, True)
    assert first != second


@pytest.mark.parametrize("password", ["", "x" * 7, "x" * 129, "ж" * 129])
async def test_a_password_out_of_bounds_is_refused(hasher: PasswordHasher, password: str) -> None:
    with pytest.raises(WeakPasswordError, match="8 to 128 characters"):
        await hasher.hash(password)


@pytest.mark.parametrize("password", ["x" * 8, "x" * 128, "😀" * 128, "pass\0word", "pa ss wo rd "])
async def test_a_password_within_them_is_taken_whole(hasher: PasswordHasher, password: str) -> None:
    password_hash = await hasher.hash(password)

    assert await hasher.verify(password, password_hash)
    assert not await hasher.verify(password[:-1], password_hash)


async def test_nobody_has_any_password(hasher: PasswordHasher) -> None:
    assert not await hasher.verify("a password that nobody has", None)


async def test_a_password_that_is_too_long_is_wrong(hasher: PasswordHasher) -> None:
    assert not await hasher.verify("x" * 1_000_000, None)


@pytest.mark.parametrize(
    "password_hash",
    ["", "plain text", "$argon2id$broken", "$argon2id$v=19$m=19456,t=2,p=1$AAAA$AAAA", "$2b$12$" + "a" * 53],
)
async def test_what_is_no_hash_of_ours_matches_nothing(hasher: PasswordHasher, password_hash: str) -> None:
    assert not await hasher.verify("correct horse", password_hash)
