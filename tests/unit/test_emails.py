"""Email addresses: the quick look agrees with the whole check."""

import pytest
from email_validator import SPECIAL_USE_DOMAIN_NAMES
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import EmailStr, TypeAdapter, ValidationError

from service.documents.base import MAX_PLAIN_EMAIL, PLAIN_EMAIL, Email

EMAIL: TypeAdapter[str] = TypeAdapter(Email)
WHOLE_CHECK: TypeAdapter[str] = TypeAdapter(EmailStr)

names = st.text("abcXYZ019._+-", min_size=1, max_size=20)
domains = st.text("abcXYZ019.-", min_size=1, max_size=30) | st.lists(
    st.text("abcXYZ019-", min_size=1, max_size=8)
    | st.sampled_from([*SPECIAL_USE_DOMAIN_NAMES, "xn--p1ai", "com", "org"]),
    min_size=1,
    max_size=4,
).map(".".join)


@given(st.builds("{}@{}".format, names, domains))
@example("ada@example.org")
@example("a@b.co\n")
@example("a@xn--80ak6aa92e.com")
@example("a@b.TEST")
def test_an_address_that_looks_plain_is_one(address: str) -> None:
    if PLAIN_EMAIL.fullmatch(address) and len(address) <= MAX_PLAIN_EMAIL:
        assert WHOLE_CHECK.validate_python(address).lower() == address.lower()


@pytest.mark.parametrize("address", ["Ada.Lovelace+1@Example.ORG", "a@b-c.de", "x_1@mail.example.museum"])
def test_usual_addresses_look_plain(address: str) -> None:
    assert PLAIN_EMAIL.fullmatch(address)
    assert EMAIL.validate_python(address) == address.lower()


@pytest.mark.parametrize(
    "address",
    ["a@localhost", "a@b.test", "a..b@c.de", ".a@b.de", "a@-b.de", "a@b", "a@b.de.", "a b@c.de", "@b.de"],
)
def test_whatever_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValidationError):
        EMAIL.validate_python(address)


@pytest.mark.parametrize(
    ("address", "kept"), [("zoë@müller.de", "zoë@müller.de"), (" ada@example.org ", "ada@example.org")]
)
def test_the_whole_check_looks_at_all_others(address: str, kept: str) -> None:
    assert EMAIL.validate_python(address) == kept
