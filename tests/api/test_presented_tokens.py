"""Revocation (RFC 7009) and introspection (RFC 7662)."""

import time
from datetime import UTC
from typing import Any

import httpx
import jwt
import pytest

from service.api.dependencies import Services
from service.auth.standing import RevokedToken
from service.store.audit_records import AuditEvent
from tests.conftest import CALLER_ID
from tests.signing_in import (
    CLIENT,
    CLIENT_SECRET,
    INTROSPECT,
    REVOKE,
    add_client,
    add_person,
    basic,
    bearer,
    granted,
    id_of,
    password_form,
    refresh_form,
    refreshed,
    refusal,
    set_account,
    sign_in,
    status_of,
)

OTHER = "weekly"
ADMIN = "auditor"
AS_CLIENT = (CLIENT, CLIENT_SECRET)
AS_OTHER = (OTHER, CLIENT_SECRET)
AS_ADMIN = (ADMIN, CLIENT_SECRET)
CREDENTIALS = {"grant_type": "client_credentials"}


@pytest.fixture(autouse=True)
async def _accounts(anonymous: httpx.AsyncClient, services: Services) -> None:
    await add_person(services, "ada", "users:read")
    for name, scope in ((CLIENT, "items:read"), (OTHER, "items:read"), (ADMIN, "accounts:admin")):
        await add_client(services, name, scope)


async def revoke(client: httpx.AsyncClient, token: str, auth: tuple[str, str] | None = None, **more: str) -> None:
    response = await client.post(REVOKE, data={"token": token} | more, auth=basic(auth))
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["cache-control"] == "no-store"


async def introspected(client: httpx.AsyncClient, token: str, auth: tuple[str, str] | dict[str, str]) -> dict[str, Any]:
    """What is said of a token to a client, or to whoever has these headers."""
    headers, credentials = (auth, None) if isinstance(auth, dict) else ({}, auth)
    response = await client.post(INTROSPECT, data={"token": token}, headers=headers, auth=basic(credentials))
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    answer: dict[str, Any] = response.json()
    return answer


INACTIVE = {"active": False}


async def sign_outs() -> list[tuple[str, str | None]]:
    events = await AuditEvent.find({"action": "sign_out"}).sort("_id").to_list()
    return [(event.account, event.client_id) for event in events]


# Revocation


@pytest.mark.parametrize("kind", ["access_token", "refresh_token", "first_refresh_token"])
async def test_either_token_ends_the_sign_in(anonymous: httpx.AsyncClient, kind: str) -> None:
    first = await sign_in(anonymous)
    second = await refreshed(anonymous, first["refresh_token"])
    other = await sign_in(anonymous)
    assert [await status_of(anonymous, answer) for answer in (first, second, other)] == [200, 200, 200]

    token = first["refresh_token"] if kind == "first_refresh_token" else second[kind]
    await revoke(anonymous, token, token_type_hint="nonsense")

    assert [await status_of(anonymous, answer) for answer in (first, second, other)] == [401, 401, 200]
    assert await refusal(anonymous, refresh_form(second["refresh_token"])) == "invalid_grant"
    await revoke(anonymous, token)
    assert await sign_outs() == [("ada", "dossier")], "the second time it was no news"
    await refreshed(anonymous, other["refresh_token"])


async def test_a_token_without_a_session_is_denied_by_itself(anonymous: httpx.AsyncClient) -> None:
    token, other = [await granted(anonymous, CREDENTIALS, AS_CLIENT) for _ in range(2)]
    assert await status_of(anonymous, token) == 200

    await revoke(anonymous, token["access_token"], AS_CLIENT)

    assert [await status_of(anonymous, answer) for answer in (token, other)] == [401, 200]
    [denied] = await RevokedToken.find({}).to_list()
    claims = jwt.decode(token["access_token"], options={"verify_signature": False})
    assert denied.id == claims["jti"]
    assert denied.expires_at.replace(tzinfo=UTC).timestamp() > claims["exp"]
    await revoke(anonymous, token["access_token"], AS_CLIENT)
    assert await sign_outs() == [(CLIENT, CLIENT)]


