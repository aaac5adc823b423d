"""Workbooks in the spreadsheet that people have."""

import csv
import io
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.acceptance.process import Home, Service

pytestmark = pytest.mark.slow  # an office starts

SAMPLES = 300
CSV_OF_ALL_SHEETS = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,false,false,false,-1"
"""Commas, quotes, UTF-8, from the first line, as shown on the screen, and a file for each sheet."""

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

HOSTILE = [
    *("=1+1", '=HYPERLINK("http://example.org")', "+1", "-1", "@SUM(A1)", "'", "'=1", "{=1}", "=cmd|' /C calc'!A0"),
    *("1", "007", "1e5", "1,5", "TRUE", "#N/A", "2026-01-01", "12:30", "50%", "€ 5", "1/2"),
    *("two\nlines", "a\ttab", ' "quoted" ', "a,b;c", "  spaces  ", "<b>&amp;</b>", "]]>", "_x0041_", "_x000D_"),
    *("😀", "小中", "ا", "e\u0301", "\u200b", "x" * 200),
]
ITEMS: list[dict[str, Any]] = [
    {"price": "9999999999.99", "stock": 1_000_000_000, "released_on": "1900-03-01"},
    {"price": "0.01", "stock": 0, "released_on": "1900-02-28", "is_available": False},
    {"price": "1234567.1", "stock": 7, "released_on": "9999-12-31", "description": "=1", "tags": ["=1", '"', ","]},
    {"price": "100", "stock": 7, "released_on": "0001-01-01", "description": None, "tags": []},
]


@pytest.fixture(scope="module")
def office() -> str:
    """The program of LibreOffice; nothing else opens a workbook as people's spreadsheets do."""
    found = shutil.which("soffice") or shutil.which("libreoffice")
    if found is None:
        pytest.skip("LibreOffice is not installed: no soffice and no libreoffice on the PATH")
    return found


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One with samples, and with texts and numbers that a spreadsheet might take for something else."""
    home = Home(tmp_path_factory.mktemp("home"))
    try:
        service = home.start("--sample", str(SAMPLES))
        service.http.headers["Authorization"] = f"Bearer {service.token()}"
        for number, text in enumerate(HOSTILE):
            user = {
                "name": text,
                "email": f"hostile{number}@example.org",
                "tags": [text[:50]],
                "profile": {"bio": text},
            }
            assert service.http.post("/api/v1/users", json=user).status_code == 201
        for number, item in enumerate(ITEMS):
            whole = {"sku": f"X-{number}", "title": "t", **item}
            assert service.http.post("/api/v1/items", json=whole).status_code == 201
        yield service
    finally:
        home.close()


def listed(service: Service, name: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = service.http.get(f"/api/v1/{name}", params={"limit": "1000"}).json()["items"]
    return items


def sheets_of(office: str, directory: Path, content: bytes) -> dict[str, list[list[str]]]:
    """What each sheet shows."""
    convert(office, directory, content, CSV_OF_ALL_SHEETS)
    return {
        path.stem.removeprefix("file-"): list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))
        for path in (directory / "converted").glob("file-*.csv")
    }


def convert(office: str, directory: Path, content: bytes, target: str) -> None:
    """What it makes of a workbook, in a folder of its own."""
    workbook = directory / "file.xlsx"
    workbook.write_bytes(content)
    profile = f"-env:UserInstallation=file://{directory}/profile"
    command = [office, "--headless", "--norestore", profile, "--convert-to", target, "--outdir", "converted"]
    converted = subprocess.run(
        [*command, str(workbook)], check=False, cwd=directory, capture_output=True, text=True, timeout=120
    )
    assert converted.returncode == 0, converted.stderr


def shown(value: Any, path: str) -> str:
    """What a cell shows of a value that the API lists."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, list | dict):
        return orjson.dumps(value).decode()
    if path in {"created_at", "updated_at"}:
        return str(value).replace("T", " ").removesuffix("Z")
    if path == "price":
        return str(value).rstrip("0").rstrip(".") if "." in str(value) else str(value)
    return str(value)


def value_at(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


@pytest.mark.parametrize(("name", "hostile"), [("users", len(HOSTILE)), ("items", len(ITEMS))])
def test_a_workbook_shows_what_the_api_lists(
    office: str, service: Service, tmp_path: Path, name: str, hostile: int
) -> None:
    documents = listed(service, name)
    assert len(documents) == SAMPLES + hostile
    response = service.http.get(f"/api/v1/{name}/export/xlsx?sort=id")

    sheets = sheets_of(office, tmp_path, response.content)

    assert set(sheets) == {name, "About this file"}
    header, *rows = sheets[name]
    assert len(rows) == len(documents)
    for document, row in zip(documents, rows, strict=True):
        assert dict(zip(header, row, strict=True)) == {path: shown(value_at(document, path), path) for path in header}
    about = {row[0]: row[1] for row in sheets["About this file"]}
    assert about.pop("Started (UTC)")
    assert about == {
        "Asked for": f"{name}, xlsx, sort=id",
        "By": "admin",
        "Rows": str(len(documents)),
        "Cells cut": "0",
        "Complete": "yes",
    }


@pytest.mark.parametrize(("name", "key"), [("users", "email"), ("items", "sku"), ("users", "id")])
def test_a_workbook_that_was_opened_and_saved_changes_nothing(
    office: str, service: Service, tmp_path: Path, name: str, key: str
) -> None:
    documents = listed(service, name)
    exported = service.http.get(f"/api/v1/{name}/export/xlsx").content
    convert(office, tmp_path, exported, "xlsx:Calc MS Excel 2007 XML")
    saved = (tmp_path / "converted" / "file.xlsx").read_bytes()
    assert saved != exported

    answer = service.http.post(
        f"/api/v1/{name}/import?mode=upsert&key={key}", content=saved, headers={"Content-Type": XLSX}
    )

    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert (report["rows"], report["unchanged"]) == (len(documents), len(documents))
    assert listed(service, name) == documents
