"""What commands say to a person, and ask."""

import asyncio
import getpass
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

from service.errors import InternalError, ServiceError, StartupError
from service.store.failures import reason_of

MAX_LINE = 10_000


class CommandError(Exception):
    """The command cannot be done, and this text says why."""


def heed_every_signal() -> None:
    """Let each signal that ends a program end this one as Ctrl-C does, so that nothing half done is left."""

    def interrupt(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        signal.signal(signal.SIGHUP, interrupt)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let no signal that can be ignored end what is short, and must not be left half done."""
    handlers = {sign: signal.signal(sign, signal.SIG_IGN) for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for sign, handler in handlers.items():
            signal.signal(sign, handler)


def stop_if_interrupted() -> None:
    """Raise CancelledError in a task that is cancelled, again: Python 3.11's wait_for, in the driver, can lose it."""
    this = asyncio.current_task()
    if this is not None and this.cancelling():
        raise asyncio.CancelledError


def line_of(error: CommandError | StartupError | ServiceError) -> str:
    """What a person is told of it."""
    match error:
        case InternalError():
            return reason_of(error)
        case ServiceError():
            return in_one_line(error.members())
    return str(error)


def in_one_line(problem: Mapping[str, Any]) -> str:
    """What a problem (RFC 9457) says: all its faults, where it has some."""
    faults = [": ".join(filter(None, [_place(fault), fault["message"]])) for fault in problem.get("errors", [])]
    return printable("; ".join(faults) or f"{problem['title']}: {problem['detail']}")


def _place(fault: Mapping[str, Any]) -> str:
    """Where a fault is: in a body, in a query string, in a file."""
    in_file = [f"{name} {fault[name]}" for name in ("row", "column") if fault.get(name) is not None]
    return fault.get("pointer") or fault.get("parameter") or ", ".join(in_file)


def printable(text: str) -> str:
    """The text in one line, which does nothing to a terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def warn(line: str) -> None:
    """Say it where errors go."""
    print(f"dossier: {line}", file=sys.stderr)


def ask_password(prompt: str = "Password: ") -> str:
    """Asked for on a terminal; else one line of standard input, which ends as Windows writes it too."""
    return getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")


def print_table(table: Table) -> None:
    """Show it; only a person has lines that end."""
    Console(width=None if sys.stdout.isatty() else MAX_LINE).print(table)
