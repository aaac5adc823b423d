"""What is remembered of imports: which may begin, which was done before, and which has died."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId

from service.api.dependencies import Services
from service.errors import IdempotencyKeyReusedError, ImportRunningError
from service.store import import_records
from service.store.import_records import LEASE_SECONDS, REPLAY_HOURS, SEED_BYTES, Import, ImportRecords, Started
from tests.conftest import CALLER_ID

OTHER_ID = "0" * 24
VALUES: dict[str, Any] = {
    "type": "users",
    "format": "csv",
    "filename": "users.csv",
    "bytes": 10,
    "sha256": "a" * 64,
    "query": "mode=create",
    "mode": "create",
    "on_error": "abort",
    "dry_run": False,
    "account_id": CALLER_ID,
    "account": "tester",
}

pytestmark = pytest.mark.usefixtures("_no_records")


@pytest.fixture(autouse=True)
def _the_second_look_comes_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_records, "LOOK_AGAIN_SECONDS", 0.1)


@pytest.fixture
async def _no_records(services: Services) -> None:
    await Import.get_pymongo_collection().delete_many({})


@pytest.fixture
def records() -> ImportRecords:
    """The records, kept for 30 days."""
    return ImportRecords(30, timeout_seconds=10)


async def start(records: ImportRecords, **values: Any) -> Started:
    return await records.start(**{**VALUES, **values})


async def stored(key: ObjectId) -> dict[str, Any]:
    [found] = await Import.get_pymongo_collection().find({"_id": key}).to_list()
    return dict(found)


async def state(key: ObjectId) -> str:
    return str((await stored(key))["state"])


async def set_back(key: ObjectId, name: str, **span: float) -> None:
    """As if this had been so much earlier."""
    earlier = (await stored(key))[name] - timedelta(**span)
    await Import.get_pymongo_collection().update_one({"_id": key}, {"$set": {name: earlier}})


async def fall_silent(key: ObjectId) -> None:
    """As if there had been no sign of life for a while."""
    await set_back(key, "updated_at", seconds=LEASE_SECONDS + 1)


async def test_a_record_says_what_was_asked_and_by_whom(records: ImportRecords) -> None:
    started = await start(records, request_id="r", idempotency_key="k")

    found = await stored(started.key)
    assert found | VALUES | {"account_id": ObjectId(CALLER_ID)} == found | {"account_id": ObjectId(CALLER_ID)}
    assert (found["state"], found["revision"], found["rows"], found["earlier"]) == ("running", 1, 0, None)
    assert found["expires_at"] - found["created_at"] == timedelta(days=30)
    assert found["seed"] == started.seed
    assert len(started.seed) == SEED_BYTES
    assert not started.is_replay


async def test_progress_is_a_sign_of_life_until_the_end(records: ImportRecords) -> None:
    started = await start(records)
    await fall_silent(started.key)

    await records.note_progress(started.key, created=3)
    alive = await stored(started.key)
    await records.end(started.key, "complete", created=5, failed_table={"text": "a,b", "left_out": 2}, seconds=1.5)
    await records.note_progress(started.key, created=4)

    assert (alive["created"], alive["revision"], alive["state"]) == (3, 2, "running")
    assert datetime.now() - alive["updated_at"] < timedelta(days=1)  # noqa: DTZ005 - set back by seconds, in any zone
    ended = await stored(started.key)
    assert (ended["created"], ended["state"], ended["seconds"], ended["revision"]) == (5, "complete", 1.5, 3)
    assert ended["ended_at"] == ended["updated_at"]
    assert await records.table(started.key) == ("a,b", 2)
    assert await records.table(ObjectId()) == ("", 0)


async def test_what_became_of_it_stays_so(records: ImportRecords) -> None:
    started = await start(records)
    await records.end(started.key, "complete", created=5)

    await records.end(started.key, "failed", created=0)

    assert (await state(started.key), (await stored(started.key))["created"]) == ("complete", 5)


async def test_values_are_never_read_as_expressions(records: ImportRecords) -> None:
    started = await start(records)
    rows = [{"row": 2, "errors": [{"column": "$name", "code": "x", "message": "$$ROOT", "value": "$sha256"}]}]

    await records.end(started.key, "refused", failed_rows=rows, failed_table={"text": "$name", "left_out": 0})

    assert (await stored(started.key))["failed_rows"] == rows
    assert await records.table(started.key) == ("$name", 0)


# The same file


async def test_the_same_file_is_not_imported_twice_at_once(records: ImportRecords) -> None:
    await start(records)

    with pytest.raises(ImportRunningError):
        await start(records, query="mode=upsert", mode="upsert", account_id=OTHER_ID)
    await start(records, sha256="b" * 64)
    await start(records, type="items")


async def test_of_twenty_that_start_together_one_does(records: ImportRecords) -> None:
    async def attempt() -> str:
        try:
            await start(records)
        except ImportRunningError:
            return "refused"
        return "started"

    assert sorted(await asyncio.gather(*(attempt() for _ in range(20)))) == ["refused"] * 19 + ["started"]


async def test_a_dry_run_is_in_nobodys_way(records: ImportRecords) -> None:
    await start(records)

    for _ in range(2):
        assert not (await start(records, dry_run=True)).is_replay


async def test_one_without_a_sign_of_life_is_buried_and_taken_up(records: ImportRecords) -> None:
    died = await start(records)
    await records.note_progress(died.key, created=3)
    await fall_silent(died.key)
    last_sign = (await stored(died.key))["updated_at"]

    again = await start(records)

    buried = await stored(died.key)
    assert (buried["state"], buried["ended_at"]) == ("failed", last_sign)
    assert again.seed == died.seed
    assert again.key != died.key
    earlier = (await stored(again.key))["earlier"]
    assert (earlier["id"], earlier["state"], earlier["created"]) == (died.key, "failed", 3)


async def test_one_that_is_slow_but_lives_is_not_buried(records: ImportRecords) -> None:
    slow, dead = await start(records), await start(records, type="items")
    await set_back(slow.key, "updated_at", seconds=LEASE_SECONDS / 2)
    await fall_silent(dead.key)

    with pytest.raises(ImportRunningError):
        await start(records)
    await records.bury_all()

    assert [await state(key) for key in (slow.key, dead.key)] == ["running", "failed"]


async def test_one_that_was_buried_too_soon_says_no_more(records: ImportRecords) -> None:
    slow = await start(records)
    await fall_silent(slow.key)
    await records.bury_all()

    await records.end(slow.key, "complete", created=7)

    assert (await state(slow.key), (await stored(slow.key))["created"]) == ("failed", 0)


@pytest.mark.parametrize(("ended", "is_taken_up"), [("failed", True), ("refused", True), ("complete", False)])
async def test_only_what_is_complete_is_not_taken_up(records: ImportRecords, ended: Any, is_taken_up: bool) -> None:  # noqa: FBT001
    first = await start(records)
    await records.end(first.key, ended, created=2)

    second = await start(records)

    assert (second.seed == first.seed) is is_taken_up
    assert not second.is_replay
    earlier = (await stored(second.key))["earlier"]
    assert (earlier["id"], earlier["state"], earlier["created"]) == (first.key, ended, 2)


async def test_what_broke_off_again_and_again_keeps_its_ids(records: ImportRecords) -> None:
    seeds = set()
    for _ in range(3):
        started = await start(records)
        seeds.add(started.seed)
        await records.end(started.key, "failed")
        rehearsal = await start(records, dry_run=True)
        await records.end(rehearsal.key, "complete")

    assert len(seeds) == 1


async def test_each_sheet_of_a_workbook_is_taken_up_by_itself(records: ImportRecords) -> None:
    first = await start(records, sheet="a")
    await records.end(first.key, "failed")

    other = await start(records, sheet="b")
    await records.end(other.key, "complete")
    again = await start(records, sheet="a")

    assert other.seed != first.seed
    assert again.seed == first.seed


async def test_what_another_type_or_file_broke_off_is_not_taken_up(records: ImportRecords) -> None:
    first = await start(records)
    await records.end(first.key, "failed")

    others = [await start(records, type="items"), await start(records, sha256="b" * 64)]

    assert all(other.seed != first.seed for other in others)


# The same request


async def test_the_same_request_gets_the_first_answer(records: ImportRecords) -> None:
    first = await start(records, idempotency_key="k")
    await records.end(first.key, "complete", created=2)

    again = await start(records, idempotency_key="k")

    assert again == Started(first.key, first.seed, is_replay=True)
    assert await Import.get_pymongo_collection().count_documents({}) == 1


async def test_the_answer_to_a_refused_file_or_a_dry_run_is_given_again_too(records: ImportRecords) -> None:
    refused = await start(records, idempotency_key="k")
    await records.end(refused.key, "refused")
    rehearsed = await start(records, idempotency_key="l", dry_run=True, query="dry_run=true")
    await records.end(rehearsed.key, "complete")

    assert (await start(records, idempotency_key="k")).key == refused.key
    assert (await start(records, idempotency_key="l", dry_run=True, query="dry_run=true")).key == rehearsed.key


@pytest.mark.parametrize("other", [{"sha256": "b" * 64}, {"query": "mode=upsert"}, {"type": "items"}])
async def test_another_request_under_the_same_key_is_refused(records: ImportRecords, other: dict[str, Any]) -> None:
    first = await start(records, idempotency_key="k")

    with pytest.raises(IdempotencyKeyReusedError):
        await start(records, idempotency_key="k", **other)
    await records.end(first.key, "complete")
    with pytest.raises(IdempotencyKeyReusedError):
        await start(records, idempotency_key="k", **other)


async def test_a_key_is_its_accounts_own(records: ImportRecords) -> None:
    first = await start(records, idempotency_key="k")
    await records.end(first.key, "complete")

    other = await start(records, idempotency_key="k", account_id=OTHER_ID)

    assert not other.is_replay


async def test_the_same_request_waits_while_the_first_runs(records: ImportRecords) -> None:
    await start(records, idempotency_key="k")

    with pytest.raises(ImportRunningError):
        await start(records, idempotency_key="k")


async def test_of_twenty_equal_requests_together_one_is_done(records: ImportRecords) -> None:
    async def attempt() -> str:
        try:
            started = await start(records, idempotency_key="k")
        except ImportRunningError:
            return "refused"
        return "replayed" if started.is_replay else "started"

    assert sorted(await asyncio.gather(*(attempt() for _ in range(20)))) == ["refused"] * 19 + ["started"]


@pytest.mark.parametrize("is_buried", [False, True])
async def test_the_same_request_may_try_again_after_a_failure(records: ImportRecords, is_buried: bool) -> None:  # noqa: FBT001
    first = await start(records, idempotency_key="k")
    if is_buried:
        await fall_silent(first.key)
    else:
        await records.end(first.key, "failed")

    again = await start(records, idempotency_key="k")

    assert (again.is_replay, again.seed) == (False, first.seed)
    assert again.key != first.key
    assert await state(first.key) == "failed"


async def test_after_a_day_a_key_is_free_again(records: ImportRecords) -> None:
    first = await start(records, idempotency_key="k")
    await records.end(first.key, "complete")
    await set_back(first.key, "created_at", hours=REPLAY_HOURS - 0.1)
    assert (await start(records, idempotency_key="k")).is_replay
    await set_back(first.key, "created_at", hours=0.2)

    again = await start(records, idempotency_key="k", sha256="b" * 64)

    assert not again.is_replay
    assert await state(first.key) == "complete"


async def test_without_a_key_the_same_file_is_imported_again_and_the_record_says_so(records: ImportRecords) -> None:
    first = await start(records)
    await records.end(first.key, "complete", created=2, failed=1)

    second = await start(records)

    assert not second.is_replay
    assert (await stored(second.key))["earlier"] == {
        "id": first.key,
        "created_at": (await stored(first.key))["created_at"],
        "state": "complete",
        "created": 2,
        "updated": 0,
        "unchanged": 0,
        "failed": 1,
    }


async def test_one_that_runs_for_more_than_a_day_is_in_the_way_still(records: ImportRecords) -> None:
    slow = await start(records, idempotency_key="k")
    await set_back(slow.key, "created_at", hours=REPLAY_HOURS + 1)
    await records.note_progress(slow.key, rows=1)

    for idempotency_key in ("k", None):
        with pytest.raises(ImportRunningError):
            await start(records, idempotency_key=idempotency_key)
