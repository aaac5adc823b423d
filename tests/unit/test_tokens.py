"""Access tokens: the service's own are taken back, and no others."""

import base64
import json
import time
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from service.auth.key_ring import KeyFolder, KeyRing, SecretKeyRing
from service.auth.keys import Key, PrivateKey, generate_key, public_jwk, public_pem
from service.auth.tokens import REQUIRED_CLAIMS, Caller, OwnAuthority, TokenSigner, TokenVerifier, invalid_token
from service.errors import AuthenticationError
from service.settings import KeyAlgorithm
from tests.key_files import write_key

ISSUER = "http://dossier.test"
SECRET = "a secret key of the tests, of 32 bytes and more"
OTHER_SECRET = "another secret key of the tests, as long as the first"
ACCOUNT = "0123456789abcdef01234567"
KID = "the-key"

T = TypeVar("T")


def result_of(coroutine: Coroutine[Any, Any, T]) -> T:
    """What it comes to, without an event loop: nothing has to be waited for."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    raise AssertionError("it waits for something")


def new_key(algorithm: KeyAlgorithm) -> PrivateKey:
    return rsa.generate_private_key(65_537, 2048) if algorithm == "RS256" else generate_key(algorithm)


def part(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def signed_by(key: Any, algorithm: str, header: Any, payload: Any) -> str:
    """A token made by hand, whatever its header says, because a library would not make most of these."""
    message = f"{part(header)}.{part(payload)}"
    signature = jwt.get_algorithm_by_name(algorithm).sign(message.encode(), key)
    return f"{message}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def secretly_signed(secret: str | bytes, header: Any, payload: Any) -> str:
    """A token whose HMAC is made with this, as long as the header asks for."""
    algorithm = str(header.get("alg"))
    given = algorithm if algorithm in {"HS256", "HS384", "HS512"} else "HS256"
    return signed_by(secret.encode() if isinstance(secret, str) else secret, given, header, payload)


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": ISSUER,
        "aud": "dossier",
        "sub": ACCOUNT,
        "username": "ada",
        "client_id": "tests",
        "scope": "users:read users:write",
        "jti": "1",
        "iat": now,
        "exp": now + 3600,
    } | changes


class Realm:
    """A service with one key of an algorithm, and somebody who has stolen it."""

    def __init__(self, keys: KeyRing) -> None:
        self.keys = keys
        self.key: Key = keys.signing_key
        self.header = {"alg": self.key.algorithm, "typ": "at+jwt"} | ({"kid": KID} if self.key.kid else {})
        self.signer = TokenSigner(keys, ISSUER, 3600)
        self.verifier = TokenVerifier([OwnAuthority(keys, ISSUER)])

    def issue(self, *scopes: str, session_id: str | None = None) -> str:
        """A token as the service makes it."""
        return self.signer.issue(ACCOUNT, "ada", "tests", scopes, session_id)

    def signed(self, header: Any, payload: Any) -> str:
        """A token with a signature of the right key, whatever else it is."""
        return signed_by(self.key.signing, self.key.algorithm, header, payload)

    def verify(self, token: str) -> Caller:
        """Whom it stands for."""
        return result_of(self.verifier.verify(token))

    def refusal_of(self, token: str) -> AuthenticationError:
        """What is said to whoever comes with it."""
        with pytest.raises(AuthenticationError) as caught:
            self.verify(token)
        return caught.value


@pytest.fixture(scope="module", params=["HS256", "EdDSA", "ES256", "RS256"])
def realm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Realm:
    """One for each algorithm."""
    if request.param == "HS256":
        return Realm(SecretKeyRing(SECRET))
    folder: Path = tmp_path_factory.mktemp("keys")
    write_key(folder / f"{KID}.pem", new_key(request.param))
    return Realm(KeyFolder(folder))


def test_a_token_is_taken_back_as_its_caller(realm: Realm) -> None:
    caller = realm.verify(realm.issue("users:read", "users:write"))

    assert caller == Caller(ACCOUNT, "ada", frozenset({"users:read", "users:write"}), "tests", caller.token_id)
    assert realm.verify(realm.issue(session_id="5e" * 12)).session_id == "5e" * 12


def test_a_token_made_by_hand_as_it_should_be_is_taken(realm: Realm) -> None:
    assert realm.verify(realm.signed(realm.header, claims())).account_id == ACCOUNT


def test_a_token_has_the_header_and_claims_of_rfc_9068(realm: Realm) -> None:
    header, payload, _ = realm.issue().split(".")

    assert json.loads(base64.urlsafe_b64decode(header + "==")) == realm.header
    issued = json.loads(base64.urlsafe_b64decode(payload + "=="))
    assert set(issued) == {*REQUIRED_CLAIMS, "epoch"}
    assert issued["iss"] == ISSUER
    assert issued["exp"] - issued["iat"] == 3600
    assert issued["scope"] == ""


def test_two_tokens_are_never_the_same(realm: Realm) -> None:
    assert realm.issue() != realm.issue()


@pytest.mark.parametrize("claim", REQUIRED_CLAIMS)
def test_each_claim_is_required(realm: Realm, claim: str) -> None:
    payload = claims()
    del payload[claim]

    realm.refusal_of(realm.signed(realm.header, payload))


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "another"},
        {"aud": ["another"]},
        {"aud": []},
        {"aud": None},
        {"iss": "https://evil.example"},
        {"iss": f"{ISSUER}/"},
        {"iss": [ISSUER]},
        {"iss": {}},
        {"iss": None},
        {"sub": "1"},
        {"sub": ""},
        {"sub": 1},
        {"sub": {"$ne": None}},
        {"sub": None},
        {"sub": "https://issuer.example|1"},
        {"username": {"$ne": None}},
        {"username": None},
        {"scope": ["users:read"]},
        {"scope": None},
        {"exp": None},
        {"exp": "soon"},
        {"exp": {}},
        {"exp": float("inf")},
        {"iat": "now"},
        {"jti": 1},
        {"client_id": 1},
        {"sid": ["5e" * 12]},
        {"sid": "a session"},
        {"sid": ""},
        {"epoch": "1"},
        {"epoch": True},
        {"username": "\ud800"},
        {"client_id": "a\nb"},
    ],
    ids=str,
)
def test_a_claim_of_another_value_or_type_is_refused(realm: Realm, changes: dict[str, Any]) -> None:
    realm.refusal_of(realm.signed(realm.header, claims(**changes)))


@pytest.mark.parametrize("seconds", [-50, -30, -1, 30])
def test_a_clock_that_is_wrong_within_the_leeway_does_no_harm(realm: Realm, seconds: int) -> None:
    now = int(time.time())

    for changes in ({"exp": now + seconds}, {"iat": now - seconds}, {"nbf": now - seconds}):
        assert realm.verify(realm.signed(realm.header, claims(**changes))).account_id == ACCOUNT


@pytest.mark.parametrize("seconds", [70, 600, 10**9])
def test_a_token_that_expired_before_the_leeway_is_refused(realm: Realm, seconds: int) -> None:
    refusal = realm.refusal_of(realm.signed(realm.header, claims(exp=int(time.time()) - seconds)))

    assert refusal.detail == "The access token has expired."


@pytest.mark.parametrize("claim", ["iat", "nbf"])
@pytest.mark.parametrize("seconds", [70, 600])
def test_a_token_from_the_future_is_refused(realm: Realm, claim: str, seconds: int) -> None:
    realm.refusal_of(realm.signed(realm.header, claims(**{claim: int(time.time()) + seconds})))


OTHER_VALUES: dict[str, list[Any]] = {
    "typ": ["JWT", "rt+jwt", "jwt", "", ["at+jwt"], None],
    "alg": ["hs256", "HS384", "HS512", "ES384", "RS512", "PS256", "Ed448", "none", "None", "", None, ["HS256"], {}],
    "crit": [["exp"], ["b64"], [], None, "exp"],
    "b64": [False],
    "kid": [{}, ["x"], 1, "x", "", f"{KID}.pem", f"./{KID}", f"../keys0/{KID}", "/dev/null", "' UNION SELECT 'key"],
}


@pytest.mark.parametrize(
    "changes", [{name: value} for name, values in OTHER_VALUES.items() for value in values], ids=str
)
def test_another_header_is_refused_even_if_the_key_is_ours(realm: Realm, changes: dict[str, Any]) -> None:
    realm.refusal_of(realm.signed(realm.header | changes, claims()))


@pytest.mark.parametrize("header", [[], "HS256", None, 1, {}, {"typ": "at+jwt"}], ids=str)
def test_what_is_no_header_is_refused(realm: Realm, header: Any) -> None:
    realm.refusal_of(realm.signed(header, claims()))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", None])
@pytest.mark.parametrize("signature", ["", "AAAA"])
def test_a_token_without_a_signature_is_refused(realm: Realm, algorithm: str | None, signature: str) -> None:
    header = realm.header | ({"alg": algorithm} if algorithm else {})

    realm.refusal_of(f"{part(header)}.{part(claims())}.{signature}")


def test_a_token_signed_by_another_key_is_refused(realm: Realm) -> None:
    algorithm = realm.key.algorithm
    other = OTHER_SECRET.encode() if algorithm == "HS256" else new_key(algorithm)

    realm.refusal_of(signed_by(other, algorithm, realm.header, claims()))


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256"])
def test_a_key_pair_of_the_callers_own_opens_nothing(realm: Realm, algorithm: KeyAlgorithm) -> None:
    key = new_key(algorithm)
    embedded = public_jwk(Key(realm.key.kid, algorithm, key.public_key()))

    for header in ({}, {"jwk": embedded}, {"jku": "https://evil.example/keys"}, {"x5u": "https://evil.example/cert"}):
        realm.refusal_of(signed_by(key, algorithm, realm.header | header | {"alg": algorithm}, claims()))
    realm.refusal_of(signed_by(key, algorithm, realm.header, claims()))


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_what_everybody_knows_of_a_key_is_no_secret_key(realm: Realm, algorithm: str) -> None:
    known: list[str | bytes] = ["", KID, OTHER_SECRET, "None", "null"]
    if not isinstance(realm.key.verifying, bytes):
        pem = public_pem(realm.key.verifying)
        jwk = public_jwk(realm.key)
        known += [pem, pem.strip(), json.dumps(jwk), jwk.get("x") or jwk["n"]]

    for secret in known:
        realm.refusal_of(secretly_signed(secret or "\0", realm.header | {"alg": algorithm}, claims()))
    embedded = {"kty": "oct", "k": part(OTHER_SECRET), "alg": algorithm}
    realm.refusal_of(secretly_signed(OTHER_SECRET, realm.header | {"alg": algorithm, "jwk": embedded}, claims()))


def test_a_changed_token_is_refused(realm: Realm) -> None:
    header, payload, signature = realm.issue("users:read").split(".")

    realm.refusal_of(f"{header}.{part(claims(scope='*'))}.{signature}")
    realm.refusal_of(f"{part({**realm.header, 'x': 1})}.{payload}.{signature}")
    realm.refusal_of(f"{header}.{payload}.{signature[:-4]}")
    realm.refusal_of(f"{header}.{payload}.{signature[::-1]}")
    realm.refusal_of(f"{header}.{payload}")


@given(st.text() | st.from_regex(r"[A-Za-z0-9_\-]{0,20}(\.[A-Za-z0-9_\-]{0,20}){2}", fullmatch=True))
def test_any_text_is_refused_quietly(realm: Realm, token: str) -> None:
    realm.refusal_of(token)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(["alg", "typ", "kid", "crit", "jwk", "b64"], json_values)))
def test_any_header_is_refused_quietly(realm: Realm, header: dict[str, Any]) -> None:
    realm.refusal_of(secretly_signed(OTHER_SECRET, realm.header | header, claims()))


@given(json_values)
def test_any_payload_of_another_key_is_refused_quietly(realm: Realm, payload: Any) -> None:
    realm.refusal_of(secretly_signed(OTHER_SECRET, realm.header, payload))


@given(st.fixed_dictionaries({}, optional=dict.fromkeys([*REQUIRED_CLAIMS, "nbf", "sid", "epoch"], json_values)))
def test_whatever_our_key_signed_is_a_caller_or_refused(realm: Realm, changes: dict[str, Any]) -> None:
    try:
        caller = realm.verify(realm.signed(realm.header, claims(**changes)))
    except AuthenticationError:
        return
    assert caller.issuer is None
    assert len(caller.account_id) == 24


@pytest.mark.parametrize("text", ["[" * 50_000, '{"a":' * 50_000, '{"alg":' + "9" * 5000 + "}", "\x00", "{}{}"])
def test_a_hostile_header_or_payload_is_refused_quietly(realm: Realm, text: str) -> None:
    realm.refusal_of(f"{part(text)}.{part(claims())}.AAAA")
    realm.refusal_of(f"{part(realm.header)}.{part(text)}.AAAA")


def test_a_refusal_says_how_to_come_back_and_not_why(realm: Realm) -> None:
    refusals = [
        realm.refusal_of("x"),
        realm.refusal_of(secretly_signed(OTHER_SECRET, realm.header, claims())),
        realm.refusal_of(realm.signed(realm.header, claims(aud="x"))),
        realm.refusal_of(realm.signed(realm.header | {"kid": "x"}, claims())),
    ]

    assert {refusal.detail for refusal in refusals} == {"The access token is not valid."}
    assert refusals[0].headers["WWW-Authenticate"] == (
        'Bearer error="invalid_token", error_description="The access token is not valid."'
    )
    assert invalid_token("Why.").status == 401


def test_a_check_is_remembered_only_until_the_token_expires(realm: Realm) -> None:
    token = realm.issue("users:read")
    caller = realm.verify(token)
    good = realm.verifier._verified[token]
    assert time.time() + 3600 <= good.good_until <= time.time() + 3661

    expired = "an expired token, which no check would pass"
    realm.verifier._verified[expired] = replace(good, good_until=time.time() + 10)
    assert realm.verify(expired) is caller
    realm.verifier._verified[expired] = replace(good, good_until=time.time() - 1)
    realm.refusal_of(expired)
    assert expired not in realm.verifier._verified


def test_remembered_tokens_do_not_pile_up(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.auth.tokens.MAX_REMEMBERED", 3)

    for _ in range(10):
        realm.verify(realm.issue())
        assert len(realm.verifier._verified) <= 3


def test_the_service_is_whoever_else_has_its_name() -> None:
    own, namesake = SecretKeyRing(SECRET), SecretKeyRing(OTHER_SECRET)
    verifier = TokenVerifier([OwnAuthority(own, ISSUER), OwnAuthority(namesake, ISSUER)])

    assert result_of(verifier.verify(TokenSigner(own, ISSUER, 60).issue(ACCOUNT, "ada", "x", []))).issuer is None
    with pytest.raises(AuthenticationError):
        result_of(verifier.verify(TokenSigner(namesake, ISSUER, 60).issue(ACCOUNT, "ada", "x", [])))
