"""What the driver tells of its work, measured: commands (APM), connections (CMAP), heartbeats (SDAM)."""

from functools import cache

from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
    ConnectionCheckedInEvent,
    ConnectionCheckedOutEvent,
    ConnectionCheckOutFailedEvent,
    ConnectionCheckOutFailedReason,
    ConnectionCheckOutStartedEvent,
    ConnectionClosedEvent,
    ConnectionCreatedEvent,
    ConnectionPoolListener,
    ConnectionReadyEvent,
    PoolClearedEvent,
    PoolClosedEvent,
    PoolCreatedEvent,
    PoolReadyEvent,
    ServerHeartbeatFailedEvent,
    ServerHeartbeatListener,
    ServerHeartbeatStartedEvent,
    ServerHeartbeatSucceededEvent,
)

from service.observability.metrics import (
    COMMAND_FAILURES,
    COMMANDS,
    POOL_FAILURES,
    POOL_IN_USE,
    POOL_SIZE,
    POOL_WAITED,
    PRIMARY_CHANGES,
    PRIMARY_MISSING,
)

WAIT_SECONDS = 0.001
"""Whoever gets a connection sooner has not waited."""

FAILURE_REASONS = (
    ConnectionCheckOutFailedReason.TIMEOUT,
    ConnectionCheckOutFailedReason.CONN_ERROR,
    ConnectionCheckOutFailedReason.POOL_CLOSED,
)

Address = tuple[str, int | None]


def error_name(event: CommandFailedEvent) -> str:
    """What kind of failure it is: MongoDB's name for its code, or the driver's for what it met; its text has values."""
    failure = event.failure
    return str(failure.get("codeName") or failure.get("errtype") or failure.get("code") or "unknown")


class CommandMetrics(CommandListener):
    """Counts commands, and their time."""

    def __init__(self) -> None:
        self._duration_of = cache(COMMANDS.labels)

    def started(self, event: CommandStartedEvent) -> None:
        """Nothing to count yet."""

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """One more."""
        self._duration_of(event.command_name).observe(event.duration_micros / 1e6)

    def failed(self, event: CommandFailedEvent) -> None:
        """One more, in vain."""
        self._duration_of(event.command_name).observe(event.duration_micros / 1e6)
        COMMAND_FAILURES.labels(event.command_name, error_name(event)).inc()


class PoolMetrics(ConnectionPoolListener):
    """Counts connections, and what waits for one."""

    def __init__(self) -> None:
        self._size = cache(lambda address: POOL_SIZE.labels(_text(address)))
        self._in_use = cache(lambda address: POOL_IN_USE.labels(_text(address)))

    def pool_created(self, event: PoolCreatedEvent) -> None:
        """It has no connections yet, and none was missed, which is told: so the first that is will be an increase."""
        for reason in FAILURE_REASONS:
            POOL_FAILURES.labels(_text(event.address), reason)

    def pool_ready(self, event: PoolReadyEvent) -> None:
        """Its connections tell of themselves."""

    def pool_cleared(self, event: PoolClearedEvent) -> None:
        """Likewise."""

    def pool_closed(self, event: PoolClosedEvent) -> None:
        """Likewise."""

    def connection_created(self, event: ConnectionCreatedEvent) -> None:
        """One more."""
        self._size(event.address).inc()

    def connection_ready(self, event: ConnectionReadyEvent) -> None:
        """It was counted before."""

    def connection_closed(self, event: ConnectionClosedEvent) -> None:
        """One less."""
        self._size(event.address).dec()

    def connection_check_out_started(self, event: ConnectionCheckOutStartedEvent) -> None:
        """How long it waits, it tells when that is over."""

    def connection_check_out_failed(self, event: ConnectionCheckOutFailedEvent) -> None:
        """Something gets none."""
        POOL_WAITED.labels(_text(event.address)).inc(event.duration or 0)
        POOL_FAILURES.labels(_text(event.address), event.reason).inc()

    def connection_checked_out(self, event: ConnectionCheckedOutEvent) -> None:
        """Something has one."""
        if event.duration and event.duration > WAIT_SECONDS:
            POOL_WAITED.labels(_text(event.address)).inc(event.duration)
        self._in_use(event.address).inc()

    def connection_checked_in(self, event: ConnectionCheckedInEvent) -> None:
        """It is given back."""
        self._in_use(event.address).dec()


class PrimaryMetrics(ServerHeartbeatListener):
    """Counts elections, and notes whether there is a primary, by what servers answer to the driver's monitors.

    Not by topology events: for those the driver starts a task in every child that is forked, where no loop runs.
    """

    def __init__(self) -> None:
        self._writable: set[Address] = set()
        """By what they call themselves: under another name a server is asked only until its set has told that."""
        self._names: dict[Address, Address] = {}
        self._is_missing = False

    def elected(self) -> None:
        """`Elections` has heard of another primary."""
        PRIMARY_CHANGES.inc()

    def started(self, event: ServerHeartbeatStartedEvent) -> None:
        """Nothing is known yet."""

    def succeeded(self, event: ServerHeartbeatSucceededEvent) -> None:
        """A server says what it is."""
        name = self._names[event.connection_id] = event.reply.me or event.connection_id
        if event.reply.is_writable:
            self._writable.add(name)
        else:
            self._writable.discard(name)
        self._note_missing()

    def failed(self, event: ServerHeartbeatFailedEvent) -> None:
        """A server says nothing."""
        self._writable.discard(self._names.get(event.connection_id, event.connection_id))
        self._note_missing()

    def _note_missing(self) -> None:
        is_missing = not self._writable
        PRIMARY_MISSING.inc(is_missing - self._is_missing)
        self._is_missing = is_missing


def _text(address: Address) -> str:
    host, port = address
    return host if port is None else f"{host}:{port}"
