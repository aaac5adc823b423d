"""Many sign-ins at once, each to an account and from an address of its own, and what they do to everybody else.

For the test that this holds nobody up, and for the benchmark that says by how much.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import httpx
from pymongo import MongoClient

AT_ONCE = 200
LIMIT = AT_ONCE + 50
"""What the service is to take at once: twice as many as by default, and some that only look."""

PERIOD_SECONDS = 0.02
"""Between two moments at which /health is asked."""

Watched = list[tuple[float, float]]
"""When /health was to be asked, and the seconds from then to its answer."""


@dataclass(frozen=True, slots=True)
class SignIns:
    """What became of them."""

    statuses: list[int]
    lasted_seconds: float
    watched: Watched
    """While they ran."""


def add_accounts(uri: str, database: str) -> list[str]:
    """The names of many accounts with the first one's password."""
    names = [f"person-{number}" for number in range(AT_ONCE)]
    with MongoClient[dict[str, Any]](uri) as client:
        accounts = client[database]["accounts"]
        admin = accounts.find_one({"username": "admin"}, {"_id": 0})
        assert admin is not None
        accounts.insert_many([admin | {"username": name} for name in names])
    return names


def run(address: str, names: list[str], password: str) -> SignIns:
    """Sign all in, and watch /health meanwhile.

    In a process of their own, as what the clients need is no delay of the service's.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as clients:
        signing_in = clients.submit(_sign_in, address, names, password)
        watched = asyncio.run(watch_health(address, signing_in.done))
        statuses, started, ended = signing_in.result()
    beside = [(at, seconds) for at, seconds in watched if started <= at <= ended]
    return SignIns(statuses, ended - started, beside)


def _sign_in(address: str, names: list[str], password: str) -> tuple[list[int], float, float]:
    return asyncio.run(_sign_in_at_once(address, names, password))


async def _sign_in_at_once(address: str, names: list[str], password: str) -> tuple[list[int], float, float]:
    """The statuses, and when they began and ended; through a proxy that says where each comes from."""

    async def one(number: int, name: str) -> int:
        form = {"grant_type": "password", "username": name, "password": password}
        headers = {"X-Forwarded-For": f"198.51.100.{number}"}
        return (await client.post("/api/v1/auth/token", data=form, headers=headers)).status_code

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=120) as client:
        started = time.monotonic()
        statuses = await asyncio.gather(*(one(number, name) for number, name in enumerate(names)))
        return statuses, started, time.monotonic()


async def watch_health(address: str, is_over: Callable[[], bool]) -> Watched:
    """Ask at fixed moments, whether or not the answers before have come: who waits for them does not see what is slow.

    Each on a connection of its own, as probes come, and by hand, as httpx would take a good part of a core for it.
    """
    url = httpx.URL(address)
    watched: Watched = []

    async def ask(at: float) -> None:
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(f"GET /health HTTP/1.1\r\nHost: {url.host}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        watched.append((at, time.monotonic() - at))
        writer.close()
        assert answer.startswith(b"HTTP/1.1 200 ")

    async with asyncio.TaskGroup() as group:
        at = time.monotonic()
        while not is_over():
            group.create_task(ask(at))
            at += PERIOD_SECONDS
            await asyncio.sleep(max(0.0, at - time.monotonic()))
    return watched


def percentile_99(watched: Watched) -> float:
    """All but one in a hundred are not longer, in seconds."""
    return sorted(seconds for _, seconds in watched)[int(len(watched) * 0.99)]