@pytest.mark.parametrize("token", ["nonsense", "a.b.c", "é", "A" * 64, '{"$ne": null}'])
async def test_what_is_no_token_is_as_good_as_revoked(anonymous: httpx.AsyncClient, token: str) -> None:
    await revoke(anonymous, token)
    await revoke(anonymous, token, AS_CLIENT)
    assert await introspected(anonymous, token, AS_ADMIN) == INACTIVE
    assert await sign_outs() == []


async def test_nobody_ends_what_was_issued_to_another_client(anonymous: httpx.AsyncClient) -> None:
    own = await granted(anonymous, CREDENTIALS, AS_CLIENT)
    of_client = await granted(anonymous, password_form(), AS_CLIENT)
    of_public = await sign_in(anonymous, client_id="app")
    refused: list[tuple[str, tuple[str, str] | None, dict[str, str], str]] = [
        (own["access_token"], AS_OTHER, {}, "invalid_grant"),
        (own["access_token"], None, {}, "invalid_client"),
        (own["access_token"], None, {"client_id": CLIENT}, "invalid_client"),
        (of_client["access_token"], AS_OTHER, {}, "invalid_grant"),
        (of_client["refresh_token"], AS_OTHER, {}, "invalid_grant"),
        (of_client["refresh_token"], None, {}, "invalid_grant"),
        (of_client["refresh_token"], None, {"client_id": CLIENT}, "invalid_client"),
        (of_client["refresh_token"], (CLIENT, "wrong"), {}, "invalid_client"),
        (of_public["refresh_token"], AS_CLIENT, {}, "invalid_grant"),
        (of_public["access_token"], None, {"client_id": "another"}, "invalid_grant"),
    ]

    errors = [await refusal(anonymous, {"token": token} | form, REVOKE, auth) for token, auth, form, _ in refused]

    assert errors == [error for *_, error in refused]
    assert [await status_of(anonymous, answer) for answer in (own, of_client, of_public)] == [200, 200, 200]
    await revoke(anonymous, of_client["access_token"], AS_CLIENT)
    await revoke(anonymous, of_public["access_token"], client_id="app")
    assert await sign_outs() == [("ada", CLIENT), ("ada", "app")]


@pytest.mark.parametrize("path", [REVOKE, INTROSPECT])
async def test_a_token_is_needed(anonymous: httpx.AsyncClient, path: str) -> None:
    assert await refusal(anonymous, {"token": ""}, path, AS_CLIENT) == "invalid_request"


# Introspection


async def test_a_client_learns_what_its_tokens_are_good_for(anonymous: httpx.AsyncClient) -> None:
    answer = await granted(anonymous, password_form(), AS_CLIENT)
    own = await granted(anonymous, CREDENTIALS, AS_CLIENT)

    said = await introspected(anonymous, answer["access_token"], AS_CLIENT)
    claims = jwt.decode(answer["access_token"], options={"verify_signature": False})
    del claims["sid"]
    assert said == claims | {"active": True, "token_type": "Bearer", "scope": "users:read"}
    assert said["exp"] - said["iat"] == answer["expires_in"]

    said = await introspected(anonymous, answer["refresh_token"], AS_CLIENT)
    assert abs(said.pop("iat") - time.time()) < 60
    assert abs(said.pop("exp") - time.time() - 14 * 86_400) < 60
    assert said == {
        "active": True,
        "scope": "users:read",
        "client_id": CLIENT,
        "username": "ada",
        "sub": await id_of("ada"),
    }
    assert (await introspected(anonymous, own["access_token"], AS_CLIENT))["username"] == CLIENT


async def test_each_learns_of_their_own_tokens_and_an_administrator_of_all(anonymous: httpx.AsyncClient) -> None:
    by_client = await granted(anonymous, password_form(), AS_CLIENT)
    by_app = await sign_in(anonymous, client_id="app")
    own = await granted(anonymous, CREDENTIALS, AS_CLIENT)
    as_ada = bearer(by_app)

    for answer in (by_client, by_app):
        for kind in ("access_token", "refresh_token"):
            assert (await introspected(anonymous, answer[kind], as_ada))["active"]
            assert (await introspected(anonymous, answer[kind], AS_ADMIN))["active"]
            assert await introspected(anonymous, answer[kind], AS_OTHER) == INACTIVE
    assert await introspected(anonymous, by_app["access_token"], AS_CLIENT) == INACTIVE
    assert await introspected(anonymous, by_app["refresh_token"], AS_CLIENT) == INACTIVE
    assert await introspected(anonymous, own["access_token"], as_ada) == INACTIVE
    admin = await granted(anonymous, CREDENTIALS, AS_ADMIN)
    assert (await introspected(anonymous, own["access_token"], bearer(admin)))["active"]


