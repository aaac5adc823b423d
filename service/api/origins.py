"""From where requests may come: pages of which origins, and under which names of this host."""

from collections.abc import Collection
from http.client import OK

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import CrossOriginError, MisdirectedRequestError

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
TAKEN_HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "X-Request-ID")
SHOWN_HEADERS = (
    "Accept",
    "Accept-Patch",
    "Allow",
    "Content-Disposition",
    "ETag",
    "Export-Id",
    "Failed-Rows-Left-Out",
    "Idempotency-Replayed",
    "Import-Id",
    "Link",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-ID",
)
"""What pages may read of an answer, beside what all may (https://fetch.spec.whatwg.org/#cors-safelisted-response-header-name)."""

PROBES = ("/health", "/metrics")
"""What is asked by address, whatever the name, and is answered in an overload too. The first tells nobody anything, the
other only whoever has its token."""


class CrossOriginMiddleware(CORSMiddleware):
    """Lets pages of these very origins ask, with a token and without cookies; refuses all others as a problem."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=TAKEN_HEADERS,
            expose_headers=SHOWN_HEADERS,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """The answer to a browser that asks for a page whether it may."""
        response = super().preflight_response(request_headers)
        if response.status_code == OK:
            return response
        headers = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
        return CrossOriginError(f"{bytes(response.body).decode()}.", headers=headers).response()


class AllowedHostsMiddleware:
    """Refuses requests for other hosts, as a page sends them whose name was bent to our address (DNS rebinding)."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and not scope["path"].startswith(PROBES):
            named = Headers(scope=scope).getlist("host")
            if not named or any(_host_of(host) not in self._hosts for host in named):
                refusal = MisdirectedRequestError("The Host header names none of those that are served here.")
                await refusal.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _host_of(header: str) -> str:
    """A Host header's name, without its port (RFC 9110 §7.2); of IPv6 with its brackets."""
    host, colon, port = header.lower().rpartition(":")
    return host if colon and port.isdigit() else header.lower()
