"""Views in the database that show types without their private fields."""

import json
from typing import Any

import httpx
import pytest
from bson import json_util

from service.api.dependencies import Services
from service.cli.database import print_views
from service.documents.registry import DocumentType, registered_types
from service.documents.user import User
from service.store.views import view_of
from tests.canaries import TRACES, every_type, with_canaries


async def seen_through(services: Services, document_type: DocumentType) -> list[dict[str, Any]]:
    """What its view shows of the documents that there are."""
    database = services.database.handle
    view = view_of(document_type)
    await database[view["view"]].drop()
    await database.create_collection(view["view"], viewOn=view["viewOn"], pipeline=view["pipeline"])
    try:
        return await database[view["view"]].find().to_list()
    finally:
        await database[view["view"]].drop()


@every_type
async def test_a_view_shows_nothing_private(
    document_type: DocumentType, client: httpx.AsyncClient, services: Services
) -> None:
    body = with_canaries(document_type)
    assert (await client.post(f"/api/v1/{document_type.name}", json=body)).status_code == 201
    # What an older class left behind is nobody's to see either.
    await services.database.handle[document_type.name].update_one(
        {}, {"$set": {"former": "canary"}}, bypass_document_validation=True
    )

    [seen] = await seen_through(services, document_type)

    text = json.dumps(seen, default=json_util.default)
    assert not [trace for trace in TRACES if trace in text]
    assert {"_id", "created_at", "updated_at", "revision"} < set(seen)


async def test_a_view_shows_all_else(client: httpx.AsyncClient, services: Services) -> None:
    users = DocumentType(User)
    await client.post("/api/v1/users", json=users.example)

    [seen] = await seen_through(services, users)

    assert (seen["name"], seen["age"], seen["tags"]) == ("Ada Lovelace", 36, ["mathematics"])
    assert seen["profile"] == {
        "bio": "Wrote the first program.",
        "addresses": [{"city": "London", "zipcode": "SW1Y 4JH", "country": "GB"}],
    }


def test_the_command_prints_the_views_of_all_types(capsys: pytest.CaptureFixture[str]) -> None:
    print_views()

    assert json.loads(capsys.readouterr().out) == [view_of(document_type) for document_type in registered_types()]


def test_no_type_can_have_the_name_of_a_view() -> None:
    views = {view_of(document_type)["view"] for document_type in registered_types()}

    assert views == {"analyst.items", "analyst.users"}
    assert not views & {document_type.name for document_type in registered_types()}
