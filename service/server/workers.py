"""Several processes that serve from one listening socket, and what starts, replaces and ends them.

They are started anew, not forked, as threads and clients of a database do not survive that. uvicorn has a supervisor
too; it starts a worker that dies before it serves again and again, waits for ever for one that does not end, and its
workers outlive it when it is killed.
"""

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from time import monotonic

from service.errors import ServiceError, StartupError
from service.observability.logs import log
from service.server.process import ignore_signals, leave_on_signals

END_SECONDS = 20
"""How long workers get after the grace time, to write down what they broke off; then they are killed."""

SHORT_LIFE_SECONDS = 10
"""Who dies before that is not replaced at once."""

LONGEST_PAUSE_SECONDS = 30

Serve = Callable[[socket.socket, Callable[[], None]], None]
"""Serves from a socket, and calls back once it does. It is pickled."""

_context = multiprocessing.get_context("spawn")


def supervise(
    count: int, serve: Serve, listener: socket.socket, *, grace_seconds: float, have_started: Callable[[], None]
) -> None:
    """Have so many processes serve until a signal raises SystemExit here, then end them.

    `have_started` is called once all serve. One that dies is replaced. Raises StartupError if one of the first cannot
    start, or later one cannot and none is left.
    """
    supervisor = _Supervisor(serve, listener)
    try:
        supervisor.start(count)
        have_started()
        while True:
            supervisor.replace_dead()
    finally:
        ignore_signals()
        _end_workers(grace_seconds + END_SECONDS)


@dataclass(eq=False, slots=True)
class _Worker:
    """One process."""

    process: BaseProcess
    said: Connection
    """Empty text once it serves, or why it cannot."""
    pause_seconds: float
    """What was waited before it was started."""
    started_at: float
    serves: bool = False
    failure: str = ""

    def listen(self) -> None:
        """Take in what it has said, if anything."""
        with suppress(EOFError, OSError):  # it is gone
            while self.said.poll():
                self.failure = self.said.recv()
                self.serves = not self.failure

    @property
    def next_pause_seconds(self) -> float:
        """How long to wait before it is replaced."""
        if monotonic() - self.started_at > SHORT_LIFE_SECONDS:
            return 0
        return min(max(1, 2 * self.pause_seconds), LONGEST_PAUSE_SECONDS)


class _Supervisor:
    """Knows who serves, and who is to be replaced when."""

    def __init__(self, serve: Serve, listener: socket.socket) -> None:
        self._serve = serve
        self._listener = listener
        self._workers: list[_Worker] = []
        self._replacements: list[tuple[float, float]] = []
        """When each is due, and how long that was waited for."""

    def start(self, count: int) -> None:
        """Have the first ones serve. Raises StartupError."""
        for _ in range(count):
            self._start(0)
        while not all(worker.serves for worker in self._workers):
            for worker in self._wait():
                raise self._cannot_start(worker)

    def replace_dead(self) -> None:
        """Wait for something to happen. Raises StartupError."""
        for worker in self._wait():
            log.error("worker died", pid=worker.process.pid, status=worker.process.exitcode, reason=worker.failure)
            if not worker.serves and not self._workers:
                raise self._cannot_start(worker)
            pause = worker.next_pause_seconds
            self._replacements.append((monotonic() + pause, pause))
        for due in [due for due in self._replacements if due[0] <= monotonic()]:
            self._replacements.remove(due)
            self._start(due[1])

    def _start(self, pause_seconds: float) -> None:
        said, say = _context.Pipe(duplex=False)
        process = _context.Process(target=_work, args=(self._serve, self._listener, say), name="dossier worker")
        process.start()
        say.close()
        self._workers.append(_Worker(process, said, pause_seconds, monotonic()))

    def _wait(self) -> list[_Worker]:
        """Those that have died, once some have, one has begun to serve or a replacement is due."""
        pause = min((at for at, _ in self._replacements), default=None)
        told = [worker.said for worker in self._workers if not worker.serves]
        ends = [worker.process.sentinel for worker in self._workers]
        connection.wait([*told, *ends], None if pause is None else max(0, pause - monotonic()))
        dead = [worker for worker in self._workers if not worker.process.is_alive()]
        for worker in self._workers:  # now, as the last that one has said may have come in this moment
            worker.listen()
        self._workers = [worker for worker in self._workers if worker not in dead]
        for worker in dead:
            worker.said.close()
        return dead

    def _cannot_start(self, worker: _Worker) -> StartupError:
        return StartupError(worker.failure or f"a worker ended with status {worker.process.exitcode} before it served")


def _end_workers(seconds: float) -> None:
    """End all that there are, also one that was being started when the signal came."""
    workers = multiprocessing.active_children()
    for worker in workers:
        worker.terminate()
    deadline = monotonic() + seconds
    for worker in workers:
        worker.join(max(0, deadline - monotonic()))
        if worker.is_alive():
            log.error("worker killed, as it does not end", pid=worker.pid)
            worker.kill()
            worker.join()


def _work(serve: Serve, listener: socket.socket, say: Connection) -> None:
    """What a worker does."""
    leave_on_signals()
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    try:
        serve(listener, lambda: say.send(""))
    except (StartupError, ServiceError) as error:
        say.send(str(error))
        raise SystemExit(1) from None


def _end_with_supervisor() -> None:
    """Nobody else would: one that was killed leaves its workers the socket."""
    supervisor = multiprocessing.parent_process()
    assert supervisor is not None
    supervisor.join()
    os.kill(os.getpid(), signal.SIGTERM)
