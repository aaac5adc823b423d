"""A new password, a new secret or a disabled account ends all that was signed in to before: by one write, for good."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.api.dependencies import Services
from service.auth.accounts import Account
from service.auth.sessions import Session
from service.auth.standing import RECHECK_SECONDS
from tests.accounts import change_account, set_active, set_password
from tests.conftest import CommandRecorder, client_of
from tests.signing_in import (
    CLIENT,
    CLIENT_SECRET,
    INTROSPECT,
    PASSWORD,
    add_client,
    add_person,
    another_service,
    bearer,
    granted,
    id_of,
    password_form,
    refresh_form,
    refreshed,
    refusal,
    sign_in,
    status_of,
)

MY_PASSWORD = "/api/v1/auth/me/password"
NEW_PASSWORD = "another horse"
CREDENTIALS = {"grant_type": "client_credentials"}
AS_CLIENT = (CLIENT, CLIENT_SECRET)
WRITES = {"insert", "update", "findAndModify", "delete"}
Answer = dict[str, Any]


@pytest.fixture(autouse=True)
async def _accounts(anonymous: httpx.AsyncClient, services: Services) -> None:
    await add_person(services, "ada", "users:read")
    await add_person(services, "root", "*")
    await add_client(services, CLIENT, "users:read")


@pytest.fixture
async def root(anonymous: httpx.AsyncClient) -> dict[str, str]:
    """The headers of somebody who manages accounts."""
    return bearer(await sign_in(anonymous, "root"))


@pytest.fixture
def clock() -> list[float]:
    """What time it is for `other`."""
    return [0.0]


@pytest.fixture
async def other(app: FastAPI, services: Services, clock: list[float]) -> AsyncIterator[httpx.AsyncClient]:
    """A client of another service on the same database."""
    async with client_of(app, another_service(services, lambda: clock[0])) as client:
        yield client


async def patch(client: httpx.AsyncClient, headers: dict[str, str], username: str = "ada", **values: Any) -> None:
    path = f"/api/v1/accounts/{await id_of(username)}"
    response = await client.patch(path, json=values, headers=headers)
    assert response.status_code == 200, response.text


async def change_own(client: httpx.AsyncClient, answer: Answer, current: str, new: str) -> None:
    body = {"current_password": current, "new_password": new}
    response = await client.put(MY_PASSWORD, json=body, headers=bearer(answer))
    assert response.status_code == 204, response.text


async def assert_ended(client: httpx.AsyncClient, answer: Answer, asker: dict[str, str]) -> None:
    """Neither token of a sign-in is good for anything, and introspection says so."""
    assert await status_of(client, answer) == 401
    assert await refusal(client, refresh_form(answer["refresh_token"])) == "invalid_grant"
    for kind in ("access_token", "refresh_token"):
        said = await client.post(INTROSPECT, data={"token": answer[kind]}, headers=asker)
        assert said.json() == {"active": False}


async def test_who_changes_their_password_stays_signed_in_there_and_nowhere_else(
    anonymous: httpx.AsyncClient, other: httpx.AsyncClient, clock: list[float], root: dict[str, str]
) -> None:
    own, elsewhere = await sign_in(anonymous), await sign_in(anonymous)
    assert [await status_of(other, answer) for answer in (own, elsewhere)] == [200, 200]

    await change_own(anonymous, own, PASSWORD, NEW_PASSWORD)

    await assert_ended(anonymous, elsewhere, root)
    clock[0] = RECHECK_SECONDS
    assert [await status_of(other, answer) for answer in (own, elsewhere)] == [200, 401]
    own = await refreshed(anonymous, own["refresh_token"])
    since = await granted(anonymous, password_form(password=NEW_PASSWORD))
    assert [await status_of(anonymous, answer) for answer in (own, since)] == [200, 200]

    await change_own(anonymous, since, NEW_PASSWORD, PASSWORD)
    await assert_ended(anonymous, own, root)
    await refreshed(anonymous, since["refresh_token"])


async def test_a_password_that_an_administrator_gives_leaves_nobody_signed_in(
    anonymous: httpx.AsyncClient, root: dict[str, str]
) -> None:
    kept_once, second = await sign_in(anonymous), await sign_in(anonymous)
    await change_own(anonymous, kept_once, PASSWORD, NEW_PASSWORD)
    await assert_ended(anonymous, second, root)

    await patch(anonymous, root, password=PASSWORD)

    await assert_ended(anonymous, kept_once, root)
    await refreshed(anonymous, (await sign_in(anonymous))["refresh_token"])


async def test_what_a_disabled_account_had_does_not_come_back(
    anonymous: httpx.AsyncClient, root: dict[str, str]
) -> None:
    answer = await sign_in(anonymous)
    await patch(anonymous, root, roles=["viewer"])
    assert await status_of(anonymous, answer) == 200, "other changes end nothing"

    await patch(anonymous, root, is_active=False)
    await assert_ended(anonymous, answer, root)
    await patch(anonymous, root, is_active=True)

    await assert_ended(anonymous, answer, root)
    assert await status_of(anonymous, await sign_in(anonymous)) == 200


@pytest.mark.parametrize("way", ["secret", "disabled"])
async def test_a_clients_tokens_end_with_its_secret(
    anonymous: httpx.AsyncClient, other: httpx.AsyncClient, clock: list[float], root: dict[str, str], way: str
) -> None:
    own = await granted(anonymous, CREDENTIALS, AS_CLIENT)
    for_ada = await granted(anonymous, password_form(), AS_CLIENT)
    directly = await sign_in(anonymous)
    before = (own, for_ada, directly)
    for client in (anonymous, other):  # from here on both remember
        assert [await status_of(client, answer) for answer in before] == [200, 200, 200]

    secret = CLIENT_SECRET
    if way == "secret":
        renewed = await anonymous.post(f"/api/v1/accounts/{await id_of(CLIENT)}/secret", headers=root)
        secret = renewed.json()["client_secret"]
    else:
        await patch(anonymous, root, CLIENT, is_active=False)
        await patch(anonymous, root, CLIENT, is_active=True)

    assert [await status_of(anonymous, answer) for answer in before] == [401, 401, 200], "here at once"
    clock[0] = RECHECK_SECONDS
    assert [await status_of(other, answer) for answer in before] == [401, 401, 200]
    form = refresh_form(for_ada["refresh_token"])
    assert await refusal(anonymous, form, auth=(CLIENT, secret)) == "invalid_grant"
    anew = await granted(anonymous, CREDENTIALS, (CLIENT, secret))
    assert [await status_of(client, anew) for client in (anonymous, other)] == [200, 200], "in the same second"


async def changed(services: Services) -> None:
    await set_password(services, "ada", NEW_PASSWORD)


async def disabled_and_enabled(services: Services) -> None:
    await set_active(services, "ada", is_active=False)
    await set_active(services, "ada", is_active=True)


async def deleted(_services: Services) -> None:
    await Account.find({"username": "ada"}).delete()


@pytest.mark.parametrize("end", [changed, disabled_and_enabled, deleted])
async def test_who_signs_in_while_that_happens_gets_nothing_that_counts(
    app: FastAPI,
    services: Services,
    root: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    end: Callable[[Services], Awaitable[None]],
) -> None:
    start = services.sessions.start

    async def start_late(*arguments: Any) -> Any:
        await end(services)
        return await start(*arguments)

    monkeypatch.setattr(services.sessions, "start", start_late)
    async with client_of(app, services) as client:
        await assert_ended(client, await sign_in(client), root)


async def test_nothing_is_left_to_do_after_the_accounts_own_write(
    anonymous: httpx.AsyncClient, root: dict[str, str], recorder: CommandRecorder
) -> None:
    answer = await sign_in(anonymous)
    changes: list[Callable[[], Awaitable[None]]] = [
        lambda: change_own(anonymous, answer, PASSWORD, NEW_PASSWORD),
        lambda: patch(anonymous, root, password=PASSWORD),
        lambda: patch(anonymous, root, is_active=False),
    ]
    for change in changes:
        recorder.commands.clear()
        await change()
        written = [(name, command[name]) for command in recorder.commands if (name := next(iter(command))) in WRITES]
        counted = [where for where in written if where[1] != "quotas"]
        assert counted == [("findAndModify", "accounts"), ("insert", "audit")]


async def test_what_was_there_before_there_were_epochs_goes_on(
    anonymous: httpx.AsyncClient, services: Services, root: dict[str, str]
) -> None:
    answer = await sign_in(anonymous)
    for stored in (Account, Session):
        await stored.get_pymongo_collection().update_many({}, {"$unset": {"epoch": 1, "kept_session": 1}})

    await refreshed(anonymous, answer["refresh_token"])
    await change_account(services, "ada", password=NEW_PASSWORD)
    await assert_ended(anonymous, answer, root)
