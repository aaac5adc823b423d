"""Trusted issuers: other people's access tokens, and the public keys that verify them (RFC 7517)."""

import asyncio
import hashlib
import json
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import orjson
import structlog

from service.auth.keys import Key, UnusableKeyError, read_jwk
from service.auth.scopes import allowed_scopes
from service.auth.tokens import Authority, Caller
from service.errors import IssuerUnavailableError, StartupError
from service.settings import KeyAlgorithm, TrustedIssuer

FETCH_SECONDS = 5
"""How long an issuer may take to hand out its keys, the last byte included."""

MAX_JWKS_BYTES = 524_288
MAX_JWKS_KEYS = 100
RETRY_SECONDS = 60
"""How often an issuer is asked at most, whether it answers or not."""

STALE_SECONDS = 3600
"""How old keys get before they are fetched again though nobody named an unknown one: some may be gone by then."""

MAX_TEXT_LENGTH = 255
"""Of a `sub` (OpenID Connect Core §2), and of what else is taken over from a token."""

log = structlog.get_logger()


class NoKeysError(Exception):
    """An issuer's keys cannot be had, and this text says why."""


def read_key_set(path: Path) -> bytes:
    """What lies in a file. Raises NoKeysError."""
    try:
        if not path.is_file():
            raise NoKeysError(f"there is no file {path}")
        with path.open("rb") as file:
            return file.read(MAX_JWKS_BYTES + 1)
    except OSError as error:
        raise NoKeysError(f"{path} cannot be read: {error.strerror}") from error


