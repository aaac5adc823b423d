"""Keys that sign and verify tokens, each by one algorithm: as PEM files, and as JWKs (RFC 7517)."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Literal

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from service.settings import KeyAlgorithm

PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey
PublicKey = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey

MIN_RSA_BITS = 2048  # RFC 7518 §3.3
MAX_RSA_BITS = 8192
"""Larger ones cost more time for each token than they are worth."""

NEW_RSA_BITS = 3072
PUBLIC_MEMBERS = ("kty", "crv", "x", "y", "n", "e")
"""What a JWK's public key is made of; nothing else of it is looked at."""


class UnusableKeyError(ValueError):
    """Nothing can be signed or verified with this key, and this text says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Key:
    """A key under its `kid`. Two are the same only if they are one object: what was read again counts as another."""

    kid: str | None
    algorithm: KeyAlgorithm | Literal["HS256"]
    verifying: PublicKey | bytes = field(repr=False)
    signing: PrivateKey | bytes | None = field(default=None, repr=False)
    """None where only the public half is there."""


def generate_key(algorithm: KeyAlgorithm) -> PrivateKey:
    """A new key pair."""
    match algorithm:
        case "EdDSA":
            return Ed25519PrivateKey.generate()
        case "ES256":
            return generate_ec_key(SECP256R1())
        case "RS256":
            return generate_rsa_key(65_537, NEW_RSA_BITS)


def private_pem(key: PrivateKey) -> bytes:
    """The whole pair, not encrypted (RFC 5958)."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: PublicKey) -> bytes:
    """The public half (RFC 5280 §4.1.2.7)."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def read_pem(kid: str, pem: bytes) -> Key:
    """The key pair, or the public half of one, in a PEM file. Raises UnusableKeyError."""
    try:
        if b"PRIVATE KEY-----" in pem:
            private = load_pem_private_key(pem, password=None)
            public = private.public_key()
        else:
            private, public = None, load_pem_public_key(pem)
    except TypeError:
        raise UnusableKeyError("is encrypted, and nobody has its password here") from None
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableKeyError("is no PEM file with one key") from None
    algorithm = algorithm_of(public)
    assert isinstance(public, PublicKey)
    assert private is None or isinstance(private, PrivateKey)
    return Key(kid, algorithm, public, private)


def algorithm_of(public: object) -> KeyAlgorithm:
    """The one algorithm that this public key verifies by. Raises UnusableKeyError."""
    match public:
        case Ed25519PublicKey():
            return "EdDSA"
        case EllipticCurvePublicKey(curve=SECP256R1()):
            return "ES256"
        case RSAPublicKey(key_size=bits) if MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
            return "RS256"
    raise UnusableKeyError(f"is no key of Ed25519, EC P-256 or RSA with {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")


def public_jwk(key: Key) -> dict[str, Any]:
    """The public half as everybody may see it (RFC 7517 §4, RFC 8037 §2)."""
    members = jwt.get_algorithm_by_name(key.algorithm).to_jwk(key.verifying, as_dict=True)
    public = {name: members[name] for name in PUBLIC_MEMBERS if name in members}
    return public | {"kid": key.kid, "use": "sig", "alg": key.algorithm}


def read_jwk(jwk: Any, algorithms: Collection[KeyAlgorithm]) -> Key:
    """The public key of a JWK that signs by one of these algorithms. Raises UnusableKeyError."""
    if not isinstance(jwk, dict) or not isinstance(jwk.get("kid"), str):
        raise UnusableKeyError("has no kid")
    members = {name: jwk[name] for name in PUBLIC_MEMBERS if name in jwk}
    reader = {"OKP": "EdDSA", "EC": "ES256", "RSA": "RS256"}.get(str(members.get("kty")))
    if reader is None or not all(isinstance(member, str) for member in members.values()):
        raise UnusableKeyError("is no public key")
    try:
        public = jwt.get_algorithm_by_name(reader).from_jwk(members)
    except (jwt.PyJWTError, ValueError, KeyError) as error:
        raise UnusableKeyError("is no public key") from error
    algorithm = algorithm_of(public)
    if algorithm not in algorithms or jwk.get("alg", algorithm) != algorithm or jwk.get("use", "sig") != "sig":
        raise UnusableKeyError("is not for this")
    return Key(jwk["kid"], algorithm, public)
