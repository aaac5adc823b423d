"""What browsers are told and held to: headers, origins, hosts; and that nothing is made of what a client claims."""

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from service.api.dependencies import Services
from service.app import create_app
from service.settings import Settings
from tests.conftest import TYPES, client_of

USERS = "/api/v1/users"
ADA = {"name": "Ada", "email": "ada@example.org"}
OURS = "https://app.example"
METRICS_TOKEN = "a token for metrics, 32 bytes or more"
PREFLIGHT = {"Origin": OURS, "Access-Control-Request-Method": "PATCH"}
FOREIGN_ORIGINS = [
    "null",
    "https://evil.example",
    "https://app.example.evil.example",
    "http://app.example",
    f"{OURS}:444",
]
ODD_PATHS = [b"//evil.example", b"//evil.example/api/v1/users", rb"/\evil.example", b"/api/v1/users//"]


@pytest.fixture(scope="module")
def strict_app(settings: Settings) -> FastAPI:
    """The service for one host and one origin, without docs."""
    hosts = ("dossier", "[::1]")
    chosen = {"cors_origins": (OURS,), "allowed_hosts": hosts, "docs": False, "metrics_token": SecretStr(METRICS_TOKEN)}
    return create_app(settings.model_copy(update=chosen), TYPES)


@pytest.fixture
async def strict(
    client: httpx.AsyncClient, strict_app: FastAPI, services: Services
) -> AsyncIterator[httpx.AsyncClient]:
    """A caller of that one."""
    async with client_of(strict_app, services) as found:
        found.headers["Authorization"] = client.headers["Authorization"]
        yield found


def assert_secured(response: httpx.Response) -> None:
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["X-Frame-Options"] == "DENY"
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "Cache-Control" in response.headers


async def test_every_kind_of_answer_is_secured(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    created = await client.post(USERS, json=ADA)
    one = f"{USERS}/{created.json()['id']}"
    answers = {
        "created": created,
        "read": await client.get(one),
        "not modified": await client.get(one, headers={"If-None-Match": '"1"'}),
        "listed": await client.get(USERS),
        "file": await client.get(f"{USERS}/export/csv"),
        "not found": await client.get("/nowhere"),
        "wrong method": await client.delete(USERS),
        "invalid": await client.post(USERS, json={}),
        "unsupported": await client.post(USERS, content=b"x"),
        "docs": await client.get("/docs"),
        "asset": await client.get("/docs/assets/swagger-ui.css"),
        "description": await client.get("/openapi.json"),
        "health": await client.get("/health"),
        "stranger": await client.get(USERS, headers={"Authorization": ""}),
        "deleted": await client.delete(one),
    }
    monkeypatch.setattr("service.api.documents.read_list_query", None)
    answers["failure"] = await client.get(USERS)

    statuses = [response.status_code for response in answers.values()]
    assert statuses == [201, 200, 304, 200, 200, 404, 405, 422, 415, 200, 200, 200, 200, 401, 204, 500]
    for response in answers.values():
        assert_secured(response)
        assert "Strict-Transport-Security" not in response.headers, "this is plain HTTP"


async def test_what_was_answered_stays_with_its_caller(client: httpx.AsyncClient) -> None:
    created = await client.post(USERS, json=ADA)
    path = f"{USERS}/{created.json()['id']}"

    for response in (created, await client.get(path), await client.get(path, headers={"If-None-Match": '"1"'})):
        assert response.headers["Cache-Control"] == "private, no-cache"
        assert response.headers["Vary"] == "Authorization"
    for unkept in (USERS, "/nowhere", "/health", f"{USERS}/export/csv"):
        assert (await client.get(unkept)).headers["Cache-Control"] == "no-store"


async def test_by_https_browsers_are_told_to_stay_with_it(anonymous: httpx.AsyncClient) -> None:
    response = await anonymous.get("https://dossier/health")

    assert response.headers["Strict-Transport-Security"] == "max-age=31536000"


async def test_behind_a_proxy_that_speaks_https_too(settings: Settings, services: Services) -> None:
    app = create_app(settings.model_copy(update={"public_url": "https://dossier.example"}))

    async with client_of(app, services) as client:
        assert (await client.get("/health")).headers["Strict-Transport-Security"] == "max-age=31536000"


async def test_the_docs_page_runs_its_own_script_and_no_other(anonymous: httpx.AsyncClient) -> None:
    response = await anonymous.get("/docs")

    policy = {
        name: sources for name, *sources in map(str.split, response.headers["Content-Security-Policy"].split(";"))
    }
    written = re.findall(r"<script>(.*?)</script>", response.text, re.DOTALL)
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in written]
    assert len(hashes) == 1
    assert policy["script-src"] == ["'self'", *hashes]
    assert policy["connect-src"] == ["'self'"]
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == ["'none'"]


async def test_docs_that_are_off_are_nowhere_and_methods_are_still_told(strict: httpx.AsyncClient) -> None:
    for path in ("/docs", "/openapi.json", "/docs/assets/swagger-ui.css", "/redoc"):
        response = await strict.get(path)
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
    refused = await strict.delete(USERS)
    assert (refused.status_code, refused.headers["Allow"]) == (405, "GET, POST")


