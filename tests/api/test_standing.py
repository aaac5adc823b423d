"""What was disabled, deleted, taken or revoked stops counting within 30 s, in every service on the database."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from bson import ObjectId
from fastapi import FastAPI

from service.api.dependencies import Services
from service.api.exports import RECHECK_SECONDS as STREAM_RECHECK_SECONDS
from service.auth import standing
from service.auth.accounts import Account, Accounts
from service.auth.standing import RECHECK_SECONDS, Standing
from service.auth.tokens import Caller
from service.errors import AuthenticationError
from tests.accounts import set_password
from tests.conftest import client_of
from tests.signing_in import (
    CLIENT,
    CLIENT_SECRET,
    ME,
    REVOKE,
    add_client,
    add_person,
    another_service,
    basic,
    bearer,
    granted,
    set_account,
    sign_in,
    status_of,
)

AT_MOST_SECONDS = 30
Answer = dict[str, Any]
Stop = Callable[[httpx.AsyncClient, Services, Answer], Awaitable[object]]


@pytest.fixture(autouse=True)
async def _accounts(anonymous: httpx.AsyncClient, services: Services) -> None:
    await add_person(services, "ada", "users:read", "items:read")
    await add_client(services, CLIENT, "users:read")


class CountingAccounts(Accounts):
    """Counts how often an account is asked for."""

    asked = 0

    async def find_active(self, account_id: str) -> Account | None:
        """The account."""
        self.asked += 1
        return await super().find_active(account_id)


async def delete(_client: httpx.AsyncClient, _services: Services, _answer: Answer) -> None:
    await Account.find({}).delete()


async def disable(_client: httpx.AsyncClient, _services: Services, _answer: Answer) -> None:
    await set_account("ada", is_active=False)
    await set_account(CLIENT, is_active=False)


async def change_password(_client: httpx.AsyncClient, services: Services, _answer: Answer) -> None:
    for name in ("ada", CLIENT):
        await set_password(services, name, "another horse")


async def revoke(client: httpx.AsyncClient, _services: Services, answer: Answer) -> None:
    auth = None if "refresh_token" in answer else (CLIENT, CLIENT_SECRET)
    response = await client.post(REVOKE, data={"token": answer["access_token"]}, auth=basic(auth))
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("grant_type", "stop"),
    [
        ("password", delete),
        ("password", disable),
        ("password", change_password),
        ("password", revoke),
        ("client_credentials", delete),
        ("client_credentials", disable),
        ("client_credentials", change_password),
        ("client_credentials", revoke),
    ],
)
async def test_what_ended_in_one_service_ends_in_another(
    app: FastAPI, anonymous: httpx.AsyncClient, services: Services, grant_type: str, stop: Stop
) -> None:
    clock = [0.0]
    async with client_of(app, another_service(services, lambda: clock[0])) as other:
        if grant_type == "password":
            answer = await sign_in(anonymous)
        else:
            answer = await granted(anonymous, {"grant_type": grant_type}, (CLIENT, CLIENT_SECRET))
        assert await status_of(other, answer) == 200

        await stop(anonymous, services, answer)

        clock[0] = RECHECK_SECONDS - 0.1
        assert (await other.get("/api/v1/users", headers=bearer(answer))).status_code == 200, "as it is remembered"
        clock[0] = RECHECK_SECONDS
        refused = await other.get("/api/v1/users", headers=bearer(answer))
        assert refused.status_code == 401
        assert 'error="invalid_token"' in refused.headers["www-authenticate"]
        assert await status_of(other, answer) == 401, "and stays so"


def test_nothing_takes_longer_than_it_may() -> None:
    assert RECHECK_SECONDS + STREAM_RECHECK_SECONDS <= AT_MOST_SECONDS


async def test_a_service_that_revokes_knows_it_at_once(anonymous: httpx.AsyncClient, services: Services) -> None:
    answer = await sign_in(anonymous)
    assert await status_of(anonymous, answer) == 200

    await revoke(anonymous, services, answer)

    assert await status_of(anonymous, answer) == 401


async def test_what_is_taken_from_an_account_its_tokens_lose(
    app: FastAPI, anonymous: httpx.AsyncClient, services: Services
) -> None:
    clock = [0.0]
    async with client_of(app, another_service(services, lambda: clock[0])) as other:
        answer = await sign_in(anonymous, scope="users:read items:read")
        assert await status_of(other, answer) == 200

        await set_account("ada", scopes=["users:*"])
        clock[0] += RECHECK_SECONDS

        me = (await other.get(ME, headers=bearer(answer))).json()
        assert me["scopes"] == ["users:read"], "and nothing that the token never had"
        refused = await other.get("/api/v1/items", headers=bearer(answer))
        assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")

        await set_account("ada", scopes=["*"])
        clock[0] += RECHECK_SECONDS
        assert (await other.get(ME, headers=bearer(answer))).json()["scopes"] == ["items:read", "users:read"]


async def test_the_database_is_asked_once_in_a_while_for_a_session(
    app: FastAPI, anonymous: httpx.AsyncClient, services: Services
) -> None:
    clock = [0.0]
    parts = another_service(services, lambda: clock[0])
    accounts = CountingAccounts(10)
    own = Standing(accounts, parts.sessions, services.scopes, 10, lambda: clock[0])
    async with client_of(app, replace(parts, accounts=accounts, standing=own)) as other:
        answer = await sign_in(anonymous)
        for _ in range(5):
            assert (await other.get("/api/v1/users", headers=bearer(answer))).status_code == 200
        assert accounts.asked == 1
        clock[0] = RECHECK_SECONDS
        assert (await other.get("/api/v1/users", headers=bearer(answer))).status_code == 200
        assert accounts.asked == 2


async def test_what_is_remembered_does_not_pile_up(
    anonymous: httpx.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "MAX_REMEMBERED", 3)
    parts = another_service(services)
    account = await Account.find_one({"username": "ada"})
    assert account

    for number in range(10):
        caller = Caller(str(account.id), "ada", frozenset(), "tests", str(number))
        assert await parts.standing.check(caller) is caller

    assert len(parts.standing._remembered) <= 3


async def test_somebody_elses_caller_has_nothing_here_that_could_end(services: Services) -> None:
    parts = another_service(services)
    caller = Caller(
        "https://issuer.example|ada", "ada", frozenset({"users:read"}), "x", "1", issuer="https://issuer.example"
    )

    assert await parts.standing.check(caller) is caller


async def test_a_session_that_is_gone_does_not_count(services: Services, anonymous: httpx.AsyncClient) -> None:
    account = await Account.find_one({"username": "ada"})
    assert account
    caller = Caller(str(account.id), "ada", frozenset({"users:read"}), "tests", "1", str(ObjectId()))

    with pytest.raises(AuthenticationError):
        await another_service(services).standing.check(caller)
