"""Exports over HTTP: what the answer says, what is remembered of it, and how exports share the service."""

import asyncio
import csv
import gzip
import hashlib
import io
import json
import re
from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import openpyxl
import pytest
from beanie import PydanticObjectId
from bson import ObjectId
from fastapi import FastAPI
from pymongo.asynchronous.collection import AsyncCollection

from service import exports
from service.api.dependencies import Services
from service.auth.accounts import Account
from service.auth.standing import RECHECK_SECONDS
from service.documents.user import User
from service.errors import AuthenticationError, InsufficientScopeError
from service.store.export_records import Export, ExportRecords
from service.store.repository import Repository
from service.store.stream import BATCH_DOCUMENTS
from tests.conftest import CALLER_ID
from tests.signing_in import another_service

EXPORT = "/api/v1/users/export/csv"
RECORDS = "/api/v1/exports"
FORMATS = ["csv", "xlsx", "ndjson", "json", "parquet"]
SENT_FORMATS = [*FORMATS, "csv as gzip"]
TEXT_FORMATS = ["csv", "ndjson", "json"]
OTHER_ID = "00000000000000000000beef"
DEADLINE_SECONDS = 30

Document = dict[str, Any]
Message = MutableMapping[str, Any]


class Reader:
    """A client that takes an answer piece by piece: until it asks for the next, the service waits."""

    def __init__(self, app: FastAPI, services: Services, path: str, headers: httpx.Headers) -> None:
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.lower(), value) for name, value in headers.raw],
            "state": {"services": services},
        }
        self._sent: asyncio.Queue[Message] = asyncio.Queue()
        self._taken = asyncio.Semaphore(0)
        self._holds_one = False
        self._left = asyncio.Event()
        self.size = 0
        """Of what came of the file so far."""
        self._answering = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> Message:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await self._sent.put(message)
        await self._taken.acquire()

    async def next(self) -> Message:
        """What the service says next. Raises what broke the answer off."""
        self._let_go()
        taking = asyncio.create_task(self._sent.get())
        done, _ = await asyncio.wait({taking, self._answering}, timeout=DEADLINE_SECONDS, return_when="FIRST_COMPLETED")
        if taking not in done:
            taking.cancel()
            assert self._answering in done, "it says nothing"
            await self._answering
            raise AssertionError("the answer just stopped")
        self._holds_one = True
        message = taking.result()
        self.size += len(message.get("body", b""))
        return message

    def _let_go(self) -> None:
        if self._holds_one:
            self._holds_one = False
            self._taken.release()

    async def start(self) -> httpx.Headers:
        """The headers of an answer that is a file."""
        message = await self.next()
        assert message["status"] == 200, await self.next()
        return httpx.Headers(message["headers"])

    async def rest(self) -> bytes:
        """The file, or what is left of it."""
        data = bytearray()
        while True:
            message = await self.next()
            data += message["body"]
            if not message["more_body"]:
                await self._end()
                return bytes(data)

    async def broken(self) -> None:
        """Take nothing, until the service has enough of it. Raises what broke the answer off."""
        await asyncio.wait_for(self._answering, DEADLINE_SECONDS)

    async def leave(self) -> None:
        """Read no more."""
        self._left.set()
        await self._end()

    async def _end(self) -> None:
        self._let_go()
        await asyncio.wait({self._answering}, timeout=DEADLINE_SECONDS)
        assert self._answering.done(), "it goes on"


Read = Callable[..., Reader]


@pytest.fixture
async def read(app: FastAPI, services: Services, client: httpx.AsyncClient) -> AsyncIterator[Read]:
    """Starts to read an address as the caller."""
    readers = []

    def start(path: str = EXPORT, **headers: str) -> Reader:
        own = {"Authorization": client.headers["Authorization"]}
        readers.append(Reader(app, services, path, httpx.Headers(own | headers)))
        return readers[-1]

    yield start
    for reader in readers:
        await reader.leave()


