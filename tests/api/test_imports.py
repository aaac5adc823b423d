"""Imports over HTTP: how a file comes in, what the answer says of it, what is remembered, what is done only once."""

import asyncio
import csv
import hashlib
import io
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import openpyxl
import pytest
from beanie import PydanticObjectId
from bson import ObjectId
from fastapi import FastAPI
from pymongo.asynchronous.collection import AsyncCollection
from structlog.testing import capture_logs

from service.api import uploads
from service.api.dependencies import Services
from service.auth.accounts import Account
from service.documents.user import User
from service.imports import importer
from service.imports.importer import Importer
from service.imports.job import Ended
from service.store import import_records
from service.store.import_records import Import, ImportRecords
from tests.conftest import CALLER_ID, client_of
from tests.metrics import value_of

USERS = "/api/v1/users"
IMPORT = f"{USERS}/import"
RECORDS = "/api/v1/imports"
CSV = "text/csv"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
NDJSON = "application/x-ndjson"
OTHER_ID = "00000000000000000000beef"

Document = dict[str, Any]
Row = Sequence[Any]


@pytest.fixture(autouse=True)
def _the_second_look_comes_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_records, "LOOK_AGAIN_SECONDS", 0.1)


def csv_file(*rows: Row, delimiter: str = ",") -> bytes:
    """A CSV file of these rows, the header first."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    return text.getvalue().encode()


def xlsx_file(*rows: Row) -> bytes:
    """A workbook with these rows in its only sheet, as openpyxl writes it."""
    workbook = openpyxl.Workbook()
    for row in rows:
        workbook.worksheets[0].append(list(row))
    return saved(workbook)


def saved(workbook: openpyxl.Workbook) -> bytes:
    file = io.BytesIO()
    workbook.save(file)
    return file.getvalue()


def ndjson_file(*documents: Any) -> bytes:
    """Each document on a line of its own."""
    return b"".join(json.dumps(document).encode() + b"\n" for document in documents)


def people(*numbers: int) -> list[Row]:
    """Rows of good users below their header."""
    return [("name", "email", "age"), *((f"n{number}", f"{number}@example.org", number) for number in numbers)]


async def send(
    client: httpx.AsyncClient,
    content: bytes,
    media_type: str = CSV,
    *,
    path: str = IMPORT,
    headers: Mapping[str, str] | None = None,
    **params: str,
) -> httpx.Response:
    """Send a file as the body."""
    return await client.post(
        path, content=content, params=params, headers={"Content-Type": media_type} | dict(headers or {})
    )


async def imported(client: httpx.AsyncClient, content: bytes, media_type: str = CSV, **params: Any) -> Document:
    """The report of an import that succeeds."""
    response = await send(client, content, media_type, **params)
    assert response.status_code == 200, response.text
    report: Document = response.json()
    return report


def counts(report: Mapping[str, Any]) -> dict[str, int]:
    """How many had which fate, where any had."""
    names = ("rows", "created", "updated", "unchanged", "failed")
    return {name: report[name] for name in names if report[name]}


def faults_of(report: Mapping[str, Any]) -> list[tuple[int, str | None, str]]:
    """Row, column and code of each fault."""
    return [(row["row"], error["column"], error["code"]) for row in report["failed_rows"] for error in row["errors"]]


def refused(response: httpx.Response, status: int, code: str) -> Document:
    """The problem."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: Document = response.json()
    assert problem["code"] == code
    return problem


async def users(client: httpx.AsyncClient, **params: str) -> list[Document]:
    items: list[Document] = (await client.get(USERS, params={"limit": "1000", "sort": "email"} | params)).json()[
        "items"
    ]
    return items


async def records(client: httpx.AsyncClient, **params: str) -> list[Document]:
    response = await client.get(RECORDS, params=params)
    assert response.status_code == 200, response.text
    items: list[Document] = response.json()["items"]
    return items


@pytest.fixture
async def other(services: Services, client: httpx.AsyncClient) -> dict[str, str]:
    """The headers of another caller, with all scopes but the administrator's."""
    await Account(id=PydanticObjectId(OTHER_ID), username="other", password_hash="!", scopes=["*"]).insert()
    token = services.signer.issue(OTHER_ID, "other", "tests", sorted(services.scopes.keys() - {"accounts:admin"}))
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def limited(app: FastAPI, services: Services, client: httpx.AsyncClient) -> Callable[..., httpx.AsyncClient]:
    """Makes a client of a service that has other settings."""

    def with_settings(**changes: Any) -> httpx.AsyncClient:
        settings = services.settings.model_copy(update=changes)
        own = Importer(settings, ImportRecords(settings.import_record_days, settings.operation_timeout_seconds))
        made = client_of(app, replace(services, settings=settings, importer=own))
        made.headers["Authorization"] = client.headers["Authorization"]
        return made

    return with_settings


@pytest.fixture
def remembered(services: Services) -> AsyncCollection[Document]:
    """The records as MongoDB has them."""
    return Import.get_pymongo_collection()


# How a file comes

