"""Signing in with a password and what a token is good for, with real tokens."""

import time
from dataclasses import replace
from typing import Any

import httpx
import jwt
import pytest
from fastapi import FastAPI

from service.api.dependencies import Services
from service.app import create_app
from service.auth.sessions import Session
from service.store.audit_records import AuditEvent
from tests.accounts import set_active, set_password
from tests.conftest import ISSUER, SECRET_KEY, client_of
from tests.signing_in import (
    CLIENT,
    ME,
    PASSWORD,
    TOKEN,
    add_client,
    add_person,
    bearer,
    password_form,
    refusal,
    sign_in,
)

FORM = "application/x-www-form-urlencoded"


@pytest.fixture(autouse=True)
async def _account(anonymous: httpx.AsyncClient, services: Services) -> None:
    await add_person(services, "ada", "users:read", "*:export")


async def audited() -> list[AuditEvent]:
    return await AuditEvent.find({}).sort("_id").to_list()


async def test_a_token_holds_all_that_the_account_may(anonymous: httpx.AsyncClient, services: Services) -> None:
    answer = await sign_in(anonymous, scope="")

    assert answer["token_type"] == "Bearer"
    assert answer["expires_in"] == 3600
    assert set(answer["scope"].split()) == {"users:read", "users:export", "items:export", "everythings:export"}
    claims = jwt.decode(answer["access_token"], SECRET_KEY, algorithms=["HS256"], audience="dossier")
    assert set(claims) == {"iss", "aud", "sub", "username", "client_id", "scope", "jti", "iat", "exp", "sid"}
    assert jwt.get_unverified_header(answer["access_token"])["typ"] == "at+jwt"


async def test_a_token_holds_no_more_than_was_asked_and_allowed(anonymous: httpx.AsyncClient) -> None:
    headers = bearer(await sign_in(anonymous, scope="users:read users:write nonsense"))

    me = (await anonymous.get(ME, headers=headers)).json()

    assert me == {
        "id": me["id"],
        "username": "ada",
        "kind": "person",
        "roles": [],
        "client_id": "dossier",
        "scopes": ["users:read"],
    }
    assert (await anonymous.get("/api/v1/users", headers=headers)).status_code == 200
    assert (await anonymous.get("/api/v1/users/export/csv", headers=headers)).status_code == 403


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"password": "wrong horse"}, "invalid_grant"),
        ({"password": "x" * 10_000}, "invalid_grant"),
        ({"username": "bob"}, "invalid_grant"),
        ({"username": '{"$ne": null}'}, "invalid_grant"),
        ({"username": "ada\x00"}, "invalid_grant"),
        ({"username": ""}, "invalid_request"),
        ({"password": ""}, "invalid_request"),
        ({"grant_type": ""}, "invalid_request"),
        ({"grant_type": "authorization_code"}, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, "invalid_client"),
        ({"scope": "users:write"}, "invalid_scope"),
        ({"client_id": "é"}, "invalid_request"),
        ({"client_id": "a\x00"}, "invalid_request"),
        ({"client_id": "x" * 101}, "invalid_request"),
    ],
)
async def test_a_bad_request_is_answered_in_the_rfcs_own_form(
    anonymous: httpx.AsyncClient, changes: dict[str, str], error: str
) -> None:
    assert await refusal(anonymous, password_form(**changes)) == error
    assert await Session.count() == 0


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"", FORM),
        (b'{"grant_type": "password"}', "application/json"),
        (b"grant_type=password&username=ada&username=bob&password=x", FORM),
        (b"grant_type=password&username=%ff&password=x", FORM),
        (b"\xff", FORM),
        (b"&".join([b"a=1"] * 1001), FORM),
        (b"--x\r\n\r\n--x--", "multipart/form-data; boundary=x"),
    ],
)
@pytest.mark.parametrize("path", ["token", "revoke", "introspect"])
async def test_a_form_that_cannot_be_read_is_an_invalid_request(
    anonymous: httpx.AsyncClient, path: str, content: bytes, media_type: str
) -> None:
    response = await anonymous.post(f"/api/v1/auth/{path}", content=content, headers={"Content-Type": media_type})

    if path == "introspect" and content == b"":
        assert response.json()["error"] == "invalid_client"  # who asks is looked at first
        return
    assert response.status_code == 400
    assert response.json()["error"] == "invalid_request"


async def test_a_form_that_is_too_large_is_refused(anonymous: httpx.AsyncClient) -> None:
    assert (await anonymous.post(TOKEN, data=password_form(scope="x" * 20_000))).status_code == 413


async def test_a_disabled_account_gets_no_token(anonymous: httpx.AsyncClient, services: Services) -> None:
    await set_active(services, "ada", is_active=False)

    assert await refusal(anonymous, password_form()) == "invalid_grant"


async def test_a_new_password_replaces_the_old(anonymous: httpx.AsyncClient, services: Services) -> None:
    await set_password(services, "ada", "another horse")

    assert await refusal(anonymous, password_form()) == "invalid_grant"
    await sign_in(anonymous, password="another horse")


