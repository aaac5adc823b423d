"""Imports in processes of their own, so that requests are answered meanwhile, and memory is given back after each.

They are forked from a server process that has all modules loaded, which is quicker than a new interpreter, and shares
most of its memory with them.
"""

import asyncio
import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

from anyio import to_thread
from structlog.contextvars import bind_contextvars, get_contextvars

from service.imports.job import Ended, Job, RunningJob
from service.imports.preparing import serve_lane
from service.observability.logs import configure_logging, log
from service.observability.sentry import open_failure_reports
from service.store.database import open_database
from service.store.import_records import Import, ImportRecords
from service.store.slow_commands import SlowCommandLog

NICENESS = 15
"""Requests come before files, and MongoDB, for which all of them wait."""

THRESHOLDS = (100_000, 50, 50)
"""Rows make no cycles, and many objects: by default each 700 of them would be searched for cycles."""

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])


async def run_in_process(job: Job, lane_count: int, running: set[BaseProcess]) -> Ended | None:
    """Do a job in a process of its own, which is among the running ones meanwhile; None if that was killed.

    So many others prepare documents for it, and end with it. All are killed where this is cancelled.
    """
    receiver, sender = _context.Pipe(duplex=False)
    pairs = [_context.Pipe() for _ in range(lane_count)]
    known = get_contextvars()
    process = _context.Process(target=_main, args=(job, known, sender, [near for near, _ in pairs]), daemon=True)
    lanes = [_context.Process(target=_prepare, args=(job, known, far), daemon=True) for _, far in pairs]
    processes = [process, *lanes]
    ends = [sender, *(end for pair in pairs for end in pair)]
    starting = asyncio.ensure_future(to_thread.run_sync(_start, processes, ends))
    try:
        await asyncio.shield(starting)
        running.update(processes)
        return await to_thread.run_sync(_wait_for_end, receiver)
    except asyncio.CancelledError:
        await asyncio.wait([starting])  # before that there is nothing to kill
        for one in processes:
            one.kill()
        raise
    finally:
        await to_thread.run_sync(_join, processes)
        running.difference_update(processes)


def _start(processes: Sequence[BaseProcess], ends: Sequence[Connection]) -> None:
    """Start them without the program's main module, which would be run again there, and is not needed.

    The ends of their pipes are then theirs alone.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        for one in processes:
            one.start()
    finally:
        sys.modules["__main__"] = main
        for end in ends:
            end.close()


def _join(processes: Sequence[BaseProcess]) -> None:
    for one in processes:
        if one.pid is not None:  # as it is where none could be started
            one.join()


def _wait_for_end(receiver: Connection) -> Ended | None:
    """What the process says when it is done; None if it is gone without a word."""
    with receiver:
        try:
            ended: Ended = receiver.recv()
        except EOFError:
            return None
    return ended


def _settle() -> None:
    """Be a process that works for the service."""
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.SIG_IGN)  # which are for the service: it ends this if it cannot wait
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.nice(NICENESS)
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


def _prepare(job: Job, known: Mapping[str, Any], connection: Connection) -> None:
    _settle()
    with _failures_told(job, known):
        asyncio.run(_serve(job, connection))


async def _serve(job: Job, connection: Connection) -> None:
    """A class with validators of its own is made to see what they say, and Beanie makes none without a database."""
    async with open_database(job.settings, [job.document_class]):
        await to_thread.run_sync(serve_lane, connection)


def _main(job: Job, known: Mapping[str, Any], sender: Connection, lanes: Sequence[Connection]) -> None:
    _settle()
    with _failures_told(job, known):
        sender.send(asyncio.run(_do(job, lanes)))


@contextmanager
def _failures_told(job: Job, known: Mapping[str, Any]) -> Iterator[None]:
    """Log and report what ends a process, with what is known of the request. The record says only that it failed."""
    configure_logging(job.settings.log_level, job.settings.log_format)
    bind_contextvars(**known, import_id=str(job.record))
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever it is
        log.exception("import_failed")
        if reports := open_failure_reports(job.settings):
            reports.report(error, import_id=str(job.record))
            reports.close()


async def _do(job: Job, lanes: Sequence[Connection]) -> Ended:
    settings = job.settings
    records = ImportRecords(settings.import_record_days, settings.operation_timeout_seconds)
    listeners = [SlowCommandLog(settings.slow_command_seconds)]
    async with open_database(settings, [job.document_class, Import], listeners=listeners):
        return await RunningJob(job, records, lanes).do()


def _end_with_parent() -> None:
    """A service that is gone cannot say that the import is done, and its host may be about to stop."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