FILES: Mapping[str, bytes] = {
    "csv": csv_file(*people(1)),
    "ndjson": ndjson_file({"name": "n1", "email": "1@example.org", "age": 1}),
    "xlsx": xlsx_file(*people(1)),
}


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [
        ("csv", "text/csv"),
        ("csv", "Text/CSV; charset=utf-8; header=present"),
        ("csv", ""),
        ("csv", "application/x-www-form-urlencoded"),  # as curl says by itself
        ("ndjson", "application/x-ndjson"),
        ("ndjson", "application/jsonl"),
        ("ndjson", "application/octet-stream"),
        ("xlsx", XLSX),
        ("xlsx", "application/octet-stream"),
    ],
)
async def test_a_file_is_the_body(client: httpx.AsyncClient, kind: str, media_type: str) -> None:
    report = await imported(client, FILES[kind], media_type)

    assert counts(report) == {"rows": 1, "created": 1}
    assert (report["format"], report["filename"]) == (kind, None)
    [user] = await users(client)
    assert (user["name"], user["email"], user["age"], user["revision"]) == ("n1", "1@example.org", 1, 1)


@pytest.mark.parametrize(
    ("kind", "filename", "media_type"),
    [
        ("csv", "users.csv", "text/csv"),
        ("csv", "USERS.CSV", "application/octet-stream"),
        ("csv", "users.txt", "text/plain"),
        ("csv", "users.csv", "application/vnd.ms-excel"),  # as Windows says where Excel is installed
        ("csv", "blob", "application/octet-stream"),
        ("ndjson", "users.jsonl", ""),
        ("xlsx", "users.xlsx", XLSX),
        ("xlsx", "中文 ‘naïve’; \r\n.xlsx", "application/octet-stream"),
        ("xlsx", "users", "application/octet-stream"),
    ],
)
async def test_a_file_is_a_part_of_a_form(client: httpx.AsyncClient, kind: str, filename: str, media_type: str) -> None:
    form = {"file": (filename, FILES[kind], media_type)}

    response = await client.post(IMPORT, files=form)

    assert response.status_code == 200, response.text
    assert counts(response.json()) == {"rows": 1, "created": 1}
    assert response.json()["format"] == kind
    assert response.json()["bytes"] == len(FILES[kind])
    assert response.json()["sha256"] == hashlib.sha256(FILES[kind]).hexdigest()
    assert response.json()["filename"].replace("%0D%0A", "\r\n") == filename


async def test_a_long_file_name_is_cut(client: httpx.AsyncClient) -> None:
    response = await client.post(IMPORT, files={"file": ("x" * 300 + ".csv", FILES["csv"])})

    assert response.json()["filename"] == "x" * 255


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
async def test_delimiter_and_encoding_are_found_out(client: httpx.AsyncClient, delimiter: str, encoding: str) -> None:
    rows = [("name", "email", "profile.bio"), ("小, ;\t|中", "1@example.org", 'of "two"\r\nlines')]
    content = csv_file(*rows, delimiter=delimiter).decode().encode(encoding)

    report = await imported(client, content)

    assert counts(report) == {"rows": 1, "created": 1}
    [user] = await users(client)
    assert (user["name"], user["profile"]["bio"]) == rows[1][::2]


async def test_what_a_query_says_of_the_file_is_heeded(client: httpx.AsyncClient) -> None:
    workbook = openpyxl.Workbook()
    workbook.worksheets[0].append(["nothing", "of", "this"])
    people_sheet = workbook.create_sheet("People")
    for row in people(1):
        people_sheet.append(list(row))

    await imported(client, saved(workbook), XLSX, sheet="People")
    await imported(client, b"email;name\n2@example.org;'=1\n", delimiter="semicolon")
    await imported(client, b"email,name\n3@example.org,'=1\n", raw="true")
    await imported(client, b"email,name,tags\n4@example.org,n,a\n4@example.org,n,b\n", explode="tags", key="email")

    assert [user["name"] for user in await users(client)] == ["n1", "=1", "'=1", "n"]
    assert [user["tags"] for user in await users(client)] == [[], [], [], ["a", "b"]]


# What the answer says


async def test_a_report_says_who_sent_what_and_what_became_of_it(client: httpx.AsyncClient, services: Services) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    content = csv_file(*people(1, 2), ("", "nobody", "-1"))
    query = "on_error=skip&mode=upsert&key=email"

    response = await client.post(
        f"{IMPORT}?{query}",
        files={"file": ("people.csv", content)},
        headers={"X-Request-ID": "the-request", "Idempotency-Key": "the-key"},
    )

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert "idempotency-replayed" not in response.headers
    report = response.json()
    assert report == (await client.get(f"{RECORDS}/{response.headers['import-id']}")).json()
    times = {name: datetime.fromisoformat(report.pop(name)) for name in ("created_at", "updated_at", "ended_at")}
    assert before <= times["created_at"] <= times["ended_at"] <= times["updated_at"] <= datetime.now(UTC)
    kept = datetime.fromisoformat(report.pop("expires_at")) - times["created_at"]
    assert abs(kept - timedelta(days=services.settings.import_record_days)) < timedelta(seconds=1)
    assert 0 < report.pop("seconds") < 60
    [failed] = report.pop("failed_rows")
    assert failed["row"] == 4
    assert {(error["column"], error["code"], error["value"]) for error in failed["errors"]} == {
        ("name", "missing", None),
        ("email", "value_error", "nobody"),
        ("age", "greater_than_equal", "-1"),
    }
    assert report == {
        "id": response.headers["import-id"],
        "type": "users",
        "format": "csv",
        "filename": "people.csv",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "query": query,
        "mode": "upsert",
        "key": "email",
        "sheet": None,
        "on_error": "skip",
        "dry_run": False,
        "account_id": CALLER_ID,
        "account": "tester",
        "request_id": "the-request",
        "idempotency_key": "the-key",
        "state": "complete",
        "rows": 3,
        "created": 2,
        "updated": 0,
        "unchanged": 0,
        "failed": 1,
        "failed_rows_left_out": 0,
        "earlier": None,
        "problem": None,
        "revision": 2,
    }


