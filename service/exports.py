"""Exports: documents on their way from MongoDB into one file, with a record of what became of it."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

from anyio import to_thread

from service.documents.base import now
from service.documents.registry import DocumentType
from service.errors import DatabaseUnavailableError, Fault, InvalidQueryError, TooManyExportsError
from service.settings import Settings
from service.store.export_records import Export, ExportRecords, ExportState
from service.store.query import QueryString, Selection
from service.store.repository import Repository
from service.transfer.assembly import Assembly
from service.transfer.encoding import DELIMITERS, About, FileSpec
from service.transfer.formats import FORMATS
from service.transfer.parquet_file import MissingLibraryError
from service.transfer.pool import EncoderPool, encode_in_order, encoder_pool

END_SECONDS = 10
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


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks for it."""

    account_id: str
    account: str
    request_id: str | None = None


class RunningExport:
    """A file on its way."""

    record: Export
    """Says `complete` before the last chunk comes."""

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
        self, documents: Repository, query: ExportQuery, asker: Asker, *, is_gzipped: bool = False
    ) -> RunningExport:
        """Begin a file. MongoDB has answered with the first documents by then: what it refuses, it refuses here.

        Raises QueryTooExpensiveError, SnapshotUnavailableError and TooManyExportsError.
        """
        export = RunningExport(Assembly(FORMATS[query.spec.format_name].file(query.spec), is_gzipped=is_gzipped))
        export.chunks = self._chunks(export, documents, query, asker)
        await anext(export.chunks)
        return export

    @contextmanager
    def _slot(self) -> Iterator[None]:
        """One of those that may run together, so that they cannot starve the rest."""
        if self._running >= self._at_once:
            raise TooManyExportsError(self._at_once)
        self._running += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def wait_until_idle(self) -> None:
        """Give exports that were broken off a while to write that down and to close their cursors."""
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await self._idle.wait()

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
                export.record = record = await self._record(query, asker)
                state: ExportState = "failed"
                try:
                    yield b""  # to `start`
                    yield await to_thread.run_sync(assembly.start)
                    noted_at = monotonic()
                    async with aclosing(encode_in_order(first, batches, query.spec, self._pool)) as encoded:
                        async for pieces in encoded:
                            # In a thread: the event loop has other requests to answer.
                            yield await to_thread.run_sync(assembly.add, pieces)
                            if monotonic() - noted_at > PROGRESS_SECONDS:
                                await self._records.note_progress(record, assembly.rows, assembly.size)
                                noted_at = monotonic()
                    about = About(
                        f"{record.type}, {record.format}, {query.text or 'everything'}",
                        asker.account,
                        record.created_at.replace(tzinfo=None),
                        assembly.rows,
                        assembly.cut_cells,
                    )
                    last = await to_thread.run_sync(assembly.end, about)
                    await self._records.end(record, "complete", sha256=assembly.sha256, **_counts(assembly))
                    state = "complete"
                    yield last
                except GeneratorExit:
                    state = "abandoned" if state == "failed" else state
                    raise
                finally:
                    if state != "complete":
                        with suppress(DatabaseUnavailableError):  # which may be why
                            await self._records.end(record, state, **_counts(assembly))

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
        )


@asynccontextmanager
async def open_exporter(settings: Settings) -> AsyncIterator[Exporter]:
    """One with worker processes of its own, as long as the context lasts."""
    async with encoder_pool(settings.export_workers or os.cpu_count() or 1) as pool:
        exporter = Exporter(
            pool,
            ExportRecords(settings.export_record_days, settings.operation_timeout_seconds),
            at_once=settings.exports_at_once,
            from_secondaries=settings.export_from_secondaries,
        )
        try:
            yield exporter
        finally:
            await exporter.wait_until_idle()


def _counts(assembly: Assembly) -> dict[str, Any]:
    return {"rows": assembly.rows, "bytes": assembly.size, "cut_cells": assembly.cut_cells}


def read_export_query(
    document_type: DocumentType, format_name: str, parameters: Sequence[tuple[str, str]], text: str
) -> ExportQuery:
    """What a query string asks for. Raises InvalidQueryError with all its faults."""
    query = QueryString(document_type, parameters)
    name = next((name for name in FORMATS if name == format_name), None)
    if name is None:
        message = f"one of {', '.join(FORMATS)} is expected"
        raise InvalidQueryError([Fault("unknown_format", message, parameter="format_name")])
    try:
        FORMATS[name].check()
    except MissingLibraryError as error:
        query.refuse("format_name", "missing_library", str(error))
    spec = FileSpec(name, document_type.name, document_type.fields, explode=query.array("explode"))
    if FORMATS[name].is_delimited:
        delimiter = query.choice("delimiter", DELIMITERS, "comma")
        spec = replace(spec, delimiter=delimiter, bom=query.boolean("bom"), raw=query.boolean("raw"))
    is_snapshot = query.boolean("snapshot")
    selection = query.selection()
    query.finish()
    spec = replace(spec, paths=selection.fields)
    if selection.fields and spec.explode:
        # Its elements decide how many rows there are.
        selection = replace(selection, fields=(*selection.fields, spec.explode))
    return ExportQuery(text, selection, spec, is_snapshot)
