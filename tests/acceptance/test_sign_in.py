"""Signing in to real processes: who is taken for whom, and what many at once do to everybody else."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo import MongoClient

from tests.acceptance.process import PASSWORD, TOKEN_PATH, Home, Service

AT_ONCE = 200
MAX_MEBIBYTES = 200
PERIOD_SECONDS = 0.02
MAX_HEALTH_SECONDS = 1.0
"""For all but one in a hundred, on a machine that has other things to do; `scripts/bench auth` has the
figure, which is to be 0.25."""


def guess(service: Service, username: str, forwarded_for: str | None = None) -> int:
    """The status of a wrong sign-in, from an address of the client's own choosing."""
    form = {"grant_type": "password", "username": username, "password": "wrong horse"}
    headers = {"X-Forwarded-For": forwarded_for} if forwarded_for else {}
    return service.http.post(TOKEN_PATH, data=form, headers=headers).status_code


@pytest.mark.slow
def test_a_client_has_the_address_that_it_comes_from(home: Home) -> None:
    plain = home.start(sign_in_failures_per_address=3, docs=False)
    behind = home.start(sign_in_failures_per_address=3, trusted_proxies="127.0.0.1")

    assert [guess(plain, f"a{number}", f"192.0.2.{number}") for number in range(5)] == [400, 400, 400, 429, 429]
    assert guess(behind, "b") == 429, "services on one database count together"
    assert [guess(behind, f"c{number}", "192.0.2.9") for number in range(4)] == [400, 400, 400, 429]
    assert guess(behind, "d", "192.0.2.9, 192.0.2.10") == 400, "what stands left of what the proxy wrote is a claim"
    assert guess(behind, "e", "192.0.2.10, 192.0.2.9") == 429
    assert [service.http.get("/docs").status_code for service in (plain, behind)] == [404, 200]


def add_accounts(home: Home) -> list[str]:
    """The names of many accounts with `PASSWORD`."""
    names = [f"person-{number}" for number in range(AT_ONCE)]
    with MongoClient[dict[str, Any]](home.mongodb_uri) as client:
        accounts = client["dossier"]["accounts"]
        admin = accounts.find_one({"username": "admin"}, {"_id": 0})
        assert admin is not None
        accounts.insert_many([admin | {"username": name} for name in names])
    return names


async def sign_in_at_once(address: str, names: list[str]) -> tuple[list[int], float, float]:
    """The statuses of right sign-ins, each from an address of its own, and when they began and ended."""

    async def sign_in(number: int, name: str) -> int:
        form = {"grant_type": "password", "username": name, "password": PASSWORD}
        headers = {"X-Forwarded-For": f"198.51.100.{number}"}
        return (await client.post(TOKEN_PATH, data=form, headers=headers)).status_code

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=60) as client:
        started = time.monotonic()
        statuses = await asyncio.gather(*(sign_in(number, name) for number, name in enumerate(names)))
        return statuses, started, time.monotonic()


def signed_in(address: str, names: list[str]) -> tuple[list[int], float, float]:
    """The same, for a process of its own: what the clients need is no delay of the service's."""
    return asyncio.run(sign_in_at_once(address, names))


async def watch_health(address: str, is_over: Callable[[], bool]) -> list[tuple[float, float]]:
    """When /health was to be asked, and the seconds from then to its answer.

    At fixed moments, whether or not the answers before have come: who waits for them does not see what is slow. Each
    on a connection of its own, as probes come, and by hand, as httpx would take a good part of a core for it.
    """
    host, _, port = address.removeprefix("http://").partition(":")
    taken: list[tuple[float, float]] = []

    async def ask(at: float) -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        taken.append((at, time.monotonic() - at))
        writer.close()
        assert answer.startswith(b"HTTP/1.1 200 ")

    async with asyncio.TaskGroup() as group:
        at = time.monotonic()
        while not is_over():
            group.create_task(ask(at))
            at += PERIOD_SECONDS
            await asyncio.sleep(max(0.0, at - time.monotonic()))
    return taken


def mebibytes(service: Service, line: str) -> float:
    """Memory of the service: VmRSS, what it has, or VmHWM, the most it had."""
    return int(Path(f"/proc/{service.pid}/status").read_text().partition(f"{line}:")[2].split()[0]) / 1024


@pytest.mark.slow
def test_many_sign_ins_at_once_hold_nobody_up(home: Home) -> None:
    service = home.start(trusted_proxies="127.0.0.1")
    names = add_accounts(home)
    service.token()
    idle = mebibytes(service, "VmRSS")

    with ProcessPoolExecutor(1, get_context("spawn")) as clients:
        signing_in = clients.submit(signed_in, service.address, names)
        watched = asyncio.run(watch_health(service.address, signing_in.done))
        statuses, started, ended = signing_in.result()

    meanwhile = sorted(seconds for at, seconds in watched if started <= at <= ended)
    assert statuses == [200] * AT_ONCE
    assert len(meanwhile) > 50
    assert meanwhile[int(len(meanwhile) * 0.99)] <= MAX_HEALTH_SECONDS
    assert mebibytes(service, "VmHWM") - idle <= MAX_MEBIBYTES
