"""Refresh tokens: each is good once, a lost answer comes again, and what was stolen ends."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from bson import ObjectId
from fastapi import FastAPI

from service.api.dependencies import Services
from service.auth.refresh_tokens import RefreshToken
from service.auth.sessions import GRACE_SECONDS, Session
from service.store.audit_records import AuditEvent
from tests.conftest import CommandRecorder, client_of
from tests.signing_in import (
    CLIENT,
    CLIENT_SECRET,
    add_client,
    add_person,
    another_service,
    granted,
    id_of,
    password_form,
    refresh_form,
    refreshed,
    refusal,
    session_id,
    set_account,
    sign_in,
    status_of,
)

AT_ONCE = 50


@pytest.fixture(autouse=True)
async def _accounts(anonymous: httpx.AsyncClient, services: Services) -> None:
    await add_person(services, "ada", "users:*")
    await add_client(services, CLIENT, "items:read")


@pytest.fixture
async def others(app: FastAPI, services: Services) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Clients of two more services on the same database, which share nothing else with the first."""
    async with (
        client_of(app, another_service(services)) as first,
        client_of(app, another_service(services)) as second,
    ):
        yield [first, second]


async def let_pass(session: ObjectId, seconds: float) -> None:
    """As if so much time had passed since the session's token was used: by the server's clock, which is not ours."""
    moments = {name: {"$subtract": [f"${name}", int(seconds * 1000)]} for name in ("rotated_at", "expires_at")}
    await Session.get_pymongo_collection().update_one({"_id": session}, [{"$set": moments}])


async def reasons() -> list[str | None]:
    """Why sign-ins were refused, as the audit trail has it."""
    return [event.reason for event in await AuditEvent.find({"outcome": "refused"}).sort("_id").to_list()]


async def stored(session: ObjectId) -> dict[str, Any]:
    found = await Session.get_pymongo_collection().find_one({"_id": session})
    assert found is not None
    return dict(found)


async def test_a_refresh_token_is_good_for_one_after_the_other(
    anonymous: httpx.AsyncClient, services: Services
) -> None:
    first = await sign_in(anonymous)
    second = await refreshed(anonymous, first["refresh_token"])
    third = await refreshed(anonymous, second["refresh_token"])

    assert len({answer["refresh_token"] for answer in (first, second, third)}) == 3
    assert len({answer["access_token"] for answer in (first, second, third)}) == 3
    assert first["scope"] == second["scope"] == third["scope"]
    assert {session_id(services, answer) for answer in (first, second, third)} == {session_id(services, first)}
    assert [await status_of(anonymous, answer) for answer in (first, second, third)] == [200, 200, 200]


async def test_the_database_has_only_hashes(anonymous: httpx.AsyncClient, services: Services) -> None:
    first = await sign_in(anonymous)
    second = await refreshed(anonymous, first["refresh_token"])

    kept = await stored(session_id(services, first))

    text = str(kept)
    for answer in (first, second):
        assert answer["refresh_token"] not in text
        assert answer["access_token"] not in text
    assert kept["token_hash"] != kept["previous_hash"]


async def test_a_refresh_is_one_write(
    anonymous: httpx.AsyncClient, services: Services, recorder: CommandRecorder
) -> None:
    answer = await sign_in(anonymous)
    recorder.commands.clear()

    await refreshed(anonymous, answer["refresh_token"])

    assert recorder.names == ["findAndModify"]


async def test_a_lost_answer_comes_again_within_the_grace(anonymous: httpx.AsyncClient, services: Services) -> None:
    first = await sign_in(anonymous)
    lost = await refreshed(anonymous, first["refresh_token"])
    before = await stored(session_id(services, first))
    await let_pass(session_id(services, first), GRACE_SECONDS - 2)

    again = await refreshed(anonymous, first["refresh_token"])

    assert again["refresh_token"] == lost["refresh_token"]
    assert again["access_token"] != lost["access_token"]
    after = await stored(session_id(services, first))
    assert after["expires_at"] == before["expires_at"] - timedelta(seconds=GRACE_SECONDS - 2), "nor more days"
    assert after["rotated_at"] == before["rotated_at"] - timedelta(seconds=GRACE_SECONDS - 2), "no grace upon a grace"
    assert await status_of(anonymous, again) == 200
    await refreshed(anonymous, again["refresh_token"])


async def test_a_token_that_comes_again_after_the_grace_ends_its_session(
    anonymous: httpx.AsyncClient, services: Services
) -> None:
    other = await sign_in(anonymous)
    first = await sign_in(anonymous)
    second = await refreshed(anonymous, first["refresh_token"])
    await let_pass(session_id(services, first), GRACE_SECONDS)

    assert await refusal(anonymous, refresh_form(first["refresh_token"])) == "invalid_grant"

    assert await refusal(anonymous, refresh_form(second["refresh_token"])) == "invalid_grant"
    assert [await status_of(anonymous, answer) for answer in (first, second)] == [401, 401]
    assert await reasons() == ["refresh_token_reused"]
    [event] = await AuditEvent.find({"outcome": "refused"}).to_list()
    assert (event.action, event.account, event.client_id) == ("sign_in", "ada", "dossier")
    assert event.account_id
    assert await status_of(anonymous, other) == 200
    await refreshed(anonymous, other["refresh_token"])


