"""Refresh tokens as text: the service's own are taken back, and no others."""

import base64
import re

import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from service.auth.refresh_tokens import RefreshTokenMaker

KEY = "a secret key of the tests, of 32 bytes and more"
SESSION = ObjectId("0123456789abcdef01234567")

maker = RefreshTokenMaker(KEY)
TOKEN = maker.make(SESSION, 7)


def test_a_token_is_taken_back_as_what_it_was_made_of() -> None:
    assert maker.read(TOKEN.text) == TOKEN
    assert (TOKEN.session_id, TOKEN.generation) == (SESSION, 7)


def test_a_token_is_text_that_needs_no_escape_anywhere_and_is_no_access_token() -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{64}", TOKEN.text)


def test_what_follows_is_the_same_each_time_and_another_token() -> None:
    successor = maker.next(TOKEN)

    assert successor == maker.next(TOKEN) == maker.make(SESSION, 8)
    assert len({token.hash for token in (TOKEN, successor, maker.make(ObjectId(), 7))}) == 3


def test_what_is_kept_of_it_does_not_show_it() -> None:
    assert re.fullmatch("[0-9a-f]{64}", TOKEN.hash)
    assert TOKEN.text not in TOKEN.hash


def test_a_token_of_another_key_is_none() -> None:
    assert RefreshTokenMaker(KEY + "!").read(TOKEN.text) is None


@pytest.mark.parametrize("place", range(48))
def test_no_bit_of_it_can_be_changed(place: int) -> None:
    content = bytearray(base64.urlsafe_b64decode(TOKEN.text))
    content[place] ^= 1

    assert maker.read(base64.urlsafe_b64encode(content).decode()) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        TOKEN.text[:-1],
        TOKEN.text[:-4],
        TOKEN.text + "AAAA",
        TOKEN.text + "=",
        TOKEN.text + "\n",
        " " + TOKEN.text,
        TOKEN.text[:10] + "!" + TOKEN.text[10:],
        "é" * 64,
        "\x00" * 64,
        "A" * 64,
        "a.b.c",
    ],
)
def test_another_text_is_none(text: str) -> None:
    assert maker.read(text) is None


@given(st.text() | st.binary(max_size=60).map(lambda content: base64.urlsafe_b64encode(content).decode()))
def test_any_text_is_refused_quietly(text: str) -> None:
    assert maker.read(text) is None
