"""Imports of a service: which may begin, and what became of them."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import monotonic

from bson import ObjectId

from service.documents.registry import DocumentType
from service.errors import DatabaseUnavailableError, ImportKilledError, TooManyImportsError
from service.imports.job import Ended, Job
from service.imports.process import run_in_process
from service.imports.query import ImportQuery
from service.observability.metrics import IMPORT_BYTES, IMPORT_ROWS, IMPORTS, IMPORTS_RUNNING
from service.settings import Settings
from service.store.import_records import LEASE_SECONDS, ImportRecords
from service.transfer.file_kinds import FileKind

SMALL_BYTES = 1_048_576
"""A file that is not larger is imported before others could help."""

LANES = min(os.cpu_count() or 1, 4)
"""Processes that prepare documents, for each import: MongoDB writes them no faster than four make them."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that has come whole."""

    path: Path
    kind: FileKind
    size: int
    """In bytes."""
    sha256: str
    filename: str | None = None


class Importer:
    """Takes files in, several at a time."""

    def __init__(self, settings: Settings, records: ImportRecords) -> None:
        self._settings = settings
        self._records = records
        self._running: set[BaseProcess] = set()
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def refuse_if_busy(self) -> None:
        """Raise TooManyImportsError, if as many run as may; before a file is sent that would be refused."""
        if self._count >= self._settings.imports_at_once:
            raise TooManyImportsError(self._settings.imports_at_once)

    @contextmanager
    def _slot(self) -> Iterator[None]:
        """One of those that may run together."""
        self.refuse_if_busy()
        self._count += 1
        self._idle.clear()
        try:
            with IMPORTS_RUNNING.track_inprogress():
                yield
        finally:
            self._count -= 1
            if not self._count:
                self._idle.set()

    async def run(
        self,
        document_type: DocumentType,
        query: ImportQuery,
        upload: Upload,
        begun: Callable[[ObjectId], Awaitable[None]],
        **asker: str | None,
    ) -> tuple[ObjectId, bool]:
        """Import a file, unless the same request has done that; the id of its record, and whether it had been done.

        `begun` is told the record's id before anything is written. `asker` is what else the record says: account_id,
        account, request_id, idempotency_key. Raises TooManyImportsError, ImportRunningError and
        IdempotencyKeyReusedError.
        """
        with self._slot():
            return await self._run(document_type, query, upload, begun, asker)

    async def _run(
        self,
        document_type: DocumentType,
        query: ImportQuery,
        upload: Upload,
        begun: Callable[[ObjectId], Awaitable[None]],
        asker: Mapping[str, str | None],
    ) -> tuple[ObjectId, bool]:
        started = await self._records.start(
            type=document_type.name,
            format=upload.kind,
            filename=upload.filename,
            bytes=upload.size,
            sha256=upload.sha256,
            query=query.text,
            mode=query.mode,
            key=query.key,
            sheet=query.sheet,
            on_error=query.on_error,
            dry_run=query.is_dry_run,
            **asker,
        )
        if not started.is_replay:
            job = Job(
                self._settings,
                document_type.document_class,
                query,
                upload.path,
                upload.kind,
                started.key,
                started.seed,
            )
            await self._do(job, upload.size, begun)
        return started.key, started.is_replay

    async def failed_table(self, key: ObjectId) -> tuple[str, int]:
        """The failed rows of an import as CSV, with a column that says why."""
        return await self._records.table(key)

    async def _do(self, job: Job, size: int, begun: Callable[[ObjectId], Awaitable[None]]) -> None:
        started = monotonic()
        ended: Ended | None = None
        try:
            await begun(job.record)
            ended = await run_in_process(job, LANES if size > SMALL_BYTES else 0, self._running)
        finally:
            _measure(job, size, ended or Ended("failed", {}), monotonic() - started)
            if ended is None:
                with suppress(DatabaseUnavailableError):
                    await self._records.end(job.record, "failed", problem=ImportKilledError().members())

    async def end(self) -> None:
        """Kill what runs still; its files can be sent again."""
        for process in self._running:
            process.kill()
        await self._idle.wait()


def _measure(job: Job, size: int, ended: Ended, seconds: float) -> None:
    """Count an import. The rows of a dry run are none, as nothing became of them."""
    kind = (DocumentType(job.document_class).name, job.kind)
    is_dry = job.query.is_dry_run
    IMPORTS.labels(*kind, str(is_dry).lower(), ended.state).observe(seconds)
    if not is_dry:
        IMPORT_BYTES.labels(*kind).inc(size)
        for fate, count in ended.counts.items():
            if fate != "rows":
                IMPORT_ROWS.labels(*kind, fate).inc(count)


@asynccontextmanager
async def open_importer(settings: Settings) -> AsyncIterator[Importer]:
    """One that ends its processes with the context, and that buries imports whose service was killed."""
    records = ImportRecords(settings.import_record_days, settings.operation_timeout_seconds)
    importer = Importer(settings, records)
    is_over = asyncio.Event()

    async def bury() -> None:
        try:
            async with asyncio.timeout(LEASE_SECONDS):
                await is_over.wait()
        except TimeoutError:
            with suppress(DatabaseUnavailableError):
                await records.bury_all()

    burying = asyncio.create_task(bury())
    try:
        yield importer
    finally:
        await importer.end()
        is_over.set()
        await burying
