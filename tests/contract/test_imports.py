"""What every document type's files promise on their way back: what was exported is imported as the same documents."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import cycle
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from service.documents.base import SERVER_FIELDS
from service.documents.fields import Kind, parents_of
from service.documents.limits import limits_of
from service.documents.registry import DocumentType
from service.imports.importer import SMALL_BYTES
from service.imports.query import key_fields
from service.store.import_records import IMPORTS
from tests.conftest import TYPES
from tests.contract.test_documents import address, bodies, create, without_server_fields
from tests.contract.test_exports import BODIES, EVERYTHING, TEXTS, Asked, Document, export, listed, load
from tests.contract.test_schemas import assert_as_published

MEDIA_TYPES: Mapping[str, str] = {
    "csv": "text/csv",
    "ndjson": "application/x-ndjson",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
TABLES = ["csv", "xlsx"]
LARGE_BYTES = SMALL_BYTES * 3 // 2
"""Of a file that several processes share."""

UNKNOWN_ID = "0123456789abcdef01234567"

every_type = pytest.mark.parametrize("document_type", TYPES, ids=lambda document_type: document_type.name)
every_format = pytest.mark.parametrize("file_format", MEDIA_TYPES)
every_array = pytest.mark.parametrize(
    ("document_type", "path"),
    [
        pytest.param(document_type, path, id=f"{document_type.name}-{path}")
        for document_type in TYPES
        for path, field in document_type.fields.items()
        if field.is_array and not any(document_type.fields[parent].is_repeated for parent in parents_of(path))
    ],
)
every_key = pytest.mark.parametrize(
    ("document_type", "key"),
    [
        pytest.param(document_type, key, id=f"{document_type.name}-{key}")
        for document_type in TYPES
        for key in key_fields(document_type)
    ],
)


async def send(
    client: httpx.AsyncClient, document_type: DocumentType, file_format: str, content: bytes, **params: Any
) -> httpx.Response:
    headers = {"Content-Type": MEDIA_TYPES[file_format]}
    return await client.post(f"{address(document_type)}/import", content=content, params=params, headers=headers)


async def counts(
    client: httpx.AsyncClient, document_type: DocumentType, file_format: str, content: bytes, **params: Any
) -> dict[str, int]:
    """How many documents of a file that is taken had which fate, where any had."""
    response = await send(client, document_type, file_format, content, **params)
    assert response.status_code == 200, response.text
    names = ("created", "updated", "unchanged", "failed")
    return {name: response.json()[name] for name in names if response.json()[name]}


async def clear(document_type: DocumentType) -> None:
    await document_type.document_class.get_pymongo_collection().delete_many({})


def own(documents: Sequence[Document]) -> list[Document]:
    """All but the server's fields, in an order that does not depend on ids."""
    return sorted(map(without_server_fields, documents), key=json.dumps)


def unique_names(document_type: DocumentType) -> set[str]:
    """The fields of unique indexes."""
    return {path for index in document_type.indexes if index.document.get("unique") for path in index.document["key"]}


def with_ids(documents: Sequence[Document]) -> dict[str, Document]:
    return {document["id"]: without_server_fields(document) for document in documents}


# What was exported comes back


@every_type
@every_format
async def test_what_was_exported_is_created_again(
    client: httpx.AsyncClient, document_type: DocumentType, file_format: str
) -> None:
    documents = await load(client, document_type, 12)
    content = await export(client, Asked(document_type, file_format))
    await clear(document_type)

    assert await counts(client, document_type, file_format, content) == {"created": len(documents)}

    created = await listed(client, document_type)
    assert own(created) == own(documents)
    assert {document["revision"] for document in created} == {1}
    assert with_ids(created).keys().isdisjoint(with_ids(documents))


@every_type
@every_format
async def test_what_was_exported_is_unchanged_where_it_is_and_restored_where_it_is_not(
    client: httpx.AsyncClient, document_type: DocumentType, file_format: str
) -> None:
    documents = await load(client, document_type, 12)
    content = await export(client, Asked(document_type, file_format))

    unchanged = await counts(client, document_type, file_format, content, mode="upsert")

    assert unchanged == {"unchanged": len(documents)}
    assert await listed(client, document_type) == documents
    await clear(document_type)
    assert await counts(client, document_type, file_format, content, mode="upsert") == {"created": len(documents)}
    assert with_ids(await listed(client, document_type)) == with_ids(documents)


