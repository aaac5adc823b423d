"""Tokens that somebody shows, of either kind, to have them revoked (RFC 7009) or looked into (RFC 7662)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from fastapi import Request

from service.api.clients import SECRET_NEEDED
from service.api.dependencies import Services, actor_of, services_of
from service.auth.accounts import Account
from service.auth.refresh_tokens import RefreshToken
from service.auth.scopes import ACCOUNTS_ADMIN, allowed_scopes
from service.auth.sessions import Client, Session
from service.auth.tokens import Caller, claims_of
from service.errors import AuthenticationError, InvalidClientError, TokenRequestError

INACTIVE: Mapping[str, Any] = {"active": False}
"""All that is said of a token that is not good, or not for the asker to know of (RFC 7662 §2.2)."""

TOKEN_CLAIMS = ("iss", "aud", "sub", "client_id", "username", "jti", "iat", "exp")


@dataclass(frozen=True, slots=True)
class Asker:
    """Who wants to know of a token: of their account, of what it got for others, and with `accounts:admin` of all."""

    account_id: str
    is_admin: bool = False

    @classmethod
    def of_caller(cls, caller: Caller) -> Self:
        """Whoever shows an access token of their own."""
        return cls(caller.account_id, is_admin=ACCOUNTS_ADMIN in caller.scopes)

    @classmethod
    def of_client(cls, account: Account) -> Self:
        """A client that has proved itself."""
        return cls(str(account.id), is_admin=bool(allowed_scopes(account.patterns, [ACCOUNTS_ADMIN])))

    def may_know(self, account_id: str, session: Session | None = None) -> bool:
        """Whether of a token for this account, and of this session.

        A client is told by its account: its name may have been a public client's before.
        """
        client_account_id = session.client_account_id if session else None
        return self.is_admin or self.account_id in {account_id, client_account_id}


async def revoke(request: Request, text: str, client: Client) -> None:
    """End the session of a token, or a token that has none. Of what is no good token, nothing is said.

    Raises TokenRequestError for a token that was issued to another client.
    """
    services = services_of(request)
    refresh_token = services.sessions.read(text)
    if refresh_token is not None:
        await _end_session(request, str(refresh_token.session_id), client)
        return
    caller = await _verified(services, text)
    if caller is None or caller.issuer is not None:
        return
    if caller.session_id is not None:
        await _end_session(request, caller.session_id, client)
        return
    if client.account is None:
        raise InvalidClientError(SECRET_NEEDED)
    if client.account_id != caller.account_id:
        raise _issued_to_another()
    if await services.standing.revoke_token(caller.token_id, claims_of(text)["exp"]):
        actor = actor_of(request, caller.username, caller.client_id, caller.account_id)
        await services.audit.note("sign_out", actor)


async def _end_session(request: Request, session_id: str, client: Client) -> None:
    services = services_of(request)
    session = await services.sessions.find(session_id)
    if session is None:
        return
    if client.has_yet_to_prove(session):
        raise InvalidClientError(SECRET_NEEDED)
    if not client.owns(session):
        raise _issued_to_another()
    services.standing.forget(session_id)
    if await services.sessions.revoke(session_id):
        actor = actor_of(request, session.account, session.client_id, session.account_id)
        await services.audit.note("sign_out", actor)


def _issued_to_another() -> TokenRequestError:
    return TokenRequestError("invalid_grant", "The token was issued to another client.")  # RFC 7009 §2.1


async def introspect(request: Request, text: str, asker: Asker) -> Mapping[str, Any]:
    """What the asker may know of a token."""
    services = services_of(request)
    refresh_token = services.sessions.read(text)
    if refresh_token is not None:
        return await _of_refresh_token(services, refresh_token, asker)
    return await _of_access_token(services, text, asker)


async def _of_access_token(services: Services, text: str, asker: Asker) -> Mapping[str, Any]:
    caller = await _verified(services, text)
    if caller is None:
        return INACTIVE
    session = await services.sessions.find(caller.session_id) if caller.session_id else None
    if not asker.may_know(caller.account_id, session):
        return INACTIVE
    try:
        caller = await services.standing.check(caller)
    except AuthenticationError:
        return INACTIVE
    claims = claims_of(text)
    return {
        "active": True,
        "token_type": "Bearer",
        "scope": " ".join(sorted(caller.scopes)),
        **{name: claims[name] for name in TOKEN_CLAIMS if name in claims},
    }


async def _of_refresh_token(services: Services, token: RefreshToken, asker: Asker) -> Mapping[str, Any]:
    """Without a `token_type`, so that nobody takes it for an access token."""
    session = await services.sessions.find_usable(token)
    if session is None:
        return INACTIVE
    account = await services.standing.account_behind(session)
    if account is None or not asker.may_know(session.account_id, session):
        return INACTIVE
    present = set(allowed_scopes(account.patterns, services.scopes))
    return {
        "active": True,
        "scope": " ".join(scope for scope in session.scopes if scope in present),
        "client_id": session.client_id,
        "username": account.username,
        "sub": session.account_id,
        "iat": _seconds(session.rotated_at or session.created_at),
        "exp": _seconds(session.expires_at),
    }


async def _verified(services: Services, text: str) -> Caller | None:
    try:
        return await services.verifier.verify(text)
    except AuthenticationError:
        return None


def _seconds(moment: datetime) -> int:
    """Since 1970; what MongoDB hands out is in UTC and does not say so."""
    return int(moment.replace(tzinfo=UTC).timestamp())
