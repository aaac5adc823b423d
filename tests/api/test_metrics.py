"""Metrics over HTTP: who may read them, and how requests are counted."""

from collections.abc import AsyncIterator
from itertools import product
from typing import get_args

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from service.api.dependencies import Services
from service.app import create_app
from service.observability.metrics import exposition
from service.settings import Settings
from service.store.repository import Repository
from service.transfer.file_kinds import FileKind
from service.transfer.formats import FORMATS
from tests.conftest import TYPES, client_of
from tests.metrics import every_series, value_of

TOKEN = "a token for metrics, 32 bytes or more"
REQUESTS = "dossier_http_request_duration_seconds_count"


@pytest.fixture(scope="module")
def measured(settings: Settings) -> FastAPI:
    """The service with a token for its metrics."""
    return create_app(settings.model_copy(update={"metrics_token": SecretStr(TOKEN)}), TYPES)


@pytest.fixture
async def prometheus(measured: FastAPI, services: Services) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who has the token."""
    async with client_of(measured, services) as client:
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        yield client


async def test_without_a_token_there_is_no_such_address(client: httpx.AsyncClient) -> None:
    assert (await client.get("/metrics")).json()["code"] == "not_found"


@pytest.mark.parametrize("given", ["", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", "Bearer é"])
async def test_another_token_reads_nothing(prometheus: httpx.AsyncClient, given: str) -> None:
    response = await prometheus.get("/metrics", headers=[(b"Authorization", given.encode())])

    assert response.status_code == 401
    assert response.headers["www-authenticate"] == 'Bearer realm="dossier metrics"'
    assert "dossier_" not in response.text


async def test_an_access_token_reads_nothing(client: httpx.AsyncClient, prometheus: httpx.AsyncClient) -> None:
    response = await prometheus.get("/metrics", headers={"Authorization": client.headers["Authorization"]})

    assert response.status_code == 401


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "text/plain"),
        ("application/openmetrics-text;version=1.0.0", "application/openmetrics-text"),
        ("application/openmetrics-text;version=x", "text/plain"),
        ("application/openmetrics-text;version=1..0;escaping=x,text/plain;version=", "text/plain"),
    ],
)
async def test_the_token_reads_them_in_the_form_that_is_asked_for(
    prometheus: httpx.AsyncClient, accept: str, media_type: str
) -> None:
    response = await prometheus.get("/metrics", headers={"Accept": accept})

    assert response.status_code == 200
    assert response.headers["content-type"].startswith(media_type)
    assert response.headers["cache-control"] == "no-store"
    for name in ("dossier_build_info{version=", "process_resident_memory_bytes", "process_start_time_seconds"):
        assert name in response.text


@pytest.mark.parametrize(
    ("method", "path", "labels"),
    [
        ("GET", "/api/v1/users?name=x", ("GET", "/api/v1/users", "200")),
        ("GET", "/api/v1/users/0123456789abcdef01234567", ("GET", "/api/v1/users/{document_id}", "404")),
        ("DELETE", "/api/v1/users", ("DELETE", "/api/v1/users", "405")),
        ("GET", "/api/v1/users/export/csv", ("GET", "/api/v1/users/export/{format_name}", "200")),
        ("GET", "/made/up/by/anybody", ("GET", "none", "404")),
        ("BREW", "/made/up/by/anybody", ("other", "none", "404")),
    ],
)
async def test_a_request_is_counted_by_its_template(
    client: httpx.AsyncClient, method: str, path: str, labels: tuple[str, str, str]
) -> None:
    series = dict(zip(("method", "route", "status"), labels, strict=True))
    before = value_of(REQUESTS, **series)

    await client.request(method, path)

    assert value_of(REQUESTS, **series) == before + 1
    assert value_of("dossier_http_requests_in_progress") == 0
    assert "made" not in exposition("")[0].decode()


async def test_a_failure_is_counted_as_one(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_arguments: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(Repository, "page", fail)
    before = value_of(REQUESTS, method="GET", route="/api/v1/users", status="500")

    await client.get("/api/v1/users")

    assert value_of(REQUESTS, method="GET", route="/api/v1/users", status="500") == before + 1


async def test_an_export_is_counted_with_its_rows_and_bytes(client: httpx.AsyncClient) -> None:
    for number in range(3):
        body = {"name": "Ada", "email": f"{number}@example.org"}
        assert (await client.post("/api/v1/users", json=body)).status_code == 201
    kind = {"type": "users", "format": "ndjson"}
    names = ("dossier_export_rows_total", "dossier_export_bytes_total")
    before = [value_of(name, **kind) for name in names]
    complete = value_of("dossier_export_duration_seconds_count", **kind, state="complete")

    content = (await client.get("/api/v1/users/export/ndjson")).content

    rows, size = (value_of(name, **kind) - was for name, was in zip(names, before, strict=True))
    assert (rows, size) == (3, len(content))
    assert value_of("dossier_export_duration_seconds_count", **kind, state="complete") == complete + 1
    assert value_of("dossier_exports_running") == 0


def test_files_that_fail_are_counted_from_0_on(services: Services) -> None:
    names = set(services.repositories)
    failed = [
        labels for series, labels in every_series() if "_seconds_count" in series and labels.get("state") == "failed"
    ]

    exports = {(labels["type"], labels["format"]) for labels in failed if "dry_run" not in labels}
    imports = {(labels["type"], labels["format"], labels["dry_run"]) for labels in failed if "dry_run" in labels}
    assert set(product(names, FORMATS)) <= exports
    assert set(product(names, get_args(FileKind), ("false", "true"))) <= imports


async def test_a_wrong_password_is_counted(anonymous: httpx.AsyncClient) -> None:
    refused = {"action": "sign_in", "outcome": "refused", "reason": "invalid_grant"}
    before = value_of("dossier_audit_events_total", **refused)

    form = {"grant_type": "password", "username": "nobody", "password": "a wrong one"}
    assert (await anonymous.post("/api/v1/auth/token", data=form)).status_code == 400

    assert value_of("dossier_audit_events_total", **refused) == before + 1