async def test_a_refusal_has_the_report_in_it(client: httpx.AsyncClient) -> None:
    response = await send(client, csv_file(*people(1), ("n2", "nobody", "2")))

    problem = refused(response, 422, "import_refused")
    assert problem["request_id"] == response.headers["x-request-id"]
    assert problem["detail"] == "1 of 2 rows cannot be imported."
    assert problem["report"]["id"] == response.headers["import-id"]
    assert problem["report"]["state"] == "refused"
    assert counts(problem["report"]) == {"rows": 2, "failed": 1}
    assert faults_of(problem["report"]) == [(3, "email", "value_error")]


async def test_a_fault_names_row_column_code_and_value(client: httpx.AsyncClient) -> None:
    header = ("name", "email", "age", "tags", "profile.birthday", "profile.addresses")
    rows: list[Row] = [
        ("a", "a@example.org", "old", "", "", ""),
        (),
        ("two\nlines", "b@example.org", "7", "x", "", ""),
        ("x" * 201, "c@example.org", "7", "", "", ""),
        ("d", "d@example.org", "7", "", "2026-13-01", '[{"street": "s", "city": 1, "country": "DEU"}]'),
    ]

    response = await send(client, csv_file(header, *rows), on_error="skip")

    report = response.json()
    assert faults_of(report) == [
        (2, "age", "int_parsing"),
        (4, "tags", "invalid_json"),
        (5, "name", "string_too_long"),
        (6, "profile.birthday", "date_parsing"),
        (6, "profile.addresses", "string_type"),
        (6, "profile.addresses", "string_too_long"),
    ]
    errors = [error for row in report["failed_rows"] for error in row["errors"]]
    assert errors[0] == {"column": "age", "code": "int_parsing", "message": "an integer is expected", "value": "old"}
    assert errors[2]["value"] == "x" * 100 + "…"
    assert errors[4]["value"].startswith('[{"street": "s"')


async def test_a_report_lists_a_thousand_rows_and_counts_the_rest(client: httpx.AsyncClient) -> None:
    bad = [("", f"{number}@example.org", 1) for number in range(1100)]

    report = await imported(client, csv_file(*people(1), *bad), on_error="skip")

    assert counts(report) == {"rows": 1101, "created": 1, "failed": 1100}
    assert [row["row"] for row in report["failed_rows"]] == list(range(3, 1003))
    assert report["failed_rows_left_out"] == 100


# Failed rows to correct


@pytest.mark.parametrize("mode", ["create", "upsert"])
async def test_failed_rows_come_as_csv_to_be_corrected_and_sent_back(client: httpx.AsyncClient, mode: str) -> None:
    header = ("name", "email", "age", "tags", "profile.bio")
    good = ("good", "a@example.org", "1", "", "")
    bad = [
        ("=1+1", "nobody", "1", '["a, b"]', 'a "quote"\nand a line'),
        ("'quoted", "b@example.org", "old", "", "中"),
    ]
    options: dict[str, Any] = {"on_error": "skip", "mode": mode} | ({"key": "email"} if mode == "upsert" else {})

    response = await send(client, csv_file(header, good, *bad), headers={"Accept": CSV}, **options)

    assert response.status_code == 200
    assert response.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert response.headers["content-disposition"] == 'attachment; filename="users-failed-rows.csv"'
    assert ObjectId.is_valid(response.headers["import-id"])
    found = list(csv.reader(io.StringIO(response.text, newline="")))
    assert found[0] == [*header, "_errors"]
    assert [row[1:5] for row in found[1:]] == [list(row[1:]) for row in bad]
    assert [row[5].partition(":")[0] for row in found[1:]] == ["email", "age"]
    corrected = response.content.replace(b"nobody", b"n@example.org").replace(b",old,", b",99,")

    again = await send(client, corrected, headers={"Accept": CSV}, **options)

    assert again.text == ",".join([*header, "_errors"]) + "\r\n"
    assert [(user["name"], user["email"], user["age"]) for user in await users(client)] == [
        ("good", "a@example.org", 1),
        ("'quoted", "b@example.org", 99),
        ("=1+1", "n@example.org", 1),
    ]
    assert [(user["profile"] or {}).get("bio") for user in await users(client)] == [None, bad[1][4], bad[0][4]]


async def test_rows_that_fail_again_come_again_with_one_reason(client: httpx.AsyncClient) -> None:
    first = await send(client, csv_file(*people(1), ("n", "nobody", "1")), headers={"Accept": CSV})
    assert first.status_code == 422

    second = await send(client, first.content, headers={"Accept": CSV})

    assert second.status_code == 422
    assert second.text == first.text
    assert await users(client) == []


