"""Access tokens: the service's own are taken back, and no others."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from service.auth.tokens import REQUIRED_CLAIMS, Caller, TokenSigner, invalid_token
from service.errors import AuthenticationError

KEY = "a secret key of the tests, of 32 bytes and more"
OTHER_KEY = "another secret key of the tests, as long as the first"
ACCOUNT = "0123456789abcdef01234567"
HEADER = {"alg": "HS256", "typ": "at+jwt"}
HASHES = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}

signer = TokenSigner(KEY, 3600)


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": "dossier",
        "aud": "dossier",
        "sub": ACCOUNT,
        "username": "ada",
        "client_id": "tests",
        "scope": "users:read users:write",
        "jti": "1",
        "iat": now,
        "exp": now + 3600,
    } | changes


def part(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def signed(header: Any, payload: Any, key: str = KEY) -> str:
    """A token made by hand, because a library would not make most of these."""
    message = f"{part(header)}.{part(payload)}"
    algorithm = header.get("alg") if isinstance(header, dict) else None
    digest = hmac.new(key.encode(), message.encode(), HASHES.get(str(algorithm), hashlib.sha256)).digest()
    return f"{message}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def refusal_of(token: str) -> AuthenticationError:
    with pytest.raises(AuthenticationError) as caught:
        signer.verify(token)
    return caught.value


def test_a_token_is_taken_back_as_its_caller() -> None:
    token = signer.issue(ACCOUNT, "ada", "tests", ["users:read", "users:write"])

    caller = signer.verify(token)
    assert caller == Caller(ACCOUNT, "ada", frozenset({"users:read", "users:write"}), "tests", caller.token_id)
    assert signer.verify(signer.issue(ACCOUNT, "ada", "tests", [], "a session")).session_id == "a session"


def test_a_token_made_by_hand_as_it_should_be_is_taken() -> None:
    assert signer.verify(signed(HEADER, claims())).account_id == ACCOUNT


def test_a_token_has_the_header_and_claims_of_rfc_9068() -> None:
    header, payload, _ = signer.issue(ACCOUNT, "ada", "tests", []).split(".")

    assert json.loads(base64.urlsafe_b64decode(header + "==")) == HEADER
    issued = json.loads(base64.urlsafe_b64decode(payload + "=="))
    assert set(issued) == set(REQUIRED_CLAIMS)
    assert issued["exp"] - issued["iat"] == 3600
    assert issued["scope"] == ""


def test_two_tokens_are_never_the_same() -> None:
    assert signer.issue(ACCOUNT, "ada", "tests", []) != signer.issue(ACCOUNT, "ada", "tests", [])


@pytest.mark.parametrize("claim", REQUIRED_CLAIMS)
def test_each_claim_is_required(claim: str) -> None:
    payload = claims()
    del payload[claim]

    refusal_of(signed(HEADER, payload))


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "another"},
        {"aud": ["another"]},
        {"aud": []},
        {"aud": None},
        {"iss": "https://evil.example"},
        {"iss": "dossier/"},
        {"iss": None},
        {"sub": "1"},
        {"sub": ""},
        {"sub": 1},
        {"sub": {"$ne": None}},
        {"sub": None},
        {"username": {"$ne": None}},
        {"username": None},
        {"scope": ["users:read"]},
        {"scope": None},
        {"exp": None},
        {"exp": "soon"},
        {"exp": {}},
        {"iat": "now"},
        {"jti": 1},
        {"client_id": 1},
        {"sid": ["a session"]},
    ],
    ids=str,
)
def test_a_claim_of_another_value_or_type_is_refused(changes: dict[str, Any]) -> None:
    refusal_of(signed(HEADER, claims(**changes)))


@pytest.mark.parametrize("seconds", [-50, -1, 30])
def test_a_clock_that_is_wrong_within_the_leeway_does_no_harm(seconds: int) -> None:
    now = int(time.time())

    for changes in ({"exp": now + seconds}, {"iat": now - seconds}, {"nbf": now - seconds}):
        assert signer.verify(signed(HEADER, claims(**changes))).account_id == ACCOUNT


@pytest.mark.parametrize("seconds", [70, 600, 10**9])
def test_a_token_that_expired_before_the_leeway_is_refused(seconds: int) -> None:
    refusal = refusal_of(signed(HEADER, claims(exp=int(time.time()) - seconds)))

    assert refusal.detail == "The access token has expired."


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_a_token_from_the_future_is_refused(claim: str) -> None:
    refusal_of(signed(HEADER, claims(**{claim: int(time.time()) + 600})))


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "HS256"},
        {"alg": "HS256", "typ": "JWT"},
        {"alg": "HS256", "typ": "rt+jwt"},
        {"alg": "HS256", "typ": ["at+jwt"]},
        {"alg": "HS256", "typ": None},
        {"typ": "at+jwt"},
        {"alg": "hs256", "typ": "at+jwt"},
        {"alg": "HS384", "typ": "at+jwt"},
        {"alg": "HS512", "typ": "at+jwt"},
        {"alg": "RS256", "typ": "at+jwt"},
        {"alg": "none", "typ": "at+jwt"},
        {"alg": "None", "typ": "at+jwt"},
        {"alg": "", "typ": "at+jwt"},
        {"alg": None, "typ": "at+jwt"},
        {"alg": ["HS256"], "typ": "at+jwt"},
        {"alg": {}, "typ": "at+jwt"},
        {**HEADER, "crit": ["exp"]},
        {**HEADER, "crit": []},
        {**HEADER, "crit": ["b64"], "b64": False},
        {**HEADER, "kid": {}},
        {**HEADER, "kid": ["x"]},
        {**HEADER, "kid": 1},
        [],
        "HS256",
        None,
        1,
    ],
    ids=str,
)
def test_another_header_is_refused_even_if_the_key_is_ours(header: Any) -> None:
    refusal_of(signed(header, claims()))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "HS256"])
@pytest.mark.parametrize("signature", ["", "AAAA"])
def test_a_token_without_a_signature_is_refused(algorithm: str, signature: str) -> None:
    refusal_of(f"{part({**HEADER, 'alg': algorithm})}.{part(claims())}.{signature}")


def test_a_token_signed_by_another_key_is_refused() -> None:
    refusal_of(TokenSigner(OTHER_KEY, 3600).issue(ACCOUNT, "ada", "tests", []))
    refusal_of(signed(HEADER, claims(), OTHER_KEY))
    refusal_of(signed(HEADER, claims(), ""))


def test_a_key_pair_of_the_callers_own_opens_nothing() -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    refusal_of(jwt.encode(claims(), private, "RS256", headers={"typ": "at+jwt"}))
    refusal_of(signed(HEADER, claims(), public))


@pytest.mark.parametrize(
    "header",
    [
        {"jwk": {"kty": "oct", "k": part(OTHER_KEY), "alg": "HS256"}},
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/cert"},
        {"x5c": ["AAAA"]},
        {"kid": "../../../../dev/null"},
        {"kid": "/proc/sys/kernel/randomize_va_space"},
        {"kid": "' UNION SELECT 'key"},
        {"kid": OTHER_KEY},
    ],
    ids=str,
)
def test_no_header_chooses_the_key(header: dict[str, Any]) -> None:
    refusal_of(signed({**HEADER, **header}, claims(), OTHER_KEY))
    refusal_of(signed({**HEADER, **header}, claims(), ""))


def test_a_changed_token_is_refused() -> None:
    header, payload, signature = signer.issue(ACCOUNT, "ada", "tests", ["users:read"]).split(".")

    refusal_of(f"{header}.{part(claims(scope='*'))}.{signature}")
    refusal_of(f"{part({**HEADER, 'kid': 'x'})}.{payload}.{signature}")
    refusal_of(f"{header}.{payload}.{signature[:-4]}")
    refusal_of(f"{header}.{payload}")


@given(st.text() | st.from_regex(r"[A-Za-z0-9_\-]{0,20}(\.[A-Za-z0-9_\-]{0,20}){2}", fullmatch=True))
def test_any_text_is_refused_quietly(token: str) -> None:
    refusal_of(token)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(["alg", "typ", "kid", "crit", "jwk", "b64"], json_values)))
def test_any_header_is_refused_quietly(header: dict[str, Any]) -> None:
    refusal_of(signed(header, claims(), OTHER_KEY))


@given(json_values)
def test_any_payload_of_another_key_is_refused_quietly(payload: Any) -> None:
    refusal_of(signed(HEADER, payload, OTHER_KEY))


@pytest.mark.parametrize("text", ["[" * 50_000, '{"a":' * 50_000, '{"alg":' + "9" * 5000 + "}", "\x00", "{}{}"])
def test_a_hostile_header_is_refused_quietly(text: str) -> None:
    refusal_of(f"{part(text)}.{part(claims())}.AAAA")


def test_a_refusal_says_how_to_come_back_and_not_why() -> None:
    refusals = [
        refusal_of("x"),
        refusal_of(signed(HEADER, claims(), OTHER_KEY)),
        refusal_of(signed(HEADER, claims(aud="x"))),
    ]

    assert {refusal.detail for refusal in refusals} == {"The access token is not valid."}
    assert refusals[0].headers["WWW-Authenticate"] == (
        'Bearer error="invalid_token", error_description="The access token is not valid."'
    )
    assert invalid_token("Why.").status == 401


def test_a_check_is_remembered_only_until_the_token_expires() -> None:
    signer = TokenSigner(KEY, 600)
    token = signer.issue("0" * 24, "ada", "x", ["users:read"])
    caller = signer.verify(token)
    _, good_until = signer._verified[token]
    assert time.time() + 600 <= good_until <= time.time() + 661

    expired = "an expired token, which no check would pass"
    signer._verified[expired] = caller, time.time() + 10
    assert signer.verify(expired) == caller
    signer._verified[expired] = caller, time.time() - 1
    with pytest.raises(AuthenticationError):
        signer.verify(expired)
    assert expired not in signer._verified


def test_remembered_tokens_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.auth.tokens.MAX_REMEMBERED", 3)
    signer = TokenSigner(KEY, 600)

    for _ in range(10):
        signer.verify(signer.issue("0" * 24, "ada", "x", []))

    assert len(signer._verified) <= 3