@pytest.mark.parametrize("file_format", TABLES)
async def test_pieces_of_elements_are_no_way_to_lose_the_rest(client: httpx.AsyncClient, file_format: str) -> None:
    documents = await load(client, EVERYTHING, 4)
    whole = ["label", "leaf.text", "leaf.number", "leaf.day", "leaf.moments", "leaves", "days"]
    some = [f"branches.{name}" for name in whole[1:]]
    for paths, explode, refused in (
        (["branches.label"], None, [("not_exploded", "branches[].label")]),
        (
            ["branches.leaf.text"],
            "branches",
            [("missing_column", f"branches.{name}") for name in whole if name != "leaf.text"],
        ),
        (some, "branches", [("missing_column", "branches.label")]),
        (["branches.leaves.text"], "branches", [("not_exploded", "branches.leaves[].text")]),
    ):
        content = await export(client, Asked(EVERYTHING, file_format, ("id", *paths), explode=explode))

        for mode in ("upsert", "create"):
            response = await send(client, EVERYTHING, file_format, content, mode=mode)
            assert (response.status_code, response.json()["code"]) == (422, "invalid_file")
            if mode == "upsert":
                assert [(fault["code"], fault["column"]) for fault in response.json()["errors"]] == refused
        assert await listed(client, EVERYTHING) == documents
    for taken, explode in (("branches", None), ("branches", "branches")):
        content = await export(client, Asked(EVERYTHING, file_format, ("id", taken), explode=explode))
        assert await counts(client, EVERYTHING, file_format, content, mode="upsert") == {"unchanged": len(documents)}


@every_key
@every_format
async def test_an_upsert_finds_documents_by_any_key(
    client: httpx.AsyncClient, document_type: DocumentType, key: str, file_format: str
) -> None:
    first, second = [await create(client, document_type, body) for body in bodies(document_type, 2)]
    content = await export(client, Asked(document_type, file_format))
    change = {name: value for name, value in second.items() if name not in unique_names(document_type)}
    for document in (first, second):  # of which one has these values already
        assert (await client.patch(address(document_type, document["id"]), json=change)).status_code == 200

    report = await counts(client, document_type, file_format, content, mode="upsert", key=key)

    assert report == {"updated": 1, "unchanged": 1}
    after = await listed(client, document_type)
    assert with_ids(after) == with_ids([first, second])
    assert {document["id"]: document["revision"] for document in after} == {first["id"]: 3, second["id"]: 2}


@every_type
@every_format
async def test_part_of_the_columns_changes_nothing_else(
    client: httpx.AsyncClient, document_type: DocumentType, file_format: str
) -> None:
    names = [path for path in document_type.fields if "." not in path and path not in SERVER_FIELDS]
    first, second = bodies(document_type, 2)
    before = await create(client, document_type, first)
    place = address(document_type, before["id"])
    second |= {name: before[name] for name in unique_names(document_type)}
    for chosen in (names[::2], names[1::2]):
        content = await export(client, Asked(document_type, file_format, fields=["id", *chosen]))
        other = (await client.put(place, json=second)).json()

        await counts(client, document_type, file_format, content, mode="upsert")

        after = (await client.get(place)).json()
        assert without_server_fields(after) == {name: (before if name in chosen else other)[name] for name in names}
        assert (await client.put(place, json=first)).status_code == 200


@every_array
@pytest.mark.parametrize("file_format", TABLES)
async def test_what_was_exploded_is_put_together_again(
    client: httpx.AsyncClient, document_type: DocumentType, path: str, file_format: str
) -> None:
    is_scalar = document_type.fields[path].kind is not Kind.OBJECT
    params = {"explode": path} if is_scalar else {}
    documents = await load(client, document_type, 8)
    content = await export(client, Asked(document_type, file_format, explode=path))

    unchanged = await counts(client, document_type, file_format, content, mode="upsert", **params)

    assert unchanged == {"unchanged": len(documents)}
    await clear(document_type)
    created = await counts(client, document_type, file_format, content, **params)
    assert created == {"created": len(documents)}
    assert own(await listed(client, document_type)) == own(documents)


