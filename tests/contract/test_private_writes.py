"""Who does not see private values can write all the same, and loses none: masks stand for what is there."""

import asyncio
import csv
import io
import json
from collections.abc import Callable
from typing import Any

import httpx
import openpyxl
import pytest

from service.documents.fields import Kind
from service.documents.limits import HAS_MORE, limits_of
from service.documents.registry import DocumentType
from service.imports.importer import SMALL_BYTES
from service.store.repository import Presented
from tests.canaries import every_type, holders_of, with_canaries
from tests.conftest import TYPES
from tests.contract.test_documents import address, bodies, create, without_server_fields
from tests.contract.test_exports import EVERYTHING, Asked, export
from tests.contract.test_imports import MEDIA_TYPES, clear, counts, send

JSON_PATCH = {"Content-Type": "application/json-patch+json"}
[USERS] = [known for known in TYPES if known.name == "users"]
ADA = {
    "name": "Ada",
    "email": "ada@example.org",
    "profile": {
        "phone": "+44 1",
        "birthday": "1815-12-10",
        "addresses": [
            {"street": "First", "city": "London", "country": "GB"},
            {"street": "Second", "city": "Paris", "country": "FR"},
        ],
    },
}

every_format = pytest.mark.parametrize("file_format", MEDIA_TYPES)


async def stored_documents(document_type: DocumentType) -> list[Presented]:
    """All of them, without what each write changes."""
    found = await document_type.document_class.get_pymongo_collection().find().sort("_id").to_list()
    return [{name: value for name, value in one.items() if name not in {"updated_at", "revision"}} for one in found]


async def load_all(client: httpx.AsyncClient, document_type: DocumentType) -> list[Presented]:
    """One with canaries, some samples, and one with as little as a document may have."""
    info = document_type.document_class.model_fields
    *some, last = bodies(document_type, 5)
    sparse = {name: value for name, value in last.items() if info[name].is_required()}
    for body in [with_canaries(document_type), *some, sparse]:
        await create(client, document_type, body)
    return await stored_documents(document_type)


def faults_of(response: httpx.Response) -> list[tuple[str, str]]:
    assert (response.status_code, response.json()["code"]) == (422, "validation_failed"), response.text
    return [(fault["pointer"], fault["code"]) for fault in response.json()["errors"]]


# Documents


@every_type
async def test_what_was_seen_can_be_put_back(
    client: httpx.AsyncClient, document_type: DocumentType, unprivileged: Callable[[], None]
) -> None:
    before = await load_all(client, document_type)
    unprivileged()

    for stored in before:
        place = address(document_type, str(stored["_id"]))
        seen = (await client.get(place)).json()
        nothing = [
            {"op": "test", "path": f"/{name}", "value": value} for name, value in without_server_fields(seen).items()
        ]
        for response in (
            await client.put(place, json=seen),
            await client.put(place, json=seen, headers={"If-Match": '"2"'}),
            await client.patch(place, json=without_server_fields(seen)),
            await client.patch(place, content=json.dumps(nothing), headers=JSON_PATCH),
        ):
            assert response.status_code == 200, response.text
            assert without_server_fields(response.json()) == without_server_fields(seen)

    assert await stored_documents(document_type) == before


async def test_what_is_public_can_be_changed_beside_masks(
    client: httpx.AsyncClient, unprivileged: Callable[[], None]
) -> None:
    place = address(USERS, (await create(client, USERS, ADA))["id"])
    unprivileged()
    seen = (await client.get(place)).json()

    seen["name"] = "Augusta"
    seen["profile"]["addresses"][1] |= {"city": "Lyon"}
    seen["profile"]["phone"] = "+44 2"
    response = await client.put(place, json=seen)
    more = [{"op": "add", "path": "/profile/addresses/-", "value": ADA["profile"]["addresses"][0]}]  # type: ignore[index]
    await client.patch(place, content=json.dumps(more), headers=JSON_PATCH)

    assert response.json()["profile"]["phone"] == "***"
    [stored] = await stored_documents(USERS)
    assert (stored["name"], stored["email"]) == ("Augusta", "ada@example.org")
    assert stored["profile"]["phone"] == "+44 2"
    found = [(one["street"], one["city"]) for one in stored["profile"]["addresses"]]
    assert found == [("First", "London"), ("Second", "Lyon"), ("First", "London")]


