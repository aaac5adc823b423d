"""Grants (RFC 6749 §1.3): what a client may show to get an access token, and what it gets for that."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from fastapi import Request

from service.api.clients import SECRET_NEEDED, Form, needed, note_refused_refresh, note_sign_in, prove, refuse_unproved
from service.api.dependencies import services_of
from service.auth.accounts import Account
from service.auth.refresh_tokens import RefreshToken
from service.auth.scopes import allowed_scopes
from service.auth.sessions import Client
from service.errors import InvalidClientError, TokenRequestError

WRONG_PASSWORD = "The name or the password is wrong, or the account is disabled."  # noqa: S105 - a message
WRONG_TOKEN = "The refresh token is not good any more, or was given to another client."  # noqa: S105 - likewise


@dataclass(frozen=True, slots=True)
class Grant:
    """What was granted."""

    account: Account
    client: str
    """What the client is called in tokens."""
    scopes: Sequence[str]
    refresh_token: RefreshToken | None = None
    """The session's next one; with client credentials there is no session, as they are always at hand (§4.4.3)."""


async def by_password(request: Request, form: Form, client: Client) -> Grant:
    """Of a person (§4.3). Raises TokenRequestError.

    Of an account that is changed meanwhile the session is of its earlier epoch, and does not count.
    """
    services = services_of(request)
    username, password = needed(form, "username", "password")
    account = await prove(request, "person", username, password, client.name)
    if account is None:
        raise TokenRequestError("invalid_grant", WRONG_PASSWORD)
    await refuse_unproved(request, client)
    scopes = await _sign_in_scopes(request, form, account, client)
    token = await services.sessions.start(account, client, scopes)
    await note_sign_in(request, account, client)
    return Grant(account, client.name, scopes, token)


async def by_client_credentials(request: Request, form: Form, client: Client) -> Grant:
    """Of a program for itself (§4.4). Raises TokenRequestError."""
    if client.account is None:
        raise InvalidClientError(SECRET_NEEDED)
    scopes = await _sign_in_scopes(request, form, client.account, client)
    await note_sign_in(request, client.account, client)
    return Grant(client.account, client.name, scopes)


async def by_refresh_token(request: Request, form: Form, client: Client) -> Grant:
    """Of a session (§6), which goes on with the next token. Raises TokenRequestError.

    All that could be wrong is looked at before the token is used: a client that is refused still has a good one.
    """
    services = services_of(request)
    [text] = needed(form, "refresh_token")
    token = services.sessions.read(text)
    if token is None:
        raise TokenRequestError("invalid_grant", WRONG_TOKEN)
    session = await services.sessions.find_usable(token)
    if session is None:
        raise await _refusal_of(request, token, client)
    if client.has_yet_to_prove(session):
        await note_refused_refresh(request, session, client, "invalid_client")
        raise InvalidClientError(SECRET_NEEDED)
    account = await services.standing.account_behind(session)
    if account is None or not client.owns(session):
        await note_refused_refresh(request, session, client, "invalid_grant")
        raise TokenRequestError("invalid_grant", WRONG_TOKEN)
    present = set(allowed_scopes(account.patterns, services.scopes))
    scopes = _narrowed([scope for scope in session.scopes if scope in present], form)
    successor = await services.sessions.rotate(token)
    if successor is None:
        raise await _refusal_of(request, token, client)
    return Grant(account, session.client_id, scopes, successor)


GRANTS: Mapping[str, Callable[[Request, Form, Client], Awaitable[Grant]]] = {
    "password": by_password,
    "client_credentials": by_client_credentials,
    "refresh_token": by_refresh_token,
}


async def _sign_in_scopes(request: Request, form: Form, account: Account, client: Client) -> list[str]:
    try:
        return _narrowed(allowed_scopes(account.patterns, services_of(request).scopes), form)
    except TokenRequestError as error:
        await note_sign_in(request, account, client, error.error)
        raise


def _narrowed(allowed: Sequence[str], form: Form) -> list[str]:
    """What is asked for and allowed (§3.3). Raises TokenRequestError if that is nothing."""
    asked: Collection[str] = form.get("scope", "").split() or allowed
    granted = [scope for scope in allowed if scope in asked]
    if asked and not granted:
        raise TokenRequestError("invalid_scope", "The account has none of these scopes.")
    return granted


async def _refusal_of(request: Request, token: RefreshToken, client: Client) -> TokenRequestError:
    """Why a token of ours is not usable: if that is because it was used before, its session ends (RFC 9700 §4.14.2)."""
    services = services_of(request)
    session = await services.sessions.revoke_reused(token)
    if session is not None:
        services.standing.forget(str(token.session_id))
        await note_refused_refresh(request, session, client, "refresh_token_reused")
    return TokenRequestError("invalid_grant", WRONG_TOKEN)
