"""Every route, and the scope that it needs: a new one without a line here fails."""

from collections.abc import Callable, Iterable, Iterator

import httpx
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Mount, Route

from service.auth.scopes import ACCOUNTS_ADMIN
from tests.conftest import TYPES

OPEN = None
"""Asked by anybody, without a token."""

ANY = ""
"""Any token will do: what it answers is the caller's own."""

TYPE_ROUTES = {
    ("GET", ""): "read",
    ("POST", ""): "write",
    ("GET", "/{document_id}"): "read",
    ("PUT", "/{document_id}"): "write",
    ("PATCH", "/{document_id}"): "write",
    ("DELETE", "/{document_id}"): "delete",
    ("GET", "/schema"): "read",
    ("GET", "/export/{format_name}"): "export",
    ("POST", "/import"): "write",
    ("GET", "/import/template/{format_name}"): "write",
}
"""The action of a type that each of its routes needs."""

ROUTES = {
    ("GET", "/openapi.json"): OPEN,
    ("GET", "/docs"): OPEN,
    ("GET", "/docs/assets"): OPEN,
    ("GET", "/health"): OPEN,
    ("GET", "/health/ready"): OPEN,
    ("GET", "/.well-known/jwks.json"): OPEN,
    ("GET", "/.well-known/oauth-authorization-server"): OPEN,
    ("POST", "/api/v1/auth/token"): OPEN,
    ("POST", "/api/v1/auth/revoke"): OPEN,
    ("POST", "/api/v1/auth/introspect"): OPEN,
    ("GET", "/api/v1/auth/me"): ANY,
    ("PUT", "/api/v1/auth/me/password"): ANY,
    ("GET", "/api/v1/accounts"): ACCOUNTS_ADMIN,
    ("POST", "/api/v1/accounts"): ACCOUNTS_ADMIN,
    ("GET", "/api/v1/accounts/{account_id}"): ACCOUNTS_ADMIN,
    ("PATCH", "/api/v1/accounts/{account_id}"): ACCOUNTS_ADMIN,
    ("DELETE", "/api/v1/accounts/{account_id}"): ACCOUNTS_ADMIN,
    ("POST", "/api/v1/accounts/{account_id}/secret"): ACCOUNTS_ADMIN,
    ("GET", "/api/v1/audit"): ACCOUNTS_ADMIN,
    ("GET", "/api/v1/audit/{record_id}"): ACCOUNTS_ADMIN,
    ("GET", "/api/v1/exports"): ANY,
    ("GET", "/api/v1/exports/{record_id}"): ANY,
    ("GET", "/api/v1/imports"): ANY,
    ("GET", "/api/v1/imports/{record_id}"): ANY,
    **{
        (method, f"/api/v1/{document_type.name}{rest}"): f"{document_type.name}:{action}"
        for document_type in TYPES
        for (method, rest), action in TYPE_ROUTES.items()
    },
}
"""The scope of each method and path."""


def routes_of(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, str]]:
    """The method and path of each route, also of those of an included router."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from routes_of(included.routes)
        elif isinstance(route, Mount):
            yield "GET", route.path
        else:
            assert isinstance(route, Route | APIRoute), route
            yield from ((method, route.path) for method in sorted((route.methods or set()) - {"HEAD"}))


def addresses() -> Iterator[tuple[str, str, str | None]]:
    """Each method, an address of the route, and its scope."""
    for (method, path), scope in ROUTES.items():
        yield method, path.replace("{format_name}", "csv").replace("{", "").replace("}", ""), scope


def test_every_route_is_in_the_list(app: FastAPI) -> None:
    assert sorted(routes_of(app.routes)) == sorted(ROUTES)


def test_the_published_scopes_are_those_of_the_list(app: FastAPI) -> None:
    published = {
        (method.upper(), path): [scope for scheme in operation.get("security", []) for scope in scheme.values()]
        for path, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
    }
    for route, asked in published.items():
        scope = ROUTES[route]
        assert all(scopes == ([scope] if scope else []) for scopes in asked), route
        assert bool(asked) is (scope is not OPEN), route


async def test_without_a_token_only_the_open_ones_answer(anonymous: httpx.AsyncClient) -> None:
    for method, address, scope in addresses():
        response = await anonymous.request(method, address)
        assert (response.status_code == 401) is (scope is not OPEN), (method, address, response.status_code)


async def test_each_asks_for_its_scope_and_for_nothing_else(
    client: httpx.AsyncClient, as_caller: Callable[[Iterable[str]], None], app: FastAPI
) -> None:
    known = {scope for scope in ROUTES.values() if scope}
    for method, address, scope in addresses():
        if scope is OPEN:
            continue
        as_caller(known - {scope})
        without = await client.request(method, address)
        as_caller({scope} if scope else set())
        with_it = await client.request(method, address)
        assert (without.status_code == 403) is bool(scope), (method, address, without.text)
        assert with_it.status_code not in {401, 403}, (method, address, with_it.text)
        assert with_it.status_code < 500, (method, address, with_it.text)


async def test_a_path_that_is_none_asks_for_nothing(anonymous: httpx.AsyncClient) -> None:
    for address in ("/api/v1/sessions", "/api/v1/accounts/", "/api/v2/users", "/api/v1/accounts/x/y", "/admin"):
        assert (await anonymous.get(address)).status_code == 404, address
