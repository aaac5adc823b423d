"""What holds for all of the service: health, errors, request ids, its description of itself."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.routing import APIRoute

from service.api.dependencies import Services
from service.api.parameters import read_parameters
from service.auth.scopes import ACCOUNTS_ADMIN
from service.store.repository import Repository


async def test_it_lives_and_is_ready(anonymous: httpx.AsyncClient) -> None:
    live = await anonymous.get("/health")
    ready = await anonymous.get("/health/ready")

    assert (live.status_code, live.json()) == (200, {"status": "ok"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})


@pytest.mark.parametrize("path", ["/", "/nonsense", "/api/v1/nonsense", "/api/v1/users/", "//evil.example/"])
async def test_an_unknown_address_is_a_problem(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(httpx.URL("http://dossier").copy_with(raw_path=path.encode()))

    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert set(problem) == {"type", "title", "status", "detail", "code", "request_id"}
    assert problem["code"] == "not_found"
    assert problem["request_id"] == response.headers["x-request-id"]


async def test_another_method_names_those_that_are_allowed(client: httpx.AsyncClient) -> None:
    response = await client.delete("/api/v1/users")

    assert response.status_code == 405
    assert response.json()["code"] == "method_not_allowed"
    assert response.headers["allow"] == "GET, POST"


async def test_an_address_that_is_written_out_allows_its_own_methods_alone(client: httpx.AsyncClient) -> None:
    response = await client.options("/api/v1/users/schema")

    assert response.headers["allow"] == "GET"


@pytest.mark.parametrize("given", ["abc-123", "A.b_c", "x" * 64])
async def test_a_request_id_comes_back(anonymous: httpx.AsyncClient, given: str) -> None:
    response = await anonymous.get("/health", headers={"X-Request-ID": given})

    assert response.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\tb", "ü", '{"$ne":1}'])
async def test_a_request_id_that_could_harm_a_log_is_replaced(anonymous: httpx.AsyncClient, given: str) -> None:
    response = await anonymous.get("/health", headers=[(b"X-Request-ID", given.encode())])

    assert response.headers["x-request-id"] != given
    assert len(response.headers["x-request-id"]) == 32


async def test_what_nobody_foresaw_says_nothing_of_the_inside(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_arguments: object) -> None:
        raise RuntimeError("the inside")

    monkeypatch.setattr(Repository, "page", fail)

    response = await client.get("/api/v1/users")

    assert response.status_code == 500
    assert response.json()["code"] == "internal_error"
    assert response.json()["request_id"] == response.headers["x-request-id"]
    assert "the inside" not in response.text


def routes_of(app: FastAPI) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in app.openapi()["paths"].items():
        for method, operation in operations.items():
            yield method, path, operation


def test_every_route_but_a_few_needs_a_scope(app: FastAPI, services: Services) -> None:
    known = set(services.scopes)
    free = {("get", "/health"), ("get", "/health/ready")}
    free |= {("post", f"/api/v1/auth/{name}") for name in ("token", "revoke", "introspect")}
    for method, path, operation in routes_of(app):
        if (method, path) in free or path.startswith("/.well-known/"):
            assert "security" not in operation
        elif path.startswith(("/api/v1/auth/me", "/api/v1/exports", "/api/v1/imports")):  # where all find their own
            assert operation["security"] == [{"OAuth2": []}]
        else:
            [scopes] = [requirement["OAuth2"] for requirement in operation["security"]]
            assert len(scopes) == 1
            assert scopes[0] in known
            assert scopes[0].partition(":")[0] in path or (
                path.startswith("/api/v1/audit") and scopes == [ACCOUNTS_ADMIN]
            )


def references_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references_in(inner)


async def test_the_description_holds_together(app: FastAPI, anonymous: httpx.AsyncClient) -> None:
    document = (await anonymous.get("/openapi.json")).json()

    operation_ids = [operation["operationId"] for _, _, operation in routes_of(app)]
    assert len(set(operation_ids)) == len(operation_ids)
    assert {
        "list_users",
        "create_user",
        "get_user",
        "replace_user",
        "patch_user",
        "delete_user",
        "export_users",
        "import_users",
        "get_user_import_template",
        "list_imports",
        "get_import",
    } <= set(operation_ids)
    schemas = document["components"]["schemas"]
    for reference in references_in(document):
        assert reference.removeprefix("#/components/schemas/") in schemas, reference
    for method, path, operation in routes_of(app):
        assert "422" not in operation["responses"] or method in {"post", "put", "patch"}, path


async def test_the_docs_page_needs_nothing_from_elsewhere(anonymous: httpx.AsyncClient) -> None:
    page = (await anonymous.get("/docs")).text

    assert "https://" not in page
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"):
        assert f"/docs/assets/{asset}" in page
        assert (await anonymous.get(f"/docs/assets/{asset}")).status_code == 200


def test_nothing_is_served_beside_the_described_routes(app: FastAPI) -> None:
    described = {(method, path) for method, path, _ in routes_of(app)}
    routers = [app.router, *(route.original_router for route in app.routes if hasattr(route, "original_router"))]
    served = {
        (method.lower(), route.path)
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    assert served == described | {("get", "/docs")}


def test_no_route_names_a_parameter_twice(app: FastAPI) -> None:
    for _, path, operation in routes_of(app):
        names = [(parameter["in"], parameter["name"]) for parameter in operation.get("parameters", [])]
        assert len(set(names)) == len(names), path


@pytest.mark.parametrize("query", ["name=%FF", "q=%ED%A0%80", "name=%zz", "%FF=1", "name=%"])
async def test_a_query_that_is_no_utf_8_is_refused(client: httpx.AsyncClient, query: str) -> None:
    response = await client.get(httpx.URL("http://dossier").copy_with(raw_path=f"/api/v1/users?{query}".encode()))

    assert response.status_code == 400
    assert response.json()["code"] == "invalid_query"


def test_a_query_may_be_utf_8_without_escapes() -> None:
    scope = {"type": "http", "query_string": "q=小中+健&tags=%E5%B0%8F&empty=".encode(), "headers": []}

    assert read_parameters(Request(scope)) == [("q", "小中 健"), ("tags", "小"), ("empty", "")]
