"""Clients at the token endpoint: how they prove who they are, and what they get for themselves."""

import base64

import httpx
import jwt
import pytest

from service.api.dependencies import Services
from service.auth.sessions import Session
from service.store.audit_records import AuditEvent
from tests.signing_in import (
    CLIENT,
    CLIENT_SECRET,
    INTROSPECT,
    PASSWORD,
    REVOKE,
    TOKEN,
    add_client,
    add_person,
    bearer,
    granted,
    id_of,
    password_form,
    refusal,
    set_account,
    sign_in,
    status_of,
)

CREDENTIALS = {"grant_type": "client_credentials"}
BY_FORM = CREDENTIALS | {"client_id": CLIENT, "client_secret": CLIENT_SECRET}


@pytest.fixture(autouse=True)
async def _accounts(anonymous: httpx.AsyncClient, services: Services) -> None:
    await add_person(services, "ada", "users:*")
    await add_client(services, CLIENT, "items:read", "users:export")


@pytest.mark.parametrize("way", ["basic", "form", "both names"])
async def test_a_client_gets_a_token_of_its_own(anonymous: httpx.AsyncClient, services: Services, way: str) -> None:
    form = {"basic": CREDENTIALS, "form": BY_FORM, "both names": CREDENTIALS | {"client_id": CLIENT}}[way]

    answer = await granted(anonymous, form, None if way == "form" else (CLIENT, CLIENT_SECRET))

    assert set(answer) == {"access_token", "token_type", "expires_in", "scope"}, "no refresh token (§4.4.3)"
    assert set(answer["scope"].split()) == {"items:read", "users:export"}
    claims = jwt.decode(answer["access_token"], options={"verify_signature": False})
    assert claims["sub"] == await id_of(CLIENT)
    assert claims["client_id"] == claims["username"] == CLIENT
    assert "sid" not in claims
    me = (await anonymous.get("/api/v1/auth/me", headers=bearer(answer))).json()
    assert (me["kind"], me["client_id"]) == ("client", CLIENT)
    assert await Session.count() == 0
    [event] = await AuditEvent.find({}).to_list()
    assert (event.action, event.outcome, event.account, event.account_id) == ("sign_in", "done", CLIENT, me["id"])


async def test_a_clients_scopes_only_narrow(anonymous: httpx.AsyncClient) -> None:
    answer = await granted(anonymous, BY_FORM | {"scope": "items:read users:read *"})

    assert answer["scope"] == "items:read"
    assert await refusal(anonymous, BY_FORM | {"scope": "users:read"}) == "invalid_scope"
    assert await refusal(anonymous, BY_FORM | {"scope": "*"}) == "invalid_scope"


@pytest.mark.parametrize(
    ("form", "auth", "error"),
    [
        (CREDENTIALS, None, "invalid_client"),
        (CREDENTIALS | {"client_id": CLIENT}, None, "invalid_client"),
        (CREDENTIALS | {"client_id": "a public one"}, None, "invalid_client"),
        (CREDENTIALS | {"client_secret": CLIENT_SECRET}, None, "invalid_client"),
        (BY_FORM | {"client_secret": "wrong"}, None, "invalid_client"),
        (BY_FORM | {"client_secret": "x" * 10_000}, None, "invalid_client"),
        (BY_FORM | {"client_id": "nobody"}, None, "invalid_client"),
        (BY_FORM | {"client_id": '{"$ne": null}'}, None, "invalid_client"),
        (BY_FORM, (CLIENT, CLIENT_SECRET), "invalid_request"),
        (CREDENTIALS | {"client_id": "another"}, (CLIENT, CLIENT_SECRET), "invalid_request"),
        (CREDENTIALS, (CLIENT, "wrong"), "invalid_client"),
        (CREDENTIALS, (CLIENT, ""), "invalid_client"),
        (CREDENTIALS, ("", CLIENT_SECRET), "invalid_client"),
        (CREDENTIALS, ("", ""), "invalid_client"),
        (CREDENTIALS, ("小中", "健一"), "invalid_client"),
        (CREDENTIALS, ("ada", PASSWORD), "invalid_client"),
        (password_form(CLIENT, password=CLIENT_SECRET), None, "invalid_grant"),
        (password_form(client_id=CLIENT), None, "invalid_client"),
        (password_form(), (CLIENT, "wrong"), "invalid_client"),
        (password_form(), ("ada", PASSWORD), "invalid_client"),
    ],
    ids=str,
)
async def test_who_does_not_prove_to_be_a_client_is_none(
    anonymous: httpx.AsyncClient, form: dict[str, str], auth: tuple[str, str] | None, error: str
) -> None:
    assert await refusal(anonymous, form, auth=auth) == error
    assert await Session.count() == 0


