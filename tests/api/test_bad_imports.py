"""Files that are not what they should be: each is refused with a stable code and its place, and nothing is written."""

import gzip
import io
import json
import random
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import openpyxl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from openpyxl.utils import get_column_letter
from pyarrow import parquet

from service.documents.user import User
from service.transfer.decoding import MAX_CELL_LENGTH, MAX_COLUMNS
from service.transfer.ndjson_reader import MAX_LINE_BYTES
from tests.api.test_imports import (
    CSV,
    FILES,
    IMPORT,
    NDJSON,
    XLSX,
    counts,
    csv_file,
    faults_of,
    imported,
    ndjson_file,
    people,
    records,
    refused,
    saved,
    send,
    users,
    xlsx_file,
)
from tests.everything import Everything
from tests.unit.made_up_workbooks import HEADER, SHARED, SHEET, by_hand, parts_of, sheet_xml, zipped

EVERYTHINGS = "/api/v1/everythings/import"
MEDIA_TYPES: Mapping[str, str] = {"csv": CSV, "ndjson": NDJSON, "xlsx": XLSX}
OPERATORS = ['{"$ne": null}', '{"$gt": ""}', "[$ne]", "$$ROOT", '{"$where": "sleep(1000)"}', "true, $or: [{}]"]

Document = dict[str, Any]
Make = Callable[[], bytes]


async def nothing_is_written() -> bool:
    return all([await cls.get_pymongo_collection().count_documents({}) == 0 for cls in (User, Everything)])


# What cannot be read as a whole


def other_zip(*names: str) -> bytes:
    return zipped(dict.fromkeys(names, "<a/>"))


def parquet_file() -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.table({"name": ["n"]}), file)
    return file.getvalue()


def encrypted_zip() -> bytes:
    """Its members say that they are encrypted, as what old programs protect by a password."""
    content = bytearray(FILES["xlsx"])
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(signature)
        while place >= 0:
            content[place + flags] |= 1
            place = content.find(signature, place + 4)
    return bytes(content)


def zip_of_zips() -> bytes:
    """A workbook whose sheet is a bomb in a bomb."""
    bomb = bytes(2**20)
    for _ in range(4):
        bomb = zipped({f"{number}.zip": bomb for number in range(10)})
    return by_hand(others={SHEET: bomb})


