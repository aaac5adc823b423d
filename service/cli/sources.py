"""Where an exported file comes from: the database itself, or a service that runs somewhere."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote_plus

import httpx

from service.cli.client import ASK_SECONDS, SignIn, check_answer, json_object, open_client, read_record
from service.cli.download import Incoming
from service.cli.environment import COMMAND_LINE, open_repository
from service.cli.terminal import CommandError
from service.documents.registry import DocumentType
from service.errors import ServiceError
from service.exports import Asker, ExportQuery, RunningExport, open_exporter
from service.settings import Settings
from service.store.audit_records import Actor, AuditEvent, AuditTrail
from service.store.database import open_database
from service.store.export_records import EXPORTS, Export
from service.store.query import PARAMETERS, ListQuery
from service.store.repository import Repository
from service.transfer.pool import EncodingError

GLANCE_SECONDS = 0.2
"""How often a bar moves."""

PATIENCE_SECONDS = 5.0
"""How long a MongoDB that answers nothing keeps Ctrl-C waiting."""

SELECTING = {"q", "q_mode"}
"""The parameters that decide which documents there are, beside the filters."""


@asynccontextmanager
async def from_database(
    settings: Settings, document_type: DocumentType, query: ExportQuery
) -> AsyncGenerator[Incoming]:
    """An export that is made here. Raises CommandError where it cannot be encoded, and ServiceErrors."""
    classes = [document_type.document_class, Export, AuditEvent]
    try:
        async with (
            open_database(settings, classes),
            open_exporter(settings) as exporter,
        ):
            documents = open_repository(settings, document_type)
            audit = AuditTrail(settings.audit_days, settings.operation_timeout_seconds)

            async def begun(record: Export) -> None:
                await audit.note("export", Actor(COMMAND_LINE), type=document_type.name, target=str(record.id))

            export = await exporter.start(documents, query, Asker(COMMAND_LINE, COMMAND_LINE), begun)
            async with aclosing(_unhurried(export.chunks)) as chunks:
                yield _MadeHere(chunks, export, query, documents, open_repository(settings, EXPORTS))
    except EncodingError as error:
        raise CommandError(f"this cannot be encoded: {str(error).strip().splitlines()[-1]}") from error


async def _unhurried(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The same, but Ctrl-C lets a chunk come that is under way, as nothing cancels a task that waits for the driver."""
    async with aclosing(chunks):
        while True:
            coming = asyncio.ensure_future(anext(chunks, None))
            try:
                chunk = await asyncio.shield(coming)
            except asyncio.CancelledError:
                await asyncio.wait([coming], timeout=PATIENCE_SECONDS)
                coming.cancel()
                await asyncio.wait([coming])
                raise
            if chunk is None:
                return
            yield chunk


class _MadeHere:
    """An export of this process."""

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        export: RunningExport,
        query: ExportQuery,
        documents: Repository,
        records: Repository,
    ) -> None:
        self.chunks = chunks
        self._export = export
        self._query = query
        self._documents = documents
        self._records = records

    async def progress(self) -> AsyncIterator[int]:
        while True:
            yield self._export.rows
            await asyncio.sleep(GLANCE_SECONDS)

    async def count(self) -> int | None:
        if self._query.spec.explode:
            return None  # a document has as many rows as it likes
        all_of_them = replace(self._query.selection, sort=(("_id", 1),), fields=("id",))
        try:
            page = await self._documents.page(ListQuery(all_of_them, limit=1, skip=0, cursor=None, count="exact"))
        except ServiceError:
            return None
        return page.total

    async def record(self) -> Mapping[str, Any]:
        return await self._records.get(str(self._export.record.id))


@asynccontextmanager
async def from_service(
    url: httpx.URL, sign_in: SignIn, type_name: str, format_name: str, query: str
) -> AsyncGenerator[Incoming]:
    """An export that a service makes. Raises CommandError for all that the service or the network refuses."""
    path = f"/api/v1/{quote(type_name, safe='')}"
    address = f"{path}/export/{format_name}?{query}"
    async with (
        open_client(url, sign_in) as client,
        client.stream("GET", address, headers={"Accept-Encoding": "gzip"}) as response,
    ):
        await check_answer(response)
        yield _MadeThere(response, client, sign_in, path)


class _MadeThere:
    """An export of a service."""

    def __init__(self, response: httpx.Response, client: httpx.AsyncClient, sign_in: SignIn, documents: str) -> None:
        self._response = response
        self._record = f"/api/v1/exports/{response.headers['Export-Id']}"
        self._size = 0
        self._client = client
        self._sign_in = sign_in
        self._documents = documents

    @property
    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.aiter_bytes():
            self._size += len(chunk)
            yield chunk

    async def progress(self) -> AsyncIterator[int]:
        # The record is written every few seconds; in between, rows are reckoned by the bytes that have come.
        while True:
            record = await self.record()
            for _ in range(round(ASK_SECONDS / GLANCE_SECONDS)):
                yield self._size * record["rows"] // (record["bytes"] or 1)
                await asyncio.sleep(GLANCE_SECONDS)

    async def count(self) -> int | None:
        counting = _counting(self._response.url.query.decode("ascii"))
        if counting is None:
            return None
        total: int | None = json_object(await self._client.get(f"{self._documents}?{counting}")).get("total")
        return total

    async def record(self) -> Mapping[str, Any]:
        return await read_record(self._client, self._sign_in, self._record)


def _counting(query: str) -> str | None:
    """The query of a list that counts the rows of an export; None where a document may have many."""
    named = [(unquote_plus(part.partition("=")[0]), part) for part in query.split("&") if part]
    if any(name == "explode" for name, _ in named):
        return None
    selecting = [part for name, part in named if name in SELECTING or name not in PARAMETERS]
    return "&".join([*selecting, "fields=id", "limit=1", "count=exact"])
