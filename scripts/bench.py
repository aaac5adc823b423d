"""Measures lists or exports: rates as ratios to simpler ways in the same run, first byte, and memory above idle."""

import argparse
import asyncio
import csv
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bench_lists
import httpx
from bson import decode_all
from openpyxl import Workbook
from pydantic import SecretStr
from pymongo import MongoClient
from rich.console import Console
from rich.table import Table

from service.documents.registry import registered_types
from service.documents.user import User
from service.samples import Sampler
from service.settings import Settings
from service.store.database import open_database
from service.store.embedded import embedded_server
from service.store.paging import CursorSigner
from service.store.repository import Limits, Repository

DATABASE = "bench"
PASSWORD = "bench password"
OPENPYXL_ROWS = 20_000
"""Few, as it is slow; its rate does not change with more."""

MEBIBYTE = 2**20


@dataclass(frozen=True)
class Measured:
    """One way to do it, and how it did."""

    name: str
    rows: int
    seconds: float
    first_byte_seconds: float | None = None
    memory_mib: float | None = None

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=["exports", "lists"], default="exports")
    parser.add_argument("--documents", type=int, default=200_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, embedded_server(Path(directory)) as uri:
        average = asyncio.run(load(uri, arguments.documents))
        print(f"{arguments.documents:,} users of {average:.0f} bytes of BSON")
        if arguments.what == "lists":
            with service(uri, directory) as (client, _):
                bench_lists.measure(client, uri, DATABASE)
            return
        loop = csv_loop(uri)
        workbook = openpyxl_loop(uri)
        with service(uri, directory) as (client, pid):
            idle = resident_bytes(pid)
            measured = [export(client, pid, idle, file_format) for file_format in ("csv", "xlsx")]
        show([loop, workbook, *measured], {"csv": loop, "xlsx": workbook})


async def load(uri: str, count: int) -> float:
    """Fill the database; the average size of a document."""
    settings = Settings(mongodb_uri=SecretStr(uri), mongodb_database=DATABASE)
    [users] = [document_type for document_type in registered_types() if document_type.document_class is User]
    async with open_database(settings, [User]) as database:
        await Repository(users, Limits(60, 60), CursorSigner("bench")).load(Sampler(users).bodies(count))
        statistics = await database.handle.command("collStats", "users")
        return float(statistics["avgObjSize"])


@contextmanager
def service(uri: str, directory: str) -> Iterator[tuple[httpx.Client, int]]:
    """The service as a process, and a client that has signed in."""
    environment = os.environ | {
        "DOSSIER_MONGODB_URI": uri,
        "DOSSIER_MONGODB_DATABASE": DATABASE,
        "DOSSIER_SECRET_KEY": secrets.token_hex(32),
        "DOSSIER_ADMIN_PASSWORD": PASSWORD,
    }
    command = [Path(sys.executable).parent / "dossier", "serve", "--port", "0"]
    with (
        (Path(directory) / "service.log").open("w") as log,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            address = next(word.rstrip(",") for word in process.stdout.readline().split() if word.startswith("http"))
            with httpx.Client(base_url=address, timeout=120) as client:
                form = {"grant_type": "password", "username": "admin", "password": PASSWORD}
                token = client.post("/api/v1/auth/token", data=form).raise_for_status().json()["access_token"]
                client.headers["Authorization"] = f"Bearer {token}"
                client.get("/api/v1/users").raise_for_status()
                yield client, process.pid
        finally:
            process.terminate()


def export(client: httpx.Client, pid: int, idle: int, file_format: str) -> Measured:
    """One export over HTTP; its bytes are counted and dropped."""
    rows = client.get("/api/v1/users", params={"count": "exact", "limit": 1}).json()["total"]
    with peak_memory(pid, idle) as peak:
        started = time.perf_counter()
        with client.stream("GET", f"/api/v1/users/export/{file_format}") as response:
            response.raise_for_status()
            chunks = response.iter_raw()
            next(chunks)
            first_byte = time.perf_counter() - started
            for _ in chunks:
                pass
        seconds = time.perf_counter() - started
    return Measured(f"export/{file_format}", rows, seconds, first_byte, peak[0])


@contextmanager
def peak_memory(pid: int, idle: int) -> Iterator[list[float]]:
    """How far the process's resident memory rises above what it was before any export, in MiB."""
    peak = [0.0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], (resident_bytes(pid) - idle) / MEBIBYTE)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def resident_bytes(pid: int) -> int:
    """The memory that the process has in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def raw_documents(uri: str, limit: int = 0) -> Iterator[dict[str, Any]]:
    """The documents as fast as the driver hands them out."""
    with MongoClient[dict[str, Any]](uri) as client:
        for batch in client[DATABASE]["users"].find_raw_batches(limit=limit, batch_size=2000):
            yield from decode_all(batch)


def flat(document: dict[str, Any]) -> list[Any]:
    """The row that a plain script would write."""
    profile = document["profile"] or {}
    return [str(value) for name, value in document.items() if name != "profile"] + [str(v) for v in profile.values()]


def csv_loop(uri: str) -> Measured:
    """PyMongo and csv.writer in one thread, which sends nothing anywhere."""
    started = time.perf_counter()
    rows = 0
    with Path(os.devnull).open("w") as sink:
        writer = csv.writer(sink)
        for document in raw_documents(uri):
            writer.writerow(flat(document))
            rows += 1
    return Measured("PyMongo and csv.writer", rows, time.perf_counter() - started)


def openpyxl_loop(uri: str) -> Measured:
    """PyMongo and openpyxl's write-only mode."""
    started = time.perf_counter()
    workbook = Workbook(write_only=True)
    sheet = workbook.create_sheet("users")
    rows = 0
    for document in raw_documents(uri, OPENPYXL_ROWS):
        sheet.append(flat(document))
        rows += 1
    with tempfile.TemporaryFile() as file:
        workbook.save(file)
    return Measured("PyMongo and openpyxl, write-only", rows, time.perf_counter() - started)


def show(measured: list[Measured], baselines: dict[str, Measured]) -> None:
    """The table."""
    table = Table("", "rows/s", "ratio", "first byte", "memory above idle")
    for one in measured:
        baseline = baselines.get(one.name.rpartition("/")[2])
        table.add_row(
            one.name,
            f"{one.rate:,.0f}",
            f"{one.rate / baseline.rate:.2f} x {baseline.name}" if baseline else "",
            f"{one.first_byte_seconds:.3f} s" if one.first_byte_seconds is not None else "",
            f"{one.memory_mib:.0f} MiB" if one.memory_mib is not None else "",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