@every_type
@pytest.mark.parametrize(
    ("params", "options"),
    [
        ({"delimiter": "semicolon"}, {}),
        ({"delimiter": "tab", "bom": "true"}, {}),
        ({"bom": "true", "raw": "true"}, {"raw": "true"}),
        ({"delimiter": "semicolon", "bom": "true"}, {"delimiter": "semicolon"}),
    ],
)
async def test_every_kind_of_csv_comes_back(
    client: httpx.AsyncClient, document_type: DocumentType, params: dict[str, str], options: dict[str, str]
) -> None:
    documents = await load(client, document_type, 5)
    content = await export(client, Asked(document_type, "csv"), **params)
    await clear(document_type)

    assert await counts(client, document_type, "csv", content, **options) == {"created": len(documents)}

    assert own(await listed(client, document_type)) == own(documents)


@every_type
async def test_a_file_of_many_parts_is_one(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    unique = next(path for path in key_fields(document_type) if path != "id")
    count = LARGE_BYTES // len(json.dumps(document_type.example))
    lines = [json.dumps(body).encode() for body in bodies(document_type, count)]
    lines[1500] = lines[3]
    content = b"\n".join([*lines, b""])
    assert len(content) > SMALL_BYTES

    response = await send(client, document_type, "ndjson", content, on_error="skip")

    report = response.json()
    assert (report["rows"], report["created"], report["failed"]) == (count, count - 1, 1)
    [failed] = report["failed_rows"]
    assert (failed["row"], failed["errors"][0]["column"]) == (1501, f"/{unique}")
    upserted = await counts(client, document_type, "ndjson", content, mode="upsert", key=unique, on_error="skip")
    assert upserted == {"unchanged": count - 1, "failed": 1}


# Values that a file might change


def with_texts(document_type: DocumentType, body: Document, texts: Iterator[str], number: int) -> Document:
    """The body with these texts wherever any text is taken; unique ones get a number too."""
    limits = limits_of(document_type.document_class)
    unique = unique_names(document_type)

    def replaced(value: Any, path: str) -> Any:
        if isinstance(value, list):
            return [replaced(element, path) for element in value]
        if isinstance(value, dict):
            return {name: replaced(inner, f"{path}.{name}" if path else name) for name, inner in value.items()}
        field = document_type.fields.get(path)
        if field is None or field.kind is not Kind.TEXT or field.choices or field.is_email:
            return value
        limit = limits[path]["items"] if field.is_array else limits[path]
        if "pattern" in limit:
            return value
        end = str(number) if path in unique else ""
        text = next(texts)[: limit.get("maxLength", 1000) - len(end)] + end
        return text.ljust(limit.get("minLength", 0), "x")

    changed: Document = replaced(body, "")
    return changed


@every_type
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(texts=st.lists(TEXTS, min_size=60, max_size=120))
async def test_any_text_comes_back_out_of_any_file(
    client: httpx.AsyncClient, document_type: DocumentType, texts: list[str]
) -> None:
    await clear(document_type)
    endless = cycle(texts)
    for number, body in enumerate(bodies(document_type, 15)):
        await create(client, document_type, with_texts(document_type, body, endless, number))

    await assert_all_formats_keep_all(client, document_type)


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(drawn=st.lists(BODIES, min_size=20, max_size=40))
async def test_any_value_comes_back_out_of_any_file(client: httpx.AsyncClient, drawn: list[Document]) -> None:
    await clear(EVERYTHING)
    for number, body in enumerate(drawn):
        await create(client, EVERYTHING, body | {"code": f"{body['code']}{number}", "left": number, "right": -1})

    await assert_all_formats_keep_all(client, EVERYTHING)


async def assert_all_formats_keep_all(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    documents = await listed(client, document_type)
    files = [
        (file_format, options, await export(client, Asked(document_type, file_format), **options))
        for file_format, options in (*((name, {}) for name in MEDIA_TYPES), ("csv", {"raw": "true"}))
    ]
    for file_format, options, content in files:
        unchanged = await counts(client, document_type, file_format, content, mode="upsert", **options)
        assert unchanged == {"unchanged": len(documents)}
        await clear(document_type)
        await counts(client, document_type, file_format, content, mode="upsert", **options)
        after = await listed(client, document_type)
        assert as_held(document_type, file_format, after) == as_held(document_type, file_format, documents), file_format


def as_held(document_type: DocumentType, file_format: str, documents: Sequence[Document]) -> dict[str, Document]:
    """What the format tells apart: in a cell that is a number, 1E+2 is 100."""
    found = with_ids(documents)
    if file_format == "xlsx":
        for document in found.values():
            for name, value in document.items():
                field = document_type.fields[name]
                if field.kind is Kind.DECIMAL and not field.is_array and value is not None:
                    document[name] = Decimal(value)
    return found


# What is said, and who may


@every_type
async def test_every_answer_to_a_file_is_as_published(
    app: FastAPI, client: httpx.AsyncClient, document_type: DocumentType
) -> None:
    path = f"{address(document_type)}/import"
    await create(client, document_type)
    content = await export(client, Asked(document_type, "ndjson"))
    for params in ({"mode": "upsert"}, {}, {"on_error": "skip"}, {"dry_run": "true"}, {"nonsense": "1"}):
        headers = {"Idempotency-Key": f"for-{params}".replace(" ", "")}
        first = await client.post(path, content=content, params=params, headers=headers)
        again = await client.post(path, content=content, params=params, headers=headers)
        assert_as_published(app, path, again)
        assert again.json() | {"request_id": None} == first.json() | {"request_id": None}
    for body in (b"", b"{}\n", b"nonsense\n1\n"):
        assert_as_published(app, path, await client.post(path, content=body))
    records = await client.get(f"/api/v1/{IMPORTS.name}")
    assert_as_published(app, f"/api/v1/{IMPORTS.name}", records)
    assert len(records.json()["items"]) > 3
    for record in records.json()["items"]:
        one = await client.get(f"/api/v1/{IMPORTS.name}/{record['id']}")
        assert_as_published(app, f"/api/v1/{IMPORTS.name}/{{record_id}}", one)


@every_type
async def test_every_parameter_is_described(app: FastAPI, document_type: DocumentType) -> None:
    operation = app.openapi()["paths"][f"{address(document_type)}/import"]["post"]
    described = {parameter["name"]: parameter["schema"] for parameter in operation["parameters"]}

    named = {"mode", "key", "on_error", "dry_run", "delimiter", "raw", "sheet", "Idempotency-Key"}
    named |= {"explode"} if any(field.is_array for field in document_type.fields.values()) else set()
    assert described.keys() == named
    assert described["key"]["enum"] == key_fields(document_type)
    assert {"multipart/form-data", *MEDIA_TYPES.values()} <= operation["requestBody"]["content"].keys()


@every_type
async def test_server_fields_in_a_file_are_ignored_and_unknown_ones_refused(
    client: httpx.AsyncClient, document_type: DocumentType
) -> None:
    await create(client, document_type)
    forged = {"id": UNKNOWN_ID, "created_at": "never", "updated_at": "0", "revision": "99"}
    document = json.loads(await export(client, Asked(document_type, "ndjson"))) | forged
    [row] = csv.DictReader(io.StringIO((await export(client, Asked(document_type, "csv"))).decode(), newline=""))
    for more, is_taken in (({}, True), ({"nonsense": "1"}, False)):
        lines = io.StringIO()
        writer = csv.DictWriter(lines, [*row, *more])
        writer.writeheader()
        writer.writerow(row | forged | more)
        for file_format, content in (("csv", lines.getvalue()), ("ndjson", json.dumps(document | more))):
            await clear(document_type)

            response = await send(client, document_type, file_format, content.encode())

            assert response.status_code == (200 if is_taken else 422), response.text
            found = await listed(client, document_type)
            assert [(kept["id"] != UNKNOWN_ID, kept["revision"]) for kept in found] == ([(True, 1)] if is_taken else [])


@every_type
@pytest.mark.parametrize("kind", TABLES)
async def test_a_template_is_imported_as_the_example(
    client: httpx.AsyncClient, document_type: DocumentType, kind: str
) -> None:
    template = await client.get(f"{address(document_type)}/import/template/{kind}")

    assert await counts(client, document_type, kind, template.content) == {"created": 1}

    [created] = await listed(client, document_type)
    await clear(document_type)
    expected = await create(client, document_type)
    assert without_server_fields(created) == without_server_fields(expected)


@every_type
@pytest.mark.caller(scopes={"users:read", "items:read", "everythings:read", "users:export", "users:delete"})
async def test_nobody_imports_a_type_without_its_scope(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    for response in (
        await send(client, document_type, "csv", b""),
        await client.get(f"{address(document_type)}/import/template/csv"),
    ):
        assert response.status_code == 403
        assert f'scope="{document_type.name}:write"' in response.headers["www-authenticate"]
