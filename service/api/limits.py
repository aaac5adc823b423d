"""How much one process does at once, and how slowly it may be sent what it is to do."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.origins import PROBES
from service.errors import OverloadedError, RequestTimeoutError

WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class ConcurrencyLimitMiddleware:
    """Refuses requests at once where too many are being done, rather than let all of them wait.

    One that waits for its client to send more is not being done: clients that trickle take no place from others. Nor is
    an export, which waits for its client to leave: the exporter has places of its own.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; probes and scrapes are always answered."""
        if scope["type"] != "http" or scope["path"].startswith(PROBES):
            await self._app(scope, receive, send)
            return
        if self._running >= self._limit:
            await OverloadedError().response()(scope, receive, send)
            return

        has_place = True

        async def receive_without_place() -> Message:
            """Have a place again once the body is whole. Raises OverloadedError if all are taken by then."""
            nonlocal has_place
            self._running -= has_place
            has_place = False
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                if self._running >= self._limit:
                    raise OverloadedError
                self._running += 1
                has_place = True
            return message

        self._running += 1
        try:
            await self._app(scope, receive_without_place, send)
        finally:
            self._running -= has_place


class BodyDeadlineMiddleware:
    """Gives up a client that sends its body too slowly, or falls silent in the middle of it."""

    def __init__(self, app: ASGIApp, stall_seconds: float, min_bytes_per_second: int) -> None:
        self._app = app
        self._stall_seconds = stall_seconds
        self._min_bytes_per_second = min_bytes_per_second

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["method"] in WITH_BODY:
            receive = self._patient(receive)
        await self._app(scope, receive, send)

    def _patient(self, receive: Receive) -> Callable[[], Awaitable[Message]]:
        """Messages, of which those with the body come in time. Raises RequestTimeoutError.

        A client has so many seconds to be waited for, loses those for which it is, and earns some by each byte, but
        never has more than it began with. While nobody waits for it, as the file is written down, it loses none.
        """
        credit = self._stall_seconds
        is_whole = False

        async def receive_in_time() -> Message:
            nonlocal credit, is_whole
            if is_whole:  # what comes now is that the client has left, some time
                return await receive()
            began = monotonic()
            try:
                async with asyncio.timeout(credit):
                    message = await receive()
            except TimeoutError:
                raise RequestTimeoutError("The body comes too slowly.") from None
            earned = len(message.get("body", b"")) / self._min_bytes_per_second
            credit = min(self._stall_seconds, credit - (monotonic() - began) + earned)
            is_whole = not message.get("more_body", False)
            return message

        return receive_in_time
