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

ENDING_STALL_SECONDS = 5
"""How long a service that ends waits for a client that reads nothing: less than it gives its requests by default."""


class LimitedHttpProtocol(HttpToolsProtocol):
    """Stops reading where a URL or the headers get too long, or are too long in coming, whoever asks.

    And stops waiting for a client that reads nothing, which would keep the connection and its answer for good: to close
    a transport waits without limit for what it still has to send.
    """

    _header_bytes = 0
    _has_begun = False
    _refusal: ServiceError | None = None
    _is_refused = False
    _deadline: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def __init__(self, *arguments: Any, header_timeout_seconds: float, stall_seconds: float, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._header_timeout_seconds = header_timeout_seconds
        self._stall_seconds = stall_seconds

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn's
        """Somebody is there, and may begin."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # so that writing is paused as soon as the client does not keep up
        self._mind_the_time()

    def connection_lost(self, exc: Exception | None) -> None:
        """They are gone."""
        super().connection_lost(exc)
        self._stop_the_clock()
        self._stop_minding_the_reader()

    def pause_writing(self) -> None:
        """There is something that the client has not taken yet; nothing is added to it until it has."""
        super().pause_writing()
        self._mind_the_reader()

    def resume_writing(self) -> None:
        """It has taken all."""
        super().resume_writing()
        self._stop_minding_the_reader()

    def shutdown(self) -> None:
        """The service ends, and waits less long from now on."""
        super().shutdown()
        self._stall_seconds = min(self._stall_seconds, ENDING_STALL_SECONDS)
        if self._stall is not None:
            self._mind_the_reader()

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

    def _mind_the_reader(self) -> None:
        self._stop_minding_the_reader()
        unread = self.transport.get_write_buffer_size()
        self._stall = self.loop.call_later(self._stall_seconds, self._end_stall, unread)

    def _stop_minding_the_reader(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _end_stall(self, unread: int) -> None:
        if self.transport.get_write_buffer_size() < unread:
            self._mind_the_reader()
        else:
            self.transport.abort()

    def _give_up(self) -> None:
        if self._has_begun and not self.transport.is_closing():
            self._refusal = RequestTimeoutError(f"Headers come within {self._header_timeout_seconds:g} s.")
            self.send_400_response("")
        else:
            self.transport.close()

    def _refuse(self, error: ServiceError) -> None:
        self._refusal = error
        raise error
