"""Which passwords are taken, and their argon2id hashes. Hashing runs in threads, so these need an event loop."""

import re
import subprocess
import sys

import pytest

from service.auth.passwords import PasswordHasher, common_passwords, weakness_of


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
def test_a_password_out_of_bounds_is_refused(password: str) -> None:
    assert weakness_of(password, "ada") == "a password has 8 to 128 characters"


@pytest.mark.parametrize(
    "password",
    ["12345678", "password", "PassWord", "Password2026", "iloveyou", "qwertyuiop", "sunshine1", "baseball0000"],
)
def test_what_everybody_tries_first_is_refused(password: str) -> None:
    assert "everybody tries first" in (weakness_of(password, "ada") or "")


@pytest.mark.parametrize("password", ["Dossier1", "DOSSIER2026", "ada.lovelace", "Ada.Lovelace7"])
def test_names_are_refused(password: str) -> None:
    assert "not the name" in (weakness_of(password, "Ada.Lovelace") or "")


def test_a_lone_surrogate_is_no_text() -> None:
    assert "surrogate" in (weakness_of("\ud800" * 8, "ada") or "")


async def test_a_hasher_says_the_same_from_a_thread(hasher: PasswordHasher) -> None:
    assert await hasher.weakness("password", "ada") == weakness_of("password", "ada")
    assert await hasher.weakness("correct horse", "ada") is None


def test_the_list_is_there_only_while_it_is_looked_at() -> None:
    assert len(common_passwords()) == 30_000
    loaded = "import sys, service.auth.passwords as p; p.weakness_of('x' * 9, 'ada'); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", loaded], check=True, capture_output=True, text=True).stdout.split()
    assert {"zxcvbn", "frequency_lists"}.isdisjoint(modules)


@pytest.mark.parametrize(
    "password",
    [
        "x" * 8,
        "x" * 128,
        "😀" * 128,
        "pass\0word",
        "pa ss wo rd ",
        "correct horse battery",
        "password is long",
        "ada12345",
    ],
)
async def test_a_password_within_them_is_taken_whole(hasher: PasswordHasher, password: str) -> None:
    assert weakness_of(password, "ada") is None
    password_hash = await hasher.hash(password)

    assert await hasher.verify(password, password_hash)
    assert not await hasher.verify(password[:-1], password_hash)


async def test_nobody_has_any_password(hasher: PasswordHasher) -> None:
    assert not await hasher.verify("a password that nobody has", None)


@pytest.mark.parametrize("password", ["x" * 1_000_000, "\ud800" * 8], ids=["too long", "no text"])
async def test_what_nobody_could_have_set_is_wrong(hasher: PasswordHasher, password: str) -> None:
    assert not await hasher.verify(password, await hasher.hash("correct horse"))


@pytest.mark.parametrize(
    "password_hash",
    ["", "plain text", "$argon2id$broken", "$argon2id$v=19$m=19456,t=2,p=1$AAAA$AAAA", "$2b$12$" + "a" * 53],
)
async def test_what_is_no_hash_of_ours_matches_nothing(hasher: PasswordHasher, password_hash: str) -> None:
    assert not await hasher.verify("correct horse", password_hash)
