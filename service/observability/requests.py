"""What each request has around it: an id, a line in the log, a place in the metrics, an answer to any failure."""

import asyncio
import re
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, clear_contextvars

from service.errors import InternalError, ShuttingDownError
from service.observability.logs import log
from service.observability.metrics import REQUESTS_IN_PROGRESS, observe_request

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestContextMiddleware:
    """Gives each request its id, logs and measures it, and answers for what nobody caught.

    Plain ASGI: Starlette's BaseHTTPMiddleware would pass each body through a queue of its own.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        clear_contextvars()
        bind_contextvars(request_id=request_id)
        started = time.perf_counter()
        REQUESTS_IN_PROGRESS.inc()
        status: int | None = None
        size = 0
        is_whole = True

        async def send_with_id(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            is_whole = False
        except asyncio.CancelledError:  # as nobody else cancels a request, the grace time is over
            is_whole = False
            if status is not None:
                raise
            await ShuttingDownError().response()(scope, receive, send_with_id)
        except Exception as error:
            is_whole = False
            log.exception("request failed")
            if status is not None:
                raise  # the answer has begun: only a broken connection can still say that it is not whole
            unknown = InternalError("The service failed; its log says more under this request id.")
            failure = error if isinstance(error, InternalError) else unknown
            await failure.response()(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", None)
            REQUESTS_IN_PROGRESS.dec()
            observe_request(scope["method"], route, status, seconds)
            log.info(
                "request",
                method=scope["method"],
                route=route,
                status=status,
                is_whole=is_whole,
                bytes=size,
                duration_ms=round(seconds * 1000, 1),
            )
