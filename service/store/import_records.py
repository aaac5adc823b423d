"""What became of each import: kept for some days, so that a file that is sent twice is imported once."""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from time import time
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple

from beanie import PydanticObjectId
from bson import ObjectId
from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.asynchronous.collection import AsyncCollection

from service.documents.base import BEANIE_FIELDS, Part, Record, index, now
from service.documents.registry import DocumentType
from service.documents.values import to_stored
from service.errors import (
    DatabaseUnavailableError,
    DuplicateValueError,
    IdempotencyKeyReusedError,
    ImportKilledError,
    ImportRunningError,
)
from service.store.elections import Elections, find_all
from service.store.failures import operation
from service.store.stream import RESUME_SECONDS

ImportState = Literal["running", "complete", "refused", "failed"]

LEASE_SECONDS = 10
"""An import that has given no sign of life for so long is dead."""

LOOK_AGAIN_SECONDS = 5
"""An import that lives has given one in this time after MongoDB answers again: it does so every two seconds."""

REPLAY_HOURS = 24
"""How long a request with the same Idempotency-Key gets the first one's answer."""

SEED_BYTES = 9
NOTHING: Mapping[str, Any] = MappingProxyType({})
START_ATTEMPTS = 5


class RowError(Part):
    """One thing that is wrong in a row."""

    column: str | None = None
    """In NDJSON, an RFC 6901 pointer."""
    code: str
    message: str
    value: str | None = None
    """As the file has it, cut to 100 characters."""


class FailedRow(Part):
    """A row of which nothing was written."""

    row: int
    """As a spreadsheet shows it; of NDJSON, the line."""
    errors: list[RowError]


class Earlier(Part):
    """An import of the same file before; of a workbook, of the same sheet."""

    id: PydanticObjectId
    created_at: datetime
    state: str
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    failed: int = 0


class Import(Record):
    """One file that was sent. The counts are written on the way, every few seconds."""

    type: str
    format: str | None = None
    filename: str | None = None
    bytes: int
    sha256: str
    query: str
    """As it was asked, escapes included."""
    mode: str
    key: str | None = None
    sheet: str | None = None
    on_error: str
    dry_run: bool
    account_id: str
    account: str
    request_id: str | None = None
    idempotency_key: str | None = None
    state: ImportState = "running"
    """`refused`: nothing was written; `failed`: it broke off, and what the counts say was written."""
    rows: int = 0
    """In the file. The other counts are of documents: one for each row, but where an array is exploded."""
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    failed: int = 0
    failed_rows: list[FailedRow] = []
    failed_rows_left_out: int = 0
    seconds: float | None = None
    earlier: Earlier | None = None
    problem: dict[str, Any] | None = None
    """Why it was refused or failed (RFC 9457)."""
    ended_at: datetime | None = None
    expires_at: datetime

    class Settings(Record.Settings):
        """Where and how the records are kept; MongoDB removes them by itself."""

        name = "imports"
        indexes: ClassVar[Sequence[IndexModel]] = [
            index("account_id"),
            IndexModel([("type", ASCENDING), ("sha256", ASCENDING), ("_id", DESCENDING)], name="type_sha256"),
            # Only one import of the same file at a time, and one for each key that a client has made.
            IndexModel([("lock", ASCENDING)], name="lock", unique=True, sparse=True),
            IndexModel([("request_key", ASCENDING)], name="request_key", unique=True, sparse=True),
            IndexModel([("expires_at", ASCENDING)], name="expires_at", expireAfterSeconds=0),
        ]


IMPORTS = DocumentType(Import)
"""The records as a document type, so that they are listed, filtered and sorted as any."""

SUMMARY = tuple(path for path in IMPORTS.fields if "." not in path and path not in {"failed_rows", "problem"})
"""What lists show of them."""


class Started(NamedTuple):
    """An import that may begin, or one that was done already."""

    key: ObjectId
    seed: bytes
    """For the ids of new documents."""
    is_replay: bool