@pytest.fixture
async def other(services: Services, client: httpx.AsyncClient) -> Callable[..., dict[str, str]]:
    """The headers of another caller, with these scopes or all but the administrator's."""
    await Account(id=PydanticObjectId(OTHER_ID), username="other", password_hash="!", scopes=["*"]).insert()

    def headers(*scopes: str) -> dict[str, str]:
        token = services.signer.issue(
            OTHER_ID, "other", "tests", list(scopes or services.scopes.keys() - {"accounts:admin"})
        )
        return {"Authorization": f"Bearer {token}"}

    return headers


@pytest.fixture
def stored(services: Services) -> AsyncCollection[Document]:
    """The users as MongoDB has them."""
    return User.get_pymongo_collection()


async def fill(stored: AsyncCollection[Document], count: int) -> list[ObjectId]:
    """Small users; their ids, which count from 1."""
    ids = [ObjectId(f"{number:024x}") for number in range(1, count + 1)]
    if ids:
        await stored.insert_many([{"_id": key, "name": "n", "email": f"{key}@example.org", "age": 1} for key in ids])
    return ids


async def record_of(client: httpx.AsyncClient, headers: httpx.Headers) -> Document:
    """What is remembered of the export whose answer has these headers."""
    response = await client.get(f"{RECORDS}/{headers['export-id']}")
    assert response.status_code == 200, response.text
    record: Document = response.json()
    return record


async def records(client: httpx.AsyncClient, **params: str) -> list[Document]:
    response = await client.get(RECORDS, params=params)
    assert response.status_code == 200, response.text
    items: list[Document] = response.json()["items"]
    return items


def read_as(read: Read, file_format: str) -> Reader:
    """Starts to read one of SENT_FORMATS."""
    file_format, _, encoding = file_format.partition(" as ")
    return read(f"/api/v1/users/export/{file_format}", **{"Accept-Encoding": encoding})


def rows_of(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


# What the answer says


MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "ndjson": "application/x-ndjson",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
}


@pytest.mark.parametrize("file_format", FORMATS)
async def test_the_headers_say_what_the_file_is(
    client: httpx.AsyncClient, stored: AsyncCollection[Document], file_format: str
) -> None:
    await fill(stored, 3)
    before = datetime.now(UTC).replace(second=0, microsecond=0)

    response = await client.get(f"/api/v1/users/export/{file_format}")

    headers = response.headers
    assert headers["content-type"] == MEDIA_TYPES[file_format]
    found = re.fullmatch(r'attachment; filename="users-([-\dT]+Z)\.(\w+)"', headers["content-disposition"])
    assert found
    assert found[2] == file_format
    assert before <= datetime.strptime(found[1], "%Y-%m-%dT%H%M%z") <= datetime.now(UTC)
    assert headers["cache-control"] == "no-store"
    assert headers["vary"] == "Accept-Encoding"
    assert "content-length" not in headers
    record = await record_of(client, headers)
    assert record["filename"] == f"users-{found[1]}.{file_format}"
    assert record["id"] == headers["export-id"]


