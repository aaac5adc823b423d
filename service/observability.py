"""What ops see: one JSON line for each request, and a request id that goes in, through and out."""

import asyncio
import logging
import re
import secrets
import sys
import time
from typing import Any

import orjson
import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, clear_contextvars
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from service.errors import InternalError, ShuttingDownError

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

log: FilteringBoundLogger = structlog.get_logger()


def configure_logging(level: str) -> None:
    """JSON lines on standard error, from our loggers and the libraries' alike.

    Ours are written directly: the way through the standard library's handlers takes four times as long.
    """
    least = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, _add_logger_name, structlog.processors.JSONRenderer(_to_json)],
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        wrapper_class=structlog.make_filtering_bound_logger(least),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(lambda line, **_: _to_json(line).decode()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(least)
    for noisy in ("pymongo", "asyncio"):
        logging.getLogger(noisy).setLevel(max(least, logging.INFO))


def _add_logger_name(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    line["logger"] = "service"
    return line


def _to_json(line: Any, **_options: Any) -> bytes:
    return orjson.dumps(line, str)


class RequestContextMiddleware:
    """Gives each request its id, logs it, and answers for what nobody caught.

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
        status: int | None = None
        is_whole = True

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
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
        except Exception:
            is_whole = False
            log.exception("request failed")
            if status is not None:
                raise  # the answer has begun: only a broken connection can still say that it is not whole
            failure = InternalError("The service failed; its log says more under this request id.")
            await failure.response()(scope, receive, send_with_id)
        finally:
            route = scope.get("route")
            log.info(
                "request",
                method=scope["method"],
                route=getattr(route, "path", None),
                status=status,
                is_whole=is_whole,
                duration_ms=round((time.perf_counter() - started) * 1000, 1),
            )
