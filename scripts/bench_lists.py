"""Measures lists, single reads and creates with `wrk`, beside a plain and a bare service in the same run."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
CONNECTIONS = 16
SECONDS = 3
ROUNDS = 3
FAR_PAGE = 3000
CREATE = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local number = 0
request = function()
  number = number + 1
  local email = string.format("%s.%%d@example.org", number)
  return wrk.format(nil, nil, nil, '{"name": "Ada", "age": 36, "email": "' .. email .. '", "profile": {"bio": "x"}}')
end
"""


def measure(ours: httpx.Client, uri: str, database: str) -> None:
    """Run everything and print the table of ratios."""
    if shutil.which("wrk") is None:
        sys.exit("scripts/bench lists needs wrk: apt-get install wrk")
    users = f"{ours.base_url}api/v1/users" if str(ours.base_url).endswith("/") else f"{ours.base_url}/api/v1/users"
    token = ours.headers["Authorization"]
    one = ours.get("/api/v1/users", params={"limit": 1}).json()["items"][0]["id"]
    first = f"{users}?limit=50&count=none"
    sorted_page = f"{users}?limit=50&count=none&is_active=true&age__gte=20&sort=name"
    with other("plain", uri, database) as plain, other("bare", uri, database) as bare:
        requests: dict[str, Callable[[], float]] = {
            "page plain": partial(wrk, f"{plain}/users?limit=50"),
            "page bare": partial(wrk, f"{bare}/users?limit=50"),
            "page": partial(wrk, first, token),
            "filtered": partial(wrk, sorted_page, token),
            "one plain": partial(wrk, f"{plain}/users/{one}"),
            "one bare": partial(wrk, f"{bare}/users/{one}"),
            "one": partial(wrk, f"{users}/{one}", token),
            "cursor first": partial(wrk, f"{first}&cursor={cursor_after(ours, 1)}", token),
            "cursor far": partial(wrk, f"{first}&cursor={cursor_after(ours, FAR_PAGE)}", token),
            "create plain": partial(wrk, f"{plain}/users", body_prefix="plain"),
            "create": partial(wrk, users, token, body_prefix="ours"),
        }
        # In turn, and the best of some rounds: what else the machine does hits one of them in each.
        rounds = [{name: request() for name, request in requests.items()} for _ in range(ROUNDS)]
    rates = {name: max(measured[name] for measured in rounds) for name in requests}
    table = Table("request", "a second", "ratio", "at least")
    for name, rate, base, least in [
        ("page of 50, count=none", "page", "page plain", 2.0),
        ("", "page", "page bare", 0.6),
        ("one by id", "one", "one plain", 1.0),
        ("", "one", "one bare", 0.55),
        (f"page {FAR_PAGE:,} by cursor", "cursor far", "cursor first", 0.9),
        ("page of 50, two filters and a sort", "filtered", "page", 0.8),
        ("create", "create", "create plain", 0.8),
    ]:
        table.add_row(
            name, f"{rates[rate]:,.0f}", f"{rates[rate] / rates[base]:.2f} x {base} ({rates[base]:,.0f})", str(least)
        )
    Console(width=120).print(table)


def cursor_after(client: httpx.Client, pages: int) -> str:
    """The cursor behind so many pages of 50, found in larger steps."""
    cursor, left = "", pages * 50
    while left:
        step = min(left, 1000)
        params = {"limit": str(step), "count": "none", "fields": "id"} | ({"cursor": cursor} if cursor else {})
        cursor = client.get("/api/v1/users", params=params).raise_for_status().json()["next_cursor"]
        left -= step
    return cursor


def wrk(url: str, token: str = "", body_prefix: str = "") -> float:
    """Requests a second, all of them answered well."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        command = ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{SECONDS}s"]
        if token:
            command += ["-H", f"Authorization: {token}"]
        if body_prefix:
            script.write(CREATE % f"{body_prefix}-{time.monotonic_ns()}")  # an email is taken once
            script.flush()
            command += ["-s", script.name]
        said = subprocess.run([*command, url], check=True, capture_output=True, text=True).stdout
    assert "Non-2xx" not in said, said
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert found, said
    return float(found[1])


@contextmanager
def other(name: str, uri: str, database: str) -> Iterator[str]:
    """One of the other services, and where it is."""
    port = {"plain": 8911, "bare": 8912}[name]
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(HERE), "--factory", f"bench_services:{name}"]
    environment = os.environ | {"BENCH_URI": uri, "BENCH_DATABASE": database}
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        [*command, "--port", str(port), "--no-access-log", "--log-level", "warning"], env=environment
    ) as process:
        try:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                try:
                    httpx.get(f"{address}/users", params={"limit": 1}).raise_for_status()
                    break
                except httpx.TransportError:
                    time.sleep(0.05)
            yield address
        finally:
            process.terminate()
