"""Access tokens as signed JWTs (RFC 9068)."""

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from bson import ObjectId

from service.errors import AuthenticationError

ALGORITHM = "HS256"
TOKEN_TYPE = "at+jwt"  # noqa: S105 - RFC 9068 §2.1, no password
ISSUER = AUDIENCE = "dossier"
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
    issuer: str | None = None
    """Who else answers for the caller, who then has no account here; None for ourselves."""


class TokenSigner:
    """Issues access tokens, and takes its own back."""

    def __init__(self, secret_key: str, lifetime_seconds: int) -> None:
        self._key = secret_key.encode()
        self._verified: dict[str, tuple[Caller, float]] = {}
        self.lifetime_seconds = lifetime_seconds

    def issue(
        self, account_id: str, username: str, client_id: str, scopes: Sequence[str], session_id: str | None = None
    ) -> str:
        """A new token."""
        issued_at = int(time.time())
        claims: dict[str, str | int] = {
            "iss": ISSUER,
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
        return jwt.encode(claims, self._key, ALGORITHM, headers={"typ": TOKEN_TYPE})

    def verify(self, token: str) -> Caller:
        """Who holds this token; remembered until it expires.

        Raises AuthenticationError, which does not say what gave it away.
        """
        caller, good_until = self._verified.get(token, (None, 0.0))
        if caller is None or good_until <= time.time():
            self._verified.pop(token, None)
            caller, good_until = self._verify(token)
            if len(self._verified) >= MAX_REMEMBERED:
                self._verified.clear()
            self._verified[token] = caller, good_until
        return caller

    def _verify(self, token: str) -> tuple[Caller, float]:
        try:
            decoded = jwt.decode_complete(
                token,
                self._key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                leeway=LEEWAY_SECONDS,
                options={"require": list(REQUIRED_CLAIMS)},
            )
        except jwt.ExpiredSignatureError as error:
            raise invalid_token("The access token has expired.") from error
        except jwt.PyJWTError as error:
            raise invalid_token("The access token is not valid.") from error
        header, claims = decoded["header"], decoded["payload"]
        session_id = claims.get("sid")
        texts = [claims["sub"], claims["username"], claims["client_id"], claims["scope"], session_id or ""]
        is_ours = header.get("typ") == TOKEN_TYPE and "crit" not in header
        if not is_ours or not all(isinstance(text, str) for text in texts) or not ObjectId.is_valid(claims["sub"]):
            raise invalid_token("The access token is not valid.")
        caller = Caller(
            claims["sub"],
            claims["username"],
            frozenset(claims["scope"].split()),
            claims["client_id"],
            claims["jti"],
            session_id,
        )
        return caller, claims["exp"] + LEEWAY_SECONDS


def claims_of(token: str) -> Mapping[str, Any]:
    """What a token says that has been verified."""
    claims: Mapping[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def invalid_token(detail: str) -> AuthenticationError:
    """RFC 6750 §3.1."""
    return AuthenticationError(
        detail, headers={"WWW-Authenticate": f'Bearer error="invalid_token", error_description="{detail}"'}
    )