async def test_failed_rows_of_a_workbook_are_csv_too(client: httpx.AsyncClient) -> None:
    rows = [("name", "email", "age", "profile.birthday"), ("n", "nobody", 7, datetime(2000, 2, 29))]  # noqa: DTZ001 - a sheet knows no zones

    response = await send(client, xlsx_file(*rows), XLSX, headers={"Accept": CSV})

    corrected = response.content.replace(b"nobody", b"n@example.org")
    assert b"n@example.org,7,2000-02-29," in corrected
    assert counts(await imported(client, corrected)) == {"rows": 1, "created": 1}


async def test_all_rows_of_a_document_that_failed_come_back(client: httpx.AsyncClient) -> None:
    header = ("email", "name", "profile.addresses.street", "profile.addresses.city", "profile.addresses.country")
    rows = [
        ("good@example.org", "n", "s", "c", "DE"),
        ("nobody", "n", "first", "c", "DE"),
        ("nobody", "n", "second", "c", "DE"),
    ]

    response = await send(client, csv_file(header, *rows), headers={"Accept": CSV}, on_error="skip")

    corrected = response.content.replace(b"nobody", b"n@example.org")
    assert corrected.count(b"n@example.org") == 2
    report = await imported(client, corrected)
    assert (report["rows"], report["created"]) == (2, 1)
    [_, user] = await users(client)
    assert [place["street"] for place in user["profile"]["addresses"]] == ["first", "second"]


async def test_failed_lines_come_as_they_were(client: httpx.AsyncClient) -> None:
    lines = [b'{"name": "n", "email": "=, \\u4e2d"}', b"{", b'  {"name": 1}']

    response = await send(client, b"\n".join([*lines, b""]), NDJSON, headers={"Accept": CSV})

    found = list(csv.DictReader(io.StringIO(response.text, newline="")))
    assert [row["line"].encode() for row in found] == lines
    assert all(row["_errors"] for row in found)


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "application/problem+json"),
        ("application/json, text/csv;q=0.5", "application/problem+json"),
        ("text/csv;q=0", "application/problem+json"),
        ("text/csv, application/json;q=0.9", "text/csv"),
        ("TEXT/CSV", "text/csv"),
        ("text/csv; charset=utf-8", "text/csv"),
        ("text/csv; header=present; q=0", "application/problem+json"),
    ],
)
async def test_failed_rows_are_csv_for_whoever_prefers_that(
    client: httpx.AsyncClient, accept: str, media_type: str
) -> None:
    response = await send(client, csv_file(*people(1), ("n", "nobody", "1")), headers={"Accept": accept})

    assert response.status_code == 422
    assert response.headers["content-type"].partition(";")[0] == media_type


async def test_a_file_that_cannot_be_read_is_a_problem_for_all(client: httpx.AsyncClient) -> None:
    response = await send(client, b"nonsense\n1\n", headers={"Accept": CSV})

    assert refused(response, 422, "invalid_file")["report"]["failed_rows"] == []


# What is written

CLASHING = csv_file(*people(1, 2), ("again", "1@EXAMPLE.org", 3), ("taken", "taken@example.org", 4))
"""Of which the third row is the first one's twin, and the fourth a document's."""


@pytest.fixture
async def _taken(client: httpx.AsyncClient) -> None:
    assert (await client.post(USERS, json={"name": "first", "email": "taken@example.org"})).status_code == 201


@pytest.mark.usefixtures("_taken")
async def test_nothing_is_written_unless_every_row_is_good(client: httpx.AsyncClient) -> None:
    before = await users(client)

    problem = refused(await send(client, CLASHING), 422, "import_refused")

    assert counts(problem["report"]) == {"rows": 4, "failed": 2}
    assert faults_of(problem["report"]) == [(4, "email", "duplicate_value"), (5, "email", "duplicate_value")]
    messages = [row["errors"][0]["message"] for row in problem["report"]["failed_rows"]]
    assert messages == ["row 2 has this value", "another document has this value"]
    assert await users(client) == before


@pytest.mark.usefixtures("_taken")
async def test_with_skip_the_good_rows_are_written(client: httpx.AsyncClient) -> None:
    report = await imported(client, CLASHING, on_error="skip")

    assert counts(report) == {"rows": 4, "created": 2, "failed": 2}
    assert faults_of(report) == [(4, "email", "duplicate_value"), (5, "email", "duplicate_value")]
    assert [user["name"] for user in await users(client)] == ["n1", "n2", "first"]


@pytest.mark.usefixtures("_taken")
@pytest.mark.parametrize("mode", ["create", "upsert"])
@pytest.mark.parametrize("on_error", ["abort", "skip"])
async def test_a_dry_run_reports_what_would_be_and_writes_nothing(
    client: httpx.AsyncClient, mode: str, on_error: str
) -> None:
    before = await users(client)
    options: dict[str, Any] = {"mode": mode, "on_error": on_error} | ({"key": "email"} if mode == "upsert" else {})

    foreseen = await imported(client, CLASHING, dry_run="true", **options)

    assert foreseen["dry_run"] is True
    assert foreseen["state"] == "complete"
    assert await users(client) == before
    done = (await send(client, CLASHING, **options)).json()
    if on_error == "skip":
        assert counts(done) == counts(foreseen)
        assert faults_of(done) == faults_of(foreseen)
        assert done["earlier"] is None  # a dry run has done nothing
    else:
        assert faults_of(done["report"]) == faults_of(foreseen)


