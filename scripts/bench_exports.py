"""Measures exports with `curl`, beside simpler loops over the same documents, and `mongoexport` where there is one."""

import base64
import csv
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from bson import decode_all
from openpyxl import Workbook
from pymongo import MongoClient
from rich.console import Console
from rich.table import Table

OPENPYXL_ROWS = 20_000
"""Few, as it is slow; its rate does not change with more."""

LARGE_BYTES = 4000
SMALL_FOR_ONE_LARGE = 5
"""So that all large documents together are about as large as all small ones."""

READS_A_SECOND = 50
READING_SECONDS = 4
ROUNDS = 2
LOOK_SECONDS = 0.05
"""How often memory is looked at, which takes the kernel a millisecond for each process."""

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


def measure(client: httpx.Client, pid: int, uri: str, database: str) -> None:
    """Run everything and print the tables."""
    rows = client.get("/api/v1/users", params={"count": "exact", "limit": 1}).json()["total"]
    large_rows = load_large(uri, database, rows // SMALL_FOR_ONE_LARGE)
    idle = used_bytes(pid)
    ways: dict[str, Callable[[], Measured]] = {
        "loop": partial(csv_loop, uri, database),
        "workbook": partial(openpyxl_loop, uri, database),
        **mongoexports(uri, database, rows),
        **{
            f"{type_name}/{name}": partial(export, client, pid, idle, count, f"{type_name}/export/{name}")
            for name in ("csv", "xlsx", "ndjson", "parquet")
            for type_name, count in (("users", rows), ("items", large_rows))
        },
    }
    # In turn, and the best of some rounds: what else the machine does hits one of them in each.
    rounds = [{name: way() for name, way in ways.items()} for _ in range(ROUNDS)]
    best = {name: max((measured[name] for measured in rounds), key=lambda one: one.rate) for name in ways}
    loop, workbook = best.pop("loop"), best.pop("workbook")
    tools = [best.pop(name) for name in list(best) if name.startswith("mongoexport")]
    # Memory as it was first: what has once loaded pyarrow keeps it.
    measured = {name: replace(one, memory_mib=rounds[0][name].memory_mib) for name, one in best.items()}
    baselines = [
        ("users/csv", loop, 1.0),
        ("users/xlsx", workbook, 8.0),
        *(
            (name, tool, least)
            for (name, least), tool in zip((("users/csv", 1.0), ("users/ndjson", 1.2)), tools, strict=False)
        ),
    ]
    table = Table("", "rows/s", "ratio", "at least", "first byte (0.2 s)", "memory above idle (120 MiB)")
    for one in (loop, workbook, *tools):
        table.add_row(one.name, f"{one.rate:,.0f}", "", "", "", "")
    for name, one in measured.items():
        ratios = [(one.rate / base.rate, base.name, least) for of, base, least in baselines if of == name]
        table.add_row(
            one.name,
            f"{one.rate:,.0f}",
            "\n".join(f"{ratio:.2f} x {base}" for ratio, base, _ in ratios),
            "\n".join(str(least) for *_, least in ratios),
            f"{one.first_byte_seconds:.3f} s",
            f"{one.memory_mib:.0f} MiB",
        )
    Console(width=140).print(table)
    print(f"items: {large_rows:,} documents of {LARGE_BYTES} bytes")
    show_reads(client)


def load_large(uri: str, database: str, count: int) -> int:
    """So many items with long descriptions that nothing makes much shorter; how many."""
    with MongoClient[dict[str, Any]](uri) as client:
        client[database]["items"].insert_many(
            (
                {"sku": str(number), "description": base64.b64encode(os.urandom(LARGE_BYTES * 3 // 4)).decode()}
                for number in range(count)
            ),
            bypass_document_validation=True,
        )
    return count


def export(client: httpx.Client, pid: int, idle: int, rows: int, path: str) -> Measured:
    """One export over HTTP; its bytes are dropped."""
    command = ["curl", "-sS", "--fail", "-o", os.devnull, "-w", "%{time_starttransfer} %{time_total}"]
    command += ["-H", f"Authorization: {client.headers['Authorization']}"]
    with peak_memory(pid, idle) as peak:
        address = str(client.base_url.copy_with(path=f"/api/v1/{path}"))
        said = subprocess.run([*command, address], check=True, capture_output=True, text=True).stdout
    first_byte, seconds = map(float, said.split())
    return Measured(path, rows, seconds, first_byte, peak[0])


def show_reads(client: httpx.Client) -> None:
    """How long single reads take, beside an export and without one."""
    one = client.get("/api/v1/users", params={"limit": 1}).json()["items"][0]["id"]
    alone = percentile_99(client, one)
    stop = threading.Event()

    def export_again_and_again() -> None:
        with httpx.Client(base_url=client.base_url, headers=client.headers, timeout=60) as another:
            while not stop.is_set():
                with another.stream("GET", "/api/v1/users/export/csv") as response:
                    for _ in response.iter_raw():
                        if stop.is_set():
                            break

    exporting = threading.Thread(target=export_again_and_again)
    exporting.start()
    try:
        beside = percentile_99(client, one)
    finally:
        stop.set()
        exporting.join()
    print(
        f"{READS_A_SECOND} reads by id a second: p99 {alone * 1000:.1f} ms alone,"
        f" {beside * 1000:.1f} ms beside an export: {beside / alone:.1f} x (at most 5)"
    )


def percentile_99(client: httpx.Client, document_id: str) -> float:
    """Of the seconds that reads at a steady rate take; one that waits for the one before it has waited too."""
    taken = []
    started = time.perf_counter()
    for number in range(READS_A_SECOND * READING_SECONDS):
        due = started + number / READS_A_SECOND
        time.sleep(max(0.0, due - time.perf_counter()))
        client.get(f"/api/v1/users/{document_id}").raise_for_status()
        taken.append(time.perf_counter() - due)
    return sorted(taken)[int(len(taken) * 0.99)]


@contextmanager
def peak_memory(pid: int, idle: int) -> Iterator[list[float]]:
    """How far the service's processes together rise above what they had before any export, in MiB."""
    peak = [0.0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(LOOK_SECONDS):
            peak[0] = max(peak[0], (used_bytes(pid) - idle) / MEBIBYTE)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def used_bytes(pid: int) -> int:
    """The memory that the process and its descendants have in RAM, in which what they share counts once (PSS)."""
    with suppress(FileNotFoundError, ProcessLookupError):  # one that has just ended
        tasks = Path(f"/proc/{pid}/task").glob("*/children")  # each thread has those that it has started
        children = [child for task in tasks for child in task.read_text().split()]
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return int(rollup.partition("\nPss:")[2].split()[0]) * 1024 + sum(map(used_bytes, map(int, children)))
    return 0


def mongoexports(uri: str, database: str, rows: int) -> dict[str, Callable[[], Measured]]:
    """MongoDB's own tool, to CSV and to JSON, if it is on PATH or in DOSSIER_MONGOEXPORT."""
    program = os.environ.get("DOSSIER_MONGOEXPORT") or shutil.which("mongoexport")
    if program is None:
        print("no mongoexport on PATH or in DOSSIER_MONGOEXPORT, so it is not compared with")
        return {}
    return {f"mongoexport {kind}": partial(mongoexport, program, uri, database, rows, kind) for kind in ("csv", "json")}


def mongoexport(program: str, uri: str, database: str, rows: int, kind: str) -> Measured:
    """One file, thrown away."""
    fields = "_id,name,email,age,is_active,tags,profile.bio,profile.birthday,profile.phone,profile.addresses,"
    fields += "created_at,updated_at,revision"
    command = [program, uri, "--db", database, "--collection", "users", "--type", kind, "--quiet"]
    started = time.perf_counter()
    subprocess.run([*command, "--fields", fields, "--out", os.devnull], check=True)
    return Measured(f"mongoexport {kind}", rows, time.perf_counter() - started)


def raw_documents(uri: str, database: str, limit: int = 0) -> Iterator[dict[str, Any]]:
    """The documents as fast as the driver hands them out."""
    with MongoClient[dict[str, Any]](uri) as client:
        for batch in client[database]["users"].find_raw_batches(limit=limit, batch_size=2000):
            yield from decode_all(batch)


def flat(document: dict[str, Any]) -> list[Any]:
    """The row that a plain script would write."""
    profile = document["profile"] or {}
    return [str(value) for name, value in document.items() if name != "profile"] + [str(v) for v in profile.values()]


def csv_loop(uri: str, database: str) -> Measured:
    """PyMongo and csv.writer in one thread, which sends nothing anywhere."""
    started = time.perf_counter()
    rows = 0
    with Path(os.devnull).open("w") as sink:
        writer = csv.writer(sink)
        for document in raw_documents(uri, database):
            writer.writerow(flat(document))
            rows += 1
    return Measured("PyMongo and csv.writer", rows, time.perf_counter() - started)


def openpyxl_loop(uri: str, database: str) -> Measured:
    """PyMongo and openpyxl's write-only mode."""
    started = time.perf_counter()
    workbook = Workbook(write_only=True)
    sheet = workbook.create_sheet("users")
    rows = 0
    for document in raw_documents(uri, database, OPENPYXL_ROWS):
        sheet.append(flat(document))
        rows += 1
    with tempfile.TemporaryFile() as file:
        workbook.save(file)
    return Measured("PyMongo and openpyxl, write-only", rows, time.perf_counter() - started)
