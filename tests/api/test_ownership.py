"""Two accounts and every route that takes an id: what one of them has, the other sees only where it is for both."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import httpx
import pytest
from fastapi import FastAPI

from service.api.dependencies import Services
from service.auth.accounts import Account
from tests.api.test_routes import TYPE_ROUTES, routes_of
from tests.conftest import TYPES

PASSWORD = "correct horse battery"
USERS = "/api/v1/users"
UNKNOWN_ID = "0123456789abcdef01234567"

Rule = Literal["shared", "own", "managed", "no id"]
RULES: dict[str, Rule] = {
    "/api/v1/exports/{record_id}": "own",
    "/api/v1/imports/{record_id}": "own",
    "/api/v1/audit/{record_id}": "managed",
    "/api/v1/accounts/{account_id}": "managed",
    "/api/v1/accounts/{account_id}/secret": "managed",
    **{
        f"/api/v1/{document_type.name}{rest}": "shared" if "document_id" in rest else "no id"
        for document_type in TYPES
        for _, rest in TYPE_ROUTES
        if "{" in rest
    },
}
"""Whose a thing is: everybody's who has the scope, its account's own, or for whoever manages accounts."""

As = Callable[[Account, list[str]], dict[str, str]]


@pytest.fixture
def headers_of(services: Services) -> As:
    """What an account sends with a token of these scopes."""

    def headers(account: Account, scopes: list[str]) -> dict[str, str]:
        token = services.signer.issue(str(account.id), account.username, "tests", scopes)
        return {"Authorization": f"Bearer {token}"}

    return headers


def paths_with_an_id(app: FastAPI) -> Iterator[tuple[str, str]]:
    return ((method, path) for method, path in routes_of(app.routes) if "{" in path)


def test_every_route_that_takes_an_id_has_a_rule(app: FastAPI) -> None:
    assert {path for _, path in paths_with_an_id(app)} == set(RULES)


async def test_what_one_account_has_another_does_not_see(
    app: FastAPI, anonymous: httpx.AsyncClient, services: Services, headers_of: As
) -> None:
    ada = await services.accounts.create("ada", PASSWORD, ["*"])
    bob = await services.accounts.create("bob", PASSWORD, ["*"])
    admin = await services.accounts.create("root", PASSWORD, roles=["admin"])
    everything_but_admin = [scope for scope in services.scopes if scope != "accounts:admin"]
    adas, bobs = headers_of(ada, everything_but_admin), headers_of(bob, everything_but_admin)
    admins = headers_of(admin, list(services.scopes))
    ids = await things_of(anonymous, adas)
    [event, *_] = (await anonymous.get("/api/v1/audit", headers=admins)).json()["items"]
    ids["/api/v1/audit/{record_id}"] = event["id"]
    ids["/api/v1/accounts/{account_id}"] = ids["/api/v1/accounts/{account_id}/secret"] = str(ada.id)

    asked = 0
    for method, path in paths_with_an_id(app):
        rule = RULES[path]
        if rule in {"shared", "no id"}:
            continue
        address, unknown = (
            path.replace("{record_id}", key).replace("{account_id}", key) for key in (ids[path], UNKNOWN_ID)
        )
        theirs = await anonymous.request(method, address, headers=bobs, json={})
        nobodys = await anonymous.request(method, unknown, headers=bobs, json={})
        assert theirs.status_code == nobodys.status_code == (404 if rule == "own" else 403), (method, path)
        assert without_id(theirs, ids[path]) == without_id(nobodys, UNKNOWN_ID)
        if method == "GET":
            own = await anonymous.get(address, headers=adas)
            assert own.status_code == (200 if rule == "own" else 403), path  # one's own account is at /auth/me
            assert (await anonymous.get(address, headers=admins)).status_code == 200, path
            listed = await anonymous.get(address.rpartition("/")[0], headers=bobs)
            assert ids[path] not in listed.text
        asked += 1
    assert asked == sum(rule in {"own", "managed"} for rule in (RULES[path] for _, path in paths_with_an_id(app)))


async def things_of(client: httpx.AsyncClient, headers: dict[str, str]) -> dict[str, str]:
    """An export and an import of this caller, by the routes that show them."""
    exported = await client.get(f"{USERS}/export/ndjson", headers=headers)
    body = b'{"name": "Ada", "email": "ada@example.org"}\n'
    imported = await client.post(
        f"{USERS}/import",
        params={"mode": "create"},
        content=body,
        headers=headers | {"Content-Type": "application/x-ndjson"},
    )
    assert (exported.status_code, imported.status_code) == (200, 200), imported.text
    return {
        "/api/v1/exports/{record_id}": exported.headers["export-id"],
        "/api/v1/imports/{record_id}": imported.headers["import-id"],
    }


def without_id(response: httpx.Response, key: str) -> dict[str, Any]:
    """The answer, less what differs in any case."""
    answer: dict[str, Any] = response.json() | {"request_id": None}
    return {name: value.replace(key, "…") if isinstance(value, str) else value for name, value in answer.items()}