async def test_an_upsert_changes_what_the_file_has_and_counts_the_rest(client: httpx.AsyncClient) -> None:
    full = {"name": "a", "email": "a@example.org", "age": 1, "tags": ["t"], "profile": {"bio": "b", "phone": "1"}}
    for name in "abc":
        assert (await client.post(USERS, json=full | {"name": name, "email": f"{name}@example.org"})).status_code == 201
    before = await users(client)
    rows = [
        ("email", "age", "profile.bio"),
        ("A@example.org", 2, "b"),  # changed
        ("b@example.org", 1, "b"),  # the same
        ("c@example.org", "", ""),  # emptied
    ]

    report = await imported(client, csv_file(*rows), mode="upsert", key="email")

    assert counts(report) == {"rows": 3, "updated": 2, "unchanged": 1}
    after = await users(client)
    assert [user["revision"] for user in after] == [2, 1, 2]
    assert after[1] == before[1]
    own = [{name: user[name] for name in full} for user in after]
    profiles = [user["profile"] for user in before]
    assert own[0] == full | {"age": 2, "email": "a@example.org", "profile": profiles[0]}
    emptied = {"age": None, "profile": profiles[2] | {"bio": None}}
    assert own[2] == full | {"name": "c", "email": "c@example.org"} | emptied
    assert [user["created_at"] for user in after] == [user["created_at"] for user in before]
    assert after[0]["updated_at"] > before[0]["updated_at"]


async def test_an_upsert_creates_what_is_not_there(client: httpx.AsyncClient) -> None:
    given = "0123456789abcdef01234567"
    rows = [("id", "name", "email"), (given, "given", "1@example.org"), ("", "new", "2@example.org")]

    report = await imported(client, csv_file(*rows), mode="upsert")

    assert counts(report) == {"rows": 2, "created": 2}
    assert {user["name"]: user["id"] == given for user in await users(client)} == {"given": True, "new": False}
    incomplete = await send(client, csv_file(("email", "age"), ("3@example.org", 3)), mode="upsert", key="email")
    assert faults_of(refused(incomplete, 422, "import_refused")["report"]) == [(2, "name", "missing")]


async def test_a_row_of_an_upsert_needs_its_key(client: httpx.AsyncClient) -> None:
    rows = [("email", "name"), ("", "a"), ("b@example.org", "b"), ("b@example.org", "c")]
    by_email = await imported(client, csv_file(*rows), mode="upsert", key="email", on_error="skip")
    by_id = await imported(
        client, csv_file(("id", "name", "email"), ("1", "a", "a@example.org")), mode="upsert", on_error="skip"
    )

    assert faults_of(by_email) == [(2, "email", "missing_key"), (4, "email", "duplicate_value")]
    assert faults_of(by_id) == [(2, "id", "invalid_key_value")]
    without = refused(await send(client, csv_file(*people(1)), mode="upsert"), 422, "invalid_file")
    assert [(fault["code"], fault["column"]) for fault in without["errors"]] == [("missing_column", "id")]


async def test_a_created_document_has_an_id_of_its_own_and_the_servers_fields(client: httpx.AsyncClient) -> None:
    forged = ("0123456789abcdef01234567", "2000-01-01", "never", "99")
    rows = [("id", "created_at", "updated_at", "revision", "name", "email"), (*forged, "n", "n@example.org")]

    await imported(client, csv_file(*rows))

    [user] = await users(client)
    assert user["id"] != forged[0]
    assert (user["revision"], user["created_at"]) == (1, user["updated_at"])
    assert user["created_at"] > "2026"


@pytest.fixture
async def _no_two_of_an_age(services: Services) -> AsyncIterator[None]:
    """An index that somebody made by hand, so that nobody foresees what it refuses."""
    collection = User.get_pymongo_collection()
    name = await collection.create_index("age", unique=True, partialFilterExpression={"age": {"$gt": 0}})
    yield
    await collection.drop_index(name)


@pytest.mark.usefixtures("_no_two_of_an_age")
async def test_what_nobody_foresaw_is_reported_with_what_was_written(client: httpx.AsyncClient) -> None:
    late = [(f"n{number}", f"{number}@example.org", 0) for number in range(10, 1510)]
    content = csv_file(*people(1, 2), ("twin", "twin@example.org", 1), *late)

    problem = refused(await send(client, content), 409, "import_broken_off")

    report = problem["report"]
    assert report["state"] == "failed"
    assert faults_of(report) == [(4, "age", "duplicate_value")]
    assert report["created"] == await User.count() > 0
    assert report["created"] + report["failed"] < report["rows"] == 1503  # no more was written after that


# Sent twice, done once


