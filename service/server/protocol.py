"""uvicorn's HTTP protocol with limits of ours, and refusals that are problems as all others are.

What is refused here has no request yet, and so no request id: the parser stopped in the middle of one.
"""

import asyncio
import http
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.api.security_headers import secured
from service.errors import (
    HeadersTooLargeError,
    MalformedRequestError,
    RequestTimeoutError,
    ServiceError,
    UrlTooLongError,
)

MAX_URL_BYTES = 262_144
MAX_HEADER_BYTES = 65_536
LINGER_SECONDS = 2
"""How long a client that was refused may go on sending before it is cut off."""


class LimitedHttpProtocol(HttpToolsProtocol):
    """Stops reading where a URL or the headers get too long, or are too long in coming, whoever asks."""

    _header_bytes = 0
    _has_begun = False
    _refusal: ServiceError | None = None
    _is_refused = False
    _deadline: asyncio.TimerHandle | None = None

    def __init__(self, *arguments: Any, header_timeout_seconds: float, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._header_timeout_seconds = header_timeout_seconds

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn's
        """Somebody is there, and may begin."""
        super().connection_made(transport)
        self._mind_the_time()

    def connection_lost(self, exc: Exception | None) -> None:
        """They are gone."""
        super().connection_lost(exc)
        self._stop_the_clock()

    def on_message_begin(self) -> None:
        """A new request."""
        super().on_message_begin()
        self._header_bytes = 0
        self._has_begun = True

    def on_url(self, url: bytes) -> None:
        """A part of the URL. What is raised in these methods ends the parsing, and so in `send_400_response`."""
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            self._refuse(UrlTooLongError(f"A URL has at most {MAX_URL_BYTES} bytes."))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        super().on_header(name, value)
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            self._refuse(HeadersTooLargeError(f"Headers have at most {MAX_HEADER_BYTES} bytes together."))

    def on_headers_complete(self) -> None:
        """The request can be served.

        httptools takes no URL past 64 KiB apart, so it gets the path alone; that a query is too long, the routes say.
        """
        self._has_begun = False
        self.url, _, query = self.url.partition(b"?")
        super().on_headers_complete()
        self.scope["query_string"] = query

    def data_received(self, data: bytes) -> None:
        """More of a request, or of one that was refused already."""
        if not self._is_refused:
            super().data_received(data)
            self._mind_the_time()

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed, and close the connection: not at once, as that would take back the answer."""
        self._stop_the_clock()
        response = (self._refusal or MalformedRequestError(msg)).response()
        lines = [f"HTTP/1.1 {response.status_code} {http.HTTPStatus(response.status_code).phrase}".encode()]
        lines += [
            name + b": " + value for name, value in secured(response.raw_headers, is_https=self.scheme == "https")
        ]
        self.transport.write(b"\r\n".join([*lines, b"connection: close", b"", bytes(response.body)]))
        self.transport.write_eof()
        self._is_refused = True
        self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def _mind_the_time(self) -> None:
        """Who is not being served, and not idle between two requests as uvicorn's own timer allows, has a deadline.

        So has one that was answered and sends the rest of a body that nobody reads.
        """
        is_served = self.cycle is not None and not self.cycle.response_complete  # type: ignore[redundant-expr] # None at first
        if is_served:
            self._stop_the_clock()
        elif self._deadline is None and self.timeout_keep_alive_task is None and not self._is_refused:
            self._deadline = self.loop.call_later(self._header_timeout_seconds, self._give_up)

    def _stop_the_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        if self._has_begun and not self.transport.is_closing():
            self._refusal = RequestTimeoutError(f"Headers come within {self._header_timeout_seconds:g} s.")
            self.send_400_response("")
        else:
            self.transport.close()

    def _refuse(self, error: ServiceError) -> None:
        self._refusal = error
        raise error
