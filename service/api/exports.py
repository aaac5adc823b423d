"""Exports: a list's selection as a file, streamed in constant memory."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from anyio import to_thread
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from service.documents.base import now
from service.documents.registry import DocumentType
from service.errors import Fault, InvalidQueryError
from service.store.query import QueryString, Selection
from service.store.repository import Repository
from service.transfer.formats import DELIMITERS, FORMATS, Encoder, ExportOptions
from service.transfer.table import Table


async def export_documents(
    documents: Repository, format_name: str, parameters: Sequence[tuple[str, str]]
) -> StreamingResponse:
    """The file. All that can be refused is refused here, before its first byte. Raises InvalidQueryError."""
    document_type = documents.document_type
    selection, encoder = _read_export_query(document_type, format_name, parameters)
    chunks = _chunks(documents.stream(selection), encoder)
    first = await anext(chunks)  # asks MongoDB, so that what it refuses still has a status of its own
    filename = f"{document_type.name}-{now():%Y-%m-%dT%H%MZ}.{format_name}"
    return FileStream(
        first,
        chunks,
        media_type=FORMATS[format_name].media_type,
        headers={"Content-Disposition": f'attachment; filename="{filename}"', "Cache-Control": "no-store"},
    )


class FileStream(StreamingResponse):
    """A file as it is made. A failure on the way breaks the connection, so that a short file never looks whole."""

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes], *, media_type: str, headers: dict[str, str]) -> None:
        super().__init__(self._body(first, rest), media_type=media_type, headers=headers)
        self._rest = rest

    @staticmethod
    async def _body(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        yield first
        async for chunk in rest:
            yield chunk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, and let go of the cursor however that ends."""
        async with aclosing(self._rest):
            await super().__call__(scope, receive, send)


async def _chunks(batches: AsyncGenerator[bytes], encoder: Encoder) -> AsyncGenerator[bytes]:
    """The file's bytes; the first come only with the first batch."""
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
        options = ExportOptions(
            document_type.name,
            query.choice("delimiter", DELIMITERS, "comma"),
            query.boolean("bom"),
            query.boolean("raw"),
        )
    selection = query.selection()
    query.finish()
    encoder = file_format.make(Table(document_type.fields, selection.fields, explode), options)
    if selection.fields and explode:
        selection = replace(
            selection, fields=(*selection.fields, explode)
        )  # its elements decide how many rows there are
    return selection, encoder
