"""Many connections that send a byte a second, and what they do to everybody else.

For the test that they hold nobody up, and for the benchmark that says by how much.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from urllib.parse import urlsplit

import httpx

CONNECTIONS = 1000
BYTE_SECONDS = 1.0

HEADERS = "GET /api/v1/users HTTP/1.1\r\nHost: dossier\r\n"
BODIES = (
    "POST /api/v1/users HTTP/1.1\r\nHost: dossier\r\nContent-Type: application/json\r\n"
    "Content-Length: 100000\r\nAuthorization: {authorization}\r\n\r\n"
)
"""What each of them sends at once, before it goes on by the byte."""

START_SECONDS = 60


@contextmanager
def trickling(address: str, begin: str) -> Iterator[None]:
    """All of them, which come again when they are cut off; in a process of their own, which is no delay of ours."""
    context = get_context("spawn")
    are_there, are_over = context.Event(), context.Event()
    process = context.Process(target=_run, args=(address, begin, are_there, are_over), daemon=True)
    process.start()
    try:
        assert are_there.wait(START_SECONDS), "not all connections came about"
        yield
    finally:
        are_over.set()
        process.join()


def latencies(client: httpx.Client, path: str, seconds: float) -> list[float]:
    """The seconds of each request, one after the other for so long, the least first."""
    found: list[float] = []
    ends_at = time.perf_counter() + seconds
    while (began := time.perf_counter()) < ends_at:
        answer = client.get(path)
        assert answer.is_success, answer.text
        found.append(time.perf_counter() - began)
    return sorted(found)


def percentile(ordered: list[float], share: float) -> float:
    """The value that so many are not above."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _run(address: str, begin: str, are_there: Event, are_over: Event) -> None:
    asyncio.run(_trickle(address, begin, are_there, are_over))


async def _trickle(address: str, begin: str, are_there: Event, are_over: Event) -> None:
    url = urlsplit(address)
    assert url.hostname is not None
    begun = 0

    async def one(number: int) -> None:
        nonlocal begun
        await asyncio.sleep(number / CONNECTIONS * BYTE_SECONDS)  # as clients are not in step
        is_first = True
        while not are_over.is_set():
            reader, writer = await asyncio.open_connection(url.hostname, url.port)
            left = asyncio.ensure_future(reader.read())
            writer.write(begin.encode())
            begun += is_first
            is_first = False
            while not left.done() and not are_over.is_set():
                await asyncio.wait([left], timeout=BYTE_SECONDS)
                writer.write(b"x")
            left.cancel()
            writer.transport.abort()

    clients = [asyncio.ensure_future(one(number)) for number in range(CONNECTIONS)]
    while not are_over.is_set():
        if begun == CONNECTIONS:
            are_there.set()
        await asyncio.wait(clients, timeout=0.05)