async def test_a_new_client_has_nothing_of_a_public_one_of_its_name(
    anonymous: httpx.AsyncClient, services: Services
) -> None:
    first, second = [await sign_in(anonymous, client_id="app") for _ in range(2)]
    await add_client(services, "app")
    as_app = ("app", CLIENT_SECRET)

    for kind in ("access_token", "refresh_token"):
        assert await introspected(anonymous, first[kind], as_app) == INACTIVE
        assert await refusal(anonymous, {"token": first[kind]}, REVOKE, as_app) == "invalid_grant"
    assert await refusal(anonymous, refresh_form(first["refresh_token"]), auth=as_app) == "invalid_grant"
    assert (await refreshed(anonymous, first["refresh_token"], client_id="app"))["refresh_token"]
    await revoke(anonymous, first["access_token"], client_id="app")
    await revoke(anonymous, second["refresh_token"], client_id="app")
    assert await sign_outs() == [("ada", "app"), ("ada", "app")]
    assert await refusal(anonymous, password_form(client_id="app")) == "invalid_client", "the name is taken"
    own = await granted(anonymous, password_form(), as_app)
    assert (await introspected(anonymous, own["access_token"], as_app))["active"]


async def test_a_client_asks_by_a_token_of_its_own_too(anonymous: httpx.AsyncClient) -> None:
    own = await granted(anonymous, CREDENTIALS, AS_CLIENT)
    for_ada = await granted(anonymous, password_form(), AS_CLIENT)

    for kind in ("access_token", "refresh_token"):
        assert (await introspected(anonymous, for_ada[kind], bearer(own)))["active"]


async def test_what_has_ended_is_inactive(anonymous: httpx.AsyncClient, services: Services) -> None:
    first = await sign_in(anonymous)
    second = await refreshed(anonymous, (await refreshed(anonymous, first["refresh_token"]))["refresh_token"])
    revoked = await sign_in(anonymous)
    await revoke(anonymous, revoked["refresh_token"])

    assert await introspected(anonymous, first["refresh_token"], AS_ADMIN) == INACTIVE, "its turn is over"
    assert await introspected(anonymous, revoked["access_token"], AS_ADMIN) == INACTIVE
    assert await introspected(anonymous, revoked["refresh_token"], AS_ADMIN) == INACTIVE
    assert (await introspected(anonymous, second["refresh_token"], AS_ADMIN))["active"], "to look is not to use"
    await set_account("ada", is_active=False)
    assert await introspected(anonymous, second["access_token"], AS_ADMIN) == INACTIVE
    assert await introspected(anonymous, second["refresh_token"], AS_ADMIN) == INACTIVE
    expired = jwt.encode({"exp": 1}, "k" * 32, "HS256")
    assert await introspected(anonymous, expired, AS_ADMIN) == INACTIVE


async def test_who_asks_about_tokens_proves_who_they_are(anonymous: httpx.AsyncClient) -> None:
    token = {"token": (await sign_in(anonymous))["access_token"]}

    assert await refusal(anonymous, token, INTROSPECT) == "invalid_client"
    assert await refusal(anonymous, token | {"client_id": "app"}, INTROSPECT) == "invalid_client"
    assert await refusal(anonymous, token, INTROSPECT, (CLIENT, "wrong")) == "invalid_client"
    response = await anonymous.post(INTROSPECT, data=token, headers={"Authorization": "Bearer nonsense"})
    assert (response.status_code, response.json()["code"]) == (401, "not_authenticated")


async def test_a_token_shows_itself(client: httpx.AsyncClient) -> None:
    token = client.headers["Authorization"].removeprefix("Bearer ")

    assert (await introspected(client, token, {}))["sub"] == CALLER_ID