async def test_the_password_grant_can_be_switched_off(app: FastAPI, services: Services) -> None:
    settings = services.settings.model_copy(update={"password_grant": False})
    async with client_of(app, replace(services, settings=settings)) as client:
        response = await client.post(TOKEN, data=password_form())

    assert response.status_code == 400
    assert response.json()["error"] == "unsupported_grant_type"
    assert "password" not in response.json()["error_description"]
    flows = create_app(settings).openapi()["components"]["securitySchemes"]["OAuth2"]["flows"]
    assert list(flows) == ["clientCredentials"]


def test_the_description_says_how_to_sign_in(app: FastAPI, services: Services) -> None:
    flows = app.openapi()["components"]["securitySchemes"]["OAuth2"]["flows"]

    assert flows == {
        "password": {"tokenUrl": TOKEN, "refreshUrl": TOKEN, "scopes": dict(services.scopes)},
        "clientCredentials": {"tokenUrl": TOKEN, "scopes": dict(services.scopes)},
    }


async def test_sign_ins_are_audited_good_and_bad_with_one_write_each(
    anonymous: httpx.AsyncClient, services: Services
) -> None:
    await add_client(services, CLIENT)
    account = (await sign_in(anonymous, client_id="a program"))["access_token"]
    await refusal(anonymous, password_form(password="wrong horse"))
    await refusal(anonymous, password_form(scope="users:write"))
    await refusal(anonymous, password_form("x" * 300, password="wrong"))
    await refusal(anonymous, password_form(), auth=(CLIENT, "wrong"))
    await refusal(anonymous, {"grant_type": "nonsense"})

    events = await audited()

    assert [(event.action, event.account, event.client_id, event.outcome, event.reason) for event in events] == [
        ("sign_in", "ada", "a program", "done", None),
        ("sign_in", "ada", "dossier", "refused", "invalid_grant"),
        ("sign_in", "ada", "dossier", "refused", "invalid_scope"),
        ("sign_in", "(unknown)", "dossier", "refused", "invalid_grant"),
        ("sign_in", CLIENT, CLIENT, "refused", "invalid_client"),
    ]
    known = jwt.decode(account, SECRET_KEY, algorithms=["HS256"], audience="dossier")["sub"]
    assert [event.account_id for event in events] == [known, None, known, None, None]
    assert {event.address for event in events} == {"127.0.0.1"}
    assert all(event.request_id for event in events)


def forged(**changes: Any) -> str:
    header = changes.pop("header", {"typ": "at+jwt"})
    key = changes.pop("key", SECRET_KEY)
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": "dossier",
        "sub": "0" * 24,
        "username": "ada",
        "client_id": "x",
        "scope": "users:read",
        "jti": "x",
        "iat": now,
        "exp": now + 600,
    } | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, "HS256", headers=header)


@pytest.mark.parametrize(
    "token",
    [
        "nonsense",
        "a.b.c",
        forged(),  # of an account that is not there
        forged(key="another key, which is as long as it must be"),
        forged(header={"typ": "JWT"}),
        forged(exp=1),
        forged(sub='{"$ne": null}'),
        forged(sub=None),
        jwt.encode({"sub": "0" * 24}, None, "none"),  # type: ignore[arg-type]
    ],
)
async def test_a_token_of_somebody_elses_making_is_refused(anonymous: httpx.AsyncClient, token: str) -> None:
    response = await anonymous.get("/api/v1/users", headers={"Authorization": f"Bearer {token}"})

    assert response.status_code == 401
    assert response.json()["code"] == "not_authenticated"
    assert response.headers["www-authenticate"].startswith('Bearer error="invalid_token"')


async def test_a_refresh_token_is_no_access_token(anonymous: httpx.AsyncClient) -> None:
    answer = await sign_in(anonymous)

    response = await anonymous.get(ME, headers=bearer({"access_token": answer["refresh_token"]}))

    assert response.status_code == 401
    assert 'error="invalid_token"' in response.headers["www-authenticate"]


async def test_another_scheme_is_no_token(anonymous: httpx.AsyncClient) -> None:
    response = await anonymous.get("/api/v1/users", auth=("ada", PASSWORD))

    assert response.status_code == 401
    assert response.headers["www-authenticate"] == 'Bearer realm="dossier"'


async def test_the_first_account_is_made_once(anonymous: httpx.AsyncClient, services: Services) -> None:
    assert await services.accounts.create_first("admin", None) is None

    assert [account.username for account in await services.accounts.list()] == ["ada"]


@pytest.mark.caller(scopes={"users:read"})
async def test_a_reader_reads_and_does_nothing_else(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/v1/users")).status_code == 200
    assert (await client.get("/api/v1/items")).status_code == 403
    assert (await client.post("/api/v1/users", json={})).status_code == 403
    assert (await client.get("/api/v1/users/export/xlsx")).status_code == 403
