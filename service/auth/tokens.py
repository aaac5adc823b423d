"""Access tokens as signed JWTs (RFC 9068): ours are issued here, and ours and those of trusted issuers are verified."""

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from bson import ObjectId

from service.auth.key_ring import KeyRing
from service.auth.keys import Key
from service.errors import AuthenticationError

TOKEN_TYPE = "at+jwt"  # noqa: S105 - RFC 9068 §2.1, no password
AUDIENCE = "dossier"
LEEWAY_SECONDS = 60
MAX_REMEMBERED = 10_000
"""Tokens whose check is remembered, of less than a kilobyte each."""

REQUIRED_CLAIMS = ("exp", "iat", "iss", "aud", "sub", "jti", "client_id", "scope", "username")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: an account, and what its token allows."""

    account_id: str
    username: str
    scopes: frozenset[str]
    client_id: str
    """The program that asks for the account."""
    token_id: str
    session_id: str | None = None
    """Of the sign-in that the token goes back to; None where there is nothing to refresh."""
    epoch: int = 0
    """Of the account when it got a token without a session; see Account."""
    issuer: str | None = None
    """Who else answers for the caller, who then has no account here; None for ourselves."""


class TokenSigner:
    """Issues access tokens."""

    def __init__(self, keys: KeyRing, issuer: str, lifetime_seconds: int) -> None:
        self._keys = keys
        self._issuer = issuer
        self.lifetime_seconds = lifetime_seconds

    def issue(  # noqa: PLR0913 - what a token says is that much
        self,
        account_id: str,
        username: str,
        client_id: str,
        scopes: Sequence[str],
        session_id: str | None = None,
        *,
        epoch: int = 0,
    ) -> str:
        """A new token, of a session or else of an epoch of the account."""
        issued_at = int(time.time())
        claims: dict[str, str | int] = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": account_id,
            "username": username,
            "client_id": client_id,
            "scope": " ".join(scopes),
            "jti": secrets.token_urlsafe(16),
            "iat": issued_at,
            "exp": issued_at + self.lifetime_seconds,
        }
        if session_id is not None:
            claims["sid"] = session_id
        else:
            claims["epoch"] = epoch
        key = self._keys.signing_key
        assert key.signing is not None
        named = {} if key.kid is None else {"kid": key.kid}
        return jwt.encode(claims, key.signing, key.algorithm, headers={"typ": TOKEN_TYPE} | named)


class Authority(ABC):
    """Somebody whose tokens are taken: what these must be like, which keys verify them, whom they stand for."""

    issuer: str
    audience: str
    token_types: Collection[str]
    """Values of `typ`, in small letters."""
    required_claims: Sequence[str]

    @abstractmethod
    async def find_key(self, kid: str | None) -> Key | None:
        """The key that a token names; None if there is none."""

    @abstractmethod
    def holds(self, key: Key) -> bool:
        """Whether a key that was found may still be used."""

    @abstractmethod
    def caller_of(self, claims: Mapping[str, Any]) -> Caller:
        """Whom verified claims stand for. Raises ValueError if they cannot be what the issuer means."""


class OwnAuthority(Authority):
    """The service itself."""

    audience = AUDIENCE
    token_types = (TOKEN_TYPE,)
    required_claims = REQUIRED_CLAIMS

    def __init__(self, keys: KeyRing, issuer: str) -> None:
        self._keys = keys
        self.issuer = issuer

    async def find_key(self, kid: str | None) -> Key | None:
        """One of the service's own."""
        return self._keys.find(kid)

    def holds(self, key: Key) -> bool:
        """Whether it is still there."""
        return self._keys.find(key.kid) is key

    def caller_of(self, claims: Mapping[str, Any]) -> Caller:
        """An account."""
        session_id = claims.get("sid")
        texts = [claims["username"], claims["client_id"], claims["scope"], session_id or ""]
        epoch = claims.get("epoch", 0)
        ids = [claims["sub"], *([session_id] if session_id is not None else [])]
        is_whole = all(isinstance(text, str) and text.isprintable() for text in texts) and all(
            map(ObjectId.is_valid, ids)
        )
        if not is_whole or type(epoch) is not int:
            raise ValueError("a claim is not of its type")
        return Caller(
            claims["sub"],
            claims["username"],
            frozenset(claims["scope"].split()),
            claims["client_id"],
            claims["jti"],
            session_id,
            epoch,
        )


@dataclass(frozen=True, slots=True)
class Verified:
    """A token that was good."""

    caller: Caller
    authority: Authority
    key: Key
    good_until: float
    """In seconds of the epoch, the leeway included."""

    @property
    def is_good(self) -> bool:
        """Whether it still is: neither expired, nor has its key gone."""
        return self.good_until > time.time() and self.authority.holds(self.key)


class TokenVerifier:
    """Says whom a token stands for."""

    def __init__(self, authorities: Iterable[Authority]) -> None:
        """Where two have the same name, the first one counts: so ourselves before all others."""
        self._authorities: dict[str, Authority] = {}
        for authority in authorities:
            self._authorities.setdefault(authority.issuer, authority)
        self._verified: dict[str, Verified] = {}

    async def verify(self, token: str) -> Caller:
        """Who holds this token; remembered until it expires, or its key has gone.

        Raises AuthenticationError, which does not say what gave it away, and IssuerUnavailableError.
        """
        verified = self._verified.get(token)
        if verified is None or not verified.is_good:
            self._verified.pop(token, None)
            verified = await self._verify(token)
            if len(self._verified) >= MAX_REMEMBERED:
                self._verified.clear()
            self._verified[token] = verified
        return verified.caller

    async def _verify(self, token: str) -> Verified:
        try:
            authority, key = await self._find_key(token)
            claims = jwt.decode(
                token,
                key.verifying,
                algorithms=[key.algorithm],  # the key's, whatever the token says of itself
                audience=authority.audience,
                issuer=authority.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": list(authority.required_claims)},
            )
            return Verified(authority.caller_of(claims), authority, key, int(claims["exp"]) + LEEWAY_SECONDS)
        except jwt.ExpiredSignatureError as error:
            raise invalid_token("The access token has expired.") from error
        except (jwt.PyJWTError, ValueError) as error:
            raise invalid_token("The access token is not valid.") from error

    async def _find_key(self, token: str) -> tuple[Authority, Key]:
        """Whose token it says to be, and the key that it names; nothing else of it is believed. Raises ValueError."""
        unverified = jwt.decode_complete(token, options={"verify_signature": False})
        header, issuer = unverified["header"], unverified["payload"].get("iss")
        authority = self._authorities.get(issuer) if isinstance(issuer, str) else None
        if authority is None:
            raise ValueError("nobody's whom we trust")
        if str(header.get("typ")).lower() not in authority.token_types or "crit" in header:  # RFC 8725 §3.11, §3.10
            raise ValueError("no access token")
        key = await authority.find_key(header.get("kid"))
        if key is None:
            raise ValueError("no such key")
        return authority, key


def claims_of(token: str) -> Mapping[str, Any]:
    """What a token says that has been verified."""
    claims: Mapping[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def invalid_token(detail: str) -> AuthenticationError:
    """RFC 6750 §3.1."""
    return AuthenticationError(
        detail, headers={"WWW-Authenticate": f'Bearer error="invalid_token", error_description="{detail}"'}
    )
