"""The audit trail: what is written into it, by which requests, and who may read it."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from service.api.dependencies import Services
from service.store.audit_records import AuditEvent
from tests.conftest import CALLER_ID, CommandRecorder

ADMIN = "accounts:admin"
USERS = "/api/v1/users"
ADA = {"name": "Ada", "email": "ada@example.org", "profile": {"bio": "canary"}}


async def events() -> list[AuditEvent]:
    """All of them, oldest first."""
    return await AuditEvent.find({}).sort("_id").to_list()


async def create(client: httpx.AsyncClient, **changes: Any) -> str:
    response = await client.post(USERS, json=ADA | changes)
    assert response.status_code == 201, response.text
    identifier: str = response.json()["id"]
    return identifier


async def test_a_deletion_is_written_down_once_it_has_happened(client: httpx.AsyncClient, services: Services) -> None:
    identifier = await create(client)
    path = f"{USERS}/{identifier}"
    assert (await client.delete(path, headers={"If-Match": '"7"'})).status_code == 412
    assert await events() == []

    response = await client.delete(path, headers={"X-Request-ID": "the-request"})

    assert response.status_code == 204
    [event] = await events()
    assert (event.action, event.outcome, event.type, event.target) == ("document_deleted", "done", "users", identifier)
    assert (event.account, event.account_id, event.client_id) == ("tester", CALLER_ID, "tests")
    assert (event.address, event.request_id) == ("127.0.0.1", "the-request")
    assert event.expires_at - event.created_at == timedelta(days=services.settings.audit_days)
    assert "canary" not in event.model_dump_json()
    assert (await client.delete(path)).status_code == 404
    assert len(await events()) == 1


async def test_an_export_is_written_down_as_it_begins(client: httpx.AsyncClient) -> None:
    await create(client)
    assert (await client.get(f"{USERS}/export/nonsense")).status_code == 400

    response = await client.get(f"{USERS}/export/csv?name=Ada")

    [event] = await events()
    assert (event.action, event.type, event.target) == ("export", "users", response.headers["Export-Id"])
    assert event.account == "tester"


async def test_an_import_is_written_down_as_it_begins_a_dry_run_too_and_a_replay_is_not(
    client: httpx.AsyncClient,
) -> None:
    async def send(query: str = "") -> httpx.Response:
        headers = {"Content-Type": "text/csv", "Idempotency-Key": f"key{query}"}
        return await client.post(f"{USERS}/import{query}", content=b"name,email\nAda,a@example.org\n", headers=headers)

    tried = await send("?dry_run=true")  # which changes nothing, but asks for what is there
    first, again = await send(), await send()

    assert again.headers["Idempotency-Replayed"] == "true"
    for event, response in zip(await events(), (tried, first), strict=True):
        assert (event.action, event.type, event.target) == ("import", "users", response.headers["Import-Id"])


@pytest.mark.parametrize(
    ("method", "path", "writes"),
    [
        ("GET", USERS, 0),
        ("GET", f"{USERS}/{{id}}", 0),
        ("GET", "/api/v1/audit", 0),
        ("GET", f"{USERS}/export/csv", 1),
        ("DELETE", f"{USERS}/{{id}}", 1),
    ],
)
async def test_an_audited_request_writes_once_more_and_a_read_never(
    client: httpx.AsyncClient, recorder: CommandRecorder, method: str, path: str, writes: int
) -> None:
    path = path.format(id=await create(client))
    recorder.commands.clear()

    assert (await client.request(method, path)).is_success

    into_audit = [command for command in recorder.commands if command.get("insert") == "audit"]
    assert len(into_audit) == writes
    assert "quotas" not in str(recorder.commands), "an account that has no rate limit is not counted"
    if not writes:
        assert set(recorder.names) <= {"find", "aggregate", "getMore"}


async def test_it_is_listed_filtered_and_read_as_documents_are(client: httpx.AsyncClient) -> None:
    identifiers = [await create(client, email=f"{number}@example.org") for number in range(3)]
    for identifier in identifiers:
        await client.delete(f"{USERS}/{identifier}")
    await client.get(f"{USERS}/export/csv")

    newest = (await client.get("/api/v1/audit?sort=-created_at&limit=1&fields=action")).json()
    assert [item["action"] for item in newest["items"]] == ["export"]
    query = {"action": "document_deleted", "account": "tester", "target__in": ",".join(identifiers[:2])}
    page = (await client.get("/api/v1/audit", params=query)).json()
    assert [item["target"] for item in page["items"]] == identifiers[:2]
    one = await client.get(f"/api/v1/audit/{page['items'][0]['id']}")
    assert one.json() == page["items"][0]
    assert (await client.get(f"/api/v1/audit/{'0' * 24}")).status_code == 404
    assert (await client.get("/api/v1/audit?password=x")).status_code == 400
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert (await client.request(method, f"/api/v1/audit/{page['items'][0]['id']}")).status_code == 405


async def test_only_those_who_manage_accounts_read_it(
    client: httpx.AsyncClient, services: Services, as_caller: Callable[[Iterable[str]], None]
) -> None:
    await client.delete(f"{USERS}/{await create(client)}")
    [event] = await events()
    as_caller(set(services.scopes) - {ADMIN})

    for path in ("/api/v1/audit", f"/api/v1/audit/{event.id}"):
        refused = await client.get(path)
        assert refused.status_code == 403
        assert refused.json()["code"] == "insufficient_scope"
        assert ADMIN in refused.headers["www-authenticate"]
        assert (await client.get(path, headers={"Authorization": ""})).status_code == 401
    as_caller({ADMIN})
    assert (await client.get("/api/v1/audit")).json()["total"] == 1


async def test_mongodb_removes_events_by_itself() -> None:
    indexes = await AuditEvent.get_pymongo_collection().index_information()

    assert indexes["expires_at"]["expireAfterSeconds"] == 0