@pytest.mark.parametrize(
    ("change", "pointers"),
    [
        ({"email": "b***@example.org"}, ["/email"]),
        ({"email": "***"}, ["/email"]),
        ({"profile": {"birthday": "***", "phone": "***"}}, []),
        (
            {"profile": {"addresses": [{"street": "***", "city": "Paris", "zipcode": None, "country": "FR"}]}},
            ["/profile/addresses/0/street"],
        ),
        (
            {"profile": {"addresses": [{"street": "***", "city": "X", "country": "FR"}] * 3}},
            [f"/profile/addresses/{index}/street" for index in range(3)],
        ),
    ],
    ids=["of another", "of none", "its own", "moved", "all changed"],
)
async def test_a_mask_that_stands_for_nothing_is_refused(
    client: httpx.AsyncClient, unprivileged: Callable[[], None], change: Any, pointers: list[str]
) -> None:
    place = address(USERS, (await create(client, USERS, ADA))["id"])
    before = await stored_documents(USERS)
    unprivileged()

    response = await client.patch(place, json=change)

    if pointers:
        assert faults_of(response) == [(pointer, "masked_value") for pointer in pointers]
    assert await stored_documents(USERS) == before


@every_type
async def test_a_new_document_has_no_masks(
    client: httpx.AsyncClient, document_type: DocumentType, unprivileged: Callable[[], None]
) -> None:
    document = await create(client, document_type, with_canaries(document_type))
    unprivileged()
    seen = (await client.get(address(document_type, document["id"]))).json()

    faults = faults_of(await client.post(address(document_type), json=seen | {"nonsense": 1}))

    assert {code for _, code in faults} == {"masked_value", "unknown_field"}
    paths = {".".join(part for part in pointer.split("/")[1:] if not part.isdigit()) for pointer, _ in faults}
    shown = {path for path in document_type.masked.masks if [*holders_of(seen, path.split(".")[:-1])]}
    assert paths == {*shown, "nonsense"}


@every_type
async def test_nobody_stores_a_mask(
    client: httpx.AsyncClient,
    document_type: DocumentType,
    unprivileged: Callable[[], None],
    privileged: Callable[[], None],
) -> None:
    place = address(document_type, (await create(client, document_type, with_canaries(document_type)))["id"])
    before = await stored_documents(document_type)
    whole = (await client.get(place)).json()
    unprivileged()
    seen = (await client.get(place)).json()
    privileged()
    own = without_server_fields(seen)

    answers = [
        await client.post(address(document_type), json=own),
        await client.put(place, json=own),
        await client.patch(place, json=own),
        await client.patch(
            place,
            content=json.dumps([{"op": "add", "path": f"/{name}", "value": value} for name, value in own.items()]),
            headers=JSON_PATCH,
        ),
    ]

    for answer in answers:
        paths = {
            ".".join(part for part in pointer.split("/")[1:] if not part.isdigit()) for pointer, _ in faults_of(answer)
        }
        assert paths == {path for path in document_type.masked.masks if [*holders_of(seen, path.split(".")[:-1])]}
        assert {code for _, code in faults_of(answer)} == {"masked_value"}
    assert await stored_documents(document_type) == before
    assert (await client.put(place, json=whole)).status_code == 200
    assert await stored_documents(document_type) == before


async def test_a_mask_that_is_stored_can_be_put_back(client: httpx.AsyncClient) -> None:
    document = await create(client, USERS, ADA)
    place = address(USERS, document["id"])
    collection = USERS.document_class.get_pymongo_collection()
    await collection.update_one({}, {"$set": {"profile.phone": "***", "profile.addresses.0.street": "***"}})
    whole = (await client.get(place)).json()

    assert whole["profile"]["phone"] == "***"
    assert (await client.put(place, json=whole)).json()["profile"] == whole["profile"]
    assert (await client.patch(place, json={"age": 3})).json()["profile"] == whole["profile"]
    line = json.dumps(whole | {"age": 4}).encode()
    assert await counts(client, USERS, "ndjson", line, mode="upsert") == {"updated": 1}


async def test_a_json_patch_sees_masks_only(client: httpx.AsyncClient, unprivileged: Callable[[], None]) -> None:
    place = address(USERS, (await create(client, USERS, ADA))["id"])
    unprivileged()

    def patch(*operations: Any) -> Any:
        return client.patch(place, content=json.dumps(operations), headers=JSON_PATCH)

    guess = await patch({"op": "test", "path": "/email", "value": "ada@example.org"})
    mask = await patch({"op": "test", "path": "/email", "value": "a***@example.org"})
    public = await patch({"op": "copy", "from": "/name", "path": "/profile/bio"})

    assert (guess.status_code, guess.json()["code"]) == (409, "patch_test_failed")
    assert mask.status_code == 200
    assert public.json()["profile"]["bio"] == "Ada"


