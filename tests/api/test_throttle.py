"""Guessing passwords: refused after a while, whoever asks for whatever account, and telling nothing."""

import asyncio
import time
from bisect import bisect_left, bisect_right
from dataclasses import replace

import httpx
import pytest
from fastapi import FastAPI
from pymongo.read_concern import ReadConcern

from service.api.dependencies import Services
from service.auth.accounts import Accounts
from service.auth.passwords import PasswordHasher
from service.auth.throttle import SignInThrottle, account_key, address_key
from service.errors import DatabaseUnavailableError, TooManyAttemptsError
from service.store.audit_records import AuditEvent
from service.store.quotas import Quota, QuotaCounter, Quotas
from tests.conftest import client_of
from tests.signing_in import INTROSPECT, REVOKE, TOKEN, set_account

MY_PASSWORD = "/api/v1/auth/me/password"
PASSWORD = "correct horse"
HERE, THERE = "192.0.2.1", "192.0.2.2"
SAMPLES = 200


@pytest.fixture(autouse=True)
async def _accounts(anonymous: httpx.AsyncClient, services: Services) -> None:
    for name in ("ada", "grace"):
        await services.accounts.create(name, PASSWORD, ["users:read"])


def throttle(services: Services, *, per_account: int = 10, per_address: int = 100) -> SignInThrottle:
    """That of one more process on the same database."""
    quotas = Quotas(services.settings.operation_timeout_seconds)
    return SignInThrottle(quotas, per_account=per_account, per_address=per_address, window_seconds=300)


async def sign_in(client: httpx.AsyncClient, username: str = "ada", password: str = "wrong horse") -> httpx.Response:
    return await client.post(TOKEN, data={"grant_type": "password", "username": username, "password": password})


async def wrong() -> str | None:
    """A check that finds nobody."""
    return None


async def right() -> str:
    """A check that finds somebody."""
    return "somebody"


async def used(key: str) -> int:
    """How many have failed."""
    counters = QuotaCounter.get_pymongo_collection().with_options(read_concern=ReadConcern("local"))
    counter = await counters.find_one({"_id": key}) or {"used": 0, "held": 0}
    assert counter["held"] == 0, "what is over is not held any more"
    failed: int = counter["used"]
    return failed


async def test_a_hundred_guesses_at_once_get_no_further_than_ten(anonymous: httpx.AsyncClient) -> None:
    responses = await asyncio.gather(*(sign_in(anonymous) for _ in range(100)))

    assert sorted(response.status_code for response in responses) == [400] * 10 + [429] * 90
    refused = await sign_in(anonymous, password=PASSWORD)
    assert refused.status_code == 429, "the right password is not told from a wrong one"
    assert 1 <= int(refused.headers["Retry-After"]) <= 300
    assert refused.headers["Cache-Control"] == "no-store"
    assert refused.json()["code"] == refused.json()["error"] == "too_many_attempts"
    assert refused.headers["Retry-After"] in refused.json()["error_description"]
    assert (await sign_in(anonymous, "grace", PASSWORD)).status_code == 200, "others at this address are not concerned"
    assert await used(address_key("127.0.0.1")) == 10, "what is refused for its account does not count for the address"


async def refused_for_many() -> list[tuple[str, str, str | None, str | None]]:
    events = await AuditEvent.find({"reason": "too_many_attempts"}).sort("_id").to_list()
    return [(event.action, event.account, event.type, event.target) for event in events]


async def test_who_has_to_wait_is_written_down_once_a_window(
    anonymous: httpx.AsyncClient, app: FastAPI, services: Services
) -> None:
    for _ in range(9):
        assert (await sign_in(anonymous)).status_code == 400
    assert await refused_for_many() == []

    assert [(await sign_in(anonymous)).status_code for _ in range(4)] == [400, 429, 429, 429]
    assert await refused_for_many() == [("sign_in", "ada", "accounts", "ada")]

    counters = QuotaCounter.get_pymongo_collection()
    await counters.delete_many({})  # as if the window were over
    strict = throttle(services, per_address=3)
    async with client_of(app, replace(services, throttle=strict)) as client:
        assert [(await sign_in(client, name)).status_code for name in "abcd"] == [400, 400, 400, 429]
    assert (await refused_for_many())[1:] == [("sign_in", "(unknown)", "addresses", "127.0.0.1")]
    assert await AuditEvent.find({"reason": "invalid_grant"}).count() == 13


@pytest.mark.parametrize(
    ("path", "form"),
    [(TOKEN, {"grant_type": "client_credentials"}), (REVOKE, {"token": "x"}), (INTROSPECT, {"token": "x"})],
    ids=["token", "revoke", "introspect"],
)
async def test_a_clients_secret_is_guessed_no_better_than_a_password(
    anonymous: httpx.AsyncClient, services: Services, path: str, form: dict[str, str]
) -> None:
    await services.accounts.create("robot", PASSWORD, kind="client")

    async def status_of(secret: str) -> int:
        return (await anonymous.post(path, data=form, auth=("robot", secret))).status_code

    assert await status_of(PASSWORD) == 200
    assert [await status_of("wrong horse") for _ in range(11)] == [401] * 10 + [429]
    assert await status_of(PASSWORD) == 429
    assert await refused_for_many() == [("sign_in", "robot", "accounts", "robot")]


