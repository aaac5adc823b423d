"""What MongoDB refuses of each type, whoever writes it."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from bson import ObjectId
from pymongo.errors import WriteError

from service.api.dependencies import Services
from service.documents.registry import DocumentType
from service.store.failures import DOCUMENT_VALIDATION_FAILURE
from service.store.repository import new_document
from service.store.schemas import validate_body
from service.store.validators import compare_validators
from tests.conftest import TYPES

pytestmark = [
    pytest.mark.usefixtures("anonymous"),
    pytest.mark.parametrize("document_type", TYPES, ids=lambda document_type: document_type.name),
]

Document = dict[str, Any]


async def test_each_type_has_its_validator(services: Services, document_type: DocumentType) -> None:
    [known] = await compare_validators(services.database.handle, [document_type], 10)

    assert known.state == "present"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda stored: {**stored, "stray": 1},
        lambda stored: {**stored, "_id": "by hand"},
        lambda stored: {**stored, "created_at": "today"},
        lambda stored: {**stored, "revision": 1.5},
        lambda stored: {"_id": stored["_id"]},
        lambda stored: {name: value if name == "_id" else {"odd": value} for name, value in stored.items()},
    ],
    ids=["unknown field", "id", "time", "revision", "nothing", "objects"],
)
async def test_a_bad_document_is_refused_also_by_hand(
    document_type: DocumentType, spoil: Callable[[Document], Document]
) -> None:
    collection = document_type.document_class.get_pymongo_collection()
    stored = new_document(ObjectId(), validate_body(document_type.whole, document_type.example))
    await collection.insert_one(stored)

    with pytest.raises(WriteError) as refusal:
        await collection.insert_one(spoil({**stored, "_id": ObjectId()}))

    assert refusal.value.code == DOCUMENT_VALIDATION_FAILURE
    assert await collection.count_documents({}) == 1


async def test_what_the_api_changes_is_valid(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    path = f"/api/v1/{document_type.name}"
    created = await client.post(path, json=document_type.example)
    address = f"{path}/{created.json()['id']}"

    replaced = await client.put(address, json=created.json())
    patched = await client.patch(address, json={})

    assert (created.status_code, replaced.status_code, patched.status_code) == (201, 200, 200)
