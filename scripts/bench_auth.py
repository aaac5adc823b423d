"""Measures what callers cost: token checks, headers and audit events as shares of requests, many sign-ins at once."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable

import bench_sign_ins
import httpx
from bench_lists import wrk
from fastapi import Request
from fastapi.security import SecurityScopes
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from starlette.types import Message, Receive, Scope, Send

from service.api.dependencies import authorize
from service.api.security_headers import SecurityHeadersMiddleware
from service.app import create_app
from service.settings import Settings
from service.store.audit_records import Actor
from tests.acceptance.many_sign_ins import AT_ONCE

CALLS = 20_000
WRITES = 200
ROUNDS = 3

Step = Callable[[], Awaitable[object]]


def measure(client: httpx.Client, pid: int, uri: str, database: str, password: str) -> None:
    """Run everything and print the table."""
    users = str(client.base_url.copy_with(path="/api/v1/users"))
    one = client.get("/api/v1/users", params={"limit": 1}).json()["items"][0]["id"]
    reads = max(wrk(f"{users}/{one}", client.headers["Authorization"]) for _ in range(ROUNDS))
    deletion = seconds_of_a_deletion(client)
    check, headers, event = asyncio.run(seconds_of_steps(uri, database))
    many = bench_sign_ins.measure(str(client.base_url), pid, uri, database, password)
    table = Table("", "measured", "at most")
    table.add_row(
        "token check, of a read by id", f"{check * reads:.1%} ({check * 1e6:.1f} of {1e6 / reads:.0f} µs)", "5 %"
    )
    table.add_row("security headers, of a read by id", f"{headers * reads:.1%} ({headers * 1e6:.1f} µs)", "")
    table.add_row(
        "audit event, of a deletion", f"{event / deletion:.0%} ({event * 1e3:.1f} of {deletion * 1e3:.1f} ms)", ""
    )
    table.add_row(f"{AT_ONCE} sign-ins at once", f"{many.lasted_seconds:.1f} s", "")
    table.add_row("/health meanwhile, p99", f"{many.health_seconds * 1e3:.0f} ms", "250 ms")
    table.add_row("/health alone, p99", f"{many.health_alone_seconds * 1e3:.0f} ms", "")
    table.add_row("memory above idle", f"{many.mebibytes:.0f} MiB", "200 MiB")
    Console(width=120).print(table)


async def seconds_of_steps(uri: str, database: str) -> tuple[float, float, float]:
    """What a remembered token's check, an answer's headers and an audit event take, each by itself."""
    settings = Settings(
        mongodb_uri=SecretStr(uri),
        mongodb_database=database,
        secret_key=SecretStr(secrets.token_hex()),
        log_level="error",
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app) as state:
        assert state is not None
        services = state["services"]
        [account, *_] = await services.accounts.list()
        token = services.signer.issue(str(account.id), account.username, "bench", list(services.scopes))
        scope: Scope = {"type": "http", "headers": [(b"authorization", f"Bearer {token}".encode())], "state": state}
        required = SecurityScopes(["users:read"])
        secured = SecurityHeadersMiddleware(answer)
        return (
            await seconds_of(lambda: authorize(Request(scope), required), CALLS),
            await seconds_of(lambda: secured(scope | {"scheme": "http"}, receive, send), CALLS)
            - await seconds_of(lambda: answer(scope | {"scheme": "http"}, receive, send), CALLS),
            await seconds_of(
                lambda: services.audit.note("document_deleted", Actor("bench"), target=token[:24]), WRITES
            ),
        )


async def seconds_of(step: Step, times: int) -> float:
    """The shortest of some rounds, divided by how often it is done in each."""
    taken = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(times):
            await step()
        taken.append(time.perf_counter() - started)
    return min(taken) / times


async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
    """As a document is answered."""
    headers = [(b"content-length", b"400"), (b"content-type", b"application/json"), (b"etag", b'"1"')]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def receive() -> Message:
    """Nothing that is asked for."""
    raise NotImplementedError


async def send(_message: Message) -> None:
    """To nobody."""


def seconds_of_a_deletion(client: httpx.Client) -> float:
    """One after the other, the audit event included."""
    ids = [item["id"] for item in client.get("/api/v1/users", params={"limit": WRITES + 1}).json()["items"]][1:]
    started = time.perf_counter()
    for identifier in ids:
        client.delete(f"/api/v1/users/{identifier}").raise_for_status()
    return (time.perf_counter() - started) / len(ids)
