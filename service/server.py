"""uvicorn's HTTP protocol with limits of ours, and refusals that are problems as all others are.

What is refused here has no request yet, and so no request id: the parser stopped in the middle of one.
"""

import http

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.api.security_headers import secured
from service.errors import HeadersTooLargeError, MalformedRequestError, ServiceError, UrlTooLongError

MAX_URL_BYTES = 262_144
MAX_HEADER_BYTES = 65_536
LINGER_SECONDS = 2
"""How long a client that was refused may go on sending before it is cut off."""


class LimitedHttpProtocol(HttpToolsProtocol):
    """Stops reading where a URL or the headers get too long, whoever asks."""

    _header_bytes = 0
    _refusal: ServiceError | None = None
    _is_refused = False

    def on_message_begin(self) -> None:
        """A new request."""
        super().on_message_begin()
        self._header_bytes = 0

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
        self.url, _, query = self.url.partition(b"?")
        super().on_headers_complete()
        self.scope["query_string"] = query

    def data_received(self, data: bytes) -> None:
        """More of a request, or of one that was refused already."""
        if not self._is_refused:
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed, and close the connection: not at once, as that would take back the answer."""
        response = (self._refusal or MalformedRequestError(msg)).response()
        lines = [f"HTTP/1.1 {response.status_code} {http.HTTPStatus(response.status_code).phrase}".encode()]
        lines += [
            name + b": " + value for name, value in secured(response.raw_headers, is_https=self.scheme == "https")
        ]
        self.transport.write(b"\r\n".join([*lines, b"connection: close", b"", bytes(response.body)]))
        self.transport.write_eof()
        self._is_refused = True
        self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def _refuse(self, error: ServiceError) -> None:
        self._refusal = error
        raise error
