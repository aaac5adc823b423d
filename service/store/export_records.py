"""What became of each export: kept for some days, so that a file can be checked after it was received."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal

from beanie import PydanticObjectId
from pymongo import ASCENDING, IndexModel

from service.documents.base import Record, index, now
from service.documents.registry import DocumentType
from service.errors import DatabaseUnavailableError
from service.store.failures import operation

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
    state: ExportState = "running"
    """`abandoned`: the client left, or read nothing for too long."""
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
        record = Export(id=PydanticObjectId(), expires_at=now() + self._keep, **values)
        with operation(self._timeout_seconds):
            await record.insert()
        return record

    async def note_progress(self, record: Export, rows: int, size: int) -> None:
        """How far it is. That this could not be written is no reason to end an export."""
        with suppress(DatabaseUnavailableError):
            await self._update(record, {"rows": rows, "bytes": size})

    async def end(self, record: Export, state: ExportState, **values: Any) -> None:
        """What became of it."""
        await self._update(record, {"state": state, "ended_at": now(), **values})

    async def _update(self, record: Export, values: dict[str, Any]) -> None:
        with operation(self._timeout_seconds):
            await Export.get_pymongo_collection().update_one(
                {"_id": record.id}, {"$set": values | {"updated_at": now()}, "$inc": {"revision": 1}}
            )
