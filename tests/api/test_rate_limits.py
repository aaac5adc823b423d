"""The rate limit: what is counted, for whom, and how answers tell what is left."""

import re
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace

import httpx
import pytest
from beanie import PydanticObjectId
from fastapi import FastAPI

from service.api.dependencies import Services
from service.api.rate_limits import Group, RateLimit, group_of
from service.app import create_app
from service.auth.accounts import Account
from service.settings import Settings
from service.store.quotas import Quotas
from tests.conftest import TYPES, CommandRecorder, client_of

USERS = "/api/v1/users"
UNKNOWN = f"{USERS}/{'0' * 24}"
LIMIT = 3


@pytest.fixture(scope="module")
def limited_app(settings: Settings) -> FastAPI:
    return create_app(settings.model_copy(update={"rate_limit_per_minute": LIMIT}), TYPES)


def limited(services: Services) -> Services:
    """The parts of one more process on the same database."""
    return replace(services, rate_limit=RateLimit(Quotas(services.settings.operation_timeout_seconds), LIMIT))


@pytest.fixture
async def limited_client(
    client: httpx.AsyncClient, limited_app: FastAPI, services: Services
) -> AsyncIterator[httpx.AsyncClient]:
    """A caller of the service with a limit."""
    async with client_of(limited_app, limited(services)) as found:
        found.headers["Authorization"] = client.headers["Authorization"]
        yield found


def left_of(response: httpx.Response) -> tuple[str, int, int]:
    """The group, how many are left of it, and for how many seconds."""
    found = re.fullmatch(r'"(\w+)";r=(\d+);t=(\d+)', response.headers["RateLimit"])
    assert found, response.headers["RateLimit"]
    assert response.headers["RateLimit-Policy"] == f'"{found[1]}";q={LIMIT};w=60'
    return found[1], int(found[2]), int(found[3])


async def test_past_the_limit_an_account_has_to_wait(limited_client: httpx.AsyncClient) -> None:
    answers = [await limited_client.get(path) for path in (USERS, UNKNOWN, f"{USERS}?nonsense=1", USERS, USERS)]

    assert [answer.status_code for answer in answers] == [200, 404, 400, 429, 429]
    assert [left_of(answer)[:2] for answer in answers] == [("reads", left) for left in (2, 1, 0, 0, 0)]
    refused = answers[-1]
    assert refused.json()["code"] == "too_many_requests"
    assert int(refused.headers["Retry-After"]) == left_of(refused)[2]
    assert 50 <= left_of(refused)[2] <= 60


async def test_each_group_and_each_account_has_a_quota_of_its_own(
    limited_client: httpx.AsyncClient, services: Services
) -> None:
    for _ in range(LIMIT + 1):
        await limited_client.get(USERS)

    assert left_of(await limited_client.post(USERS, json={})) == ("writes", 2, 60)
    assert left_of(await limited_client.get(f"{USERS}/export/csv"))[:2] == ("files", 2)
    assert left_of(await limited_client.post(f"{USERS}/import", content=b""))[:2] == ("files", 1)
    assert left_of(await limited_client.get("/api/v1/auth/me"))[:2] == ("accounts", 2)
    assert (await limited_client.get(USERS)).status_code == 429
    grace = await Account(id=PydanticObjectId(), username="grace", password_hash="!", scopes=["users:read"]).insert()
    token = services.signer.issue(str(grace.id), "grace", "tests", ["users:read"])
    other = await limited_client.get(USERS, headers={"Authorization": f"Bearer {token}"})
    assert (other.status_code, left_of(other)[:2]) == (200, ("reads", 2))


async def test_processes_on_one_database_count_together(
    limited_client: httpx.AsyncClient, limited_app: FastAPI, services: Services
) -> None:
    async with client_of(limited_app, limited(services)) as other:
        other.headers["Authorization"] = limited_client.headers["Authorization"]
        left = [left_of(await one.get(USERS))[1] for one in (limited_client, other, limited_client)]

    assert left == [2, 1, 0]


async def test_a_refusal_for_want_of_a_scope_counts_and_a_stranger_does_not(
    limited_client: httpx.AsyncClient, as_caller: Callable[[Iterable[str]], None], anonymous: httpx.AsyncClient
) -> None:
    as_caller({"users:read"})
    limited_client.headers["Authorization"] = anonymous.headers["Authorization"]
    forbidden = await limited_client.get("/api/v1/items")
    assert (forbidden.status_code, left_of(forbidden)[1]) == (403, 2)

    stranger = await limited_client.get(USERS, headers={"Authorization": "Bearer nonsense"})
    health = await limited_client.get("/health")

    assert stranger.status_code == 401
    for response in (stranger, health):
        assert "RateLimit" not in response.headers
        assert "RateLimit-Policy" not in response.headers


async def test_without_a_limit_nothing_is_counted_and_nothing_told(
    client: httpx.AsyncClient, app: FastAPI, recorder: CommandRecorder
) -> None:
    response = await client.get(UNKNOWN)

    assert "RateLimit" not in response.headers
    assert recorder.names == ["find"]
    assert "too_many_requests" not in str(app.openapi())


def test_every_route_with_a_caller_says_that_it_is_limited(limited_app: FastAPI) -> None:
    for path, operations in limited_app.openapi()["paths"].items():
        for operation in operations.values():
            refusals = operation["responses"].get("429", {"description": ""})["description"]
            assert ("too many requests" in refusals) == ("security" in operation), path
    exports = limited_app.openapi()["paths"][f"{USERS}/export/{{format_name}}"]["get"]["responses"]["429"]
    assert exports["description"] == "Enough exports are running already; or: The account has sent too many requests"


@pytest.mark.parametrize(
    ("method", "path", "group"),
    [
        ("GET", USERS, "reads"),
        ("GET", f"{USERS}/{{document_id}}", "reads"),
        ("GET", "/api/v1/exports/{record_id}", "reads"),
        ("PATCH", f"{USERS}/{{document_id}}", "writes"),
        ("DELETE", f"{USERS}/{{document_id}}", "writes"),
        ("GET", f"{USERS}/export/{{format_name}}", "files"),
        ("GET", f"{USERS}/import/template/{{format_name}}", "files"),
        ("POST", f"{USERS}/import", "files"),
        ("POST", "/api/v1/export", "writes"),
        ("GET", "/api/v1/audit", "accounts"),
        ("PUT", "/api/v1/auth/me/password", "accounts"),
    ],
)
def test_a_route_is_of_one_group(method: str, path: str, group: Group) -> None:
    assert group_of(method, path) == group