async def fetch_key_set(url: str) -> bytes:
    """What lies at an address. Raises NoKeysError."""
    try:
        async with asyncio.timeout(FETCH_SECONDS):
            return await _download(url)
    except TimeoutError:
        raise NoKeysError(f"no whole answer within {FETCH_SECONDS} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise NoKeysError(f"{type(error).__name__}: {error}") from error


async def _download(url: str) -> bytes:
    """All that comes, or as much as shows that it is too much. Nothing is unpacked, as little can unpack to a lot."""
    headers = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
    content = bytearray()
    async with (
        httpx.AsyncClient(follow_redirects=False, timeout=FETCH_SECONDS) as client,
        client.stream("GET", url, headers=headers) as response,
    ):
        if response.status_code != httpx.codes.OK:
            raise NoKeysError(f"status {response.status_code}")
        async for piece in response.aiter_raw():
            content += piece
            if len(content) > MAX_JWKS_BYTES:
                break
    return bytes(content)


def parse_key_set(content: bytes, algorithms: Collection[KeyAlgorithm]) -> dict[str, Key]:
    """The keys of a JWK set by `kid`; those that are not for us are passed over (RFC 7517 §5). Raises NoKeysError."""
    if len(content) > MAX_JWKS_BYTES:
        raise NoKeysError(f"more than {MAX_JWKS_BYTES} bytes")
    try:
        jwks = orjson.loads(content)
    except ValueError:
        raise NoKeysError("no JSON") from None
    listed = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(listed, list) or len(listed) > MAX_JWKS_KEYS:
        raise NoKeysError(f"no JWK set of at most {MAX_JWKS_KEYS} keys")
    keys: dict[str, Key] = {}
    for jwk in listed:
        with suppress(UnusableKeyError):
            key = read_jwk(jwk, algorithms)
            keys.setdefault(str(key.kid), key)
    if not keys:
        raise NoKeysError(f"no key with a kid for {', '.join(sorted(algorithms))}")
    return keys


class IssuerKeys:
    """An issuer's public keys: fetched when they are needed, once for all who wait, and at most once a minute.

    What is known stays while nothing newer can be had.
    """

    def __init__(self, trusted: TrustedIssuer, clock: Callable[[], float] = time.monotonic) -> None:
        self._trusted = trusted
        self._clock = clock
        self._keys: dict[str, Key] = {}
        self._fetched_at = self._tried_at = -math.inf
        self._fetching: asyncio.Task[None] | None = None

    def get(self, kid: str) -> Key | None:
        """The key of this name among those that are known, which are fetched again meanwhile if they are old."""
        if self._keys and self._clock() - self._fetched_at >= STALE_SECONDS:
            self._start_fetching()
        return self._keys.get(kid)

    async def find(self, kid: str | None) -> Key | None:
        """The key that a token names, even a new one.

        Raises IssuerUnavailableError as long as no keys could be had at all: then nobody knows whether a token is bad.
        """
        if kid is None:
            return None
        key = self.get(kid)
        if key is None and (fetching := self._start_fetching()):
            await asyncio.shield(fetching)  # which others wait for too, when this request is broken off
            key = self._keys.get(kid)
        if not self._keys:
            raise IssuerUnavailableError(math.ceil(self._tried_at + RETRY_SECONDS - self._clock()))
        return key

    def read_file(self, path: Path) -> None:
        """Take the keys of a file. Raises NoKeysError."""
        self._tried_at = self._clock()
        self._take(read_key_set(path))

    def _take(self, content: bytes) -> None:
        self._keys = parse_key_set(content, self._trusted.algorithms)
        self._fetched_at = self._clock()

    def _start_fetching(self) -> asyncio.Task[None] | None:
        """The fetch that is under way, or a new one; None if the last was less than a minute ago."""
        if self._fetching is None and self._clock() - self._tried_at >= RETRY_SECONDS:
            self._tried_at = self._clock()
            self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            if self._trusted.jwks_path is not None:
                self.read_file(self._trusted.jwks_path)
            else:
                self._take(await fetch_key_set(self._trusted.jwks))
        except NoKeysError as error:
            log.error("the keys of a trusted issuer cannot be had", issuer=self._trusted.issuer, cause=str(error))  # noqa: TRY400
        finally:
            self._fetching = None


class IssuerAuthority(Authority):
    """A trusted issuer: whose tokens are taken, for scopes of ours."""

    token_types = ("at+jwt", "application/at+jwt", "jwt")
    required_claims = ("exp", "iat", "iss", "aud", "sub")

    def __init__(self, trusted: TrustedIssuer, known_scopes: Collection[str], keys: IssuerKeys) -> None:
        self.issuer = trusted.issuer
        self.audience = trusted.audience
        self._trusted = trusted
        self._keys = keys
        self._scopes = {
            theirs: frozenset(allowed_scopes(patterns, known_scopes)) for theirs, patterns in trusted.scopes.items()
        }

    async def find_key(self, kid: str | None) -> Key | None:
        """One of the issuer's. Raises IssuerUnavailableError."""
        return await self._keys.find(kid)

    def holds(self, key: Key) -> bool:
        """Whether it was among those that the issuer handed out last."""
        return self._keys.get(str(key.kid)) is key

    def caller_of(self, claims: Mapping[str, Any]) -> Caller:
        """Somebody who has no account here, and is never taken for one, nor for another issuer's."""
        subject = _text(claims, "sub")
        if subject is None:
            raise ValueError("sub is empty")
        name = _text(claims, self._trusted.username_claim) or subject
        return Caller(
            account_id=f"{self.issuer}|{subject}",
            username=f"{name} ({self.issuer})",
            scopes=self._granted(claims.get(self._trusted.scope_claim, "")),
            client_id=_text(claims, "client_id") or _text(claims, "azp") or "",
            token_id=_text(claims, "jti") or _digest(claims),
            issuer=self.issuer,
        )

    def _granted(self, theirs: Any) -> frozenset[str]:
        listed = theirs.split() if isinstance(theirs, str) else theirs
        if not isinstance(listed, list) or not all(isinstance(scope, str) for scope in listed):
            raise ValueError("scopes are a list, or a text with blanks between them")
        return frozenset().union(*(self._scopes.get(scope, ()) for scope in listed))


def _text(claims: Mapping[str, Any], name: str) -> str | None:
    """A claim that can be shown, logged and stored; None if it is missing or empty. Raises ValueError."""
    text = claims.get(name)
    if text is not None and not (isinstance(text, str) and text.isprintable() and len(text) <= MAX_TEXT_LENGTH):
        raise ValueError(f"{name} cannot be used")
    return text or None


def _digest(claims: Mapping[str, Any]) -> str:
    """What a token without `jti` is known by."""
    return hashlib.sha256(json.dumps(claims, sort_keys=True).encode()).hexdigest()


def trusted_authorities(
    issuers: Iterable[TrustedIssuer], own_issuer: str, known_scopes: Collection[str]
) -> list[IssuerAuthority]:
    """Those whose tokens are taken beside our own. Raises StartupError with all that is wrong."""
    authorities, faults = [], []
    for trusted in issuers:
        keys = IssuerKeys(trusted)
        faults += [f"{trusted.issuer}: {fault}" for fault in _faults(trusted, keys, own_issuer, known_scopes)]
        authorities.append(IssuerAuthority(trusted, known_scopes, keys))
    if faults:
        raise StartupError(f"DOSSIER_TRUSTED_ISSUERS: {'; '.join(faults)}")
    return authorities


def _faults(trusted: TrustedIssuer, keys: IssuerKeys, own_issuer: str, known_scopes: Collection[str]) -> Iterator[str]:
    if trusted.issuer == own_issuer:
        yield "is this service itself"
    for pattern in sorted({pattern for patterns in trusted.scopes.values() for pattern in patterns}):
        if not allowed_scopes([pattern], known_scopes):
            yield f"there is no scope {pattern}"
    if trusted.jwks_path is not None:
        try:
            keys.read_file(trusted.jwks_path)
        except NoKeysError as error:
            yield str(error)
