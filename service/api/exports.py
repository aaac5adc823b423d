"""Exports over HTTP: files as they are made."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from time import monotonic

from fastapi import Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send
from structlog.contextvars import get_contextvars

from service.api.dependencies import actor_of, caller_of, services_of
from service.api.negotiation import accepts
from service.api.parameters import read_parameters
from service.api.records import record_router
from service.errors import DatabaseUnavailableError, InsufficientScopeError, ServiceError
from service.exports import Asker, read_export_query
from service.store.export_records import EXPORTS, Export
from service.store.repository import Repository
from service.transfer.formats import FORMATS

router = record_router(EXPORTS)


RECHECK_SECONDS = 5.0
"""How often it is looked whether a caller may still have a file that they are getting."""


class FileStream(Response):
    """A file as it is made. A failure on the way breaks the connection, so that a short file never looks whole."""

    def __init__(
        self,
        chunks: AsyncGenerator[bytes],
        *,
        headers: Mapping[str, str],
        media_type: str,
        stall_seconds: float,
        recheck: Callable[[], Awaitable[None]],
    ) -> None:
        """`recheck` raises a ServiceError if its caller may not have the file any more."""
        super().__init__(headers=headers, media_type=media_type)
        del self.headers["content-length"]  # an empty body's
        self._chunks = chunks
        self._stall_seconds = stall_seconds
        self._recheck = recheck
        self._recheck_at = monotonic() + RECHECK_SECONDS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Send it, and let go of the cursor however that ends. Raises ClientDisconnect, and what `recheck` does.

        Not Starlette's StreamingResponse: that notices a client that left by cancelling whatever is awaited, again and
        again, and so breaks the driver's connection pool (seen: after ten such clients nobody got a connection).
        """
        left = asyncio.create_task(_disconnected(receive))
        try:
            async with aclosing(self._chunks), _end_is_a_failure_of(self._chunks):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                async for chunk in self._chunks:
                    if left.done():
                        raise ClientDisconnect
                    await self._recheck_now_and_then()
                    await self._send_body(send, chunk)
                await self._send_body(send, b"", is_last=True)
        finally:
            left.cancel()

    async def _send_body(self, send: Send, chunk: bytes, *, is_last: bool = False) -> None:
        """Send some of it, as soon as the client takes it; one that takes nothing for too long is as good as gone."""
        sending = asyncio.ensure_future(send({"type": "http.response.body", "body": chunk, "more_body": not is_last}))
        stalled_at = monotonic() + self._stall_seconds
        try:
            while not (await asyncio.wait({sending}, timeout=min(stalled_at, self._recheck_at) - monotonic()))[0]:
                if monotonic() >= stalled_at:
                    raise ClientDisconnect
                await self._recheck_now_and_then()
            await sending
        finally:
            sending.cancel()

    async def _recheck_now_and_then(self) -> None:
        """Here and not in a task beside, as that would have to be cancelled while it waits for the driver."""
        if monotonic() < self._recheck_at:
            return
        with suppress(DatabaseUnavailableError):  # as in an election, which an export survives
            await self._recheck()
        self._recheck_at = monotonic() + RECHECK_SECONDS


@asynccontextmanager
async def _end_is_a_failure_of(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[None]:
    """Tell an export that the service ends, which cancels it, or ends it; else it would take the client for gone."""
    try:
        yield
    except (asyncio.CancelledError, ServiceError) as error:
        with suppress(asyncio.CancelledError, ServiceError, StopAsyncIteration):
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
    name = documents.document_type.name

    async def begun(record: Export) -> None:
        await services.audit.note("export", actor_of(request), type=name, target=str(record.id))

    export = await services.exporter.start(documents, query, asker, begun, is_gzipped=is_gzipped)

    async def recheck() -> None:
        present = await services.standing.check(caller)
        if any(scope.startswith(f"{name}:") for scope in caller.scopes - present.scopes):
            raise InsufficientScopeError(f"The account may not do all with {name} any more that it could.")

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
        recheck=recheck,
    )
