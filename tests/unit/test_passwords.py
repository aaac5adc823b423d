"""Which passwords are taken, and their argon2id hashes. Hashing runs in threads, so these need an event loop."""

import asyncio
import re
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from unicodedata import normalize

import pytest

from service.auth import passwords
from service.auth.passwords import AT_ONCE, PasswordHasher, common_passwords, weakness_of
from service.settings import MAX_DECOMPOSED_LENGTH

ALPHABET = "абвгдежз"


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


@pytest.mark.parametrize("password", ["", "correct", "correct" * 19, "ж" * 129, "cafe\u0301 x", "é" * 10_000])
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


@pytest.mark.parametrize(
    "password",
    ["x" * 8, "ж" * 128, "é" * 8, "e\u0301" * 8, "😀" * 8, " " * 8, "\u3000\t " * 8, "\u200b\0\xa0\u200d" * 2],
    ids=ascii,
)
def test_one_character_again_and_again_or_none_that_shows_is_no_password(password: str) -> None:
    assert "again and again" in (weakness_of(password, "ada") or "")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("café au lait", "cafe\u0301 au lait"),
        ("\u1f82 and more", "α\u0313\u0300\u0345 and more"),
        ("한글 비밀번호", "\u1112\u1161\u11ab\u1100\u1173\u11af 비밀번호"),
        ("ｃorrect　horse", "correct horse"),
        ("e\u0301" * 128, "é" * 128),
    ],
    ids=["accent", "three marks", "Hangul", "full width", "as long as may be"],
)
async def test_a_password_is_the_same_however_it_is_typed(hasher: PasswordHasher, one: str, other: str) -> None:
    varied = one[:-1] + "?"

    assert await hasher.verify(other, await hasher.hash(one))
    assert not await hasher.verify(varied, await hasher.hash(other))


@pytest.mark.parametrize("password", ["ｐａｓｓｗｏｒｄ", "Ｐassword２０２６", "ｄossier１"], ids=ascii)
def test_what_everybody_tries_first_is_refused_however_it_is_typed(password: str) -> None:
    assert weakness_of(password, "ada") is not None


def test_the_length_is_that_of_what_is_hashed() -> None:
    longest = "α\u0313\u0300\u0345β" * 64

    assert weakness_of(longest, "ada") is None
    assert weakness_of(longest + "γ", "ada") == "a password has 8 to 128 characters"
    assert weakness_of("ﬃﬃﬃ", "ada") is None, "which is 9 letters"


def test_no_character_is_made_of_more() -> None:
    """So that what is too long to be normalised would be too long afterwards."""
    characters = (chr(number) for number in range(sys.maxunicode + 1))

    assert max(len(normalize("NFD", character)) for character in characters) == MAX_DECOMPOSED_LENGTH


async def test_a_text_that_takes_long_to_normalise_is_refused_at_once(hasher: PasswordHasher) -> None:
    marks = "a" + "\u0301\u0323" * 500_000
    started = time.monotonic()

    assert weakness_of(marks, "ada") == "a password has 8 to 128 characters"
    assert not await hasher.verify(marks, None)
    assert time.monotonic() - started < 5


def test_a_lone_surrogate_is_no_text() -> None:
    assert "surrogate" in (weakness_of("\ud800" * 8, "ada") or "")


async def test_a_hasher_says_the_same_from_a_thread(hasher: PasswordHasher) -> None:
    assert await hasher.weakness("password", "ada") == weakness_of("password", "ada")
    assert await hasher.weakness("correct horse", "ada") is None


def test_the_list_is_there_only_while_it_is_looked_at() -> None:
    assert len(common_passwords()) == 30_000
    loaded = "import sys, service.auth.passwords as p; p.weakness_of('correct horse', 'ada'); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", loaded], check=True, capture_output=True, text=True).stdout.split()
    assert {"zxcvbn", "frequency_lists"}.isdisjoint(modules)


@pytest.mark.parametrize(
    "password",
    [
        ALPHABET,
        "abcdefgh" * 16,
        "😀🙃" * 64,
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


async def test_few_run_together_whatever_they_are_for(monkeypatch: pytest.MonkeyPatch) -> None:
    hasher, running, may_end = PasswordHasher(), list[int](), threading.Event()

    def work(*_: object) -> bool:
        running.append(threading.get_ident())
        return may_end.wait(30)

    monkeypatch.setattr(hasher, "_hash", SimpleNamespace(hash=work, verify=work))
    monkeypatch.setattr(passwords, "weakness_of", work)
    asked = [
        asyncio.ensure_future(step)
        for _ in range(5)
        for step in (hasher.hash("correct horse"), hasher.verify("correct horse", "x"), hasher.weakness("x", "ada"))
    ]

    try:
        async with asyncio.timeout(30):
            while len(running) + hasher._threads._work_queue.qsize() < len(asked):  # noqa: ASYNC110 - of threads
                await asyncio.sleep(0)
        assert len(running) == AT_ONCE
    finally:
        may_end.set()
    assert all(await asyncio.gather(*asked))
    assert len(running) == len(asked)
    assert len(set(running)) == AT_ONCE  # no other thread keeps the memory of a hash