async def test_pages_of_our_origin_may_ask_and_read(strict: httpx.AsyncClient) -> None:
    asked = await strict.options(
        USERS, headers={**PREFLIGHT, "Access-Control-Request-Headers": "authorization,content-type,if-match"}
    )
    answered = await strict.post(USERS, json=ADA, headers={"Origin": OURS})
    refused = await strict.get("/nowhere", headers={"Origin": OURS})

    assert asked.status_code == 200
    assert "PATCH" in asked.headers["Access-Control-Allow-Methods"]
    assert {"authorization", "if-match"} <= set(asked.headers["Access-Control-Allow-Headers"].lower().split(", "))
    for response in (asked, answered, refused):
        assert response.headers["Access-Control-Allow-Origin"] == OURS
        assert "Access-Control-Allow-Credentials" not in response.headers
        assert "Origin" in response.headers["Vary"]
        assert_secured(response)
    exposed = answered.headers["Access-Control-Expose-Headers"].split(", ")
    assert {"ETag", "Link", "Location", "Export-Id", "Import-Id", "Retry-After", "RateLimit"} <= set(exposed)


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
async def test_pages_of_other_origins_may_not(strict: httpx.AsyncClient, origin: str) -> None:
    asked = await strict.options(USERS, headers=PREFLIGHT | {"Origin": origin})
    answered = await strict.get(USERS, headers={"Origin": origin})

    assert (asked.status_code, asked.json()["code"]) == (403, "cross_origin")
    assert "origin" in asked.json()["detail"]
    for response in (asked, answered):
        assert "Access-Control-Allow-Origin" not in response.headers
        assert "Origin" in response.headers["Vary"]
    assert answered.status_code == 200, "it is the browser who keeps it from the page; programs may say anything"


async def test_a_page_may_not_ask_for_what_pages_do_not_need(strict: httpx.AsyncClient) -> None:
    for changes in (
        {"Access-Control-Request-Method": "TRACE"},
        {"Access-Control-Request-Headers": "x-forwarded-for"},
    ):
        asked = await strict.options(USERS, headers=PREFLIGHT | changes)
        assert (asked.status_code, asked.json()["code"]) == (403, "cross_origin")


async def test_by_default_no_page_may_ask(client: httpx.AsyncClient) -> None:
    asked = await client.options(USERS, headers=PREFLIGHT)
    answered = await client.get(USERS, headers={"Origin": OURS})

    assert asked.status_code == 405
    for response in (asked, answered):
        assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("host", "is_served"),
    [
        ("dossier", True),
        ("DOSSIER:8000", True),
        ("[::1]:8000", True),
        ("[::1]", True),
        ("evil.example", False),
        ("dossier.evil.example", False),
        ("dossier:80@evil.example", False),
        ("::1", False),
        ("", False),
    ],
)
async def test_only_our_hosts_are_served(strict: httpx.AsyncClient, host: str, *, is_served: bool) -> None:
    response = await strict.get(USERS, headers={"Host": host})

    if is_served:
        assert response.status_code == 200
    else:
        assert (response.status_code, response.json()["code"]) == (421, "misdirected_request")
        assert response.json()["request_id"] == response.headers["X-Request-ID"]
        assert_secured(response)
    assert (await strict.get("/health", headers={"Host": host})).status_code == 200, "load balancers ask by address"
    scrape = {"Host": host, "Authorization": f"Bearer {METRICS_TOKEN}"}
    assert (await strict.get("/metrics", headers=scrape)).status_code == 200, "and so does Prometheus"
    assert (await strict.get("/metrics", headers={"Host": host})).status_code == 401


async def test_two_hosts_are_not_one_of_ours(strict: httpx.AsyncClient) -> None:
    response = await strict.get(USERS, headers=[("Host", "dossier"), ("Host", "evil.example")])

    assert response.status_code == 421


async def test_nothing_is_built_from_the_host(client: httpx.AsyncClient) -> None:
    claims = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}
    created = await client.post(USERS, json=ADA, headers=claims)
    paths = [USERS, f"{USERS}?limit=1", "/nowhere", "/docs", "/openapi.json", f"{USERS}/", "/docs/assets"]
    answers = [created, *[await client.get(path, headers=claims) for path in paths]]
    raw = [httpx.URL("http://dossier").copy_with(raw_path=path) for path in ODD_PATHS]
    answers += [await client.get(url, headers=claims) for url in raw]

    assert created.headers["Location"].startswith("/api/v1/users/")
    assert answers[2].headers["Link"].startswith("</api/v1/users?limit=1>")
    for response in answers:
        assert not response.is_redirect
        assert "evil" not in str(response.headers) + response.text


def routes_of(app: FastAPI) -> list[tuple[str, str, Any]]:
    """Each method and path that takes a body or not, with what OpenAPI says of it."""
    return [
        (method.upper(), re.sub(r"\{\w+\}", "csv", path), operation)
        for path, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
    ]


async def test_no_route_takes_in_a_body_without_end(
    client: httpx.AsyncClient, services: Services, app: FastAPI
) -> None:
    chunk, chunks = b"x" * 65_536, 64
    small = services.settings.model_copy(update={"import_max_bytes": len(chunk), "max_body_bytes": len(chunk)})
    unknown: list[tuple[str, str, Any]] = [
        ("POST", "/nowhere", {}),
        ("PUT", USERS, {}),
        ("DELETE", f"{USERS}/{'0' * 24}", {}),
    ]
    async with client_of(app, replace(services, settings=small)) as limited:
        for method, path, operation in [*routes_of(app), *unknown]:
            read = 0

            async def body() -> AsyncIterator[bytes]:
                nonlocal read
                for _ in range(chunks):
                    read += 1
                    yield chunk

            media_type = next(iter(operation.get("requestBody", {}).get("content", {"": None})))
            media_type = "text/csv" if path.endswith("/import") else media_type
            headers = {"Content-Type": media_type, "Authorization": client.headers["Authorization"]}
            response = await limited.request(method, path, content=body(), headers=headers)

            if method != "GET":  # an export drops what comes while it listens whether its client is still there
                assert read <= 2, (method, path)
            assert (response.status_code == 413) == ("requestBody" in operation), (method, path)
            if response.status_code == 413:
                assert response.headers["Connection"] == "close", "the rest of it is not waited for"
