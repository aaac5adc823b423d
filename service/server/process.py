"""uvicorn as this service runs it: one process, which says when it serves, and why it cannot."""

import asyncio
import resource
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from types import FrameType
from typing import Any, NoReturn, TypeVar, cast

import uvicorn
from fastapi import FastAPI
from uvicorn.lifespan.on import LifespanOn, LifespanSendMessage

from service.errors import ServiceError, StartupError
from service.observability.readiness import SIGNALS
from service.server.protocol import LimitedHttpProtocol
from service.settings import Settings

T = TypeVar("T")

ABANDON_SECONDS = 2
"""How long a start that is under way may still take after a signal: longer than one that has all it needs."""


def run_server(app: FastAPI, settings: Settings, listener: socket.socket, has_started: Callable[[], None]) -> None:
    """Serve until a signal ends it; `has_started` is called once it serves. Raises StartupError and ServiceError."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        http=partial(  # type: ignore[arg-type] # it is called, and nothing else
            LimitedHttpProtocol,
            header_timeout_seconds=settings.header_timeout_seconds,
            stall_seconds=settings.export_stall_seconds,
        ),
        ws="none",
        # By default uvicorn believes whatever asks from this machine, and so whoever a proxy here passes on.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=[str(network) for network in settings.trusted_proxies or ()],
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=settings.shutdown_grace_seconds,
    )
    config.load()
    config.lifespan_class = _Lifespan
    _Server(config, has_started).run(sockets=[listener])


def leave_on_signals() -> None:
    """Let a signal end the process so that whatever it has started is ended; further ones don't disturb that.

    uvicorn has its own handlers while it runs, and then raises the signal again.
    """
    for sign in SIGNALS:
        signal.signal(sign, _leave)


def run_until_signal(work: Coroutine[Any, Any, T]) -> T:
    """What it returns; a signal cancels it and ends the process, as `leave_on_signals` does elsewhere.

    An exception in the middle of an event loop would hit whichever task is on, and leave the others in pieces. A signal
    that comes when the work is done, and the loop about to close, is heeded afterwards.
    """
    has_come = False

    async def run() -> T:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None

        def heed(_sign: int, _frame: FrameType | None) -> None:
            nonlocal has_come
            has_come = True
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)

        for sign in SIGNALS:
            signal.signal(sign, heed)
        return await work

    try:
        result = asyncio.run(run())
    except BaseException as error:
        ignore_signals()
        if isinstance(error, asyncio.CancelledError):
            raise SystemExit(0) from None
        raise
    leave_on_signals()
    if has_come:
        ignore_signals()
        raise SystemExit(0)
    return result


def ignore_signals() -> None:
    """Let nothing disturb an end that has begun."""
    for sign in SIGNALS:
        signal.signal(sign, signal.SIG_IGN)


def _leave(_sign: int, _frame: FrameType | None) -> NoReturn:
    ignore_signals()
    raise SystemExit(0)


def allow_many_connections() -> None:
    """Have as many open files as the system lets us: a connection is one, and most systems begin with 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class _Lifespan(LifespanOn):
    """Keeps why the app could not start, where uvicorn would only log it, as a traceback."""

    failure: Exception | None = None
    is_abandoned = False

    async def startup(self) -> None:
        """Have the app open what it needs."""
        self._running = asyncio.create_task(self.main())
        await self.receive_queue.put({"type": "lifespan.startup"})
        await self.startup_event.wait()
        self.should_exit = self.startup_failed or self.error_occurred

    def abandon(self) -> None:
        """Wait no longer."""
        if not self.startup_event.is_set():
            self.is_abandoned = self.startup_failed = True
            self.startup_event.set()

    async def send(self, message: LifespanSendMessage) -> None:
        """What the app says of itself."""
        if self.is_abandoned:
            return
        if message["type"] == "lifespan.startup.failed":
            error = sys.exception()  # Starlette says so while it handles this
            if isinstance(error, StartupError | ServiceError):
                self.failure = error
                message = {"type": "lifespan.startup.failed", "message": ""}
        await super().send(message)


class _Server(uvicorn.Server):
    """Ends with an exception where uvicorn ends with a status, and heeds signals before it serves."""

    def __init__(self, config: uvicorn.Config, has_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._has_started = has_started
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start. Raises StartupError and ServiceError."""
        self._loop = asyncio.get_running_loop()
        try:
            await super().startup(sockets)
        except SystemExit:
            if self.should_exit:
                raise SystemExit(0) from None
            raise cast(_Lifespan, self.lifespan).failure or StartupError(
                "the service failed; its log says why"
            ) from None
        self._has_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal has come."""
        super().handle_exit(sig, frame)
        if not self.started and self._loop is not None:
            abandon = cast(_Lifespan, self.lifespan).abandon
            self._loop.call_soon_threadsafe(self._loop.call_later, ABANDON_SECONDS, abandon)