class ImportRecords:
    """Writes the records. Times are MongoDB's, as several services write here, and each has a clock of its own."""

    def __init__(self, keep_days: float, timeout_seconds: float) -> None:
        """`timeout_seconds` is how long a write may take, elections included."""
        self._keep = timedelta(days=keep_days)
        self._timeout_seconds = timeout_seconds

    @property
    def _collection(self) -> AsyncCollection[dict[str, Any]]:
        return Import.get_pymongo_collection()

    async def start(self, **values: Any) -> Started:
        """A new record, of an import that runs; or that of the same request before.

        What broke off is taken up: its documents have the same ids again. Raises ImportRunningError, and
        IdempotencyKeyReusedError if another file or query came with the key.
        """
        for _ in range(START_ATTEMPTS):
            same_rows = {"type": values["type"], "sha256": values["sha256"], "sheet": values.get("sheet")}
            earlier = await self._latest({**same_rows, "dry_run": False})
            # One that was refused has written nothing, and may have come after one that broke off.
            seed: bytes = earlier["seed"] if earlier and earlier["state"] != "complete" else _new_seed()
            stored = self._stored(values, earlier) | {"seed": seed}
            try:
                with operation(self._timeout_seconds):
                    await self._collection.insert_one(stored)
            except DuplicateValueError:
                first = await self._make_way(stored)
                if first is not None:
                    return Started(first["_id"], first["seed"], is_replay=True)
            else:
                return Started(stored["_id"], seed, is_replay=False)
        raise ImportRunningError(LEASE_SECONDS)

    async def note_progress(self, key: ObjectId, **values: Any) -> None:
        """How far it is, and that it lives. That this could not be written is no reason to end an import."""
        with suppress(DatabaseUnavailableError):
            await self._update({"_id": key, "state": "running"}, values)

    async def end(self, key: ObjectId, state: ImportState, **values: Any) -> None:
        """What became of it; if that is known already, it stays so."""
        changes = {"state": state, "ended_at": "$$NOW", "lock": "$$REMOVE"}
        if state == "failed":  # the same request may try again
            changes["request_key"] = "$$REMOVE"
        await self._update({"_id": key, "state": "running"}, values, changes, RESUME_SECONDS)

    async def table(self, key: ObjectId) -> tuple[str, int]:
        """The failed rows as CSV, and how many are not in it."""
        found = await self._latest({"_id": key})
        table = found.get("failed_table") if found else None
        return (table["text"], table["left_out"]) if table else ("", 0)

    async def _make_way(self, stored: Mapping[str, Any]) -> dict[str, Any] | None:
        """What the same request has done; None: what was in the way of a new record has been taken out of it.

        Raises ImportRunningError and IdempotencyKeyReusedError.
        """
        for path in ("request_key", "lock"):
            first = await self._latest({path: stored[path]}) if path in stored else None
            if first is None or await self._free_old(first["_id"], path):
                continue
            if path == "request_key" and first["fingerprint"] != stored["fingerprint"]:
                raise IdempotencyKeyReusedError
            if first["state"] != "running":
                return first
            if not await self._bury(first["_id"]):
                raise ImportRunningError(LEASE_SECONDS)
        return None

    async def _free_old(self, key: ObjectId, path: str) -> bool:
        """Let others have what an import of some time ago holds."""
        too_old = {"$lt": ["$created_at", {"$subtract": ["$$NOW", REPLAY_HOURS * 3_600_000]}]}
        condition = {"_id": key, "state": {"$ne": "running"}, "$expr": too_old}
        with operation(self._timeout_seconds):
            return bool((await self._collection.update_one(condition, {"$unset": {path: ""}})).modified_count)

    async def _bury(self, key: ObjectId) -> bool:
        """Write down that an import has failed, if it gives no sign of life.

        That is looked at twice, as while there was no primary nobody could give one.
        """
        silent = {"$lt": ["$updated_at", {"$subtract": ["$$NOW", LEASE_SECONDS * 1000]}]}
        seen = await self._latest({"_id": key, "state": "running", "$expr": silent})
        if seen is None:
            return False
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
        changes = {"state": "failed", "ended_at": "$updated_at", "lock": "$$REMOVE", "request_key": "$$REMOVE"}
        values = {"problem": ImportKilledError().members()}
        return await self._update({"_id": key, "state": "running", "updated_at": seen["updated_at"]}, values, changes)

    async def bury_all(self) -> None:
        """Write that down of all that are dead."""
        with operation(self._timeout_seconds):
            running = await find_all(self._collection, {"state": "running"}, {"_id": 1})
        await asyncio.gather(*(self._bury(record["_id"]) for record in running))

    async def _latest(self, condition: Mapping[str, Any]) -> dict[str, Any] | None:
        with operation(self._timeout_seconds):
            return await Elections.of(self._collection).read(
                self._collection,
                lambda session: self._collection.find_one(
                    condition, {"failed_rows": 0}, sort=[("_id", DESCENDING)], session=session
                ),
            )

    async def _update(
        self,
        condition: Mapping[str, Any],
        values: Mapping[str, Any],
        changes: Mapping[str, Any] = NOTHING,
        seconds: float | None = None,
    ) -> bool:
        """Whether there was such a record; `changes` are expressions, `values` are not."""
        changed = {
            **{name: {"$literal": value} for name, value in values.items()},
            **changes,
            "updated_at": "$$NOW",
            "revision": {"$add": ["$revision", 1]},
        }
        with operation(self._timeout_seconds if seconds is None else seconds):
            result = await self._collection.update_one(condition, [{"$set": changed}])
        return bool(result.matched_count)

    def _stored(self, values: Mapping[str, Any], earlier: Mapping[str, Any] | None) -> dict[str, Any]:
        known = {"id" if name == "_id" else name: value for name, value in (earlier or {}).items()}
        summary = Earlier(**{name: known[name] for name in Earlier.model_fields}) if earlier else None
        moment = now()
        times = {"created_at": moment, "updated_at": moment, "expires_at": moment + self._keep}
        record = Import(id=PydanticObjectId(), earlier=summary, **times, **values)
        stored: dict[str, Any] = to_stored(record, [])
        fingerprint = [values["type"], values["query"], values["sha256"]]
        stored |= {"_id": stored.pop("id"), "fingerprint": fingerprint}
        if not record.dry_run:
            stored["lock"] = f"{record.type} {record.sha256}"
        if record.idempotency_key is not None:
            stored["request_key"] = f"{record.account_id} {record.idempotency_key}"
        return {name: value for name, value in stored.items() if name not in BEANIE_FIELDS}


def _new_seed() -> bytes:
    """The first part of an ObjectId (its specification's time and random value), to which a count is added."""
    return int(time()).to_bytes(4, "big") + secrets.token_bytes(SEED_BYTES - 4)
