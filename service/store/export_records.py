"""What became of each export: kept for some days, so that a file can be checked after it was received."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal

from beanie import PydanticObjectId
from pymongo import ASCENDING, IndexModel

from service.documents.base import Record, index, now
from service.documents.registry import DocumentType
from service.errors import DatabaseUnavailableError
from service.store.failures import operation
from service.store.stream import RESUME_SECONDS

ExportState = Literal["running", "complete", "failed", "abandoned"]


class Export(Record):
    """One file that was asked for. `rows` and `bytes` are written on the way, every few seconds."""

    type: str
    format: str
    query: str
    """As it was asked, escapes included."""
    filename: str
    account_id: str
    account: str
    request_id: str | None = None
    is_snapshot: bool = False
    is_masked: bool = False
    """Whether it has masks in the place of private values."""
    state: ExportState = "running"
    """`abandoned`: the client left, or read nothing for too long; `failed` also if its service was killed."""
    rows: int = 0
    bytes: int = 0
    """Of the file, whatever it was compressed with on its way."""
    cut_cells: int = 0
    """Cells that the format could not hold whole."""
    sha256: str | None = None
    """Of the file; there once it is complete."""
    ended_at: datetime | None = None
    expires_at: datetime

    class Settings(Record.Settings):
        """Where and how the records are kept; MongoDB removes them by itself."""

        name = "exports"
        indexes: ClassVar[Sequence[IndexModel]] = [
            index("account_id"),
            IndexModel([("expires_at", ASCENDING)], name="expires_at", expireAfterSeconds=0),
        ]


Sign = Mapping[str, Any]
"""A record's id and its revision, which each sign of life changes."""

EXPORTS = DocumentType(Export)
"""The records as a document type, so that they are listed, filtered and sorted as any."""


class ExportRecords:
    """Writes the records."""

    def __init__(self, keep_days: float, timeout_seconds: float) -> None:
        """`timeout_seconds` is how long a write may take, elections included."""
        self._keep = timedelta(days=keep_days)
        self._timeout_seconds = timeout_seconds

    async def start(self, **values: Any) -> Export:
        """A new record, of an export that runs."""
        moment = now()
        record = Export(
            id=PydanticObjectId(), created_at=moment, updated_at=moment, expires_at=moment + self._keep, **values
        )
        with operation(self._timeout_seconds):
            await record.insert()
        return record

    async def note_progress(self, record: Export, rows: int, size: int) -> None:
        """How far it is. That this could not be written is no reason to end an export."""
        with suppress(DatabaseUnavailableError):
            await self._update(record, {"rows": rows, "bytes": size}, self._timeout_seconds)

    async def end(self, record: Export, state: ExportState, **values: Any) -> None:
        """What became of it. For `complete` it waits as long as a stream does, as a file's last bytes wait for that."""
        seconds = RESUME_SECONDS if state == "complete" else self._timeout_seconds
        await self._update(record, {"state": state, "ended_at": now(), **values}, seconds)

    async def _update(self, record: Export, values: Mapping[str, Any], seconds: float) -> None:
        with operation(seconds):
            await Export.get_pymongo_collection().update_one(
                {"_id": record.id}, {"$set": {**values, "updated_at": now()}, "$inc": {"revision": 1}}
            )

    async def find_running(self) -> list[Sign]:
        """Of each export whose record says that it runs, the latest sign of life."""
        with operation(self._timeout_seconds):
            return await Export.get_pymongo_collection().find({"state": "running"}, {"revision": 1}).to_list()

    async def fail_silent(self, signs: Sequence[Sign]) -> None:
        """Exports that have given no other sign since have failed, when they gave this one."""
        failed = {
            "state": "failed",
            "ended_at": "$updated_at",
            "updated_at": now(),
            "revision": {"$add": ["$revision", 1]},
        }
        with operation(self._timeout_seconds):
            await Export.get_pymongo_collection().update_many({"$or": list(signs)}, [{"$set": failed}])
