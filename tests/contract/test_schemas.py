"""What is answered is what the published schemas say; no model checks it on the way out, so this test does."""

import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator

from service.documents.registry import DocumentType
from tests.conftest import TYPES
from tests.contract.test_documents import address, bodies, create

pytestmark = pytest.mark.parametrize("document_type", TYPES, ids=lambda document_type: document_type.name)


def assert_as_published(app: FastAPI, path: str, response: httpx.Response) -> None:
    """The body is of the schema that the route publishes for this status and media type."""
    document = app.openapi()
    operation = document["paths"][path][response.request.method.lower()]
    answer = operation["responses"][str(response.status_code)]
    media_type = response.headers["content-type"].partition(";")[0]
    schema = answer["content"][media_type]["schema"] | {"components": document["components"]}
    faults = [fault.message for fault in Draft202012Validator(schema).iter_errors(response.json())]
    assert faults == [], (path, response.status_code)
    for header in answer.get("headers", {}):
        assert header in response.headers, (path, header)


async def test_every_answer_is_as_published(
    app: FastAPI, client: httpx.AsyncClient, document_type: DocumentType
) -> None:
    first, second = bodies(document_type, 2)
    info = document_type.document_class.model_fields
    sparse = {name: value for name, value in second.items() if info[name].is_required()}
    many, one = address(document_type), address(document_type, "{document_id}")
    document = await create(client, document_type, first)
    place = address(document_type, document["id"])

    assert_as_published(app, many, await client.post(many, json=sparse))
    assert_as_published(app, many, await client.post(many, json=first))
    assert_as_published(app, many, await client.post(many, json={"nonsense": 1}))
    assert_as_published(app, many, await client.post(many, content=b"x"))
    for params in ({}, {"limit": "1"}, {"count": "none"}, {"count": "estimated"}, {"nonsense": "1"}):
        assert_as_published(app, many, await client.get(many, params=params))
    for path in document_type.fields:
        assert_as_published(app, many, await client.get(many, params={"fields": path}))
    assert_as_published(app, one, await client.get(place))
    assert_as_published(app, one, await client.get(place + "0"))
    assert_as_published(app, one, await client.put(place, json=first))
    assert_as_published(app, one, await client.put(place, json=first, headers={"If-Match": '"1"'}))
    assert_as_published(app, one, await client.put(place, json=first, headers={"If-Match": "1"}))
    assert_as_published(app, one, await client.patch(place, json={}))
    assert_as_published(app, one, await client.delete(place, headers={"If-Match": '"1"'}))
    assert_as_published(app, f"{many}/export/{{format_name}}", await client.get(f"{many}/export/nonsense"))


async def test_the_schema_by_itself_describes_each_document(
    client: httpx.AsyncClient, document_type: DocumentType
) -> None:
    schema = (await client.get(address(document_type, "schema"))).json()
    Draft202012Validator.check_schema(schema)
    for body in bodies(document_type, 5):
        document = await create(client, document_type, body)
        assert [fault.message for fault in Draft202012Validator(schema).iter_errors(document)] == []


async def test_what_the_published_schema_takes_the_service_takes(
    app: FastAPI, client: httpx.AsyncClient, document_type: DocumentType
) -> None:
    components: dict[str, Any] = json.loads(json.dumps(app.openapi()["components"]))
    schema = {"$ref": f"#/components/schemas/{document_type.title}Create", "components": components}
    for body in bodies(document_type, 5):
        assert [fault.message for fault in Draft202012Validator(schema).iter_errors(body)] == []
        await create(client, document_type, body)