@pytest.mark.parametrize(
    ("path", "form"),
    [
        (TOKEN, password_form(password="wrong horse")),
        (TOKEN, CREDENTIALS),
        (TOKEN, {"grant_type": "refresh_token", "refresh_token": "nonsense"}),
        (REVOKE, {"token": "nonsense"}),
        (INTROSPECT, {"token": "nonsense"}),
    ],
    ids=["password", "client_credentials", "refresh_token", "revoke", "introspect"],
)
async def test_nobody_learns_by_nothing_which_clients_there_are(
    anonymous: httpx.AsyncClient, path: str, form: dict[str, str]
) -> None:
    answers = []
    for name in (CLIENT, "nobody"):
        headers = {"X-Request-ID": "the-request"}
        response = await anonymous.post(path, data=form | {"client_id": name}, headers=headers)
        answers.append((response.status_code, response.content))

    assert answers[0] == answers[1]


async def test_who_signs_in_to_learn_which_clients_there_are_is_on_record_and_throttled(
    anonymous: httpx.AsyncClient,
) -> None:
    form = password_form(client_id=CLIENT)

    assert [await refusal(anonymous, form) for _ in range(10)] == ["invalid_client"] * 10

    assert (await anonymous.post(TOKEN, data=form)).status_code == 429
    await sign_in(anonymous, client_id="app")
    refused = await AuditEvent.find({"outcome": "refused", "reason": "invalid_client"}).to_list()
    assert [(event.account, event.client_id) for event in refused] == [(CLIENT, CLIENT)] * 10


@pytest.mark.parametrize("path", [TOKEN, REVOKE, INTROSPECT])
@pytest.mark.parametrize(
    "header",
    ["Basic", "Basic !", "Basic w6k", "basic " + base64.b64encode(b"\xff:x").decode(), "Basic JUZGOng="],
    ids=["nothing", "no base64", "cut off", "no UTF-8", "no UTF-8 in an escape"],
)
async def test_a_header_that_cannot_be_read_proves_nothing(
    anonymous: httpx.AsyncClient, path: str, header: str
) -> None:
    response = await anonymous.post(path, data=CREDENTIALS | {"token": "x"}, headers={"Authorization": header})

    assert (response.status_code, response.json()["error"]) == (401, "invalid_client")


async def test_a_public_client_says_only_a_name(anonymous: httpx.AsyncClient) -> None:
    for answer in (
        await sign_in(anonymous, client_id="app"),
        await granted(anonymous, password_form(), ("app", "")),  # as some send it, RFC 6749 §2.3.1
    ):
        assert (await anonymous.get("/api/v1/auth/me", headers=bearer(answer))).json()["client_id"] == "app"
    nameless = await granted(anonymous, password_form(), ("", ""))  # as Swagger UI sends it
    assert (await anonymous.get("/api/v1/auth/me", headers=bearer(nameless))).json()["client_id"] == "dossier"


async def test_another_scheme_does_not_count_where_a_token_is_asked_for(anonymous: httpx.AsyncClient) -> None:
    headers = {"Authorization": "Bearer one that has expired"}

    assert (await anonymous.post(TOKEN, data=password_form(), headers=headers)).status_code == 200


async def test_a_disabled_client_is_none(anonymous: httpx.AsyncClient) -> None:
    answer = await granted(anonymous, BY_FORM)
    await set_account(CLIENT, is_active=False)

    assert await refusal(anonymous, BY_FORM) == "invalid_client"
    assert await status_of(anonymous, answer) == 401


async def test_a_client_acts_for_a_person_with_what_that_person_may(anonymous: httpx.AsyncClient) -> None:
    answer = await granted(anonymous, password_form(scope="users:read items:read"), (CLIENT, CLIENT_SECRET))

    me = (await anonymous.get("/api/v1/auth/me", headers=bearer(answer))).json()
    assert (me["username"], me["client_id"], me["scopes"]) == ("ada", CLIENT, ["users:read"])
