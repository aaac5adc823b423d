"""What every answer tells a browser: take it for what it is said to be, frame it nowhere, keep it to yourself."""

from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

RawHeaders = list[tuple[bytes, bytes]]

ALWAYS: RawHeaders = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]
NOTHING_RUNS = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
"""For data, which a browser only shows; a page has a policy of its own."""

HTTPS_ONLY = (b"strict-transport-security", b"max-age=31536000")
"""RFC 6797; a year, and for this host alone, as others may belong to others."""

UNKEPT = (b"cache-control", b"no-store")
ASKED_FOR_EACH_TIME: RawHeaders = [(b"cache-control", b"private, no-cache"), (b"vary", b"Authorization")]
"""What has an entity tag may be kept by its client, who asks each time whether it still holds (RFC 9111 §5.2.2.4); not
for somebody else, who may see less of it."""


def secured(headers: Iterable[tuple[bytes, bytes]], *, is_https: bool) -> RawHeaders:
    """An answer's headers, with those that it needs; its own policy and `Cache-Control` stay."""
    answered = [*headers, *ALWAYS]
    names = {name for name, _ in answered}
    if b"content-security-policy" not in names:
        answered.append(NOTHING_RUNS)
    if b"cache-control" not in names:
        answered += ASKED_FOR_EACH_TIME if b"etag" in names else [UNKEPT]
    if is_https:
        answered.append(HTTPS_ONLY)
    return answered


class SecurityHeadersMiddleware:
    """Secures every answer."""

    def __init__(self, app: ASGIApp, *, is_https: bool = False) -> None:
        """`is_https`: clients come by https, whatever the proxy before us speaks."""
        self._app = app
        self._is_https = is_https

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                is_https = self._is_https or scope.get("scheme") == "https"
                message["headers"] = secured(message["headers"], is_https=is_https)
            await send(message)

        await self._app(scope, receive, send_secured)
