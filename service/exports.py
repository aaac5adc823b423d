"""Exports: documents on their way from MongoDB into one file, with a record of what became of it."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

from anyio import to_thread

from service.documents.base import now
from service.documents.views import View
from service.errors import DatabaseUnavailableError, Fault, InvalidQueryError, TooManyExportsError
from service.observability.metrics import EXPORT_BYTES, EXPORT_ROWS, EXPORTS, EXPORTS_RUNNING
from service.settings import Settings
from service.store.export_records import Export, ExportRecords, ExportState
from service.store.query import QueryString, Selection
from service.store.repository import Repository
from service.store.stream import RESUME_SECONDS
from service.transfer.assembly import Assembly
from service.transfer.encoding import DELIMITERS, About, FileSpec, FormatName
from service.transfer.formats import FORMATS
from service.transfer.parquet_file import MissingLibraryError
from service.transfer.pool import EncoderPool, encode_in_order, encoder_pool

END_SECONDS = 10
"""How long exports that were broken off get for their records and cursors."""

PROGRESS_SECONDS = 2
"""How often a record says how far its export is."""


@dataclass(frozen=True, slots=True)
class ExportQuery:
    """What is asked for: which documents, and which file of them."""

    text: str
    """As it was asked, escapes included."""
    selection: Selection
    spec: FileSpec
    is_snapshot: bool
    is_masked: bool
    """Whether whoever asks sees masks in the place of private values."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks for it."""

    account_id: str
    account: str
    request_id: str | None = None


class RunningExport:
    """A file on its way."""

    record: Export
    """Says `complete` before the file's last bytes come."""

    chunks: AsyncGenerator[bytes]
    """The file's bytes; if they cannot go on, an error. Whoever leaves early closes them."""

    def __init__(self, assembly: Assembly) -> None:
        self.assembly = assembly

    @property
    def rows(self) -> int:
        """How many are in it so far."""
        return self.assembly.rows


class Exporter:
    """Makes files, several at a time."""

    def __init__(self, pool: EncoderPool, records: ExportRecords, *, at_once: int, from_secondaries: bool) -> None:
        self._pool = pool
        self._records = records
        self._at_once = at_once
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._from_secondaries = from_secondaries

    async def start(
        self,
        documents: Repository,
        query: ExportQuery,
        asker: Asker,
        begun: Callable[[Export], Awaitable[None]],
        *,
        is_gzipped: bool = False,
    ) -> RunningExport:
        """Begin a file. MongoDB has answered with the first documents by then: what it refuses, it refuses here.

        `begun` is told the record before there are any bytes. Raises QueryTooExpensiveError, SnapshotUnavailableError
        and TooManyExportsError.
        """
        export = RunningExport(Assembly(FORMATS[query.spec.format_name].file(query.spec), is_gzipped=is_gzipped))
        export.chunks = self._chunks(export, documents, query, asker)
        await anext(export.chunks)
        try:
            await begun(export.record)
        except BaseException:
            await export.chunks.aclose()
            raise
        return export

    @contextmanager
    def _slot(self) -> Iterator[None]:
        """One of those that may run together, so that they cannot starve the rest."""
        if self._running >= self._at_once:
            raise TooManyExportsError(self._at_once)
        self._running += 1
        self._idle.clear()
        try:
            with EXPORTS_RUNNING.track_inprogress():
                yield
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def wait_until_idle(self) -> None:
        """Give exports that were broken off a while to write that down and to close their cursors."""
        await _comes(self._idle, END_SECONDS)

    async def _chunks(
        self, export: RunningExport, documents: Repository, query: ExportQuery, asker: Asker
    ) -> AsyncGenerator[bytes]:
        """Nothing as soon as there is a record, then the file."""
        assembly = export.assembly
        stream = documents.stream(
            query.selection, is_snapshot=query.is_snapshot, from_secondaries=self._from_secondaries
        )
        with self._slot():
            async with aclosing(stream) as batches:
                first = await anext(batches, b"")
                export.record = await self._record(query, asker)
                async with self._end_noted(export):
                    yield b""  # to `start`
                    # What may be the last bytes waits, as they leave only once the record says `complete`.
                    waiting = await to_thread.run_sync(assembly.start)
                    if first:
                        yield waiting
                        waiting = b""
                    async with aclosing(self._rows(export, first, batches, query.spec)) as chunks:
                        async for chunk in chunks:
                            yield waiting
                            waiting = chunk
                    waiting += await to_thread.run_sync(assembly.end, _about(export))
                    await self._records.end(export.record, "complete", sha256=assembly.sha256, **_counts(assembly))
                yield waiting

    async def _rows(
        self, export: RunningExport, first: bytes, batches: AsyncIterator[bytes], spec: FileSpec
    ) -> AsyncGenerator[bytes]:
        """What stands between the file's start and its end; meanwhile the record says how far it is."""
        assembly = export.assembly
        noted_at = monotonic()
        async with aclosing(encode_in_order(first, batches, spec, self._pool)) as encoded:
            async for pieces in encoded:
                # In a thread: the event loop has other requests to answer.
                yield await to_thread.run_sync(assembly.add, pieces)
                if monotonic() - noted_at > PROGRESS_SECONDS:
                    await self._records.note_progress(export.record, assembly.rows, assembly.size)
                    noted_at = monotonic()

    @asynccontextmanager
    async def _end_noted(self, export: RunningExport) -> AsyncGenerator[None]:
        """Measure an export, and write down what became of one that does not get to its end."""
        started = monotonic()
        state: ExportState = "complete"
        try:
            yield
        except BaseException as error:
            state = "abandoned" if isinstance(error, GeneratorExit) else "failed"
            with suppress(DatabaseUnavailableError):  # which may be why
                await self._records.end(export.record, state, **_counts(export.assembly))
            raise
        finally:
            kind = (export.record.type, export.record.format)
            EXPORTS.labels(*kind, state).observe(monotonic() - started)
            EXPORT_ROWS.labels(*kind).inc(export.rows)
            EXPORT_BYTES.labels(*kind).inc(export.assembly.size)

    async def _record(self, query: ExportQuery, asker: Asker) -> Export:
        spec = query.spec
        return await self._records.start(
            type=spec.title,
            format=spec.format_name,
            query=query.text,
            filename=f"{spec.title}-{now():%Y-%m-%dT%H%MZ}.{spec.format_name}",
            account_id=asker.account_id,
            account=asker.account,
            request_id=asker.request_id,
            is_snapshot=query.is_snapshot,
            is_masked=query.is_masked,
        )