@pytest.mark.parametrize(
    ("accepted", "is_gzipped"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("GZip", True),
        ("x-gzip", True),
        ("deflate, br", False),
        ("br;q=1.0, gzip;q=0.2", True),
        ("gzip;q=1", True),
        ("gzip;q=0.001", True),
        ("gzip;Q=1.000", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("gzip ; q=0", False),
        ("identity", False),
        ("*", True),
        ("*;q=0", False),
        ("*, gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("identity;q=0.5, *;q=0", False),
        ("gzip, identity;q=0", True),
    ],
)
async def test_text_is_compressed_where_that_is_asked_for(
    client: httpx.AsyncClient,
    read: Read,
    stored: AsyncCollection[Document],
    accepted: str | None,
    is_gzipped: bool,  # noqa: FBT001 - a parameter
) -> None:
    await fill(stored, 2500)
    asked = {} if accepted is None else {"Accept-Encoding": accepted}
    reader = read(**asked)

    headers = await reader.start()
    data = await reader.rest()

    assert headers.get("content-encoding") == ("gzip" if is_gzipped else None)
    assert headers["vary"] == "Accept-Encoding"
    content = gzip.decompress(data) if is_gzipped else data
    assert len(rows_of(content)) == 2500
    record = await record_of(client, headers)
    assert (record["bytes"], record["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("file_format", FORMATS)
async def test_compressed_or_not_it_is_the_same_file(
    client: httpx.AsyncClient, read: Read, stored: AsyncCollection[Document], file_format: str
) -> None:
    await fill(stored, 4500)
    path = f"/api/v1/users/export/{file_format}"
    plain, zipped = read(path), read(path, **{"Accept-Encoding": "gzip"})

    headers, zipped_headers = await plain.start(), await zipped.start()
    content, zipped_content = await plain.rest(), await zipped.rest()

    is_text = file_format in TEXT_FORMATS
    assert ("content-encoding" in zipped_headers) == is_text
    if is_text:
        assert len(zipped_content) < len(content) / 2
        assert gzip.decompress(zipped_content) == content
    for each, received in ((headers, content), (zipped_headers, zipped_content)):
        record = await record_of(client, each)
        file = gzip.decompress(received) if "content-encoding" in each else received
        assert record["state"] == "complete"
        assert record["rows"] == 4500
        assert (record["bytes"], record["sha256"]) == (len(file), hashlib.sha256(file).hexdigest())


@pytest.mark.parametrize(("name", "delimiter"), [("comma", ","), ("semicolon", ";"), ("tab", "\t")])
async def test_csv_for_a_spreadsheet(client: httpx.AsyncClient, name: str, delimiter: str) -> None:
    hostile = {"name": f"=1{delimiter}2\n", "email": "a@example.org", "tags": [";", "\t", ","]}
    await client.post("/api/v1/users", json=hostile)

    response = await client.get(EXPORT, params={"delimiter": name, "bom": "true", "raw": "true", "fields": "name,tags"})

    assert response.content.startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(io.StringIO(response.content.decode("utf-8-sig"), newline=""), delimiter=delimiter))
    assert rows == [["name", "tags"], [hostile["name"], json.dumps(hostile["tags"], separators=(",", ":"))]]


async def test_what_a_cell_cannot_hold_is_cut_and_counted(client: httpx.AsyncClient) -> None:
    body = {"code": "x", "left": 1, "right": 2, "texts": ["😀" * 20_000], "free": {"short": "y" * 32_000}}
    await client.post("/api/v1/everythings", json=body)

    response = await client.get("/api/v1/everythings/export/xlsx")

    workbook = openpyxl.load_workbook(io.BytesIO(response.content))
    about = {row[0].value: row[1].value for row in workbook["About this file"].iter_rows()}
    assert about["Cells cut"] == 1
    assert about["Complete"] == "yes"
    record = await record_of(client, response.headers)
    assert (record["cut_cells"], record["rows"]) == (1, 1)


# What is remembered


@pytest.mark.parametrize("file_format", SENT_FORMATS)
async def test_a_record_is_complete_before_the_answer_is(
    client: httpx.AsyncClient, read: Read, stored: AsyncCollection[Document], file_format: str
) -> None:
    await fill(stored, 3 * BATCH_DOCUMENTS + 1)
    reader = read_as(read, file_format)
    headers = await reader.start()
    states = [(await record_of(client, headers))["state"]]
    sizes = []

    while True:
        message = await reader.next()
        sizes.append(len(message["body"]))
        states.append((await record_of(client, headers))["state"])  # the service cannot go on meanwhile
        if not message["more_body"]:
            break

    assert states[:2] == ["running", "running"]
    assert states == sorted(states, reverse=True), "it went back"
    # What ends the answer, and with it what ends the file.
    assert states[-2:] == ["complete", "complete"]
    assert sizes[-1] == 0
    assert sizes[-2] > 0


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("file_format", SENT_FORMATS)
async def test_the_last_bytes_of_a_small_file_find_it_complete_too(
    client: httpx.AsyncClient, read: Read, stored: AsyncCollection[Document], file_format: str, count: int
) -> None:
    await fill(stored, count)
    reader = read_as(read, file_format)
    headers = await reader.start()
    states = []

    while (message := await reader.next())["more_body"]:
        if message["body"]:
            states.append((await record_of(client, headers))["state"])

    assert (file_format, count) == ("ndjson", 0) or states[-1] == "complete"  # of nothing there are no last bytes


@asynccontextmanager
async def no_record_complete(services: Services) -> AsyncIterator[None]:
    """MongoDB takes none that says so."""
    database = services.database.handle
    await database.command("collMod", "exports", validator={"state": {"$ne": "complete"}})
    try:
        yield
    finally:
        await database.command("collMod", "exports", validator={})


@pytest.mark.parametrize("count", [0, 1, BATCH_DOCUMENTS + 1])
@pytest.mark.parametrize("file_format", SENT_FORMATS)
async def test_a_file_whose_record_cannot_be_complete_stays_short(
    services: Services, read: Read, stored: AsyncCollection[Document], file_format: str, count: int
) -> None:
    await fill(stored, count)
    whole = read_as(read, file_format)
    await whole.start()
    size = len(await whole.rest())
    short = read_as(read, file_format)
    headers = await short.start()

    async with no_record_complete(services):
        with pytest.raises(
            RuntimeError, match="response already started"
        ):  # which the server answers by closing the connection
            await short.rest()

    assert short.size < size or (file_format, count) == ("ndjson", 0)
    record = await Export.get(PydanticObjectId(headers["export-id"]))
    assert record is not None
    assert record.state == "failed"


async def test_a_file_starts_while_its_first_rows_are_still_encoded(
    services: Services, read: Read, stored: AsyncCollection[Document]
) -> None:
    await fill(stored, 10)
    pool = services.exporter._pool
    busy = [await pool._idle.get() for _ in range(pool.size)]
    try:
        reader = read(f"{EXPORT}?fields=name")
        await reader.start()

        assert (await reader.next())["body"] == b"name\r\n"
    finally:
        for worker in busy:
            pool._idle.put_nowait(worker)
    assert await reader.rest() == b"n\r\n" * 10


async def test_a_record_says_how_far_an_export_is(
    client: httpx.AsyncClient, read: Read, stored: AsyncCollection[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "PROGRESS_SECONDS", -1)  # each time
    await fill(stored, 6 * BATCH_DOCUMENTS)
    reader = read()
    headers = await reader.start()
    rows = []
    size = 0

    while True:
        message = await reader.next()
        if not message["more_body"]:
            break
        record = await record_of(client, headers)
        rows.append(record["rows"])
        assert record["bytes"] <= size + len(message["body"])
        size += len(message["body"])

    assert rows == sorted(rows)
    assert len(set(rows)) > 3
    assert rows[-1] == 6 * BATCH_DOCUMENTS


async def test_a_record_has_who_asked_for_what(
    client: httpx.AsyncClient, services: Services, stored: AsyncCollection[Document]
) -> None:
    await fill(stored, 3)
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    query = "q=%3Dn+%C3%A9&sort=-name&name__ne=a,%2Cb"

    response = await client.get(
        f"/api/v1/users/export/ndjson?{query}", headers={"X-Request-ID": "the-request", "Accept-Encoding": "identity"}
    )

    record = await record_of(client, response.headers)
    times = {name: datetime.fromisoformat(record.pop(name)) for name in ("created_at", "updated_at", "ended_at")}
    assert before <= times["created_at"] <= times["ended_at"] <= times["updated_at"] <= datetime.now(UTC)
    expires = datetime.fromisoformat(record.pop("expires_at"))
    kept = timedelta(days=services.settings.export_record_days)
    assert abs(expires - times["created_at"] - kept) < timedelta(seconds=1)
    assert record.pop("filename").startswith("users-")
    assert record == {
        "id": response.headers["export-id"],
        "type": "users",
        "format": "ndjson",
        "query": query,
        "account_id": CALLER_ID,
        "account": "tester",
        "request_id": "the-request",
        "is_snapshot": False,
        "is_masked": False,
        "state": "complete",
        "rows": 0,
        "bytes": 0,
        "cut_cells": 0,
        "sha256": hashlib.sha256(b"").hexdigest(),
        "revision": 2,
    }


async def test_mongodb_forgets_records_in_time(services: Services) -> None:
    indexes = await Export.get_pymongo_collection().index_information()

    assert indexes["expires_at"]["key"] == [("expires_at", 1)]
    assert indexes["expires_at"]["expireAfterSeconds"] == 0
    for days in (0.5, 400):
        record = await ExportRecords(days, 10).start(
            type="users", format="csv", query="", filename="x", account_id=CALLER_ID, account="tester"
        )
        [kept] = await Export.get_pymongo_collection().find({"_id": record.id}).to_list()
        assert abs(kept["expires_at"] - kept["created_at"] - timedelta(days=days)) < timedelta(seconds=1)


async def test_a_file_that_breaks_off_has_failed(
    client: httpx.AsyncClient, read: Read, stored: AsyncCollection[Document], broken_stream: None
) -> None:
    await fill(stored, 2 * BATCH_DOCUMENTS)
    reader = read()
    headers = await reader.start()

    with pytest.raises(OSError, match="the inside"):  # which the server answers by closing the connection
        await reader.rest()

    record = await record_of(client, headers)
    assert (record["state"], record["sha256"]) == ("failed", None)
    assert record["ended_at"] is not None


@pytest.mark.parametrize("pieces", [0, 1, 2])
async def test_a_file_whose_client_leaves_is_abandoned(
    client: httpx.AsyncClient, read: Read, stored: AsyncCollection[Document], pieces: int
) -> None:
    await fill(stored, 6 * BATCH_DOCUMENTS)
    reader = read()
    headers = await reader.start()
    for _ in range(pieces):
        await reader.next()

    await reader.leave()

    record = await record_of(client, headers)
    assert (record["state"], record["sha256"]) == ("abandoned", None)
    assert record["ended_at"] is not None
    assert record["rows"] < 6 * BATCH_DOCUMENTS


@pytest.fixture
async def watched(
    app: FastAPI,
    services: Services,
    client: httpx.AsyncClient,
    stored: AsyncCollection[Document],
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Reader, list[float]]:
    """Somebody who reads a file of a service that looks at them closely, and that service's clock."""
    monkeypatch.setattr("service.api.exports.RECHECK_SECONDS", 0.01)
    await fill(stored, 6 * BATCH_DOCUMENTS)
    clock = [0.0]
    return Reader(app, another_service(services, lambda: clock[0]), EXPORT, client.headers), clock


@pytest.mark.parametrize("does", ["reads", "stalls"])
@pytest.mark.parametrize("change", [{"is_active": False}, {"scopes": ["users:read", "items:export"]}], ids=str)
async def test_a_file_whose_caller_may_not_have_it_any_more_breaks_off(
    watched: tuple[Reader, list[float]], client: httpx.AsyncClient, change: Document, does: str
) -> None:
    reader, clock = watched
    headers = await reader.start()
    await reader.next()
    account = Account.get_pymongo_collection()
    await account.update_one({"_id": ObjectId(CALLER_ID)}, {"$set": change})

    clock[0] = RECHECK_SECONDS
    with pytest.raises(RuntimeError) as caught:  # which the server answers by closing the connection
        await (reader.rest() if does == "reads" else reader.broken())

    assert isinstance(caught.value.__cause__, AuthenticationError | InsufficientScopeError)
    await account.update_one({"_id": ObjectId(CALLER_ID)}, {"$set": {"is_active": True, "scopes": ["*"]}})
    record = await record_of(client, headers)
    assert (record["state"], record["sha256"]) == ("failed", None)
    assert record["rows"] < 6 * BATCH_DOCUMENTS


@pytest.fixture
def broken_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents of which the second batch cannot be read."""
    original = Repository.stream

    async def breaking(self: Repository, *arguments: Any, **options: Any) -> Any:
        async for batch in original(self, *arguments, **options):
            yield batch
            raise OSError("the inside")

    monkeypatch.setattr(Repository, "stream", breaking)


# Whose records they are


async def test_a_caller_sees_their_own_exports(
    client: httpx.AsyncClient, other: Callable[..., dict[str, str]], as_caller: Callable[[Sequence[str]], None]
) -> None:
    own = (await client.get(EXPORT)).headers["export-id"]
    others = (await client.get(EXPORT, headers=other())).headers["export-id"]
    as_caller(["users:read"])

    assert [record["id"] for record in await records(client)] == [own]
    assert (await client.get(f"{RECORDS}/{own}")).status_code == 200
    for params in ({"account_id": OTHER_ID}, {"account_id__ne": CALLER_ID}, {"account": "other"}, {"id": others}):
        assert await records(client, **params) == [], params
    answer = await client.get(f"{RECORDS}/{others}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_an_administrator_sees_everybodys_exports(
    client: httpx.AsyncClient, other: Callable[..., dict[str, str]], as_caller: Callable[[Sequence[str]], None]
) -> None:
    own = (await client.get(EXPORT)).headers["export-id"]
    others = (await client.get(EXPORT, headers=other())).headers["export-id"]
    as_caller(["accounts:admin"])

    assert [record["id"] for record in await records(client)] == [own, others]
    assert [record["id"] for record in await records(client, account="other")] == [others]
    assert (await client.get(f"{RECORDS}/{others}")).json()["account"] == "other"


async def test_others_exports_are_as_those_that_never_were(
    client: httpx.AsyncClient, other: Callable[..., dict[str, str]]
) -> None:
    theirs = (await client.get(EXPORT)).headers["export-id"]

    def problem(response: httpx.Response) -> Document:
        said: Document = response.json()
        shown = str(response.url).rpartition("/")[2]
        return said | {
            "request_id": None,
            "detail": said["detail"].replace(shown, "ID"),
            "status": response.status_code,
        }

    answers = [await client.get(f"{RECORDS}/{export_id}", headers=other()) for export_id in (theirs, "0" * 24, "none")]

    assert problem(answers[0]) == problem(answers[1]) == problem(answers[2])
    assert answers[0].status_code == 404


async def test_records_are_listed_as_documents_are(
    client: httpx.AsyncClient, stored: AsyncCollection[Document], read: Read
) -> None:
    await fill(stored, 3)
    paths = ("users/export/csv", "users/export/csv?age=7", "users/export/xlsx", "items/export/csv")
    ids = [(await client.get(f"/api/v1/{path}")).headers["export-id"] for path in paths]
    running = (await read().start())["export-id"]

    async def found(**params: str) -> list[str]:
        return [record["id"] for record in await records(client, **params)]

    assert await found() == [*ids, running]
    assert await found(sort="-id") == [running, *reversed(ids)]
    assert await found(state="complete") == ids
    assert await found(state="running") == [running]
    assert await found(type="items") == ids[3:]
    assert await found(format__in="xlsx,json") == ids[2:3]
    assert await found(rows__gte="3", sort="-format") == [ids[2], ids[0]]
    assert await found(query="age=7") == ids[1:2]
    assert await found(sha256__exists="false") == [running]
    assert await records(client, fields="rows", id=ids[0]) == [{"id": ids[0], "rows": 3}]
    walked = []
    following = f"{RECORDS}?sort=-created_at,id&limit=2"
    while following:
        page = await client.get(following)
        walked += [record["id"] for record in page.json()["items"]]
        following = page.links["next"]["url"] if "next" in page.links else ""
    newest_first = sorted(await records(client), key=lambda record: record["id"])
    newest_first.sort(key=lambda record: record["created_at"], reverse=True)
    assert walked == [record["id"] for record in newest_first]
    refused = await client.get(RECORDS, params={"nonsense": "1", "sort": "nonsense", "rows": "many"})
    assert refused.status_code == 400
    assert {fault["parameter"] for fault in refused.json()["errors"]} == {"nonsense", "sort", "rows"}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_records_are_the_services_own(client: httpx.AsyncClient, method: str) -> None:
    own = (await client.get(EXPORT)).headers["export-id"]

    for path in (RECORDS, f"{RECORDS}/{own}"):
        assert (await client.request(method, path, json={})).status_code == 405


# What is refused


async def test_nobody_exports_without_the_scope(
    client: httpx.AsyncClient, services: Services, as_caller: Callable[[Sequence[str]], None]
) -> None:
    as_caller(sorted(services.scopes.keys() - {"users:export"}))
    for file_format in [*FORMATS, "nonsense"]:
        refused = await client.get(f"/api/v1/users/export/{file_format}")
        assert refused.status_code == 403
        assert 'scope="users:export"' in refused.headers["www-authenticate"]
    assert await records(client) == []

    as_caller(["users:export"])
    answer = await client.get(EXPORT)
    assert answer.status_code == 200
    assert [record["id"] for record in await records(client)] == [answer.headers["export-id"]]
    assert (await client.get("/api/v1/users")).status_code == 403


async def test_nobody_sees_records_without_a_token(anonymous: httpx.AsyncClient) -> None:
    for path in (EXPORT, RECORDS, f"{RECORDS}/{'0' * 24}"):
        refused = await anonymous.get(path)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == 'Bearer realm="dossier"'


REFUSED = [
    ("csv", "explode=name"),
    ("xlsx", "explode=tags&explode=tags"),
    ("parquet", "fields=nonsense"),
    ("json", "snapshot=maybe"),
    ("tar", ""),
    ("csv", "q=%5Bz-a%5D&q_mode=regex"),
    ("csv", "q=%FF"),
]


@pytest.mark.parametrize(("file_format", "query"), REFUSED)
async def test_a_refused_export_leaves_no_record(client: httpx.AsyncClient, file_format: str, query: str) -> None:
    response = await client.get(f"/api/v1/users/export/{file_format}?{query}")

    assert response.status_code == 400
    assert response.json()["code"] == "invalid_query"
    assert response.json()["errors"][0]["parameter"] == (query.partition("=")[0] or "format_name")
    assert "export-id" not in response.headers
    assert await records(client) == []


# How many there are at once


async def hold_all(read: Read, services: Services) -> list[Reader]:
    """As many exports as may run together, all of them under way."""
    readers = [read() for _ in range(services.settings.exports_at_once)]
    for reader in readers:
        await reader.start()
    return readers


async def test_more_exports_than_may_run_are_told_to_come_back(
    client: httpx.AsyncClient, services: Services, read: Read
) -> None:
    first, *others = await hold_all(read, services)

    refused = await client.get(EXPORT)

    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["code"] == "too_many_exports"
    assert int(refused.headers["retry-after"]) > 0
    assert "export-id" not in refused.headers
    assert len(await records(client)) == services.settings.exports_at_once
    await first.rest()
    assert (await client.get(EXPORT)).status_code == 200
    assert {record["state"] for record in await records(client, sort="-id", limit="2")} == {"running", "complete"}
    for reader in others:
        await reader.rest()


@pytest.mark.parametrize("ending", ["success", *REFUSED, "leaves at once", "leaves later"])
async def test_an_export_that_ended_makes_room(
    client: httpx.AsyncClient,
    services: Services,
    read: Read,
    stored: AsyncCollection[Document],
    ending: str | tuple[str, str],
) -> None:
    await fill(stored, 2 * BATCH_DOCUMENTS)
    for _ in range(services.settings.exports_at_once + 1):
        if ending == "success":
            assert (await client.get(EXPORT)).status_code == 200
        elif isinstance(ending, tuple):
            assert (await client.get("/api/v1/users/export/{}?{}".format(*ending))).status_code == 400
        else:
            reader = read()
            await reader.start()
            if ending == "leaves later":
                await reader.next()
            await reader.leave()

    await hold_all(read, services)
    assert (await client.get(EXPORT)).status_code == 429


async def test_a_failed_export_makes_room(
    client: httpx.AsyncClient,
    services: Services,
    read: Read,
    stored: AsyncCollection[Document],
    broken_stream: None,
) -> None:
    await fill(stored, 2 * BATCH_DOCUMENTS)
    for _ in range(services.settings.exports_at_once + 1):
        with pytest.raises(OSError, match="the inside"):
            await client.get(EXPORT)

    await hold_all(read, services)
    assert (await client.get(EXPORT)).status_code == 429


# What changes meanwhile


async def change(stored: AsyncCollection[Document], ids: list[ObjectId]) -> None:
    """Some documents are deleted, changed and inserted, near the beginning and near the end."""
    last = len(ids)
    for place in (0, last - 1):
        await stored.delete_one({"_id": ids[place]})
    for place in (1, last - 2):
        await stored.update_one({"_id": ids[place]}, {"$set": {"name": "changed", "age": 99}})
    for number in (0, last + 1, last + 2):
        key = ObjectId(f"{number:024x}")
        await stored.insert_one({"_id": key, "name": "new", "email": f"{key}@example.org"})


@pytest.mark.parametrize("sort", ["id", "-id", "name", "age,-email"])
async def test_a_snapshot_shows_nothing_of_what_changes_meanwhile(
    client: httpx.AsyncClient, read: Read, stored: AsyncCollection[Document], sort: str
) -> None:
    ids = await fill(stored, 3 * BATCH_DOCUMENTS)
    reader = read(f"{EXPORT}?snapshot=true&fields=id,name,age&sort={sort}")
    headers = await reader.start()

    await change(stored, ids)

    rows = rows_of(await reader.rest())
    expected = [{"id": str(key), "name": "n", "age": "1"} for key in ids]
    assert rows == (expected if not sort.startswith("-") and "-" not in sort else expected[::-1])
    record = await record_of(client, headers)
    assert (record["is_snapshot"], record["state"], record["rows"]) == (True, "complete", len(ids))


@pytest.mark.parametrize("sort", ["id", "-id"])
async def test_what_was_there_all_along_comes_once(
    client: httpx.AsyncClient, read: Read, stored: AsyncCollection[Document], sort: str
) -> None:
    ids = await fill(stored, 3 * BATCH_DOCUMENTS)
    reader = read(f"{EXPORT}?fields=id,name&sort={sort}")
    headers = await reader.start()

    await change(stored, ids)

    rows = rows_of(await reader.rest())
    found = [row["id"] for row in rows]
    assert len(set(found)) == len(found)
    assert set(map(str, ids[1:-1])) <= set(found)
    unchanged = {*map(str, ids)} - {str(ids[1]), str(ids[-2])}
    assert {row["name"] for row in rows if row["id"] in unchanged} == {"n"}
    # Far behind the first batch, so read after the change.
    far = -2 if sort == "id" else 1
    assert {row["name"] for row in rows if row["id"] == str(ids[far])} == {"changed"}
    assert str(ids[-1] if sort == "id" else ids[0]) not in found
    assert (await record_of(client, headers))["is_snapshot"] is False