async def test_a_token_of_two_uses_ago_ends_its_session_at_once(
    anonymous: httpx.AsyncClient, services: Services
) -> None:
    first = await sign_in(anonymous)
    second = await refreshed(anonymous, first["refresh_token"])
    third = await refreshed(anonymous, second["refresh_token"])

    assert await refusal(anonymous, refresh_form(first["refresh_token"], client_id="a thief's")) == "invalid_grant"

    assert await refusal(anonymous, refresh_form(third["refresh_token"])) == "invalid_grant"
    assert await reasons() == ["refresh_token_reused"], "once"


async def test_a_session_that_ends_while_it_is_refreshed_gets_nothing(
    app: FastAPI, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_usable = services.sessions.find_usable

    async def find_and_revoke(token: RefreshToken) -> Session | None:
        session = await find_usable(token)
        await services.sessions.revoke(token.session_id)
        return session

    async with client_of(app, services) as client:
        first = await sign_in(client)
        monkeypatch.setattr(services.sessions, "find_usable", find_and_revoke)
        before = await stored(session_id(services, first))
        assert await refusal(client, refresh_form(first["refresh_token"])) == "invalid_grant"

    after = await stored(session_id(services, first))
    assert after["revoked_at"] is not None
    assert after["token_hash"] == before["token_hash"]


async def test_fifty_refreshes_at_once_rotate_once(
    anonymous: httpx.AsyncClient, services: Services, others: list[httpx.AsyncClient]
) -> None:
    first = await sign_in(anonymous)
    clients = [anonymous, *others]

    answers = await asyncio.gather(
        *(refreshed(clients[number % 3], first["refresh_token"]) for number in range(AT_ONCE))
    )

    assert len({answer["refresh_token"] for answer in answers}) == 1
    assert len({answer["access_token"] for answer in answers}) == AT_ONCE
    kept = await stored(session_id(services, first))
    token = services.sessions.read(answers[0]["refresh_token"])
    assert token
    assert (token.generation, kept["token_hash"], kept["revoked_at"]) == (1, token.hash, None)
    assert await reasons() == []


async def test_of_fifty_stolen_tokens_at_once_none_gets_anything(
    anonymous: httpx.AsyncClient, services: Services, others: list[httpx.AsyncClient]
) -> None:
    first = await sign_in(anonymous)
    second = await refreshed(anonymous, first["refresh_token"])
    third = await refreshed(anonymous, second["refresh_token"])
    clients = [anonymous, *others]

    errors = await asyncio.gather(
        *(refusal(clients[number % 3], refresh_form(first["refresh_token"])) for number in range(AT_ONCE))
    )

    assert set(errors) == {"invalid_grant"}
    assert await reasons() == ["refresh_token_reused"], "it is noticed once"
    assert await refusal(others[0], refresh_form(third["refresh_token"])) == "invalid_grant"


async def test_services_on_one_database_take_each_others_tokens(
    anonymous: httpx.AsyncClient, services: Services, others: list[httpx.AsyncClient]
) -> None:
    first = await sign_in(anonymous)
    second = await refreshed(others[0], first["refresh_token"])
    again = await refreshed(others[1], first["refresh_token"])

    assert again["refresh_token"] == second["refresh_token"]
    assert await status_of(others[1], second) == 200
    await let_pass(session_id(services, first), GRACE_SECONDS)
    assert await refusal(others[1], refresh_form(first["refresh_token"])) == "invalid_grant"
    assert await refusal(others[0], refresh_form(second["refresh_token"])) == "invalid_grant"


async def test_a_session_lasts_for_some_days_after_its_last_use(
    anonymous: httpx.AsyncClient, services: Services
) -> None:
    days = services.settings.refresh_token_days
    first = await sign_in(anonymous)
    session = session_id(services, first)
    began = await stored(session)
    assert began["expires_at"] - began["created_at"] == timedelta(days=days)

    await let_pass(session, timedelta(days=days - 1).total_seconds())
    second = await refreshed(anonymous, first["refresh_token"])
    kept = await stored(session)
    assert kept["expires_at"] - kept["rotated_at"] == timedelta(days=days)

    await let_pass(session, timedelta(days=days).total_seconds())  # MongoDB removes it within a minute or so
    assert await refusal(anonymous, refresh_form(second["refresh_token"])) == "invalid_grant"
    assert await reasons() == []


async def test_mongodb_forgets_sessions_and_revoked_tokens_in_time(services: Services) -> None:
    for name in ("sessions", "revoked_tokens"):
        indexes = await services.database.handle[name].index_information()
        assert indexes["expires_at"]["expireAfterSeconds"] == 0


@pytest.mark.parametrize("text", ["", "nonsense", "é", "A" * 64, "a.b.c", '{"$ne": null}'])
async def test_what_is_no_refresh_token_is_refused_without_asking_for_it(
    anonymous: httpx.AsyncClient, recorder: CommandRecorder, text: str
) -> None:
    recorder.commands.clear()

    assert await refusal(anonymous, refresh_form(text)) == ("invalid_grant" if text else "invalid_request")
    assert recorder.names == []


async def test_an_access_token_is_no_refresh_token(anonymous: httpx.AsyncClient) -> None:
    answer = await sign_in(anonymous)

    assert await refusal(anonymous, refresh_form(answer["access_token"])) == "invalid_grant"


# What a refresh gets


async def test_a_refresh_only_narrows(anonymous: httpx.AsyncClient) -> None:
    first = await sign_in(anonymous, scope="users:read users:write")
    narrow = await refreshed(anonymous, first["refresh_token"], scope="users:read users:delete nonsense")
    assert narrow["scope"] == "users:read"

    wide = await refreshed(anonymous, narrow["refresh_token"])
    assert set(wide["scope"].split()) == {"users:read", "users:write"}, "as the sign-in (RFC 6749 §6)"

    assert await refusal(anonymous, refresh_form(wide["refresh_token"], scope="users:delete")) == "invalid_scope"
    assert await refusal(anonymous, refresh_form(wide["refresh_token"], scope="items:read")) == "invalid_scope"
    await refreshed(anonymous, wide["refresh_token"])


async def test_what_was_taken_from_an_account_no_refresh_gives_back(
    anonymous: httpx.AsyncClient, services: Services
) -> None:
    first = await sign_in(anonymous, scope="users:read users:write")
    await set_account("ada", scopes=["users:read", "items:read"])
    second = await refreshed(anonymous, first["refresh_token"])
    assert second["scope"] == "users:read", "and nothing that was given since"

    await set_account("ada", scopes=["items:read"])
    assert (await refreshed(anonymous, second["refresh_token"]))["scope"] == ""


async def test_a_disabled_account_refreshes_nothing(anonymous: httpx.AsyncClient, services: Services) -> None:
    first = await sign_in(anonymous)
    await set_account("ada", is_active=False)
    assert await refusal(anonymous, refresh_form(first["refresh_token"])) == "invalid_grant"
    [event] = await AuditEvent.find({"outcome": "refused"}).to_list()
    assert (event.action, event.account, event.reason) == ("sign_in", "ada", "invalid_grant")
    assert (event.client_id, event.account_id, event.address) == ("dossier", await id_of("ada"), "127.0.0.1")


# Whose it is


@pytest.mark.parametrize("named", [None, "app"])
async def test_a_public_clients_token_is_for_it_alone(
    anonymous: httpx.AsyncClient, services: Services, named: str | None
) -> None:
    first = await sign_in(anonymous, client_id="app")
    token = first["refresh_token"]

    assert await refusal(anonymous, refresh_form(token, client_id="another")) == "invalid_grant"
    assert await refusal(anonymous, refresh_form(token), auth=(CLIENT, CLIENT_SECRET)) == "invalid_grant"
    second = await granted(anonymous, refresh_form(token) | ({"client_id": named} if named else {}))
    me = await anonymous.get("/api/v1/auth/me", headers={"Authorization": f"Bearer {second['access_token']}"})
    assert me.json()["client_id"] == "app"
    refused = await AuditEvent.find({"outcome": "refused"}).sort("_id").to_list()
    assert [(event.action, event.account, event.client_id, event.reason) for event in refused] == [
        ("sign_in", "ada", "another", "invalid_grant"),
        ("sign_in", "ada", CLIENT, "invalid_grant"),
    ]


async def test_a_confidential_client_proves_itself_at_each_refresh(
    anonymous: httpx.AsyncClient, services: Services
) -> None:
    await add_client(services, "weekly")
    first = await granted(anonymous, password_form(), (CLIENT, CLIENT_SECRET))
    form = refresh_form(first["refresh_token"])

    assert await refusal(anonymous, form) == "invalid_grant"
    assert await refusal(anonymous, form | {"client_id": "dossier"}) == "invalid_grant"
    assert await refusal(anonymous, form | {"client_id": CLIENT}) == "invalid_client"
    assert await refusal(anonymous, form, auth=(CLIENT, "wrong")) == "invalid_client"
    assert await refusal(anonymous, form, auth=("weekly", CLIENT_SECRET)) == "invalid_grant"
    second = await granted(anonymous, form, (CLIENT, CLIENT_SECRET))
    assert set(second["scope"].split()) == {scope for scope in services.scopes if scope.startswith("users:")}
    await set_account(CLIENT, is_active=False)
    form = refresh_form(second["refresh_token"])
    assert await refusal(anonymous, form, auth=(CLIENT, CLIENT_SECRET)) == "invalid_client"
