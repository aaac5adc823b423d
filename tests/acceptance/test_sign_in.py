"""Signing in to real processes: who is taken for whom, and what many at once do to everybody else."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import httpx
import pytest

from tests.acceptance.process import PASSWORD, TOKEN_PATH, Home, Service

AT_ONCE = 200
MAX_MEBIBYTES = 200
MAX_HEALTH_SECONDS = 0.25
"""For all but one in a hundred."""


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


async def sign_in_at_once(address: str) -> list[int]:
    """The statuses of many right sign-ins."""
    form = {"grant_type": "password", "username": "admin", "password": PASSWORD}
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=60) as client:
        responses = await asyncio.gather(*(client.post(TOKEN_PATH, data=form) for _ in range(AT_ONCE)))
    return [response.status_code for response in responses]


def health_seconds(address: str, is_over: Event) -> list[float]:
    """How long each answer of /health takes meanwhile, asked for again and again."""
    taken = []
    with httpx.Client(base_url=address, timeout=60) as client:
        while not is_over.wait(0.01):
            started = time.perf_counter()
            client.get("/health").raise_for_status()
            taken.append(time.perf_counter() - started)
    return sorted(taken)


def mebibytes(service: Service, line: str) -> float:
    """Memory of the service: VmRSS, what it has, or VmHWM, the most it had."""
    return int(Path(f"/proc/{service.pid}/status").read_text().partition(f"{line}:")[2].split()[0]) / 1024


@pytest.mark.slow
def test_many_sign_ins_at_once_hold_nobody_up(home: Home) -> None:
    service, is_over = home.start(), Event()
    service.token()
    idle = mebibytes(service, "VmRSS")

    with ThreadPoolExecutor(1) as watcher:
        watching = watcher.submit(health_seconds, service.address, is_over)
        try:
            statuses = asyncio.run(sign_in_at_once(service.address))
        finally:
            is_over.set()
        taken = watching.result()

    assert statuses == [200] * AT_ONCE
    assert len(taken) > 100
    assert taken[int(len(taken) * 0.99)] <= MAX_HEALTH_SECONDS
    assert mebibytes(service, "VmHWM") - idle <= MAX_MEBIBYTES
