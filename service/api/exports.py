"""Exports: a list's selection as a file, streamed in constant memory."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace

from anyio import to_thread
from fastapi import Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from service.documents.base import now
from service.documents.registry import DocumentType
from service.errors import Fault, InvalidQueryError, TooManyExportsError
from service.store.query import QueryString, Selection
from service.store.repository import Repository
from service.transfer.formats import DELIMITERS, FORMATS, Encoder, ExportOptions
from service.transfer.table import Table


class ExportSlots:
    """How many exports may run together, so that they cannot starve the rest."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0

    @contextmanager
    def take(self) -> Iterator[None]:
        """Take one, until it is over. Raises TooManyExportsError."""
        if self._taken >= self._limit:
            raise TooManyExportsError(self._limit)
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


class FileStream(Response):
    """A file as it is made. A failure on the way breaks the connection, so that a short file never looks whole."""

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes], *, media_type: str, stall_seconds: float) -> None:
        super().__init__(media_type=media_type)
        del self.headers["content-length"]  # an empty body's
        self._first = first
        self._rest = rest
        self._stall_seconds = stall_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Send it, and let go of the cursor however that ends. Raises ClientDisconnect.

        Not Starlette's StreamingResponse: that notices a client that left by cancelling whatever is awaited, again and
        again, and so breaks the driver's connection pool (seen: after ten such clients nobody got a connection).
        """
        left = asyncio.create_task(_disconnected(receive))
        try:
            async with aclosing(self._rest):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                await self._send_body(send, self._first)
                async for chunk in self._rest:
                    if left.done():
                        raise ClientDisconnect
                    await self._send_body(send, chunk)
                await self._send_body(send, b"", is_last=True)
        finally:
            left.cancel()

    async def _send_body(self, send: Send, chunk: bytes, *, is_last: bool = False) -> None:
        try:
            async with asyncio.timeout(self._stall_seconds):
                await send({"type": "http.response.body", "body": chunk, "more_body": not is_last})
        except TimeoutError as error:
            raise ClientDisconnect from error  # as good as


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def export_documents(
    documents: Repository,
    format_name: str,
    parameters: Sequence[tuple[str, str]],
    *,
    slots: ExportSlots,
    stall_seconds: float,
) -> FileStream:
    """The file. All that can be refused is refused here, before its first byte.

    Raises InvalidQueryError, QueryTooExpensiveError and TooManyExportsError.
    """
    document_type = documents.document_type
    selection, encoder = _read_export_query(document_type, format_name, parameters)
    chunks = _chunks(slots, documents.stream(selection), encoder)
    first = await anext(chunks)  # asks MongoDB, so that what it refuses still has a status of its own
    response = FileStream(first, chunks, media_type=FORMATS[format_name].media_type, stall_seconds=stall_seconds)
    filename = f"{document_type.name}-{now():%Y-%m-%dT%H%MZ}.{format_name}"
    response.headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    response.headers["Cache-Control"] = "no-store"
    return response


async def _chunks(slots: ExportSlots, batches: AsyncGenerator[bytes], encoder: Encoder) -> AsyncGenerator[bytes]:
    """The file's bytes; the first come only with the first batch."""
    with slots.take():
        start = encoder.start()
        async with aclosing(batches):
            async for batch in batches:
                # In a thread: the event loop has other requests to answer while a batch is encoded.
                yield start + await to_thread.run_sync(encoder.encode, batch)
                start = b""
        yield start + await to_thread.run_sync(encoder.end)


def _read_export_query(
    document_type: DocumentType, format_name: str, parameters: Sequence[tuple[str, str]]
) -> tuple[Selection, Encoder]:
    file_format = FORMATS.get(format_name)
    if file_format is None:
        message = f"one of {', '.join(FORMATS)} is expected"
        raise InvalidQueryError([Fault("unknown_format", message, parameter="format_name")])
    query = QueryString(document_type, parameters)
    explode = query.array("explode")
    options = ExportOptions(document_type.name)
    if file_format.is_delimited:
        delimiter = query.choice("delimiter", DELIMITERS, "comma")
        options = ExportOptions(document_type.name, delimiter, query.boolean("bom"), query.boolean("raw"))
    selection = query.selection()
    query.finish()
    encoder = file_format.make(Table(document_type.fields, selection.fields, explode), options)
    if selection.fields and explode:
        selection = replace(
            selection, fields=(*selection.fields, explode)
        )  # its elements decide how many rows there are
    return selection, encoder
