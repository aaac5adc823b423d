"""The form of an OAuth2 request (RFC 6749 §3.2), and the client that sends it."""

import base64
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote_plus

from fastapi import Request

from service.api.bodies import media_type_of, read_body
from service.api.dependencies import actor_of, address_of, services_of
from service.auth.accounts import Account, AccountKind
from service.auth.sessions import Client, Session
from service.auth.throttle import Subject, note_exhausted
from service.errors import InvalidClientError, TokenRequestError
from service.settings import DEFAULT_CLIENT

FORM = "application/x-www-form-urlencoded"
MAX_FORM_BYTES = 16_384
MAX_FIELDS = 20
MAX_NAME_LENGTH = 100
CLIENT_ID = re.compile(rf"[\x20-\x7e]{{0,{MAX_NAME_LENGTH}}}")
"""RFC 6749 Appendix A.1, and short enough to be in every token."""

UNKNOWN_NAME = "(unknown)"
"""In the audit trail, of whoever is no account; with its brackets it is no account's name."""

SECRET_NEEDED = "The client's id and secret are needed."  # noqa: S105 - a message

Form = Mapping[str, str]


async def read_form(request: Request) -> Form:
    """What was sent; parameters without a value count as left out. Raises TokenRequestError and BodyTooLargeError."""
    if media_type_of(request) != FORM:
        raise TokenRequestError("invalid_request", f"Send {FORM}.")
    body = await read_body(request, MAX_FORM_BYTES)
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise TokenRequestError("invalid_request", "The form cannot be read.") from None
    if len(dict(pairs)) < len(pairs):
        raise TokenRequestError("invalid_request", "A parameter comes twice.")  # RFC 6749 §3.2
    form = {name: value for name, value in pairs if value}
    if not CLIENT_ID.fullmatch(form.get("client_id", "")):
        message = f"A client_id has up to {MAX_NAME_LENGTH} printable ASCII characters."
        raise TokenRequestError("invalid_request", message)
    return form


def needed(form: Form, *names: str) -> list[str]:
    """The values of these parameters. Raises TokenRequestError if one is not there."""
    if not all(name in form for name in names):
        raise TokenRequestError("invalid_request", f"{' and '.join(names)} {'are' if names[1:] else 'is'} needed.")
    return [form[name] for name in names]


async def client_of(request: Request, form: Form) -> Client:
    """The client that asks, authenticated if it shows a secret (RFC 6749 §2.3).

    One that shows none may still be a confidential one: what it asks for tells whether it had to.
    Raises InvalidClientError, and TokenRequestError for what is no way to say who one is.
    """
    client_id, secret = _credentials(request, form)
    if client_id is None:
        return Client()
    if secret is not None:
        account = await prove(request, "client", client_id, secret, client_id)
        if account is None:
            raise InvalidClientError("The client's id or its secret is wrong, or it is disabled.")
        return Client(client_id, account)
    return Client(client_id)


async def refuse_unproved(request: Request, client: Client) -> None:
    """Nobody signs in by a confidential client that has not shown its secret. Raises InvalidClientError.

    That there is one of this name is public (RFC 6749 §2.2); who tries names is throttled and on record all the same.
    """
    is_unproved = client.client_id is not None and client.account is None
    if is_unproved and await services_of(request).accounts.is_client(client.name):
        await prove(request, "client", client.name, "", client.name)
        raise InvalidClientError(SECRET_NEEDED)


def _credentials(request: Request, form: Form) -> tuple[str | None, str | None]:
    """A client's id and secret, by HTTP Basic or in the form; an empty one is none (RFC 6749 §2.3.1)."""
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        if "client_secret" in form and "client_id" not in form:
            raise InvalidClientError("A client_secret comes with a client_id.")
        return form.get("client_id"), form.get("client_secret")
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
        client_id, secret = (unquote_plus(part, errors="strict") for part in text.split(":", 1))
    except ValueError:
        raise InvalidClientError("The Authorization header cannot be read.") from None
    if "client_secret" in form or form.get("client_id", client_id) != client_id:
        raise TokenRequestError("invalid_request", "The client says in two ways who it is.")
    if not CLIENT_ID.fullmatch(client_id) or (secret and not client_id):
        raise InvalidClientError("The Authorization header has no client's id.")
    return client_id or None, secret or None


async def prove(request: Request, kind: AccountKind, name: str, secret: str, client_id: str) -> Account | None:
    """The account that has this name and secret. That there is none is written into the audit trail.

    All names and secrets that come to OAuth2's endpoints come through here. Raises TooManyAttemptsError.
    """
    services = services_of(request)
    exhausted: list[Subject] = []
    account = await services.throttle.attempt(
        name, address_of(request), lambda: services.accounts.authenticate(name, secret, kind), exhausted.append
    )
    if account is None:
        reason = "invalid_client" if kind == "client" else "invalid_grant"
        # What is no account's name may be a password, typed into the wrong field.
        is_known = await services.accounts.has(name)
        is_client = client_id == DEFAULT_CLIENT or await services.accounts.has(client_id)
        actor = actor_of(request, name if is_known else UNKNOWN_NAME, client_id if is_client else None)
        await services.audit.note("sign_in", actor, "refused", reason=reason)
        await note_exhausted(services.audit, actor, exhausted)
    return account


async def note_sign_in(request: Request, account: Account, client: Client, reason: str | None = None) -> None:
    """Write into the audit trail that an account got a token, or why it got none though it proved itself."""
    actor = actor_of(request, account.username, client.name, str(account.id))
    await services_of(request).audit.note("sign_in", actor, "refused" if reason else "done", reason=reason)


async def note_refused_refresh(request: Request, session: Session, client: Client, reason: str) -> None:
    """Write down that somebody had a refresh token and got nothing for it. `client` is who showed it."""
    client_id = session.client_id if client.owns(session) else client.name
    actor = actor_of(request, session.account, client_id, session.account_id)
    await services_of(request).audit.note("sign_in", actor, "refused", reason=reason)
