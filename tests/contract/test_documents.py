"""What every document type promises over HTTP; each test runs for every type."""

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from service.auth.scopes import ACTIONS
from service.documents.base import SERVER_FIELDS
from service.documents.fields import Kind
from service.documents.registry import DocumentType
from service.samples import Sampler
from tests.conftest import TYPES

pytestmark = pytest.mark.parametrize("document_type", TYPES, ids=lambda document_type: document_type.name)

UNKNOWN_ID = "0123456789abcdef01234567"


def address(document_type: DocumentType, document_id: str | None = None) -> str:
    return f"/api/v1/{document_type.name}" + (f"/{document_id}" if document_id else "")


def bodies(document_type: DocumentType, count: int) -> Iterator[dict[str, Any]]:
    return Sampler(document_type).bodies(count)


async def create(client: httpx.AsyncClient, document_type: DocumentType, body: Any = None) -> dict[str, Any]:
    response = await client.post(address(document_type), json=body or document_type.example)
    assert response.status_code == 201, response.text
    document: dict[str, Any] = response.json()
    return document


def without_server_fields(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in SERVER_FIELDS}


async def test_what_is_created_is_read_back_whole(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    response = await client.post(address(document_type), json=document_type.example)

    assert response.status_code == 201
    document = response.json()
    assert response.headers["etag"] == '"1"'
    assert response.headers["location"] == address(document_type, document["id"])
    assert list(document) == [path for path in document_type.fields if "." not in path]
    assert document["created_at"] == document["updated_at"]
    assert document["revision"] == 1
    read = await client.get(response.headers["location"])
    assert read.status_code == 200
    assert read.headers["etag"] == '"1"'
    assert read.json() == document


async def test_mongosh_shows_what_the_api_shows(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    document = await create(client, document_type)

    stored = await document_type.document_class.get_pymongo_collection().find_one({})

    assert stored is not None
    assert {"id" if name == "_id" else name for name in stored} == set(document)


async def test_what_get_answered_can_be_put_back(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    document = await create(client, document_type)

    response = await client.put(address(document_type, document["id"]), json=document)

    assert response.status_code == 200
    assert without_server_fields(response.json()) == without_server_fields(document)
    assert response.json()["id"] == document["id"]
    assert response.json()["created_at"] == document["created_at"]
    assert response.json()["revision"] == 2
    assert response.headers["etag"] == '"2"'


async def test_server_fields_in_a_body_are_ignored(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    forged = {"id": UNKNOWN_ID, "created_at": "never", "updated_at": 0, "revision": 99}

    document = await create(client, document_type, document_type.example | forged)

    assert document["id"] != UNKNOWN_ID
    assert document["revision"] == 1
    patched = await client.patch(address(document_type, document["id"]), json=forged)
    assert patched.status_code == 200
    assert patched.json()["id"] == document["id"]
    assert patched.json()["created_at"] == document["created_at"]
    assert patched.json()["revision"] == 2


async def test_put_replaces_all_of_it(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    first, second = bodies(document_type, 2)
    document = await create(client, document_type, first)

    response = await client.put(address(document_type, document["id"]), json=second)

    assert response.status_code == 200
    await client.delete(address(document_type, document["id"]))
    expected = await create(client, document_type, second)
    assert without_server_fields(response.json()) == without_server_fields(expected)


async def test_put_leaves_nothing_that_somebody_wrote_by_hand(
    client: httpx.AsyncClient, document_type: DocumentType
) -> None:
    document = await create(client, document_type)
    collection = document_type.document_class.get_pymongo_collection()
    await collection.update_one({}, {"$set": {"stray": 1}}, bypass_document_validation=True)

    assert "stray" not in (await client.get(address(document_type, document["id"]))).json()
    await client.put(address(document_type, document["id"]), json=document)

    assert "stray" not in (await collection.find_one({}) or {"stray": "gone"})


@pytest.mark.parametrize("media_type", ["application/json", "application/merge-patch+json"])
async def test_patch_changes_what_it_names(
    client: httpx.AsyncClient, document_type: DocumentType, media_type: str
) -> None:
    first, second = bodies(document_type, 2)
    document = await create(client, document_type, first)
    path = next(iter(document_type.indexes[0].document["key"]))

    response = await client.request(
        "PATCH",
        address(document_type, document["id"]),
        content=json.dumps({path: second[path]}),
        headers={"Content-Type": media_type},
    )

    assert response.status_code == 200, response.text
    assert without_server_fields(response.json()) == without_server_fields(document) | {path: second[path]}
    assert response.json()["revision"] == 2


JSON_PATCH = {"Content-Type": "application/json-patch+json"}


async def test_a_json_patch_does_all_of_its_operations(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    first, second = bodies(document_type, 2)
    document = await create(client, document_type, first)
    path = next(iter(document_type.indexes[0].document["key"]))
    operations = [
        {"op": "test", "path": f"/{path}", "value": document[path]},
        {"op": "test", "path": "/revision", "value": 1},
        {"op": "replace", "path": f"/{path}", "value": second[path]},
        {"op": "add", "path": "/id", "value": "ignored"},
    ]

    response = await client.patch(
        address(document_type, document["id"]), content=json.dumps(operations), headers=JSON_PATCH
    )

    assert response.status_code == 200, response.text
    assert without_server_fields(response.json()) == without_server_fields(document) | {path: second[path]}
    assert (response.json()["id"], response.json()["revision"]) == (document["id"], 2)


async def test_a_json_patch_that_fails_changes_nothing(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    document = await create(client, document_type)
    path = next(iter(document_type.indexes[0].document["key"]))
    removal = {"op": "remove", "path": f"/{path}"}
    for operation, status, code in [
        ({"op": "test", "path": "/revision", "value": 7}, 409, "patch_test_failed"),
        ({"op": "remove", "path": "/nonsense"}, 422, "validation_failed"),
        ({"op": "add", "path": "/nonsense", "value": 1}, 422, "validation_failed"),
        ({"op": "add", "path": "/$set", "value": 1}, 422, "validation_failed"),
    ]:
        response = await client.patch(
            address(document_type, document["id"]), content=json.dumps([removal, operation]), headers=JSON_PATCH
        )
        assert (response.status_code, response.json()["code"]) == (status, code), operation
    assert (await client.get(address(document_type, document["id"]))).json() == document


async def test_the_schema_describes_what_is_read(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    document = await create(client, document_type)

    response = await client.get(address(document_type, "schema"))

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/schema+json"
    schema = response.json()
    assert list(schema["properties"]) == list(document)
    assert set(schema["required"]) == set(document)


async def test_patch_with_nothing_changes_only_the_revision(
    client: httpx.AsyncClient, document_type: DocumentType
) -> None:
    document = await create(client, document_type)

    response = await client.patch(address(document_type, document["id"]), json={})

    assert without_server_fields(response.json()) == without_server_fields(document)
    assert response.json()["revision"] == 2


async def test_patch_with_null_removes(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    document = await create(client, document_type)
    info = document_type.document_class.model_fields
    optional = [name for name in without_server_fields(document) if not info[name].is_required()]

    response = await client.patch(address(document_type, document["id"]), json=dict.fromkeys(optional))

    assert response.status_code == 200
    sparse = {name: value for name, value in document_type.example.items() if name not in optional}
    await client.delete(address(document_type, document["id"]))
    expected = await create(client, document_type, sparse)
    assert without_server_fields(response.json()) == without_server_fields(expected)


async def test_a_required_field_cannot_be_removed(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    document = await create(client, document_type)
    required = [name for name, info in document_type.document_class.model_fields.items() if info.is_required()]

    response = await client.patch(address(document_type, document["id"]), json=dict.fromkeys(required))

    assert response.status_code == 422
    assert {fault["pointer"] for fault in response.json()["errors"]} == {f"/{name}" for name in required}
    assert (await client.get(address(document_type, document["id"]))).json() == document


async def test_what_is_deleted_is_gone(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    document = await create(client, document_type)

    response = await client.delete(address(document_type, document["id"]))

    assert response.status_code == 204
    assert response.content == b""
    assert (await client.get(address(document_type, document["id"]))).status_code == 404


@pytest.mark.parametrize("document_id", [UNKNOWN_ID, "nonsense", "%00", "0123456789abcdef0123456"])
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
async def test_what_is_not_there_is_not_found(
    client: httpx.AsyncClient, document_type: DocumentType, method: str, document_id: str
) -> None:
    body = None if method in {"GET", "DELETE"} else document_type.example

    response = await client.request(method, address(document_type, document_id), json=body)

    assert response.status_code == 404
    assert response.json()["code"] == "not_found"
    assert response.headers["content-type"] == "application/problem+json"


async def test_each_unique_index_answers_409_by_its_fields(
    client: httpx.AsyncClient, document_type: DocumentType
) -> None:
    first, second = bodies(document_type, 2)
    await create(client, document_type, first)
    document = await create(client, document_type, second)
    for model in document_type.indexes:
        if not model.document.get("unique"):
            continue
        paths = list(model.document["key"])
        same = copy.deepcopy(second)
        for path in paths:
            same[path] = first[path]

        for response in (
            await client.put(address(document_type, document["id"]), json=same),
            await client.patch(address(document_type, document["id"]), json={path: first[path] for path in paths}),
        ):
            assert response.status_code == 409
            assert response.json()["code"] == "duplicate_value"
            assert [fault["pointer"] for fault in response.json()["errors"]] == [f"/{path}" for path in paths]
        await client.delete(address(document_type, document["id"]))
        assert (await client.post(address(document_type), json=same)).status_code == 409
        document = await create(client, document_type, second)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("tag", ['"2"', '"0"', '"x"', 'W/"1"', '"2", "3"'])
async def test_a_write_to_another_revision_is_refused_with_the_present_document(
    client: httpx.AsyncClient, document_type: DocumentType, method: str, tag: str
) -> None:
    document = await create(client, document_type)
    body = None if method == "DELETE" else document_type.example

    response = await client.request(
        method, address(document_type, document["id"]), json=body, headers={"If-Match": tag}
    )

    assert response.status_code == 412
    assert response.json()["code"] == "revision_mismatch"
    assert response.json()["current"] == document
    assert response.headers["etag"] == '"1"'
    assert (await client.get(address(document_type, document["id"]))).json() == document


@pytest.mark.parametrize("tag", ['"1"', "*", '"7", "1"'])
async def test_a_write_to_the_named_revision_is_done(
    client: httpx.AsyncClient, document_type: DocumentType, tag: str
) -> None:
    document = await create(client, document_type)

    response = await client.put(
        address(document_type, document["id"]), json=document_type.example, headers={"If-Match": tag}
    )

    assert response.status_code == 200
    deletion = await client.delete(address(document_type, document["id"]), headers={"If-Match": '"2"'})
    assert deletion.status_code == 204


@pytest.mark.parametrize(("tag", "status"), [('"1"', 304), ('W/"1"', 304), ("*", 304), ('"2"', 200), ('"x"', 200)])
async def test_what_the_caller_has_is_not_sent_again(
    client: httpx.AsyncClient, document_type: DocumentType, tag: str, status: int
) -> None:
    document = await create(client, document_type)

    response = await client.get(address(document_type, document["id"]), headers={"If-None-Match": tag})

    assert response.status_code == status
    assert response.headers["etag"] == '"1"'
    assert bool(response.content) == (status == 200)


async def test_all_faults_of_a_body_come_at_once(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    required = [name for name, info in document_type.document_class.model_fields.items() if info.is_required()]

    response = await client.post(address(document_type), json={"nonsense": 1, "more": 2})

    assert response.status_code == 422
    assert response.json()["code"] == "validation_failed"
    pointers = {fault["pointer"] for fault in response.json()["errors"]}
    assert pointers == {"/nonsense", "/more", *(f"/{name}" for name in required)}
    assert (await client.get(address(document_type))).json()["total"] == 0


async def test_unknown_fields_are_refused_at_every_depth(
    client: httpx.AsyncClient, document_type: DocumentType
) -> None:
    def with_stray(value: Any, pointer: str) -> Iterator[str]:
        members = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in list(members):
            path = f"{pointer}/{name}"
            plain = "".join(f".{part}" for part in path.split("/") if part and not part.isdigit())[1:]
            field = document_type.fields.get(plain)
            if field is not None and field.kind is Kind.OBJECT:
                yield from with_stray(inner, path)
        if isinstance(value, dict):
            value["stray"] = 1
            yield f"{pointer}/stray"

    body = copy.deepcopy(document_type.example)
    expected = set(with_stray(body, ""))

    response = await client.post(address(document_type), json=body)

    assert response.status_code == 422
    assert {fault["pointer"] for fault in response.json()["errors"]} == expected


async def test_who_may_only_delete_is_not_shown_what_is_there(
    client: httpx.AsyncClient, document_type: DocumentType, as_caller: Any
) -> None:
    document = await create(client, document_type)
    as_caller({f"{document_type.name}:delete"})

    response = await client.delete(address(document_type, document["id"]), headers={"If-Match": '"7"'})

    assert response.json()["code"] == "revision_mismatch"
    assert "current" not in response.json()


@pytest.mark.parametrize("action", [action for action in ACTIONS if action != "private"])
async def test_each_route_asks_for_its_scope(
    app: Any, client: httpx.AsyncClient, document_type: DocumentType, action: str, as_caller: Any
) -> None:
    requests = {
        "read": [("GET", ""), ("GET", UNKNOWN_ID), ("GET", "schema")],
        "write": [("POST", ""), ("PUT", UNKNOWN_ID), ("PATCH", UNKNOWN_ID)],
        "delete": [("DELETE", UNKNOWN_ID)],
        "export": [("GET", "export/csv"), ("GET", "export/xlsx")],
    }
    needed = f"{document_type.name}:{action}"
    others = {scope for known in TYPES for scope in (f"{known.name}:{each}" for each in ACTIONS)} - {needed}
    for method, rest in requests[action]:
        as_caller(others)
        refused = await client.request(method, address(document_type, rest))
        assert refused.status_code == 403
        assert refused.json()["code"] == "insufficient_scope"
        assert needed in refused.json()["detail"]
        assert f'scope="{needed}"' in refused.headers["www-authenticate"]
        as_caller({needed})
        assert (await client.request(method, address(document_type, rest))).status_code not in {401, 403}


@pytest.mark.parametrize(
    ("method", "rest"), [("GET", ""), ("POST", ""), ("GET", UNKNOWN_ID), ("DELETE", UNKNOWN_ID), ("GET", "export/csv")]
)
async def test_nobody_gets_in_without_a_token(
    anonymous: httpx.AsyncClient, document_type: DocumentType, method: str, rest: str
) -> None:
    response = await anonymous.request(method, address(document_type, rest))

    assert response.status_code == 401
    assert response.json()["code"] == "not_authenticated"
    assert response.headers["www-authenticate"] == 'Bearer realm="dossier"'
