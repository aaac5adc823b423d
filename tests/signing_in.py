"""Accounts that sign in, and what they say at OAuth2's endpoints."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote_plus

import httpx
from bson import ObjectId

from service.api.dependencies import Services
from service.auth.accounts import Account, Accounts
from service.auth.sessions import Sessions
from service.auth.standing import Standing
from service.auth.tokens import OwnAuthority, TokenVerifier

TOKEN = "/api/v1/auth/token"
REVOKE = "/api/v1/auth/revoke"
INTROSPECT = "/api/v1/auth/introspect"
ME = "/api/v1/auth/me"
PASSWORD = "correct horse"
CLIENT_SECRET = "a secret: of the client's + 100%"
"""With what has to be encoded in a form, and again in HTTP Basic."""

CLIENT = "nightly"


async def add_person(services: Services, username: str, *scopes: str) -> str:
    """An account with `PASSWORD`; its id."""
    await services.accounts.create(username, PASSWORD, list(scopes))
    return await id_of(username)


async def add_client(services: Services, username: str, *scopes: str) -> str:
    """A client's account with `CLIENT_SECRET`; its id."""
    await services.accounts.create(username, CLIENT_SECRET, list(scopes))
    await set_account(username, kind="client")
    return await id_of(username)


async def id_of(username: str) -> str:
    account = await Account.find_one({"username": username})
    assert account is not None
    return str(account.id)


async def set_account(username: str, **changes: Any) -> None:
    """Change it in the database, as another service would."""
    result = await Account.get_pymongo_collection().update_one({"username": username}, {"$set": changes})
    assert result.matched_count == 1


def password_form(username: str = "ada", **more: str) -> dict[str, str]:
    return {"grant_type": "password", "username": username, "password": PASSWORD} | more


async def sign_in(client: httpx.AsyncClient, username: str = "ada", **more: str) -> dict[str, Any]:
    """The answer to the password grant."""
    return await granted(client, password_form(username, **more))


async def granted(
    client: httpx.AsyncClient, form: dict[str, str], auth: tuple[str, str] | None = None
) -> dict[str, Any]:
    """A good answer of the token endpoint."""
    response = await client.post(TOKEN, data=form, auth=basic(auth))
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["pragma"] == "no-cache"
    answer: dict[str, Any] = response.json()
    return answer


async def refreshed(client: httpx.AsyncClient, token: str, **more: str) -> dict[str, Any]:
    """A good answer to the refresh grant."""
    return await granted(client, refresh_form(token, **more))


def refresh_form(token: str, **more: str) -> dict[str, str]:
    return {"grant_type": "refresh_token", "refresh_token": token} | more


async def refusal(
    client: httpx.AsyncClient, form: dict[str, str], path: str = TOKEN, auth: tuple[str, str] | None = None
) -> str:
    """Why it is refused, in the form of RFC 6749 §5.2."""
    response = await client.post(path, data=form, auth=basic(auth))
    error: str = response.json()["error"]
    assert response.status_code == (401 if error == "invalid_client" else 400)
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["pragma"] == "no-cache"
    if error == "invalid_client":
        assert response.headers["www-authenticate"].startswith("Basic ")
    assert PASSWORD not in response.text
    assert CLIENT_SECRET not in response.text
    return error


def basic(credentials: tuple[str, str] | None) -> httpx.Auth:
    """As RFC 6749 §2.3.1 wants it: each encoded as in a form before HTTP Basic."""
    return httpx.BasicAuth(*map(quote_plus, credentials)) if credentials else httpx.Auth()


def bearer(answer: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {answer['access_token']}"}


async def status_of(client: httpx.AsyncClient, answer: dict[str, Any]) -> int:
    """What an access token gets."""
    return (await client.get(ME, headers=bearer(answer))).status_code


def session_id(services: Services, answer: dict[str, Any]) -> ObjectId:
    token = services.sessions.read(answer["refresh_token"])
    assert token is not None
    return token.session_id


def another_service(services: Services, clock: Callable[[], float] = time.monotonic) -> Services:
    """The parts of another service on the same database, which has seen no token yet."""
    settings = services.settings
    assert settings.secret_key is not None
    secret_key, seconds = settings.secret_key.get_secret_value(), settings.operation_timeout_seconds
    accounts = Accounts(seconds)
    sessions = Sessions(secret_key, settings.refresh_token_days, seconds)
    return replace(
        services,
        accounts=accounts,
        sessions=sessions,
        standing=Standing(accounts, sessions, services.scopes, seconds, clock),
        verifier=TokenVerifier([OwnAuthority(services.keys, settings.issuer)]),
    )