@pytest.mark.parametrize(
    ("operations", "pointers"),
    [
        ([("copy", "/profile/phone", "/profile/bio")], ["/0/from"]),
        ([("move", "/email", "/name")], ["/0/from"]),
        ([("move", "/profile/phone", "/profile/birthday")], ["/0/from", "/0/path"]),
        ([("copy", "/name", "/profile/bio"), ("copy", "/profile/bio", "/profile/phone")], ["/1/path"]),
        ([("move", "/profile/addresses/0", "/profile/addresses/1")], ["/0/from", "/0/path"]),
        ([("copy", "/profile/addresses/0", "/profile/addresses/-")], ["/0/from", "/0/path"]),
        ([("move", "/profile/addresses", "/tags")], ["/0/from"]),
        ([("copy", "", "/profile/bio"), ("copy", "/profile", "/profile/bio")], ["/0/from", "/1/from"]),
        ([("move", "/profile/addresses/0/street", "/profile/addresses/1/city")], ["/0/from"]),
        ([("copy", "/profile/addresses/0/city", "/profile/addresses/1/city")], []),
        ([("move", "/name", "/tags/-")], ["/name"]),
    ],
    ids=str,
)
async def test_masks_are_neither_moved_nor_copied(
    client: httpx.AsyncClient, unprivileged: Callable[[], None], operations: list[Any], pointers: list[str]
) -> None:
    place = address(USERS, (await create(client, USERS, ADA))["id"])
    before = await stored_documents(USERS)
    unprivileged()
    patch = [{"op": name, "from": source, "path": target} for name, source, target in operations]

    response = await client.patch(place, content=json.dumps(patch), headers=JSON_PATCH)

    if not pointers:
        assert response.status_code == 200, response.text
        return
    code = "masked_value" if pointers != ["/name"] else "missing"  # which has nothing to do with masks
    assert faults_of(response) == [(pointer, code) for pointer in pointers]
    assert await stored_documents(USERS) == before


async def test_with_the_scope_all_can_be_moved(client: httpx.AsyncClient) -> None:
    place = address(USERS, (await create(client, USERS, ADA))["id"])
    patch = [
        {"op": "move", "from": "/profile/addresses/0", "path": "/profile/addresses/1"},
        {"op": "copy", "from": "/profile/phone", "path": "/profile/bio"},
    ]

    response = await client.patch(place, content=json.dumps(patch), headers=JSON_PATCH)

    profile = response.json()["profile"]
    assert [one["street"] for one in profile["addresses"]] == ["Second", "First"]
    assert profile["bio"] == "+44 1"


async def test_a_json_patch_gives_no_address_anothers_street(
    client: httpx.AsyncClient, unprivileged: Callable[[], None]
) -> None:
    place = address(USERS, (await create(client, USERS, ADA))["id"])
    before = await stored_documents(USERS)
    unprivileged()
    operations = [
        {"op": "remove", "path": "/profile/addresses/0"},
        {"op": "replace", "path": "/profile/addresses/0/city", "value": "Lyon"},
        {"op": "add", "path": "/profile/addresses/-", "value": {"street": "Third", "city": "Rome", "country": "IT"}},
    ]

    response = await client.patch(place, content=json.dumps(operations), headers=JSON_PATCH)

    assert faults_of(response) == [("/profile/addresses/0/street", "masked_value")]
    assert await stored_documents(USERS) == before


async def test_a_guess_in_a_private_set_tells_nothing(
    client: httpx.AsyncClient, unprivileged: Callable[[], None]
) -> None:
    place = address(EVERYTHING, (await create(client, EVERYTHING))["id"])
    assert (await client.patch(place, json={"colours": ["red"]})).status_code == 200
    unprivileged()

    answers = [await client.patch(place, json={"colours": ["***", guess]}) for guess in ("red", "blue")]

    assert [faults_of(answer) for answer in answers] == [[("/colours/0", "masked_value")]] * 2
    assert (await client.patch(place, json={"colours": ["***"], "limit": 5})).status_code == 200
    [stored] = await stored_documents(EVERYTHING)
    assert (stored["colours"], stored["limit"]) == (["red"], 5)


async def test_many_who_put_masks_at_once_lose_nothing(
    client: httpx.AsyncClient, unprivileged: Callable[[], None]
) -> None:
    place = address(USERS, (await create(client, USERS, ADA))["id"])
    unprivileged()
    seen = (await client.get(place)).json()

    answers = await asyncio.gather(*(client.put(place, json=seen | {"age": age}) for age in range(8)))

    assert [answer.status_code for answer in answers] == [200] * 8
    assert sorted(answer.json()["revision"] for answer in answers) == list(range(2, 10))
    [stored] = await stored_documents(USERS)
    assert (stored["email"], stored["profile"]["addresses"][1]["street"]) == ("ada@example.org", "Second")