@asynccontextmanager
async def open_exporter(settings: Settings) -> AsyncIterator[Exporter]:
    """One with worker processes of its own, as long as the context lasts."""
    records = ExportRecords(settings.export_record_days, settings.operation_timeout_seconds)
    lease_seconds = 2 * (settings.export_stall_seconds + RESUME_SECONDS)
    async with (
        encoder_pool(settings.export_workers or os.cpu_count() or 1) as pool,
        _killed_exports_noted(records, lease_seconds),
    ):
        exporter = Exporter(
            pool, records, at_once=settings.exports_at_once, from_secondaries=settings.export_from_secondaries
        )
        try:
            yield exporter
        finally:
            await exporter.wait_until_idle()


@asynccontextmanager
async def _killed_exports_noted(records: ExportRecords, lease_seconds: float) -> AsyncIterator[None]:
    """Write down that exports which ran before have failed, if they give no sign of life for so long.

    A living one is silent for half as long at most: while its client reads nothing, and then MongoDB does not answer.
    Time is measured here, as another machine's clock may be wrong.
    """
    signs = await records.find_running()
    is_over = asyncio.Event()

    async def note() -> None:
        is_noted = not signs
        while not is_noted and not await _comes(is_over, lease_seconds):
            with suppress(DatabaseUnavailableError):
                await records.fail_silent(signs)
                is_noted = True

    noting = asyncio.create_task(note())
    try:
        yield
    finally:
        is_over.set()
        await noting


async def _comes(event: asyncio.Event, seconds: float) -> bool:
    """Whether an event comes within this time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await event.wait()
    return False


def _about(export: RunningExport) -> About:
    record, assembly = export.record, export.assembly
    return About(
        f"{record.type}, {record.format}, {record.query or 'everything'}",
        record.account,
        record.created_at.replace(tzinfo=None),
        assembly.rows,
        assembly.cut_cells,
        is_masked=record.is_masked,
    )


def _counts(assembly: Assembly) -> dict[str, Any]:
    return {"rows": assembly.rows, "bytes": assembly.size, "cut_cells": assembly.cut_cells}


def read_export_query(view: View, format_name: str, parameters: Sequence[tuple[str, str]], text: str) -> ExportQuery:
    """What a query string asks for. Raises InvalidQueryError or PrivateFieldError, with all its faults."""
    query = QueryString(view, parameters)
    name = _format_named(format_name)
    try:
        FORMATS[name].check()
    except MissingLibraryError as error:
        query.refuse("format_name", "missing_library", str(error))
    is_delimited = FORMATS[name].is_delimited
    explode = query.array("explode")
    delimiter = query.choice("delimiter", DELIMITERS, "comma") if is_delimited else "comma"
    bom = is_delimited and query.boolean("bom")
    raw = is_delimited and query.boolean("raw")
    is_snapshot = query.boolean("snapshot")
    selection = query.selection()
    query.finish()
    spec = FileSpec(
        name,
        view.document_type.name,
        view.fields,
        paths=selection.fields,
        explode=explode,
        delimiter=delimiter,
        bom=bom,
        raw=raw,
    )
    if selection.fields and explode:
        # Its elements decide how many rows there are.
        selection = replace(selection, fields=(*selection.fields, explode))
    return ExportQuery(text, selection, spec, is_snapshot, view.is_masked)


def _format_named(format_name: str) -> FormatName:
    for name in FORMATS:
        if name == format_name:
            return name
    message = f"one of {', '.join(FORMATS)} is expected"
    raise InvalidQueryError([Fault("unknown_format", message, parameter="format_name")])
