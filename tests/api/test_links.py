"""The links of the OpenAPI document lead where they say."""

from collections.abc import Iterator
from typing import Any

import httpx
from fastapi import FastAPI

from tests.conftest import TYPES


def linked(app: FastAPI) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The operation whose answer has it, its name, and each link."""
    for operations in app.openapi()["paths"].values():
        for operation in operations.values():
            for answer in operation["responses"].values():
                for name, link in answer.get("links", {}).items():
                    yield operation["operationId"], name, link


def test_each_leads_to_a_route_that_takes_what_it_gives(app: FastAPI) -> None:
    taken = {
        operation["operationId"]: {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
        for operations in app.openapi()["paths"].values()
        for operation in operations.values()
    }
    for _, name, link in linked(app):
        assert name == link["operationId"]
        assert set(link["parameters"]) == taken[name]


def test_what_is_created_leads_to_all_that_can_be_done_with_it_and_a_file_to_its_record(app: FastAPI) -> None:
    found: dict[str, set[str]] = {}
    for source, name, _ in linked(app):
        found.setdefault(source, set()).add(name)

    accounts = {"get_account", "patch_account", "delete_account", "renew_client_secret"}
    assert found["create_account"] == accounts
    for known in TYPES:
        name = known.singular
        assert found[f"create_{name}"] == {f"{verb}_{name}" for verb in ("get", "replace", "patch", "delete")}
        assert (found[f"export_{known.name}"], found[f"import_{known.name}"]) == ({"get_export"}, {"get_import"})


async def test_they_can_be_followed(client: httpx.AsyncClient, app: FastAPI) -> None:
    body = {"username": "nightly", "kind": "client"}
    created = await client.post("/api/v1/accounts", json=body)
    exported = await client.get("/api/v1/users/export/csv")

    expressions = {(source, name): set(link["parameters"].values()) for source, name, link in linked(app)}
    assert expressions["create_account", "get_account"] == {"$response.body#/id"}
    assert expressions["export_users", "get_export"] == {"$response.header.Export-Id"}
    for address in (
        f"/api/v1/accounts/{created.json()['id']}",
        f"/api/v1/exports/{exported.headers['Export-Id']}",
    ):
        assert (await client.get(address)).status_code == 200
