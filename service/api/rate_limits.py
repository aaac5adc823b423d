"""The rate limit: how many requests an account may send in a minute, of each group of routes."""

from functools import cache
from typing import Literal

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import TooManyRequestsError
from service.store.quotas import Quota, Quotas

WINDOW_SECONDS = 60

Group = Literal["reads", "writes", "files", "accounts"]
"""Routes that have a quota of their own, so that a nightly import leaves everybody else's reads alone."""

ACCOUNT_ROUTES = frozenset({"accounts", "audit", "auth"})
FILE_ROUTES = frozenset({"export", "import"})


@cache
def group_of(method: str, path: str) -> Group:
    """The group of a route, by its path as OpenAPI shows it: `/api/v1/users/{document_id}`."""
    _, _, _, name, *rest = path.split("/")
    if name in ACCOUNT_ROUTES:
        return "accounts"
    if FILE_ROUTES.intersection(rest[:1]):
        return "files"
    return "reads" if method == "GET" else "writes"


class RateLimit:
    """Counts the requests of each account, for all processes together."""

    def __init__(self, quotas: Quotas, per_minute: int) -> None:
        self._quotas = quotas
        self._quota = Quota(per_minute, WINDOW_SECONDS)

    async def take(self, request: Request, account_id: str) -> None:
        """Count this request, and let its answer say what is left. Raises TooManyRequestsError."""
        group = group_of(request.method, request.scope["route"].path)
        claim = await self._quotas.take(f"requests {group} {account_id}", self._quota)
        # draft-ietf-httpapi-ratelimit-headers §3 and §4.
        request.state.rate_limit_headers = {
            "RateLimit-Policy": f'"{group}";q={self._quota.limit};w={self._quota.window_seconds}',
            "RateLimit": f'"{group}";r={claim.remaining};t={claim.reset_seconds}',
        }
        if not claim.is_granted:
            raise TooManyRequestsError(self._quota.limit, group, claim.reset_seconds)


class RateLimitHeadersMiddleware:
    """Puts what is left of a quota into each answer to a request that was counted, whatever the answer is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(scope["state"].get("rate_limit_headers", {}))
            await send(message)

        await self._app(scope, receive, send_with_headers)