async def test_ones_own_password_is_guessed_no_better_by_whoever_has_the_token(
    anonymous: httpx.AsyncClient,
) -> None:
    token = (await sign_in(anonymous, password=PASSWORD)).json()["access_token"]

    async def change(current: str) -> httpx.Response:
        body = {"current_password": current, "new_password": "another horse"}
        return await anonymous.put(MY_PASSWORD, json=body, headers={"Authorization": f"Bearer {token}"})

    assert [(await change("wrong horse")).status_code for _ in range(10)] == [422] * 10
    refused = await change(PASSWORD)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_attempts")
    assert 1 <= int(refused.headers["Retry-After"]) <= 300
    assert await refused_for_many() == [("sign_in", "ada", "accounts", "ada")]


async def test_an_account_that_is_not_there_is_counted_as_any(anonymous: httpx.AsyncClient) -> None:
    answers = {name: [await sign_in(anonymous, name) for _ in range(11)] for name in ("ada", "nobody")}

    for known, unknown in zip(*answers.values(), strict=True):
        assert known.status_code == unknown.status_code
        assert known.json().keys() == unknown.json().keys()
        assert known.json()["error"] == unknown.json()["error"]
        assert known.headers.keys() == unknown.headers.keys()
    assert answers["nobody"][-1].status_code == 429


async def test_right_passwords_do_not_count_however_many_at_once(anonymous: httpx.AsyncClient) -> None:
    responses = await asyncio.gather(*(sign_in(anonymous, password=PASSWORD) for _ in range(30)))

    assert [response.status_code for response in responses] == [200] * 30
    assert await used(account_key("ada")) == await used(address_key("127.0.0.1")) == 0


async def test_an_address_has_to_wait_and_no_other_and_no_account(services: Services) -> None:
    strict = throttle(services, per_address=3)
    for name in ("a", "b", "c"):
        assert await strict.attempt(name, HERE, wrong) is None

    with pytest.raises(TooManyAttemptsError):
        await strict.attempt("ada", HERE, right)

    assert await strict.attempt("ada", THERE, right) == "somebody"
    assert await used(account_key("ada")) == 0, "what was refused for its address is not held against the account"
    assert await strict.attempt("ada", None, right) == "somebody", "where there are no addresses, accounts are counted"


async def test_processes_on_one_database_count_together(
    anonymous: httpx.AsyncClient, app: FastAPI, services: Services
) -> None:
    async with client_of(app, replace(services, throttle=throttle(services))) as other:
        for _ in range(5):
            assert (await sign_in(anonymous)).status_code == 400
            assert (await sign_in(other)).status_code == 400

        assert (await sign_in(anonymous)).status_code == 429
        assert (await sign_in(other, password=PASSWORD)).status_code == 429


async def test_an_attempt_waits_for_those_that_other_processes_check(services: Services) -> None:
    quotas, key = Quotas(services.settings.operation_timeout_seconds), account_key("ada")
    for _ in range(10):
        assert (await quotas.hold(key, Quota(10, 300))).is_granted
    waiting = asyncio.create_task(throttle(services).attempt("ada", HERE, right))
    await asyncio.wait([waiting], timeout=0.3)
    assert not waiting.done()

    await quotas.release(key, counts=False)

    assert await asyncio.wait_for(waiting, 5) == "somebody"


async def test_a_check_that_breaks_off_is_no_failure(services: Services) -> None:
    async def breaks_off() -> None:
        raise DatabaseUnavailableError

    for _ in range(12):
        with pytest.raises(DatabaseUnavailableError):
            await throttle(services).attempt("ada", HERE, breaks_off)
    assert await used(account_key("ada")) == 0


async def test_without_a_database_nothing_is_even_tried(services: Services) -> None:
    tried = False

    async def check() -> None:
        nonlocal tried
        tried = True

    blind = SignInThrottle(Quotas(0.000_001), per_account=1, per_address=1, window_seconds=300)
    with pytest.raises(DatabaseUnavailableError):
        await blind.attempt("ada", HERE, check)
    assert not tried


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::1", True),
        ("unknown", "hidden", False),
        ("x" * 10_000, "x" * 10_001, False),
    ],
)
def test_an_address_is_what_one_caller_has(one: str, other: str, *, are_one: bool) -> None:
    assert (address_key(one) == address_key(other)) is are_one
    assert len(address_key(one)) < 100


def test_what_was_typed_for_a_name_is_not_kept() -> None:
    assert "canary" not in account_key("canary")
    assert len(account_key("x" * 10_000)) == len(account_key("\ud800")) < 100


@pytest.mark.slow
async def test_time_does_not_tell_which_accounts_there_are(app: FastAPI, services: Services) -> None:
    accounts = Accounts(services.settings.operation_timeout_seconds)
    accounts._passwords = PasswordHasher()  # whose hashes cost what they do outside of tests
    await set_account("ada", password_hash=await accounts._passwords.hash(PASSWORD))
    lenient = throttle(services, per_account=SAMPLES * 2, per_address=SAMPLES * 4)
    patient = replace(services, accounts=accounts, throttle=lenient)
    times: dict[str, list[float]] = {"ada": [], "nobody": []}
    async with client_of(app, patient) as client:
        for _ in range(SAMPLES):
            for name, taken in times.items():  # in turn, so that whatever else the machine does hits both
                started = time.perf_counter()
                assert (await sign_in(client, name)).status_code == 400
                taken.append(time.perf_counter() - started)

    # Whoever has to tell one from the other by the time alone is right about as often as by tossing a coin. By chance,
    # 200 of each are further off than a tenth once in a thousand times.
    assert 0.4 < chance_of_less(times["ada"], times["nobody"]) < 0.6


def chance_of_less(these: list[float], those: list[float]) -> float:
    """How likely one of these is less than one of those: the area under the ROC curve, whatever the distributions."""
    ordered = sorted(those)
    wins = sum(len(ordered) - (bisect_left(ordered, one) + bisect_right(ordered, one)) / 2 for one in these)
    return wins / (len(these) * len(those))
