"""One import with its record: how far it is, how it ended."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic
from typing import Any

from anyio import to_thread
from bson import ObjectId

from service.documents.base import Record
from service.documents.registry import DocumentType
from service.errors import (
    DatabaseUnavailableError,
    ImportBrokenOffError,
    ImportRefusedError,
    InternalError,
    InvalidFileError,
    InvalidQueryError,
    ServiceError,
)
from service.imports.preparing import Preparing, ProcessLane
from service.imports.query import ImportQuery
from service.imports.report import Report
from service.imports.run import ImportRun
from service.imports.source import Source, open_source
from service.settings import Settings
from service.store.import_records import ImportRecords, ImportState
from service.transfer.file_kinds import FileKind

PROGRESS_SECONDS = 2
"""How often a record says how far its import is, and that it lives."""


@dataclass(frozen=True, slots=True)
class Job:
    """All that an import needs to know, so that another process may do it."""

    settings: Settings
    document_class: type[Record]
    query: ImportQuery
    path: Path
    kind: FileKind
    record: ObjectId
    seed: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of an import."""

    state: ImportState
    counts: Mapping[str, int]
    """As its report has them; of one that did not get to its rows, none."""


class RunningJob:
    """An import on its way."""

    def __init__(self, job: Job, records: ImportRecords, lanes: Sequence[Connection] = ()) -> None:
        """`lanes` lead to processes that prepare documents."""
        self._job = job
        self._records = records
        self._connections = lanes
        self._type = DocumentType(job.document_class)
        self._import: ImportRun | None = None

    @property
    def counts(self) -> Mapping[str, int]:
        """What is known so far."""
        return self._import.report.counts() if self._import else {}

    async def do(self) -> Ended:
        """Import the file and write down what became of it. Raises what was not foreseen."""
        job, started = self._job, monotonic()
        state: ImportState = "failed"
        problem: ServiceError | None = InternalError("The service failed; its log says more.")
        try:
            async with _signs_of_life(job.record, self._records, lambda: self.counts):
                state, problem = await self._do()
        finally:
            await self._records.end(
                job.record,
                state,
                **self._results(),
                problem=problem and problem.members(),
                seconds=round(monotonic() - started, 3),
            )
        return Ended(state, self.counts)

    async def _do(self) -> tuple[ImportState, ServiceError | None]:
        job = self._job
        try:
            source = await to_thread.run_sync(self._open)
        except (InvalidFileError, InvalidQueryError) as error:
            return "refused", error
        with closing(source):
            preparing = Preparing(job.document_class, job.query, source.decoding.columns, job.seed)
            lanes = [ProcessLane(connection, preparing) for connection in self._connections]
            self._import = ImportRun(preparing, source, lanes, timeout_seconds=job.settings.operation_timeout_seconds)
            try:
                await self._import.run()
            except DatabaseUnavailableError as error:
                return "failed", error
        return self._verdict(self._import.report, has_written=self._import.has_written)

    def _open(self) -> Source:
        return open_source(
            self._job.path, self._job.kind, self._type, self._job.query, self._job.settings.import_max_rows
        )

    def _verdict(self, report: Report, *, has_written: bool) -> tuple[ImportState, ServiceError | None]:
        query = self._job.query
        if not report.failed or query.is_dry_run or query.on_error == "skip":
            return "complete", None
        if has_written:
            return "failed", ImportBrokenOffError("Rows were good when they were checked, and not any more after that.")
        return "refused", ImportRefusedError(
            f"{report.failed:,} of {report.counts()['rows']:,} rows cannot be imported."
        )

    def _results(self) -> dict[str, Any]:
        if self._import is None:
            return {}
        report = self._import.report
        table, left_out = report.table()
        return {
            **report.counts(),
            "failed_rows": report.failed_rows,
            "failed_rows_left_out": report.failed - len(report.failed_rows),
            "failed_table": {"text": table, "left_out": left_out},
        }


@asynccontextmanager
async def _signs_of_life(
    key: ObjectId, records: ImportRecords, counts: Callable[[], Mapping[str, int]]
) -> AsyncGenerator[None]:
    """Say in the record how far it is, every few seconds."""
    is_over = asyncio.Event()

    async def tell() -> None:
        while not is_over.is_set():
            try:
                async with asyncio.timeout(PROGRESS_SECONDS):
                    await is_over.wait()
            except TimeoutError:
                await records.note_progress(key, **counts())

    telling = asyncio.create_task(tell())
    try:
        yield
    finally:
        is_over.set()
        await telling
