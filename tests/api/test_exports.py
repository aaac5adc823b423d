"""How exports share the service."""

from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from service.api.dependencies import Services
from service.store.query import Selection
from service.store.repository import Repository

EXPORT = "/api/v1/users/export/csv"


async def test_more_exports_than_may_run_are_told_to_come_back(client: httpx.AsyncClient, services: Services) -> None:
    with ExitStack() as others:
        for _ in range(services.settings.exports_at_once):
            others.enter_context(services.export_slots.take())

        refused = await client.get(EXPORT)

    assert refused.status_code == 429
    assert refused.json()["code"] == "too_many_exports"
    assert int(refused.headers["retry-after"]) > 0
    assert (await client.get(EXPORT)).status_code == 200


@pytest.mark.parametrize(
    "params", [{"explode": "name"}, {"q": "(", "q_mode": "regex"}, {"q": "[z-a]", "q_mode": "regex"}]
)
async def test_a_refused_export_holds_no_place(
    client: httpx.AsyncClient, services: Services, params: dict[str, str]
) -> None:
    await client.post("/api/v1/users", json={"name": "a", "email": "a@example.org"})

    for _ in range(services.settings.exports_at_once + 1):
        assert (await client.get(EXPORT, params=params)).status_code == 400

    assert (await client.get(EXPORT)).status_code == 200


async def test_a_later_failure_leaves_the_file_visibly_broken(
    client: httpx.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = services.repositories["users"]
    await users.load({"name": "n", "email": f"{number}@example.org"} for number in range(3000))
    original = Repository.stream

    async def breaking(self: Repository, selection: Selection) -> Any:
        async for batch in original(self, selection):
            yield batch
            raise OSError("the inside")

    monkeypatch.setattr(Repository, "stream", breaking)

    with pytest.raises(OSError, match="the inside"):  # which the server answers by closing the connection
        await client.get(EXPORT)
