"""What commands say to a person, and ask."""

import getpass
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

MAX_LINE = 10_000


class CommandError(Exception):
    """The command cannot be done, and this text says why."""


def in_one_line(problem: Mapping[str, Any]) -> str:
    """What a problem (RFC 9457) says: all its faults, where it has some."""
    faults = [
        f"{fault.get('pointer') or fault.get('parameter')}: {fault['message']}" for fault in problem.get("errors", [])
    ]
    return "; ".join(faults) or f"{problem['title']}: {problem['detail']}"


def ask_password(prompt: str = "Password: ") -> str:
    """Asked for on a terminal; else one line of standard input."""
    return getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")


def print_table(table: Table) -> None:
    """Show it; only a person has lines that end."""
    Console(width=None if sys.stdout.isatty() else MAX_LINE).print(table)