async def test_masks_are_put_back_at_the_revision_that_was_named(
    client: httpx.AsyncClient, unprivileged: Callable[[], None]
) -> None:
    place = address(USERS, (await create(client, USERS, ADA))["id"])
    seen = (await client.patch(place, json={"email": "other@example.org"})).json()
    unprivileged()
    seen = (await client.get(place)).json()

    response = await client.put(place, json=seen, headers={"If-Match": '"1"'})

    assert (response.status_code, response.headers["etag"]) == (412, '"2-masked"')
    assert response.json()["current"] == seen
    assert (await client.put(address(USERS, "0" * 24), json=seen)).status_code == 404


# Files


def changed(document_type: DocumentType, file_format: str, content: bytes, column: str, text: Any) -> bytes:
    """The file with this in every cell of a column."""
    if file_format == "ndjson":
        lines = [json.loads(line) | {column: text} for line in content.splitlines()]
        return b"\n".join(json.dumps(line).encode() for line in lines)
    if file_format == "csv":
        header, *rows = csv.reader(io.StringIO(content.decode()))
        place = header.index(column)
        written = io.StringIO()
        csv.writer(written).writerows([header, *([*row[:place], text, *row[place + 1 :]] for row in rows)])
        return written.getvalue().encode()
    workbook = openpyxl.load_workbook(io.BytesIO(content))
    sheet = workbook.worksheets[0]
    place = next(cell.column for cell in sheet[1] if cell.value == column)
    for row in range(2, sheet.max_row + 1):
        sheet.cell(row, place).value = text
    saved = io.BytesIO()
    workbook.save(saved)
    return saved.getvalue()


def free_text_of(document_type: DocumentType) -> str | None:
    """A field that everybody sees and that takes any text, again and again."""
    limits = limits_of(document_type.document_class)
    unique = {path for index in document_type.indexes if index.document.get("unique") for path in index.document["key"]}
    return next(
        (
            path
            for path, field in document_type.fields.items()
            if (field.kind, field.is_repeated, field.choices, field.mask) == (Kind.TEXT, False, (), None)
            and "." not in path
            and path not in unique
            and not limits[path].keys() & {"pattern", "format", HAS_MORE}
            and limits[path].get("minLength", 0) <= len("corrected") <= limits[path].get("maxLength", 100)
        ),
        None,
    )


@every_type
@every_format
async def test_a_file_comes_back_without_changing_a_private_value(
    client: httpx.AsyncClient, document_type: DocumentType, file_format: str, unprivileged: Callable[[], None]
) -> None:
    before = await load_all(client, document_type)
    unprivileged()
    content = await export(client, Asked(document_type, file_format))

    assert await counts(client, document_type, file_format, content, mode="upsert") == {"unchanged": len(before)}
    assert await stored_documents(document_type) == before

    column = free_text_of(document_type)
    if column is None:
        return
    corrected = changed(document_type, file_format, content, column, "corrected")
    assert await counts(client, document_type, file_format, corrected, mode="upsert") == {"updated": len(before)}
    assert await stored_documents(document_type) == [stored | {column: "corrected"} for stored in before]


@every_type
@every_format
async def test_a_masked_file_makes_no_new_documents(
    client: httpx.AsyncClient, document_type: DocumentType, file_format: str, unprivileged: Callable[[], None]
) -> None:
    await create(client, document_type, with_canaries(document_type))
    unprivileged()
    content = await export(client, Asked(document_type, file_format))
    await clear(document_type)

    for mode in ("create", "upsert"):
        response = await send(client, document_type, file_format, content, mode=mode, dry_run=True)

        [row] = response.json()["failed_rows"]
        assert {error["code"] for error in row["errors"]} == {"masked_value"}
        assert all("canary" not in str(error["value"]) for error in row["errors"])


@every_type
@every_format
async def test_a_masked_file_of_somebody_else_changes_no_private_value(
    client: httpx.AsyncClient,
    document_type: DocumentType,
    file_format: str,
    unprivileged: Callable[[], None],
    privileged: Callable[[], None],
) -> None:
    await create(client, document_type, with_canaries(document_type))
    before = await stored_documents(document_type)
    unprivileged()
    content = await export(client, Asked(document_type, file_format))
    privileged()

    for mode in ("create", "upsert"):
        for dry_run in (True, False):
            response = await send(client, document_type, file_format, content, mode=mode, dry_run=dry_run)
            report = response.json().get("report", response.json())
            [row] = report["failed_rows"]
            assert {error["code"] for error in row["errors"]} == {"masked_value"}
    assert await stored_documents(document_type) == before