async def test_a_request_with_a_key_is_done_once(client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "abc"}
    first = await send(client, FILES["csv"], headers=key)

    again = await send(client, FILES["csv"], headers=key)

    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json() == first.json()
    assert again.headers["import-id"] == first.headers["import-id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert len(await users(client)) == 1
    assert len(await records(client)) == 1


async def test_a_refusal_is_repeated_too(client: httpx.AsyncClient) -> None:
    content, key = csv_file(*people(1), ("n", "nobody", "1")), {"Idempotency-Key": "abc"}
    first = await send(client, content, headers=key)

    again = await send(client, content, headers=key)
    table = await send(client, content, headers=key | {"Accept": CSV})

    assert again.headers["idempotency-replayed"] == table.headers["idempotency-replayed"] == "true"
    assert again.json() | {"request_id": None} == first.json() | {"request_id": None}
    assert table.text.startswith("name,email,age,_errors\r\nn,nobody,1,")


async def test_another_request_with_the_same_key_is_refused(client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "abc"}
    await send(client, FILES["csv"], headers=key)

    other_file = await send(client, csv_file(*people(2)), headers=key)
    other_query = await send(client, FILES["csv"], headers=key, on_error="skip")
    other_type = await send(client, FILES["csv"], path="/api/v1/items/import", headers=key)

    for response in (other_file, other_query, other_type):
        refused(response, 422, "idempotency_key_reused")
        assert "import-id" not in response.headers
    assert len(await users(client)) == 1
    assert len(await records(client)) == 1


async def test_a_key_is_its_callers_own(client: httpx.AsyncClient, other: dict[str, str]) -> None:
    mine = await send(client, FILES["csv"], headers={"Idempotency-Key": "abc"})
    theirs = await send(client, csv_file(*people(2)), headers=other | {"Idempotency-Key": "abc"})

    assert theirs.status_code == 200
    assert theirs.headers["import-id"] != mine.headers["import-id"]


async def test_a_key_is_forgotten_after_a_day(client: httpx.AsyncClient, remembered: AsyncCollection[Document]) -> None:
    key = {"Idempotency-Key": "abc"}
    await send(client, FILES["csv"], headers=key)
    for age, is_replayed in ((timedelta(hours=23), True), (timedelta(hours=25), False)):
        await remembered.update_one({}, {"$set": {"created_at": datetime.now(UTC) - age}})

        response = await send(client, FILES["csv"], headers=key)

        assert (response.headers.get("idempotency-replayed") == "true") is is_replayed
    assert response.status_code == 422  # as its rows are there
    assert len(await users(client)) == 1


@pytest.mark.parametrize("key", ["", "a b", "中", "x" * 256])
async def test_a_key_that_is_none_is_refused(client: httpx.AsyncClient, key: str) -> None:
    response = await client.post(IMPORT, content=FILES["csv"], headers=[(b"Idempotency-Key", key.encode())])

    refused(response, 400, "invalid_header")
    assert await records(client) == []


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "abc"}])
async def test_one_file_at_a_time(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answers = await asyncio.gather(*(send(client, FILES["csv"], headers=headers) for _ in range(2)))

    done, running = sorted(answers, key=lambda answer: answer.status_code)
    assert done.status_code == 200
    refused(running, 409, "import_running")
    assert int(running.headers["retry-after"]) > 0
    assert len(await users(client)) == 1
    assert len(await records(client)) == 1


async def test_a_report_says_when_the_same_file_came_before(client: httpx.AsyncClient) -> None:
    first = await imported(client, FILES["csv"])

    problem = refused(await send(client, FILES["csv"]), 422, "import_refused")

    assert problem["report"]["earlier"] == {
        "id": first["id"],
        "created_at": first["created_at"],
        "state": "complete",
        "created": 1,
        "updated": 0,
        "unchanged": 0,
        "failed": 0,
    }
    assert faults_of(problem["report"]) == [(2, "email", "duplicate_value")]
    another = await imported(client, csv_file(*people(2)))
    assert another["earlier"] is None


@pytest.mark.parametrize("options", [{}, {"on_error": "skip"}, {"mode": "upsert", "key": "email"}])
async def test_a_file_whose_import_died_goes_on_where_that_ended(
    client: httpx.AsyncClient, remembered: AsyncCollection[Document], options: dict[str, str]
) -> None:
    content = csv_file(*people(*range(1, 11)))
    first = await imported(client, content, **options)
    before = await users(client)
    # As SIGKILL would leave it: some rows are written, and the record gives no sign of life.
    await User.get_pymongo_collection().delete_many({"age": {"$gt": 4}})
    silent = {
        "state": "running",
        "updated_at": datetime.now(UTC) - timedelta(minutes=1),
        "lock": f"users {first['sha256']}",
    }
    await remembered.update_one({}, {"$set": silent})

    report = await imported(client, content, **options)

    assert counts(report) == {"rows": 10, "created": 6, "unchanged": 4}
    assert (report["earlier"]["id"], report["earlier"]["state"]) == (first["id"], "failed")
    assert [user["id"] for user in await users(client)] == [user["id"] for user in before]
    assert (await client.get(f"{RECORDS}/{first['id']}")).json()["state"] == "failed"


@pytest.mark.parametrize(
    ("ended", "state", "code"),
    [(Ended("complete", {}), "running", "internal_error"), (None, "failed", "import_killed")],
    ids=["it says that it has ended", "it says nothing"],
)
async def test_an_import_of_which_nothing_is_known_is_no_success(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, ended: Ended | None, state: str, code: str
) -> None:
    async def vanish(*_arguments: object) -> Ended | None:
        return ended

    monkeypatch.setattr(importer, "run_in_process", vanish)

    with capture_logs() as lines:
        response = await send(client, FILES["csv"])

    problem = refused(response, 500, code)
    if code == "import_killed":
        assert problem["report"]["id"] == response.headers["import-id"]
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["request failed"]
    assert [record["state"] for record in await records(client)] == [state]


# How much, how many


async def test_a_file_that_is_too_large_is_refused_before_its_end(limited: Callable[..., httpx.AsyncClient]) -> None:
    async with limited(import_max_bytes=1024) as client:
        whole = await send(client, FILES["csv"].ljust(1024, b"\n"))
        declared = await send(client, FILES["csv"].ljust(1025, b"\n"))
        form = await client.post(IMPORT, files={"file": ("users.csv", b" " * 1024)})
        chunks = await client.post(IMPORT, content=endless(), headers={"Content-Type": CSV})

        assert whole.status_code == 200
        for response in (declared, form, chunks):
            refused(response, 413, "body_too_large")
            assert response.headers["connection"] == "close"
        assert len(await records(client)) == 1


async def endless() -> Any:
    """A body without length, and without end."""
    while True:
        yield b"x" * 100


@pytest.mark.parametrize("kind", ["csv", "ndjson", "xlsx"])
async def test_too_many_rows_are_refused_and_none_is_written(
    limited: Callable[..., httpx.AsyncClient], kind: str
) -> None:
    rows = people(1, 2, 3, 4)
    files = {
        "csv": csv_file(*rows),
        "ndjson": ndjson_file(*(dict(zip(rows[0], row, strict=True)) for row in rows[1:])),
        "xlsx": xlsx_file(*rows),
    }
    media_types = {"csv": CSV, "ndjson": NDJSON, "xlsx": XLSX}
    async with limited(import_max_rows=3) as client:
        problem = refused(await send(client, files[kind], media_types[kind]), 422, "invalid_file")

        [fault] = problem["errors"]
        assert (fault["code"], fault["row"]) == ("too_many_rows", 4 if kind == "ndjson" else 5)
        assert await users(client) == []


async def test_more_imports_than_may_run_are_told_to_come_back(limited: Callable[..., httpx.AsyncClient]) -> None:
    async with limited(imports_at_once=1) as client:
        answers = await asyncio.gather(*(send(client, csv_file(*people(number))) for number in (1, 2)))

        done, told = sorted(answers, key=lambda answer: answer.status_code)
        assert done.status_code == 200
        refused(told, 429, "too_many_imports")
        assert int(told.headers["retry-after"]) > 0
        assert len(await records(client)) == 1
        for status, content in ((422, b"nonsense\n1\n"), (200, csv_file(*people(3)))):  # each made room again
            assert (await send(client, content)).status_code == status


# What is remembered, and for whom


async def test_a_caller_sees_their_own_imports(
    client: httpx.AsyncClient, other: dict[str, str], as_caller: Callable[[Iterable[str]], None]
) -> None:
    own = (await imported(client, FILES["csv"]))["id"]
    theirs = (await send(client, b"nonsense\n1\n", headers=other)).headers["import-id"]

    assert [record["id"] for record in await records(client)] == [own, theirs]  # as an administrator
    assert [record["id"] for record in await records(client, account="other")] == [theirs]
    as_caller(["users:read"])
    assert [record["id"] for record in await records(client)] == [own]
    assert await records(client, account="other") == []
    assert (await client.get(f"{RECORDS}/{own}")).status_code == 200
    refused(await client.get(f"{RECORDS}/{theirs}"), 404, "not_found")


async def test_records_are_listed_without_their_rows(client: httpx.AsyncClient) -> None:
    done = await imported(client, FILES["csv"])
    failed = (await send(client, csv_file(*people(2), ("n", "nobody", 1)))).json()["report"]

    items = await records(client, sort="-id")

    assert [item["id"] for item in items] == [failed["id"], done["id"]]
    assert all({"failed_rows", "problem"}.isdisjoint(item) for item in items)
    assert [record["id"] for record in await records(client, state="refused", failed__gte="1")] == [failed["id"]]
    for record_id in (done["id"], failed["id"]):
        record = (await client.get(f"{RECORDS}/{record_id}")).json()
        assert bool(record["failed_rows"]) == bool(record["problem"]) == (record_id == failed["id"])
        inside = {"seed", "lock", "request_key", "fingerprint", "failed_table"}
        assert inside.isdisjoint(record)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_records_are_the_services_own(client: httpx.AsyncClient, method: str) -> None:
    for path in (RECORDS, f"{RECORDS}/{'0' * 24}"):
        assert (await client.request(method, path, json={})).status_code == 405


async def test_nobody_imports_without_the_scope(
    client: httpx.AsyncClient, services: Services, as_caller: Callable[[Iterable[str]], None]
) -> None:
    as_caller(sorted(services.scopes.keys() - {"users:write"}))
    for response in (await send(client, FILES["csv"]), await client.get(f"{IMPORT}/template/csv")):
        refused(response, 403, "insufficient_scope")
        assert 'scope="users:write"' in response.headers["www-authenticate"]
    del client.headers["Authorization"]
    for response in (
        await send(client, FILES["csv"]),
        await client.get(f"{IMPORT}/template/csv"),
        await client.get(RECORDS),
    ):
        refused(response, 401, "not_authenticated")

    as_caller(["users:write"])
    assert (await send(client, FILES["csv"])).status_code == 200
    assert len(await records(client)) == 1


# Templates


@pytest.mark.parametrize(("kind", "media_type"), [("csv", CSV), ("xlsx", XLSX)])
async def test_a_template_that_is_filled_in_is_imported(client: httpx.AsyncClient, kind: str, media_type: str) -> None:
    response = await client.get(f"{IMPORT}/template/{kind}")

    assert response.status_code == 200
    assert response.headers["content-type"].partition(";")[0] == media_type
    assert response.headers["content-disposition"] == f'attachment; filename="users-template.{kind}"'
    assert counts(await imported(client, response.content, media_type)) == {"rows": 1, "created": 1}
    assert [user["name"] for user in await users(client)] == ["Ada Lovelace"]
    filled = {"name": "Grace", "email": "grace@example.org", "profile.bio": "=1", "profile.birthday": "1906-12-09"}
    assert counts(await imported(client, filled_in(response.content, kind, filled), media_type)) == {
        "rows": 1,
        "created": 1,
    }
    [user] = await users(client, name="Grace")
    assert (user["name"], user["age"], user["profile"]["bio"]) == ("Grace", None, "=1")
    assert user["profile"]["birthday"] == "1906-12-09"


def filled_in(template: bytes, kind: str, filled: Mapping[str, str]) -> bytes:
    """The template with one other row below its header."""
    if kind == "csv":
        header = next(csv.reader(io.StringIO(template.decode("utf-8-sig"))))
        return csv_file(header, [filled.get(name, "") for name in header])
    workbook = openpyxl.load_workbook(io.BytesIO(template))
    sheet = workbook.worksheets[0]
    for column, name in enumerate([cell.value for cell in sheet[1]], start=1):
        cell = sheet.cell(2, column)
        cell.value = filled.get(str(name))
        if cell.value is not None:
            cell.data_type = "s"
    return saved(workbook)


async def test_there_are_templates_of_two_kinds(client: httpx.AsyncClient) -> None:
    for name in ("parquet", "CSV", "ndjson"):
        refused(await client.get(f"{IMPORT}/template/{name}"), 404, "not_found")


# What is asked


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("mode=replace", "mode"),
        ("mode=upsert&key=name", "key"),
        ("key=nonsense", "key"),
        ("key=", "key"),
        ("on_error=ignore", "on_error"),
        ("dry_run=yes", "dry_run"),
        ("dry_run=true&dry_run=true", "dry_run"),
        ("explode=name", "explode"),
        ("delimiter=%2C", "delimiter"),
        ("name=n", "name"),
        ("raw=%FF", "raw"),
        ("nonsense=1", "nonsense"),
    ],
)
async def test_a_query_that_is_not_understood_is_refused(client: httpx.AsyncClient, query: str, parameter: str) -> None:
    response = await client.post(f"{IMPORT}?{query}", content=FILES["csv"], headers={"Content-Type": CSV})

    problem = refused(response, 400, "invalid_query")
    assert [fault["parameter"] for fault in problem["errors"]] == [parameter]
    assert "import-id" not in response.headers
    assert await records(client) == []
    assert await users(client) == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json"},
        {"Content-Type": "application/pdf"},
        {"Content-Type": CSV, "Content-Encoding": "gzip"},
    ],
)
async def test_other_media_types_are_refused(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    response = await client.post(IMPORT, content=FILES["csv"], headers=headers)

    refused(response, 415, "unsupported_media_type")
    assert ("accept" in response.headers) == ("Content-Encoding" not in headers)
    assert await records(client) == []


async def test_a_file_on_its_way_has_no_name_that_a_kill_could_leave(
    client: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    named: list[bool] = []

    async def content() -> AsyncIterator[bytes]:
        yield csv_file(("name", "email"))
        for number in range(3):
            yield csv_file(*((f"n{number}-{row}", f"{number}-{row}@example.org") for row in range(1000)))
            yield b" " * uploads.WRITE_BYTES + b"\r\n"  # so that it is written down
            named.append(any(tmp_path.iterdir()))  # noqa: ASYNC240 - it has nothing else to do

    response = await client.post(f"{IMPORT}?dry_run=true", content=content(), headers={"Content-Type": CSV})

    assert response.status_code == 200, response.text
    assert named == [False] * 3


async def test_where_open_files_have_no_address_a_file_has_a_name_while_it_is_imported(
    client: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(uploads, "OPEN_FILES", tmp_path / "fd")
    named: list[bool] = []

    async def content() -> AsyncIterator[bytes]:
        yield csv_file(*people(1, 2))
        named.append(any(tmp_path.iterdir()))  # noqa: ASYNC240 - it has nothing else to do

    response = await client.post(IMPORT, content=content(), headers={"Content-Type": CSV})

    assert response.status_code == 200, response.text
    assert response.json()["created"] == 2
    assert named == [True]
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240 - likewise


async def test_an_import_is_counted_with_what_became_of_its_rows(client: httpx.AsyncClient) -> None:
    kind = {"type": "users", "format": "csv"}
    fates = ("created", "failed")
    before = [value_of("dossier_import_rows_total", **kind, fate=fate) for fate in fates]
    content = "name,email\nAda,ada@example.org\nGrace,grace@example.org\nBad,no address\n"

    for parameters in ({"on_error": "skip"}, {"dry_run": "true"}):
        response = await client.post(
            "/api/v1/users/import", params=parameters, content=content, headers={"Content-Type": "text/csv"}
        )
        assert response.status_code == 200, response.text

    after = [value_of("dossier_import_rows_total", **kind, fate=fate) for fate in fates]
    assert [now - was for now, was in zip(after, before, strict=True)] == [2, 1]
    for dry_run in ("true", "false"):
        assert value_of("dossier_import_duration_seconds_count", **kind, dry_run=dry_run, state="complete") >= 1
    assert value_of("dossier_imports_running") == 0
