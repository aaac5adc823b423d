"""What every document type promises over HTTP; each test runs for every type."""

from typing import Any

import httpx
import pytest

from service.documents.registry import DocumentType
from tests.conftest import TYPES

pytestmark = pytest.mark.parametrize("document_type", TYPES, ids=lambda document_type: document_type.name)


def url(document_type: DocumentType, document_id: str = "") -> str:
    return f"/api/v1/{document_type.name}" + (f"/{document_id}" if document_id else "")


async def create(client: httpx.AsyncClient, document_type: DocumentType) -> dict[str, Any]:
    response = await client.post(url(document_type), json=document_type.example)
    assert response.status_code == 201, response.text
    document: dict[str, Any] = response.json()
    return document


async def test_what_is_created_is_read_back_whole(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    response = await client.post(url(document_type), json=document_type.example)

    assert response.status_code == 201
    document = response.json()
    assert response.headers["etag"] == '"1"'
    assert response.headers["location"] == url(document_type, document["id"])
    read = await client.get(response.headers["location"])
    assert read.status_code == 200
    assert read.headers["etag"] == '"1"'
    assert read.json() == document
    top_level = [path for path in document_type.fields if "." not in path]
    assert list(document) == top_level
