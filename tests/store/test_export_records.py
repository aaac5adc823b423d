"""What is remembered of exports, when MongoDB or the service that made them fails."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from beanie import init_beanie
from pydantic import SecretStr
from pymongo import MongoClient

from service import exports
from service.api.dependencies import Services
from service.errors import DatabaseUnavailableError
from service.exports import open_exporter
from service.settings import Settings
from service.store.database import open_database
from service.store.embedded import REPLICA_SET
from service.store.export_records import Export, ExportRecords
from tests.conftest import CALLER_ID

STEP_DOWN_SECONDS = 2
DEADLINE_SECONDS = 30

pytestmark = pytest.mark.usefixtures("_no_records")


@pytest.fixture
async def _no_records(services: Services) -> None:
    await Export.get_pymongo_collection().delete_many({})


@pytest.fixture
def records() -> ExportRecords:
    """Those of a service that waits for less than an election."""
    return ExportRecords(1, timeout_seconds=0.3)


async def started(records: ExportRecords) -> Export:
    values = {"type": "users", "format": "csv", "query": "", "filename": "x", "account_id": CALLER_ID, "account": "a"}
    return await records.start(**values)


async def stored(record: Export) -> dict[str, Any]:
    found: list[dict[str, Any]] = await Export.get_pymongo_collection().find({"_id": record.id}).to_list()
    return found[0]


def step_down(mongodb_uri: str) -> None:
    """For a while there is no primary."""
    with MongoClient[dict[str, Any]](mongodb_uri) as client:
        client.admin.command("replSetStepDown", STEP_DOWN_SECONDS, secondaryCatchUpPeriodSecs=0, force=True)


@pytest.fixture
async def _as_a_set(services: Services, settings: Settings, mongodb_uri: str) -> AsyncIterator[None]:
    """The same MongoDB known as a replica set: of one that is asked directly, the driver waits for no election."""
    uri = mongodb_uri.replace("directConnection=true", f"replicaSet={REPLICA_SET}")
    try:
        async with open_database(settings.model_copy(update={"mongodb_uri": SecretStr(uri)}), [Export]):
            yield
    finally:
        # Beanie's classes know one database at a time: back to the tests' own.
        await init_beanie(services.database.handle, document_models=[Export])


@pytest.mark.usefixtures("_as_a_set")
async def test_that_a_file_is_whole_is_written_after_an_election_too(records: ExportRecords, mongodb_uri: str) -> None:
    whole, broken = await started(records), await started(records)
    step_down(mongodb_uri)

    with pytest.raises(DatabaseUnavailableError):
        await records.end(broken, "failed")
    await records.end(whole, "complete", rows=3)

    found = await stored(whole)
    assert (found["state"], found["rows"], found["revision"]) == ("complete", 3, 2)
    assert (await stored(broken))["state"] == "running"


async def test_an_export_that_gives_no_sign_of_life_has_failed_when_it_gave_the_last(records: ExportRecords) -> None:
    record = await started(records)
    await records.note_progress(record, 7, 70)
    before = await stored(record)

    await records.fail_silent(await records.find_running())

    after = await stored(record)
    changed = {name: value for name, value in after.items() if value != before[name]}
    assert changed.pop("updated_at") >= before["updated_at"]
    assert changed == {"state": "failed", "ended_at": before["updated_at"], "revision": before["revision"] + 1}


async def test_an_export_that_gave_a_sign_of_life_is_left_alone(records: ExportRecords) -> None:
    living, ended, silent = [await started(records) for _ in range(3)]
    signs = await records.find_running()
    await records.note_progress(living, 7, 70)
    await records.end(ended, "complete")
    later = await started(records)

    await records.fail_silent(signs)

    states = [(await stored(record))["state"] for record in (living, ended, silent, later)]
    assert states == ["running", "complete", "failed", "running"]


async def test_an_export_that_was_given_up_too_soon_still_has_the_last_word(records: ExportRecords) -> None:
    record = await started(records)
    await records.fail_silent(await records.find_running())

    await records.end(record, "complete", rows=3)

    assert (await stored(record))["state"] == "complete"


async def test_a_service_that_starts_gives_up_what_a_killed_one_left(
    records: ExportRecords, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "RESUME_SECONDS", 0.1)
    hurried = settings.model_copy(update={"export_stall_seconds": 0.1, "export_workers": 1})
    left = await started(records)

    async with open_exporter(hurried):
        own = await started(records)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline and (await stored(left))["state"] == "running":
            pass  # MongoDB takes its time to answer

    assert (await stored(left))["state"] == "failed"
    assert (await stored(own))["state"] == "running"


async def test_a_service_that_ends_waits_for_no_sign_of_life(records: ExportRecords, settings: Settings) -> None:
    left = await started(records)

    async with asyncio.timeout(DEADLINE_SECONDS), open_exporter(settings.model_copy(update={"export_workers": 1})):
        pass

    assert (await stored(left))["state"] == "running"