async def test_a_file_and_its_record_say_that_they_are_masked(
    client: httpx.AsyncClient, unprivileged: Callable[[], None]
) -> None:
    for is_masked in (False, True):
        response = await client.get(f"{address(USERS)}/export/xlsx")
        sheet = openpyxl.load_workbook(io.BytesIO(response.content)).worksheets[-1]
        about = {row[0]: row[1] for row in sheet.iter_rows(values_only=True)}
        record = (await client.get(f"/api/v1/exports/{response.headers['Export-Id']}")).json()
        assert record["is_masked"] is is_masked
        assert about.get("Private fields") == ("masked" if is_masked else None)
        unprivileged()


async def test_rows_for_each_address_keep_the_streets(
    client: httpx.AsyncClient, unprivileged: Callable[[], None]
) -> None:
    await create(client, USERS, ADA)
    before = await stored_documents(USERS)
    unprivileged()
    content = await export(client, Asked(USERS, "csv", explode="profile.addresses"))
    lines = content.splitlines(keepends=True)

    assert await counts(client, USERS, "csv", content, mode="upsert") == {"unchanged": 1}
    response = await send(
        client, USERS, "csv", b"".join([lines[0], lines[2], lines[1]]), mode="upsert", on_error="skip"
    )

    assert [error["code"] for row in response.json()["failed_rows"] for error in row["errors"]] == ["masked_value"] * 2
    assert await stored_documents(USERS) == before


@every_type
async def test_a_report_does_not_tell_whether_a_guess_is_right(
    client: httpx.AsyncClient, document_type: DocumentType, unprivileged: Callable[[], None]
) -> None:
    canaries = with_canaries(document_type)
    masked = dict.fromkeys(path.partition(".")[0] for path in document_type.masked.masks)
    names = [name for name in masked if canaries.get(name) is not None]  # an example may leave out an object
    documents = [
        await create(client, document_type, body | {name: canaries[name]})
        for name, body in zip(names, bodies(document_type, len(names)), strict=True)
    ]
    untouched = b"\n".join(json.dumps({"id": document["id"]}).encode() for document in documents)
    guesses = b"\n".join(
        json.dumps({"id": document["id"], name: canaries[name]}).encode()
        for name, document in zip(names, documents, strict=True)
    )
    unprivileged()

    for dry_run in (True, False):
        params = {"mode": "upsert", "dry_run": dry_run}
        assert await counts(client, document_type, "ndjson", untouched, **params) == {"unchanged": len(names)}
        assert await counts(client, document_type, "ndjson", guesses, **params) == {"updated": len(names)}
    revisions = [item["revision"] for item in (await client.get(address(document_type))).json()["items"]]
    assert revisions == [2] * len(names)


@every_format
async def test_a_file_tells_nothing_of_what_is_stored_and_not_valid(
    client: httpx.AsyncClient, file_format: str, unprivileged: Callable[[], None]
) -> None:
    await create(client, USERS, ADA)
    collection = USERS.document_class.get_pymongo_collection()
    change = {"$set": {"email": "canary", "profile.birthday": "canary"}}
    await collection.update_one({}, change, bypass_document_validation=True)
    unprivileged()
    content = await export(client, Asked(USERS, file_format, ("id", "age")))

    changed_age = changed(USERS, file_format, content, "age", 7)
    response = await send(client, USERS, file_format, changed_age, mode="upsert", on_error="skip")

    [row] = response.json()["failed_rows"]
    codes = [(error["column"], error["code"]) for error in row["errors"]]
    places = ["/email", "/profile/birthday"] if file_format == "ndjson" else ["email", "profile.birthday"]
    assert codes == [(place, "invalid_private_value") for place in places]
    assert "canary" not in response.text


@pytest.mark.slow
async def test_a_large_file_comes_back_too(client: httpx.AsyncClient, unprivileged: Callable[[], None]) -> None:
    for number in range(60):
        await create(client, USERS, ADA | {"email": f"{number}@example.org", "tags": [f"{number}" * 24] * 49})
    before = await stored_documents(USERS)
    unprivileged()
    content = await export(client, Asked(USERS, "ndjson"))
    padded = b"\n".join(line + b" " * 30_000 for line in content.splitlines())
    assert len(padded) > SMALL_BYTES

    assert await counts(client, USERS, "ndjson", padded, mode="upsert") == {"unchanged": len(before)}
    assert await stored_documents(USERS) == before