def unfolding() -> bytes:
    """Half a gigabyte of one character in a cell."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts_of().items():
            if name != SHEET:
                archive.writestr(name, part)
        with archive.open(SHEET, "w") as member:
            member.write(sheet_xml(HEADER).partition("</sheetData>")[0].encode())
            member.write(b'<row><c t="str"><v>')
            for _ in range(512):
                member.write(b"x" * 2**20)
    return file.getvalue()


def xlsx_of_cells(*rows: str) -> bytes:
    """A workbook with these cells, written by hand, below a header of users."""
    header = "".join(f'<c t="str"><v>{name}</v></c>' for name in people()[0])
    return by_hand("".join(f"<row>{cells}</row>" for cells in (header, *rows)))


def lying_about_its_size() -> bytes:
    """Its list of members says that one of them is of 5 GB."""
    content = bytearray(by_hand())
    place = content.index(b"PK\x01\x02")
    content[place + 24 : place + 28] = (0xFFFFFFF0).to_bytes(4, "little")
    return bytes(content)


LAUGHS = (
    '<!DOCTYPE lolz [<!ENTITY a "lol">'
    + "".join(f'<!ENTITY {name} "{f"&{inner};" * 10}">' for inner, name in zip("abcdefghi", "bcdefghij", strict=True))
    + "]>"
)

UNREADABLE: Mapping[str, tuple[str, Make | bytes, str, int | None, str | None]] = {
    "an empty file": ("csv", b"", "empty_file", None, None),
    "nothing but line breaks": ("csv", b"\xef\xbb\xbf\r\n\r\n", "empty_file", None, None),
    "a quote never closed": ("csv", b'name,email\n"n,1@example.org\nm,2@example.org\n', "unclosed_quote", 2, None),
    "a quote within a cell": ("csv", b'name,email\n"n"m,1@example.org\n', "misplaced_quote", 2, None),
    "cut off in mid-row": ("csv", b"name,email\nn,1@example.org\nm", "file_cut_off", 3, None),
    "cut off in a character": ("csv", "name,email\nn,1@example.org\n中".encode()[:-1], "file_cut_off", None, None),
    "Latin-1": ("csv", "name,email\nné,1@example.org\n".encode("latin-1"), "not_utf8", None, None),
    "Windows-1252 in the header": ("csv", "name,email,é\n".encode("cp1252"), "not_utf8", None, None),
    "a row of 10 MB": ("csv", lambda: b"name,email\n" + b"x" * 10**7 + b"\n", "row_too_long", 2, None),
    "a cell of 10 MB in lines": (
        "csv",
        lambda: b'name,email\n"' + (b"x" * 999 + b"\n") * 10_000 + b'",1\n',
        "cell_too_long",
        2,
        None,
    ),
    "20,000 columns": (
        "csv",
        lambda: ",".join(f"c{number}" for number in range(20_000)).encode() + b"\n",
        "too_many_columns",
        1,
        None,
    ),
    "a row of 20,000 cells": (
        "csv",
        lambda: b"name,email\n" + b"n," * 20_000 + b"n\n",
        "too_many_columns",
        2,
        None,
    ),
    "an old workbook as CSV": ("csv", bytes.fromhex("d0cf11e0a1b11ae1") + bytes(504), "unknown_format", None, None),
    "PDF as CSV": ("csv", b"%PDF-1.7\n", "unknown_format", None, None),
    "gzip as CSV": ("csv", gzip.compress(FILES["csv"]), "unknown_format", None, None),
    "PNG as CSV": ("csv", b"\x89PNG\r\n\x1a\n" + bytes(100), "unknown_format", None, None),
    "Parquet as CSV": ("csv", parquet_file, "unknown_format", None, None),
    "a web page as CSV": ("csv", b"<!DOCTYPE html><table>", "unknown_format", None, None),
    "a workbook as CSV": ("csv", FILES["xlsx"], "not_what_it_says", None, None),
    "CSV as a workbook": ("xlsx", FILES["csv"], "not_what_it_says", None, None),
    "NDJSON as CSV": ("csv", FILES["ndjson"], "not_what_it_says", None, None),
    "an old workbook renamed": ("xlsx", bytes.fromhex("d0cf11e0a1b11ae1") + bytes(504), "unknown_format", None, None),
    "a Word document": ("xlsx", other_zip("_rels/.rels", "word/document.xml"), "not_a_workbook", None, None),
    "a binary workbook": ("xlsx", other_zip("_rels/.rels", "xl/workbook.bin"), "not_a_workbook", None, None),
    "an OpenDocument sheet": ("xlsx", other_zip("mimetype", "content.xml"), "not_a_workbook", None, None),
    "any other zip": ("xlsx", other_zip("users.csv"), "not_a_workbook", None, None),
    "a workbook cut short": ("xlsx", FILES["xlsx"][:-100], "not_a_workbook", None, None),
    "a workbook with a password": ("xlsx", encrypted_zip, "encrypted_file", None, None),
    "a workbook without rows": ("xlsx", lambda: saved(openpyxl.Workbook()), "empty_file", None, None),
    "billion laughs in a sheet": (
        "xlsx",
        lambda: by_hand(others={SHEET: f'<?xml version="1.0"?>{LAUGHS}{sheet_xml("<row><c>&j;</c></row>")}'}),
        "broken_file",
        None,
        None,
    ),
    "billion laughs in shared texts": (
        "xlsx",
        lambda: by_hand(others={SHARED: f'<?xml version="1.0"?>{LAUGHS}<sst><si><t>&j;</t></si></sst>'}),
        "broken_file",
        None,
        None,
    ),
    "a zip in a zip": ("xlsx", zip_of_zips, "broken_file", None, None),
    "a cell of 10 MB": (
        "xlsx",
        lambda: xlsx_of_cells(f'<c t="str"><v>{"x" * 10**7}</v></c>'),
        "cell_too_long",
        2,
        "A",
    ),
    "half a gigabyte in half a megabyte": ("xlsx", unfolding, "file_too_large_inside", None, None),
    "a size that is not so": ("xlsx", lying_about_its_size, "file_too_large_inside", None, None),
    "a sheet of 16,384 columns": (
        "xlsx",
        lambda: by_hand(f'<row r="1"><c r="{get_column_letter(16_384)}1" t="str"><v>x</v></c></row>'),
        "too_many_columns",
        1,
        get_column_letter(16_384),
    ),
    "a truth value that is none": ("xlsx", by_hand('<row><c t="b"><v>yes</v></c></row>'), "invalid_cell", 1, "A"),
    "NDJSON without lines": ("ndjson", b"\n  \n", "empty_file", None, None),
    "a JSON array": ("ndjson", b'[{"name": "n", "email": "1@example.org"}]', "not_ndjson", None, None),
    "NDJSON cut off": ("ndjson", b'{"name": "n", "email": "1@example.org"}\n{"name": "m"', "file_cut_off", 2, None),
    "NDJSON in UTF-16": ("ndjson", FILES["ndjson"].decode().encode("utf-16"), "not_utf8", None, None),
    "gzip as NDJSON": ("ndjson", gzip.compress(FILES["ndjson"]), "unknown_format", None, None),
    "a line of 17 MB": ("ndjson", lambda: b'{"a": "' + b"x" * MAX_LINE_BYTES + b'"}\n', "line_too_long", 1, None),
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_what_cannot_be_read_is_refused_with_its_place(client: httpx.AsyncClient, name: str) -> None:
    kind, content, code, row, column = UNREADABLE[name]

    response = await send(client, content if isinstance(content, bytes) else content(), MEDIA_TYPES[kind])

    problem = refused(response, 422, "invalid_file")
    [fault] = problem["errors"]
    assert (fault["code"], fault.get("row"), fault.get("column")) == (code, row, column)
    assert len(response.content) < 5000
    assert await nothing_is_written()
    assert [record["state"] for record in await records(client)] in ([], ["refused"])


NAMED = "".join(f'<c t="str"><v>{name}</v></c>' for name in ("name", "email"))


async def test_a_file_that_only_says_that_it_is_large_is_read(client: httpx.AsyncClient) -> None:
    sheet = sheet_xml("".join(f"<row>{cells}</row>" for cells in (NAMED, NAMED.replace("name", "n"))))
    content = by_hand(others={SHEET: sheet.replace("<sheetData>", '<dimension ref="A1:XFD1048576"/><sheetData>')})

    problem = refused(await send(client, content, XLSX), 422, "import_refused")

    assert faults_of(problem["report"]) == [(2, "email", "value_error")]


# Headers

MISSING = {("missing_column", "name"), ("missing_column", "email")}


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
@pytest.mark.parametrize(
    ("header", "faults"),
    [
        (
            ("name", "emial", "$where", "profile.addresses.town"),
            {
                ("unknown_column", "emial"),
                ("unknown_column", "$where"),
                ("unknown_column", "profile.addresses.town"),
                ("missing_column", "email"),
                # An object in an array is there, so that all which it needs is.
                ("missing_column", "profile.addresses.street"),
                ("missing_column", "profile.addresses.city"),
                ("missing_column", "profile.addresses.country"),
            },
        ),
        (("age", "tags"), MISSING),
        (("name", "email", "age", "name"), {("duplicate_column", "name")}),
        (("name", "email", " name "), {("duplicate_column", "name")}),
        (("name", "email", "profile", "profile.bio"), {("duplicate_column", "profile.bio")}),
        (("name", None, "email"), {("unnamed_column", None)}),
        (("Name", "EMAIL"), {("unknown_column", "Name"), ("unknown_column", "EMAIL")} | MISSING),
    ],
)
async def test_a_header_is_refused_with_all_that_is_wrong_in_it(
    client: httpx.AsyncClient, kind: str, header: tuple[str | None, ...], faults: set[tuple[str, str | None]]
) -> None:
    make = {"csv": csv_file, "xlsx": xlsx_file}[kind]

    response = await send(client, make(header, ["x"] * len(header)), MEDIA_TYPES[kind])

    problem = refused(response, 422, "invalid_file")
    assert {(fault["code"], fault.get("column")) for fault in problem["errors"]} == faults
    assert await nothing_is_written()


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
async def test_a_header_alone_is_refused(client: httpx.AsyncClient, kind: str) -> None:
    make = {"csv": csv_file, "xlsx": xlsx_file}[kind]

    problem = refused(await send(client, make(*people()), MEDIA_TYPES[kind]), 422, "invalid_file")

    assert [fault["code"] for fault in problem["errors"]] == ["no_rows"]


async def test_two_arrays_cannot_both_have_a_row_for_each_element(client: httpx.AsyncClient) -> None:
    header = ("code", "left", "right", "branches.label", "branch.label", "texts")

    response = await send(client, csv_file(header), path=EVERYTHINGS, explode="texts")

    problem = refused(response, 422, "invalid_file")
    assert {(fault["code"], fault["column"]) for fault in problem["errors"]} == {
        ("exploded_twice", "texts"),
        ("exploded_twice", "branches"),
    }


async def test_a_sheet_that_is_not_there_is_refused_with_those_that_are(client: httpx.AsyncClient) -> None:
    response = await send(client, FILES["xlsx"], XLSX, sheet="People")

    [fault] = refused(response, 422, "invalid_file")["errors"]
    assert fault["code"] == "no_such_sheet"
    assert "'Sheet'" in fault["message"]


# Rows


async def test_rows_are_refused_with_all_that_is_wrong_in_them(client: httpx.AsyncClient) -> None:
    header = ("name", "email", "age", "is_active", "tags", "profile.birthday", "profile.addresses")
    rows: Mapping[str, tuple[str, str]] = {
        '"a",1@example.org,"7","true","","","",""': ("", "row_length"),
        "a,1@example.org": ("", "row_length"),
        "a,1@example.org,7.5,,,,": ("age", "int_parsing"),
        "a,1@example.org,1_0,,,,": ("age", "int_parsing"),
        "a,1@example.org,99999999999999999999999,,,,": ("age", "int_parsing"),
        "a,1@example.org,9223372036854775808,,,,": ("age", "not_storable"),
        "a,1@example.org,NaN,,,,": ("age", "int_parsing"),
        "a,1@example.org,,1,,,": ("is_active", "bool_parsing"),
        "a,1@example.org,,,a,,": ("tags", "invalid_json"),
        'a,1@example.org,,,"{""$ne"": null}",,': ("tags", "list_type"),
        'a,1@example.org,,,"[{""$ne"": null}]",,': ("tags", "string_type"),
        'a,1@example.org,,,"[[""a""]]",,': ("tags", "string_type"),
        'a,1@example.org,,,"[""\\ud800""]",,': ("tags", "not_storable"),
        f"a,1@example.org,,,{'[' * 40}{']' * 40},,": ("tags", "too_deep"),
        f"a,1@example.org,,,{'[' * 100_000},,": ("tags", "invalid_json"),
        "a,1@example.org,,,[],01/02/2000,": ("profile.birthday", "date_format"),
        'a,1@example.org,,,[],,"[{""street"": ""s"", ""$where"": ""1""}]"': ("profile.addresses", "unknown_field"),
    }

    response = await send(client, "\n".join([",".join(header), *rows, ""]).encode())

    report = refused(response, 422, "import_refused")["report"]
    assert [(row, column or "", code) for row, column, code in faults_of(report)] == [
        (number, *place) for number, place in enumerate(rows.values(), start=2)
    ]
    assert counts(report) == {"rows": len(rows), "failed": len(rows)}
    assert await nothing_is_written()


async def test_lines_are_refused_with_all_that_is_wrong_in_them(client: httpx.AsyncClient) -> None:
    good = b'"email": "1@example.org"'
    lines: Mapping[bytes, tuple[str, str]] = {
        b"x": ("", "invalid_json"),
        b'{"name": "n",': ("", "invalid_json"),
        b'{"name": "\xff"}': ("", "invalid_json"),
        b'{"name": "a", "name": "b"}': ("", "invalid_json"),
        b'{"name": NaN}': ("", "invalid_json"),
        b"[" * 100_000: ("", "invalid_json"),
        b"[]": ("", "object_expected"),
        b"null": ("", "object_expected"),
        b'{"name": "\\ud800", ' + good + b"}": ("/name", "not_storable"),
        b'{"name": {"$ne": null}, ' + good + b"}": ("/name/$ne", "invalid_key"),
        b'{"$set": {"name": 1}, ' + good + b"}": ("/$set", "invalid_key"),
        b'{"na\\u0000me": "n", ' + good + b"}": ("/na\0me", "invalid_key"),
        b'{"a.b": "n", ' + good + b"}": ("/a.b", "invalid_key"),
        b'{"name": ' + b"[" * 40 + b"]" * 40 + b", " + good + b"}": ("/name" + "/0" * 31, "too_deep"),
        b'{"name": "n", "age": 18446744073709551616, ' + good + b"}": ("/age", "not_storable"),
        b'{"name": "n", "age": "7", ' + good + b"}": ("/age", "int_type"),
        b'{"name": "n", "nonsense": 1, ' + good + b"}": ("/nonsense", "unknown_field"),
        b'{"name": "n"}': ("/email", "missing"),
    }

    response = await send(client, b"\n".join([*lines, b""]), NDJSON)

    report = refused(response, 422, "import_refused")["report"]
    first_faults = [(row["row"], row["errors"][0]["column"], row["errors"][0]["code"]) for row in report["failed_rows"]]
    assert first_faults == [(number, *place) for number, place in enumerate(lines.values(), start=1)]
    assert counts(report) == {"rows": len(lines), "failed": len(lines)}
    assert await nothing_is_written()


async def test_cells_of_a_workbook_are_refused_where_they_are_of_another_kind(client: httpx.AsyncClient) -> None:
    text = '<c t="str"><v>{}</v></c>'.format
    rows = {
        text("n") + '<c t="e"><v>#N/A</v></c>': ("email", "formula_error"),
        '<c t="b"><v>1</v></c>' + text("1@example.org"): ("name", "text_expected"),
        text("n") + text("1@example.org") + '<c t="b"><v>1</v></c>': ("age", "int_parsing"),
        text("n") + text("1@example.org") + "<c><v>1.5</v></c>": ("age", "int_parsing"),
        text("n") + text("1@example.org") + "<c/>" + text("beyond"): ("", "row_length"),
    }

    response = await send(client, xlsx_of_cells(*rows), XLSX)

    report = refused(response, 422, "import_refused")["report"]
    assert [(row, column or "", code) for row, column, code in faults_of(report)] == [
        (number, *place) for number, place in enumerate(rows.values(), start=2)
    ]


@pytest.mark.parametrize("kind", ["csv", "ndjson", "xlsx"])
@pytest.mark.parametrize("mode", ["create", "upsert"])
async def test_operators_are_text_and_never_obeyed(client: httpx.AsyncClient, kind: str, mode: str) -> None:
    await User(name="there", email="there@example.org").insert()
    rows = [("name", "email"), *((text, text) for text in OPERATORS)]
    objects = [{"name": "n", "email": json.loads(text)} for text in OPERATORS if text.startswith("{")]
    files = {"csv": csv_file(*rows), "xlsx": xlsx_file(*rows), "ndjson": ndjson_file(*objects)}
    options: dict[str, Any] = {"mode": mode, "key": "email"} if mode == "upsert" else {}

    response = await send(client, files[kind], MEDIA_TYPES[kind], **options)

    report = refused(response, 422, "import_refused")["report"]
    assert report["failed"] == report["rows"] == (len(objects) if kind == "ndjson" else len(OPERATORS))
    [user] = await users(client)
    assert (user["name"], user["revision"]) == ("there", 1)


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
async def test_no_operator_finds_a_document_by_its_id(client: httpx.AsyncClient, kind: str) -> None:
    await User(name="there", email="there@example.org").insert()
    rows = [("id", "name"), *((text, "changed") for text in OPERATORS)]
    objects = [{"id": json.loads(text), "name": "changed"} for text in OPERATORS if text.startswith("{")]
    content = csv_file(*rows) if kind == "csv" else ndjson_file(*objects)

    response = await send(client, content, MEDIA_TYPES[kind], mode="upsert")

    report = refused(response, 422, "import_refused")["report"]
    assert {code for _, _, code in faults_of(report)} == {"invalid_key_value"}
    assert [user["name"] for user in await users(client)] == ["there"]


async def test_free_json_has_no_keys_that_mean_something(client: httpx.AsyncClient) -> None:
    header = ("code", "left", "right", "free")
    bad = ['{"$ne": 1}', '{"a": [{"$ne": 1}]}', '{"a.b": 1}', '{"a\\u0000": 1}', '{"": 1}', "[1]", '"text"', "{"]
    good = '{"a": {"b": [null, 1, "$ne"]}}'

    response = await send(
        client,
        csv_file(header, *((f"c{number}", number, -1, text) for number, text in enumerate([*bad, good]))),
        path=EVERYTHINGS,
        on_error="skip",
    )

    report = response.json()
    assert counts(report) == {"rows": len(bad) + 1, "created": 1, "failed": len(bad)}
    assert {column for _, column, _ in faults_of(report)} == {"free"}
    [kept] = (await client.get("/api/v1/everythings")).json()["items"]
    assert kept["free"] == json.loads(good)


@pytest.mark.parametrize("kind", ["csv", "ndjson", "xlsx"])
async def test_texts_that_look_like_something_else_stay_texts(client: httpx.AsyncClient, kind: str) -> None:
    texts = ["=1+1", "+1", "-1", "@a", "\t=1", "TRUE", "007", "1e5", "null", "2026-01-01", "$ne", "a\x00b", " "]
    if kind == "xlsx":
        texts.remove("a\x00b")  # which openpyxl does not write
    names = ("name", "email")
    rows = [(text, f"{number}@example.org") for number, text in enumerate(texts)]
    files: Mapping[str, Make] = {
        "csv": lambda: csv_file(names, *rows),
        "ndjson": lambda: ndjson_file(*(dict(zip(names, row, strict=True)) for row in rows)),
        "xlsx": lambda: as_texts(xlsx_file(names, *rows)),
    }

    await imported(client, files[kind](), MEDIA_TYPES[kind])

    found = {user["email"]: user["name"] for user in await users(client)}
    assert found == {email: text for text, email in rows}


def as_texts(content: bytes) -> bytes:
    """The workbook with all its formulas as the texts that they look like."""
    workbook = openpyxl.load_workbook(io.BytesIO(content))
    for row in workbook.worksheets[0].iter_rows():
        for cell in row:
            cell.data_type = "s"
    return saved(workbook)


async def test_a_formula_is_what_it_showed_when_it_was_saved(client: httpx.AsyncClient) -> None:
    text = '<c t="str">{}<v>{}</v></c>'.format
    rows = [
        text("<f>1+1</f>", "shown") + text("", "1@example.org") + "<c><f>6*7</f><v>42</v></c>",
        text("<f>WEBSERVICE(1)</f>", "") + text("", "2@example.org"),
    ]

    response = await send(client, xlsx_of_cells(*rows), XLSX, on_error="skip")

    assert faults_of(response.json()) == [(3, "name", "string_too_short")]
    [user] = await users(client)
    assert (user["name"], user["age"]) == ("shown", 42)


@pytest.mark.parametrize("kind", ["csv", "ndjson", "xlsx"])
async def test_a_text_may_be_as_long_as_a_cell(client: httpx.AsyncClient, kind: str) -> None:
    long = "x" * (32_767 if kind == "xlsx" else MAX_CELL_LENGTH)
    names = ("code", "left", "right", "texts")
    row = ("c", 1, 2, f'["{long[4:]}"]')
    files = {
        "csv": csv_file(names, row),
        "ndjson": ndjson_file(dict(zip(names, row, strict=True)) | {"texts": [long]}),
        "xlsx": xlsx_file(names, row),
    }

    await imported(client, files[kind], MEDIA_TYPES[kind], path=EVERYTHINGS)

    [kept] = await Everything.find_all().to_list()
    assert kept.texts == [long if kind == "ndjson" else long[4:]]


async def test_a_header_may_have_a_thousand_columns(client: httpx.AsyncClient) -> None:
    for count, code in ((MAX_COLUMNS, "unknown_column"), (MAX_COLUMNS + 1, "too_many_columns")):
        response = await send(client, csv_file([f"c{number}" for number in range(count)]))

        assert refused(response, 422, "invalid_file")["errors"][0]["code"] == code


# Forms

BOUNDARY = "----b"


def form(*parts: tuple[str, bytes]) -> bytes:
    """A form of parts, each with what stands behind `form-data`."""
    lines = (
        f"--{BOUNDARY}\r\nContent-Disposition: form-data{about}\r\n\r\n".encode() + content + b"\r\n"
        for about, content in parts
    )
    return b"".join(lines) + f"--{BOUNDARY}--\r\n".encode()


FILE_PART = ('; name="file"; filename="users.csv"', FILES["csv"])

FORMS: Mapping[str, tuple[bytes, str]] = {
    "no parts": (form(), "missing_file"),
    "an empty body": (b"", "invalid_form"),
    "a file of another name": (form(('; name="upload"; filename="users.csv"', FILES["csv"])), "missing_file"),
    "a field instead of a file": (form(('; name="file"', FILES["csv"])), "missing_file"),
    "1,001 fields": (form(*(('; name="f"', b"") for _ in range(1000)), FILE_PART), "invalid_form"),
    "1,001 files": (form(*[FILE_PART] * 1001), "invalid_form"),
    "two files": (form(FILE_PART, FILE_PART), "invalid_form"),
    "a part without name": (form(('; filename="users.csv"', FILES["csv"])), "invalid_form"),
    "a part without disposition": (
        form(FILE_PART).replace(b"Content-Disposition", b"Content-Nonsense"),
        "invalid_form",
    ),
    "a parameter": (form(('; name="dry_run"', b"true"), FILE_PART), "invalid_form"),
    "a field of 2 MB": (form(('; name="f"', b"x" * 2**21), FILE_PART), "invalid_form"),
    "no form": (b"name,email\n", "invalid_form"),
    "an empty file": (form(('; name="file"; filename="users.csv"', b"")), "empty_file"),
    "a workbook that is none": (form(('; name="file"; filename="users.xlsx"', FILES["csv"])), "not_what_it_says"),
    "a file that is none": (form(('; name="file"; filename="users.csv"', FILES["xlsx"])), "not_what_it_says"),
    "a picture": (form(('; name="file"; filename="users"', b"\x89PNG\r\n\x1a\n")), "unknown_format"),
    "a page": (form(('; name="file"; filename="../../etc/passwd"', b"<html>")), "unknown_format"),
}


@pytest.mark.parametrize("name", FORMS)
async def test_a_form_that_has_no_good_file_is_refused(client: httpx.AsyncClient, name: str) -> None:
    content, code = FORMS[name]

    response = await send(client, content, f"multipart/form-data; boundary={BOUNDARY}")

    [fault] = refused(response, 422, "invalid_file")["errors"]
    assert fault["code"] == code
    assert await nothing_is_written()


@pytest.mark.parametrize("charset", ["undefined", "punycode"])
async def test_a_form_in_no_charset_of_text_is_refused(client: httpx.AsyncClient, charset: str) -> None:
    content = form(('; name="file"; filename="--.csv"', FILES["csv"]))

    response = await send(client, content, f"multipart/form-data; boundary={BOUNDARY}; charset={charset}")

    assert refused(response, 422, "invalid_file")["errors"][0]["code"] == "invalid_form"
    assert await nothing_is_written()


@pytest.mark.parametrize("end", range(1, len(form(FILE_PART)) - 4, 20))
async def test_a_form_that_breaks_off_is_refused(client: httpx.AsyncClient, end: int) -> None:
    response = await send(client, form(FILE_PART)[:end], f"multipart/form-data; boundary={BOUNDARY}")

    assert refused(response, 422, "invalid_file")["errors"][0]["code"] == "invalid_form"
    assert await nothing_is_written()


@pytest.mark.parametrize(
    "parameter", ["", "; boundary=", "; boundary=other", "; boundary=é", f"; boundary={'b' * 500}"]
)
async def test_a_form_without_its_boundary_is_refused(client: httpx.AsyncClient, parameter: str) -> None:
    headers = {b"Content-Type": f"multipart/form-data{parameter}".encode()}

    response = await client.post(IMPORT, content=form(FILE_PART), headers=headers)

    assert refused(response, 422, "invalid_file")["errors"][0]["code"] in {"invalid_form", "missing_file"}
    assert await nothing_is_written()


@pytest.mark.parametrize(
    ("length", "status"), [("10000000000000", 413), ("5", 200), ("nonsense", 200), ("-1", 200), ("²", 200)]
)
async def test_a_length_that_is_not_so_harms_nobody(client: httpx.AsyncClient, length: str, status: int) -> None:
    headers = {b"Content-Type": b"text/csv", b"Content-Length": length.encode()}

    response = await client.post(IMPORT, content=FILES["csv"], headers=headers)

    assert response.status_code == status
    assert len(await users(client)) == (1 if status == 200 else 0)


# What nobody would think of


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(kind=st.sampled_from(sorted(FILES)), seed=st.integers(0, 2**32), size=st.integers(1, 20))
async def test_a_damaged_file_is_refused_or_read(client: httpx.AsyncClient, kind: str, seed: int, size: int) -> None:
    chance = random.Random(seed)
    content = bytearray(FILES[kind])
    for _ in range(size):
        place = chance.randrange(len(content))
        content[place : place + chance.randrange(3)] = chance.randbytes(chance.randrange(3))

    response = await send(client, bytes(content), MEDIA_TYPES[kind], dry_run="true")

    assert response.status_code in {200, 422}, response.text
    assert await nothing_is_written()


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=200), media_type=st.sampled_from(["", *MEDIA_TYPES.values()]))
@example(content=b"\0" * 100, media_type="")
async def test_any_bytes_are_refused(client: httpx.AsyncClient, content: bytes, media_type: str) -> None:
    response = await send(client, content, media_type)

    assert response.status_code == 422
    assert response.json()["code"] in {"invalid_file", "import_refused"}  # a line of JSON is a file, though a bad one
    assert await nothing_is_written()
