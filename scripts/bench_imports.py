"""Measures imports beside a plain loop and `mongoimport`, where there is one, into the same indexes."""

import csv
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
from bench_exports import READS_A_SECOND, Measured, peak_memory, percentile_99, used_bytes
from openpyxl import Workbook, load_workbook
from pymongo import MongoClient
from rich.console import Console
from rich.table import Table

from service.transfer.xlsx_reader import read_sheet

COLUMNS = "name,email,age,is_active,tags,profile.bio,profile.birthday,profile.phone,profile.addresses"
"""All that are not the server's."""

FILES: Mapping[str, str] = {
    "csv": "text/csv",
    "ndjson": "application/x-ndjson",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
SHEET_ROWS = 20_000
"""As many rows of a workbook are read by both readers; the rates do not change with more."""

LOOP_BATCH = 1000
ROUNDS = 2
MAX_SECONDS = 3600


class Place:
    """The service, its database, and the files that go there."""

    def __init__(self, client: httpx.Client, pid: int, uri: str, database: str, directory: Path) -> None:
        self.client = client
        self.pid = pid
        self.uri = uri
        self.database = database
        self._directory = directory
        with MongoClient[dict[str, Any]](uri) as mongo:
            users = mongo[database]["users"]
            self.rows = users.estimated_document_count()
            self._indexes = [index for index in users.list_indexes() if index["name"] != "_id_"]

    def file(self, kind: str) -> Path:
        """The users in a file of this kind."""
        return self._directory / f"users.{kind}"

    def write_files(self) -> None:
        """Export them."""
        for kind in FILES:
            fields = {} if kind == "ndjson" else {"fields": COLUMNS}
            with (
                self.client.stream("GET", f"/api/v1/users/export/{kind}", params=fields) as response,
                self.file(kind).open("wb") as file,
            ):
                response.raise_for_status()
                for chunk in response.iter_bytes():
                    file.write(chunk)

    @contextmanager
    def users(self) -> Iterator[Any]:
        """The collection, by the plain driver."""
        with MongoClient[dict[str, Any]](self.uri) as mongo:
            yield mongo[self.database]["users"]

    def empty(self) -> None:
        """Leave nothing but the indexes."""
        with self.users() as users:
            users.drop()
            for index in self._indexes:
                users.create_index(list(index["key"].items()), name=index["name"], unique=index.get("unique", False))

    def send(self, kind: str, query: str) -> Mapping[str, Any]:
        """The report of an import by the service."""
        with self.file(kind).open("rb") as file:
            response = self.client.post(
                f"/api/v1/users/import?{query}",
                content=file,
                headers={"Content-Type": FILES[kind], "Content-Length": str(self.file(kind).stat().st_size)},
                timeout=MAX_SECONDS,
            )
        report: Mapping[str, Any] = response.raise_for_status().json()
        return report


def measure(client: httpx.Client, pid: int, uri: str, database: str) -> None:
    """Run everything and print the tables."""
    with tempfile.TemporaryDirectory() as directory:
        place = Place(client, pid, uri, database, Path(directory))
        place.write_files()
        show_imports(place)
        show_readers(place, Path(directory))
        show_reads(place)


def show_imports(place: Place) -> None:
    """Rates and memory, beside simpler ways to do it."""
    idle = used_bytes(place.pid)
    ways: dict[str, Callable[[], Measured]] = {
        "loop": partial(plain_loop, place),
        **mongoimports(place),
        "csv, skip": partial(imported, place, idle, "csv", "on_error=skip"),
        "csv, unchanged": partial(imported_again, place, idle),
        "csv, abort": partial(imported, place, idle, "csv", ""),
        "ndjson, skip": partial(imported, place, idle, "ndjson", "on_error=skip"),
        "xlsx, skip": partial(imported, place, idle, "xlsx", "on_error=skip"),
    }
    # In turn, and the best of some rounds: what else the machine does hits one of them in each.
    rounds = [{name: way() for name, way in ways.items()} for _ in range(ROUNDS)]
    best = {name: max((measured[name] for measured in rounds), key=lambda one: one.rate) for name in ways}
    peaks = {name: max(measured[name].memory_mib or 0.0 for measured in rounds) for name in ways}
    least = {"loop": "", "mongoimport": "0.5"}
    baselines = [one for name, one in best.items() if name in least]
    table = Table("", "rows/s", "ratio", "at least", "memory above idle (150 MiB)")
    for name, one in best.items():
        is_ours = name not in least
        compared = baselines if name == "csv, skip" else []
        table.add_row(
            one.name,
            f"{one.rate:,.0f}",
            "\n".join(f"{one.rate / base.rate:.2f} x {base.name}" for base in compared),
            "\n".join(least[base] for base in best if base in least) if compared else "",
            f"{peaks[name]:.0f} MiB" if is_ours else "",
        )
    Console(width=140).print(table)


def imported(place: Place, idle: int, kind: str, query: str) -> Measured:
    """An import by the service into an empty collection."""
    place.empty()
    return measured(place, idle, kind, query, "created")


def imported_again(place: Place, idle: int) -> Measured:
    """One of a file of which everything is there."""
    return measured(place, idle, "csv", "mode=upsert&key=email", "unchanged")


def measured(place: Place, idle: int, kind: str, query: str, outcome: str) -> Measured:
    """An import in which all rows come out like this."""
    started = time.perf_counter()
    with peak_memory(place.pid, idle) as peak:
        report = place.send(kind, query)
    seconds = time.perf_counter() - started
    assert report[outcome] == place.rows, report
    return Measured(f"users.{kind}?{query}", place.rows, seconds, memory_mib=peak[0])


def plain_loop(place: Place) -> Measured:
    """csv.DictReader and insert_many, which check nothing and take all for text."""
    place.empty()
    started = time.perf_counter()
    with place.file("csv").open(newline="", encoding="utf-8") as file, place.users() as users:
        reader = csv.DictReader(file)
        while batch := list(islice(reader, LOOP_BATCH)):
            users.insert_many(batch, ordered=False, bypass_document_validation=True)
    return Measured("csv.DictReader and insert_many", place.rows, time.perf_counter() - started)


def mongoimports(place: Place) -> dict[str, Callable[[], Measured]]:
    """MongoDB's own tool, if it is on PATH or in DOSSIER_MONGOIMPORT."""
    program = os.environ.get("DOSSIER_MONGOIMPORT") or shutil.which("mongoimport")
    if program is None:
        print("no mongoimport on PATH or in DOSSIER_MONGOIMPORT, so it is not compared with")
        return {}
    return {"mongoimport": partial(mongoimport, program, place)}


def mongoimport(program: str, place: Place) -> Measured:
    """The same file."""
    place.empty()
    command = [program, place.uri, "--db", place.database, "--collection", "users", "--quiet"]
    started = time.perf_counter()
    subprocess.run([*command, "--type", "csv", "--headerline", "--file", place.file("csv")], check=True)
    return Measured("mongoimport", place.rows, time.perf_counter() - started)


def show_readers(place: Place, directory: Path) -> None:
    """Workbooks read and thrown away, by our reader and by openpyxl's."""
    another = directory / "another.xlsx"
    workbook = Workbook(write_only=True)
    sheet = workbook.create_sheet("users")
    for cells in islice(openpyxl_rows(place.file("xlsx")), SHEET_ROWS + 1):
        sheet.append(cells)
    workbook.save(another)
    table = Table("read alone", "ours, rows/s", "openpyxl, rows/s", "ratio", "at least")
    for name, path in (("a file of ours", place.file("xlsx")), ("one of openpyxl", another)):
        ours = max(rate_of(partial(read_sheet, path)) for _ in range(ROUNDS))
        theirs = max(rate_of(partial(openpyxl_rows, path)) for _ in range(ROUNDS))
        table.add_row(name, f"{ours:,.0f}", f"{theirs:,.0f}", f"{ours / theirs:.1f} x", "3")
    Console(width=140).print(table)


def rate_of(read: Callable[[], Iterable[Any]]) -> float:
    """Rows a second, from opening the file on."""
    started = time.perf_counter()
    count = sum(1 for _ in islice(read(), SHEET_ROWS))
    return count / (time.perf_counter() - started)


def openpyxl_rows(path: Path) -> Iterator[Any]:
    """The rows of the first sheet."""
    workbook = load_workbook(path, read_only=True)
    yield from workbook.worksheets[0].iter_rows(values_only=True)
    workbook.close()


def show_reads(place: Place) -> None:
    """How long single reads take, beside an import and without one."""
    place.empty()
    ada = place.client.post("/api/v1/users", json={"name": "Ada", "email": "ada.of.the.bench@example.org"})
    one = ada.raise_for_status().json()["id"]
    alone = percentile_99(place.client, one)
    is_over = threading.Event()

    def import_again_and_again() -> None:
        with httpx.Client(base_url=place.client.base_url, headers=place.client.headers) as another:
            sender = Place(another, place.pid, place.uri, place.database, place.file("csv").parent)
            while not is_over.is_set():
                sender.send("csv", "on_error=skip")

    importing = threading.Thread(target=import_again_and_again)
    importing.start()
    try:
        beside = percentile_99(place.client, one)
    finally:
        is_over.set()
        importing.join()
    print(
        f"{READS_A_SECOND} reads by id a second: p99 {alone * 1000:.1f} ms alone,"
        f" {beside * 1000:.1f} ms beside an import: {beside / alone:.1f} x (at most 5)"
    )
