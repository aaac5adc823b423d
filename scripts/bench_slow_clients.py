"""Measures what a thousand connections that send a byte a second do to another client."""

import httpx
from rich.console import Console
from rich.table import Table

from tests.acceptance.slow_clients import BODIES, CONNECTIONS, HEADERS, latencies, percentile, trickling

SECONDS = 15.0
SETTLING_SECONDS = 2.0
MOST = 2


def measure(client: httpx.Client) -> list[str]:
    """Read one user again and again, alone and beside the others, and print the table; what is above it allows."""
    one = client.get("/api/v1/users", params={"limit": 1}).raise_for_status().json()["items"][0]["id"]
    path, address = f"/api/v1/users/{one}", str(client.base_url)
    alone = _settled(client, path)
    with trickling(address, HEADERS):
        headers = _settled(client, path)
    with trickling(address, BODIES.format(authorization=client.headers["Authorization"])):
        bodies = _settled(client, path)
    alone = sorted(alone + _settled(client, path))  # before and after, as the machine has moods
    excesses = []
    table = Table("one user by id, beside", "requests", "p50 ms", "p99 ms", "p99, x alone", "at most")
    for name, measured in [
        ("nobody", alone),
        (f"{CONNECTIONS:,} that trickle headers", headers),
        (f"{CONNECTIONS:,} that trickle bodies", bodies),
    ]:
        p50, p99 = percentile(measured, 0.5), percentile(measured, 0.99)
        ratio = p99 / percentile(alone, 0.99)
        table.add_row(name, f"{len(measured):,}", f"{p50 * 1000:.2f}", f"{p99 * 1000:.2f}", f"{ratio:.2f}", str(MOST))
        if ratio > MOST:
            excesses.append(f"beside {name} one user by id takes {ratio:.2f} times as long as alone")
    Console(width=120).print(table)
    return excesses


def _settled(client: httpx.Client, path: str) -> list[float]:
    """The seconds of requests, once all who are to be beside them have come, and what is slow at first is over."""
    latencies(client, path, SETTLING_SECONDS)
    return latencies(client, path, SECONDS)
