"""Keys as files and as JWKs: what is taken, what is refused, and that others read what we publish."""

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet

from service.auth.keys import (
    Key,
    UnusableKeyError,
    generate_key,
    private_pem,
    public_jwk,
    public_pem,
    read_jwk,
    read_pem,
)
from service.settings import KeyAlgorithm

ALL: tuple[KeyAlgorithm, ...] = ("EdDSA", "ES256", "RS256")
PAIRS = {algorithm: generate_key(algorithm) for algorithm in ALL}
SMALL_RSA = rsa.generate_private_key(65_537, 1024)


def key_of(algorithm: KeyAlgorithm) -> Key:
    return read_pem("the-key", private_pem(PAIRS[algorithm]))


@pytest.mark.parametrize("algorithm", ALL)
def test_a_key_comes_back_from_its_file_and_knows_its_algorithm(algorithm: KeyAlgorithm) -> None:
    whole = read_pem("a", private_pem(PAIRS[algorithm]))
    half = read_pem("a", public_pem(PAIRS[algorithm].public_key()))

    assert whole.algorithm == half.algorithm == algorithm
    assert half.signing is None
    assert whole.signing is not None
    assert whole.verifying == half.verifying
    assert "PRIVATE" not in repr(whole)


@pytest.mark.parametrize("format_", [PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8], ids=["SEC 1", "PKCS 8"])
def test_a_key_that_openssl_made_is_taken(format_: PrivateFormat) -> None:
    key = ec.generate_private_key(ec.SECP256R1())

    assert read_pem("a", key.private_bytes(Encoding.PEM, format_, NoEncryption())).algorithm == "ES256"


@pytest.mark.parametrize(
    ("private", "because"),
    [
        (SMALL_RSA, "2048"),
        (ec.generate_private_key(ec.SECP384R1()), "P-256"),
        (ec.generate_private_key(ec.SECP256K1()), "P-256"),
        (ed448.Ed448PrivateKey.generate(), "Ed25519"),
        (x25519.X25519PrivateKey.generate(), "Ed25519"),
        (dsa.generate_private_key(1024), "Ed25519"),
    ],
    ids=["RSA 1024", "P-384", "secp256k1", "Ed448", "X25519", "DSA"],
)
def test_another_kind_of_key_is_refused_whole_and_half(private: Any, because: str) -> None:
    for pem in (private_pem(private), public_pem(private.public_key())):
        with pytest.raises(UnusableKeyError, match=because):
            read_pem("a", pem)


def test_what_is_no_key_is_refused() -> None:
    whole = private_pem(PAIRS["EdDSA"])
    encrypted = PAIRS["EdDSA"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))

    for content in (b"", b"\0", whole[:60], whole.replace(b"M", b"!"), b"ssh-ed25519 AAAA", json.dumps("x").encode()):
        with pytest.raises(UnusableKeyError, match="PEM"):
            read_pem("a", content)
    with pytest.raises(UnusableKeyError, match="encrypted"):
        read_pem("a", encrypted)


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")  # by RFC 9864, whose name for it few know yet
@pytest.mark.parametrize("algorithm", ALL)
def test_what_is_published_is_public_and_read_by_others(algorithm: KeyAlgorithm) -> None:
    key = key_of(algorithm)
    token = jwt.encode({"sub": "x"}, PAIRS[algorithm], algorithm, headers={"kid": "the-key"})

    published = json.loads(json.dumps({"keys": [public_jwk(key)]}))

    [jwk] = published["keys"]
    assert (jwk["kid"], jwk["use"], jwk["alg"]) == ("the-key", "sig", algorithm)
    assert not {"d", "p", "q", "dp", "dq", "qi", "k", "key_ops"} & set(jwk)
    others = KeySet.import_key_set(published)
    assert joserfc_jwt.decode(token, others, algorithms=[algorithm]).claims["sub"] == "x"
    ours = read_jwk(jwk, ALL)
    assert ours.verifying == key.verifying
    assert ours.signing is None


@pytest.mark.parametrize(
    "changes",
    [
        {"kid": None},
        {"kid": 1},
        {"kty": "oct", "k": "AAAA"},
        {"kty": None},
        {"kty": ["OKP"]},
        {"crv": "Ed448"},
        {"crv": "X25519"},
        {"x": "AAAA"},
        {"x": 1},
        {"x": "*"},
        {"alg": "HS256"},
        {"alg": "none"},
        {"alg": "ES256"},
        {"use": "enc"},
    ],
    ids=str,
)
def test_a_jwk_that_is_not_for_signatures_of_its_kind_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UnusableKeyError):
        read_jwk(public_jwk(key_of("EdDSA")) | changes, ALL)


def test_a_jwk_of_a_weak_key_or_of_an_algorithm_that_is_not_wanted_is_refused() -> None:
    weak = jwt.get_algorithm_by_name("RS256").to_jwk(SMALL_RSA.public_key(), as_dict=True)
    private = jwt.get_algorithm_by_name("ES256").to_jwk(PAIRS["ES256"], as_dict=True)

    for jwk, algorithms in (
        (weak | {"kid": "a"}, ALL),
        (public_jwk(key_of("ES256")), ("EdDSA",)),
        ([], ALL),
        (None, ALL),
    ):
        with pytest.raises(UnusableKeyError):
            read_jwk(jwk, algorithms)
    assert read_jwk(private | {"kid": "a"}, ALL).signing is None, "a private half is not even looked at"


def test_a_public_half_says_nothing_of_the_private() -> None:
    for key in PAIRS.values():
        secret = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        assert b"PRIVATE" not in public_pem(key.public_key())
        assert secret not in key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
