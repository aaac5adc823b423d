"""Signing in and what a token is good for, with real tokens."""

import time
from typing import Any

import httpx
import jwt
import pytest

from service.api.dependencies import Services
from service.auth.accounts import RECHECK_SECONDS, Accounts
from tests.accounts import set_active, set_password
from tests.conftest import SECRET_KEY

TOKEN = "/api/v1/auth/token"
PASSWORD = "correct horse"


@pytest.fixture(autouse=True)
async def _account(anonymous: httpx.AsyncClient, services: Services) -> None:
    await services.accounts.create("ada", PASSWORD, ["users:read", "*:export"])


def form(**changes: str) -> dict[str, str]:
    return {"grant_type": "password", "username": "ada", "password": PASSWORD} | changes


async def sign_in(client: httpx.AsyncClient, **changes: str) -> dict[str, str]:
    response = await client.post(TOKEN, data=form(**changes))
    assert response.status_code == 200, response.text
    return {"Authorization": f"Bearer {response.json()['access_token']}"}


async def test_a_token_holds_all_that_the_account_may(anonymous: httpx.AsyncClient) -> None:
    response = await anonymous.post(TOKEN, data=form(scope=""))

    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    answer = response.json()
    assert answer["token_type"] == "Bearer"
    assert answer["expires_in"] == 3600
    assert set(answer["scope"].split()) == {"users:read", "users:export", "items:export", "everythings:export"}
    claims = jwt.decode(answer["access_token"], SECRET_KEY, algorithms=["HS256"], audience="dossier")
    assert set(claims) == {"iss", "aud", "sub", "username", "client_id", "scope", "jti", "iat", "exp"}
    assert jwt.get_unverified_header(answer["access_token"])["typ"] == "at+jwt"


async def test_a_token_holds_no_more_than_was_asked_and_allowed(anonymous: httpx.AsyncClient) -> None:
    headers = await sign_in(anonymous, scope="users:read users:write nonsense")

    me = (await anonymous.get("/api/v1/auth/me", headers=headers)).json()

    assert me["username"] == "ada"
    assert me["scopes"] == ["users:read"]
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
        ({"grant_type": ""}, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"scope": "users:write"}, "invalid_scope"),
    ],
)
async def test_a_bad_request_is_answered_in_the_rfcs_own_form(
    anonymous: httpx.AsyncClient, changes: dict[str, str], error: str
) -> None:
    response = await anonymous.post(TOKEN, data=form(**changes))

    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    assert response.json()["error"] == error
    assert PASSWORD not in response.text


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"", "application/x-www-form-urlencoded"),
        (b'{"grant_type": "password"}', "application/json"),
        (b"grant_type=password&username=ada&username=bob&password=x", "application/x-www-form-urlencoded"),
        (b"grant_type=password&username=%ff&password=x", "application/x-www-form-urlencoded"),
        (b"\xff", "application/x-www-form-urlencoded"),
        (b"&".join([b"a=1"] * 1001), "application/x-www-form-urlencoded"),
        (b"--x\r\n\r\n--x--", "multipart/form-data; boundary=x"),
    ],
)
async def test_a_form_that_cannot_be_read_is_an_invalid_request(
    anonymous: httpx.AsyncClient, content: bytes, media_type: str
) -> None:
    response = await anonymous.post(TOKEN, content=content, headers={"Content-Type": media_type})

    assert response.status_code == 400
    assert response.json()["error"] == "invalid_request"


async def test_a_form_that_is_too_large_is_refused(anonymous: httpx.AsyncClient) -> None:
    assert (await anonymous.post(TOKEN, data=form(scope="x" * 20_000))).status_code == 413


async def test_a_disabled_account_gets_no_token_and_its_tokens_stop(
    anonymous: httpx.AsyncClient, services: Services
) -> None:
    headers = await sign_in(anonymous)
    await set_active(services, "ada", is_active=False)

    assert (await anonymous.post(TOKEN, data=form())).json()["error"] == "invalid_grant"
    refused = await anonymous.get("/api/v1/auth/me", headers=headers)
    assert refused.status_code == 401
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]


async def test_an_account_is_asked_for_again_after_a_while(anonymous: httpx.AsyncClient, services: Services) -> None:
    clock = [0.0]
    accounts = Accounts(10, lambda: clock[0])
    account = await services.accounts.authenticate("ada", PASSWORD)
    assert account is not None
    assert await accounts.is_active(str(account.id))
    await set_active(services, "ada", is_active=False)

    clock[0] = RECHECK_SECONDS - 0.1
    assert await accounts.is_active(str(account.id))
    clock[0] = RECHECK_SECONDS
    assert not await accounts.is_active(str(account.id))


async def test_a_new_password_replaces_the_old(anonymous: httpx.AsyncClient, services: Services) -> None:
    await set_password(services, "ada", "another horse")

    assert (await anonymous.post(TOKEN, data=form())).json()["error"] == "invalid_grant"
    await sign_in(anonymous, password="another horse")


def forged(**changes: Any) -> str:
    header = changes.pop("header", {"typ": "at+jwt"})
    key = changes.pop("key", SECRET_KEY)
    now = int(time.time())
    claims = {
        "iss": "dossier",
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


async def test_another_scheme_is_no_token(anonymous: httpx.AsyncClient) -> None:
    response = await anonymous.get("/api/v1/users", auth=("ada", PASSWORD))

    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"


async def test_the_first_account_is_made_once(anonymous: httpx.AsyncClient, services: Services) -> None:
    assert await services.accounts.create_first("admin", None) is None

    assert [account.username for account in await services.accounts.list()] == ["ada"]


@pytest.mark.caller(scopes={"users:read"})
async def test_a_reader_reads_and_does_nothing_else(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/v1/users")).status_code == 200
    assert (await client.get("/api/v1/items")).status_code == 403
    assert (await client.post("/api/v1/users", json={})).status_code == 403
    assert (await client.get("/api/v1/users/export/xlsx")).status_code == 403
