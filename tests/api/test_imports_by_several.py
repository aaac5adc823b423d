"""Imports whose documents several processes prepare, as those of large files are."""

import httpx
import orjson
import pytest

import service.imports.importer
from service.documents.registry import DocumentType
from service.samples import Sampler
from tests.conftest import TYPES
from tests.contract.test_documents import address

ROWS = 2_200
"""Several parts for each of the processes."""


@pytest.fixture(autouse=True)
def _every_file_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.imports.importer, "SMALL_BYTES", 0)
    monkeypatch.setattr(service.imports.importer, "LANES", 2)


def lines(document_type: DocumentType) -> list[bytes]:
    return [orjson.dumps(body) for body in Sampler(document_type).bodies(ROWS)]


async def send(client: httpx.AsyncClient, document_type: DocumentType, content: bytes, query: str) -> httpx.Response:
    headers = {"Content-Type": "application/x-ndjson"}
    return await client.post(f"{address(document_type)}/import?{query}", content=content, headers=headers, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("document_type", TYPES, ids=lambda document_type: document_type.name)
async def test_rows_keep_their_order_and_their_numbers(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    """Also of a type whose class has rules of its own, which have to be asked in those processes."""
    sent = lines(document_type)
    bad = {1, 499, 500, 501, 1_730, ROWS}
    content = b"\n".join(b'{"unknown": 1}' if row in bad else line for row, line in enumerate(sent, start=1))

    report = (await send(client, document_type, content, "on_error=skip")).json()

    assert report["state"] == "complete"
    assert (report["rows"], report["created"], report["failed"]) == (ROWS, ROWS - len(bad), len(bad))
    assert [failed["row"] for failed in report["failed_rows"]] == sorted(bad)
    page = (await client.get(f"{address(document_type)}?limit=1000&sort=id")).json()
    first = [orjson.loads(line) for row, line in enumerate(sent, start=1) if row not in bad][:1000]
    assert all(item.items() >= plain(body).items() for item, body in zip(page["items"], first, strict=True))


def plain(body: dict[str, object]) -> dict[str, object]:
    """Of a body, what comes back as it was sent."""
    return {
        name: value for name, value in body.items() if isinstance(value, int | str) and name in {"name", "sku", "left"}
    }


async def test_an_upsert_goes_the_same_way(client: httpx.AsyncClient) -> None:
    users = next(document_type for document_type in TYPES if document_type.name == "users")
    content = b"\n".join(lines(users))
    await send(client, users, content, "on_error=skip")

    again = (await send(client, users, content, "mode=upsert&key=email")).json()

    assert (again["unchanged"], again["created"], again["updated"], again["failed"]) == (ROWS, 0, 0, 0)
