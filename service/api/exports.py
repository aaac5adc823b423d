"""Exports over HTTP: files as they are made."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress

from fastapi import Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send
from structlog.contextvars import get_contextvars

from service.api.dependencies import caller_of, services_of
from service.api.negotiation import accepts
from service.api.parameters import read_parameters
from service.api.records import record_router
from service.exports import Asker, read_export_query
from service.store.export_records import EXPORTS
from service.store.repository import Repository
from service.transfer.formats import FORMATS

router = record_router(EXPORTS)


class FileStream(Response):
    """A file as it is made. A failure on the way breaks the connection, so that a short file never looks whole."""

    def __init__(
        self, chunks: AsyncGenerator[bytes], *, headers: Mapping[str, str], media_type: str, stall_seconds: float
    ) -> None:
        super().__init__(headers=headers, media_type=media_type)
        del self.headers["content-length"]  # an empty body's
        self._chunks = chunks
        self._stall_seconds = stall_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Send it, and let go of the cursor however that ends. Raises ClientDisconnect.

        Not Starlette's StreamingResponse: that notices a client that left by cancelling whatever is awaited, again and
        again, and so breaks the driver's connection pool (seen: after ten such clients nobody got a connection).
        """
        left = asyncio.create_task(_disconnected(receive))
        try:
            async with aclosing(self._chunks), _service_end_is_a_failure_of(self._chunks):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                async for chunk in self._chunks:
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


@asynccontextmanager
async def _service_end_is_a_failure_of(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[None]:
    """Tell an export that it is cancelled, as only a service that ends does; else it would take the client for gone."""
    try:
        yield
    except asyncio.CancelledError as error:
        with suppress(asyncio.CancelledError, StopAsyncIteration):
            await chunks.athrow(error)
        raise


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def export_documents(request: Request, documents: Repository, format_name: str) -> FileStream:
    """The file. All that can be refused is refused here, before its first byte.

    Raises InvalidQueryError, PrivateFieldError, QueryTooExpensiveError, SnapshotUnavailableError and
    TooManyExportsError.
    """
    services, caller = services_of(request), caller_of(request)
    text = request.scope["query_string"].decode("ascii", "backslashreplace")
    query = read_export_query(documents.view, format_name, read_parameters(request), text)
    file_format = FORMATS[query.spec.format_name]
    is_gzipped = not file_format.is_compressed and accepts(request, "accept-encoding", "gzip", "x-gzip")
    asker = Asker(caller.account_id, caller.username, get_contextvars().get("request_id"))
    export = await services.exporter.start(documents, query, asker, is_gzipped=is_gzipped)
    headers = {
        "Content-Disposition": f'attachment; filename="{export.record.filename}"',
        "Export-Id": str(export.record.id),
        "Cache-Control": "no-store",
        "Vary": "Accept-Encoding",
    }
    return FileStream(
        export.chunks,
        headers=headers | ({"Content-Encoding": "gzip"} if is_gzipped else {}),
        media_type=file_format.media_type,
        stall_seconds=services.settings.export_stall_seconds,
    )
