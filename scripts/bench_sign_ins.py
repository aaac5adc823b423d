"""Measures what many sign-ins at once, each to an account and from an address of its own, do to everybody else."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import httpx
from bench_exports import peak_memory, used_bytes
from pymongo import MongoClient

AT_ONCE = 200
PERIOD_SECONDS = 0.02
"""Between two moments at which /health is asked."""

ALONE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class SignIns:
    """What was measured."""

    lasted_seconds: float
    health_seconds: float
    """The 99th percentile meanwhile."""
    health_alone_seconds: float
    mebibytes: float
    """Above what the service had before."""


def measure(address: str, pid: int, uri: str, database: str, password: str) -> SignIns:
    """Watch /health alone, and beside the sign-ins."""
    names = add_accounts(uri, database)
    is_over_at = time.monotonic() + ALONE_SECONDS
    alone = asyncio.run(watch_health(address, lambda: time.monotonic() > is_over_at))
    with peak_memory(pid, used_bytes(pid)) as memory, ProcessPoolExecutor(1, get_context("spawn")) as clients:
        signing_in = clients.submit(sign_in, address, names, password)
        watched = asyncio.run(watch_health(address, signing_in.done))
        started, ended = signing_in.result()
    beside = [(at, seconds) for at, seconds in watched if started <= at <= ended]
    return SignIns(ended - started, percentile_99(beside), percentile_99(alone), memory[0])


def add_accounts(uri: str, database: str) -> list[str]:
    """The names of many accounts with the first one's password."""
    names = [f"person-{number}" for number in range(AT_ONCE)]
    with MongoClient[dict[str, Any]](uri) as client:
        accounts = client[database]["accounts"]
        admin = accounts.find_one({"username": "admin"}, {"_id": 0})
        assert admin is not None
        accounts.insert_many([admin | {"username": name} for name in names])
    return names


def sign_in(address: str, names: list[str], password: str) -> tuple[float, float]:
    """When it began and ended; for a process of its own, as what the clients need is no delay of the service's."""
    return asyncio.run(sign_in_at_once(address, names, password))


async def sign_in_at_once(address: str, names: list[str], password: str) -> tuple[float, float]:
    """Right ones, through a proxy that says where each comes from."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=120) as client:

        async def one(number: int, name: str) -> None:
            form = {"grant_type": "password", "username": name, "password": password}
            headers = {"X-Forwarded-For": f"198.51.100.{number}"}
            (await client.post("/api/v1/auth/token", data=form, headers=headers)).raise_for_status()

        started = time.monotonic()
        await asyncio.gather(*(one(number, name) for number, name in enumerate(names)))
        return started, time.monotonic()


async def watch_health(address: str, is_over: Callable[[], bool]) -> list[tuple[float, float]]:
    """When /health was to be asked, and the seconds from then to its answer.

    At fixed moments, whether or not the answers before have come: who waits for them does not see what is slow. Each
    on a connection of its own, as probes come, and by hand, as httpx would take a good part of a core for it.
    """
    url = httpx.URL(address)
    taken: list[tuple[float, float]] = []

    async def ask(at: float) -> None:
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(f"GET /health HTTP/1.1\r\nHost: {url.host}\r\nConnection: close\r\n\r\n".encode())
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


def percentile_99(taken: list[tuple[float, float]]) -> float:
    """All but one in a hundred are not longer."""
    return sorted(seconds for _, seconds in taken)[int(len(taken) * 0.99)]
