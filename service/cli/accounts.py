"""`dossier accounts`: who may sign in."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer
from rich.table import Table

from service.auth.accounts import Account, Accounts
from service.auth.passwords import WeakPasswordError
from service.cli.environment import read_settings, with_database
from service.cli.terminal import ask_password, print_table
from service.settings import Settings
from service.store.database import open_database

app = typer.Typer(no_args_is_help=True, help="Who may sign in.")

T = TypeVar("T")


def _run(work: Callable[[Accounts], Awaitable[T]]) -> T:
    """Do something with the accounts in the database."""

    async def connected(settings: Settings) -> T:
        async with open_database(settings, [Account]):
            return await work(Accounts(settings.operation_timeout_seconds))

    with with_database(read_settings()) as complete:
        return asyncio.run(connected(complete))


def _new_password() -> str:
    """Asked for, on a terminal twice."""
    password = ask_password("New password: ")
    if sys.stdin.isatty() and ask_password("Once more: ") != password:
        raise WeakPasswordError("these were two different passwords")
    return password


@app.command("create")
def create_account(
    username: str,
    scope: Annotated[list[str], typer.Option(help="A scope or pattern: users:read, *:read, *. May be repeated.")],
) -> None:
    """Create an account; its password is asked for, or read from standard input."""
    password = _new_password()
    _run(lambda accounts: accounts.create(username, password, scope))
    print(f"{username} may now sign in")


@app.command("list")
def list_accounts() -> None:
    """Show who there is."""
    table = Table("username", "active", "scopes", "created")
    for account in _run(lambda accounts: accounts.list()):
        table.add_row(
            account.username,
            "yes" if account.is_active else "no",
            " ".join(account.scopes),
            f"{account.created_at:%Y-%m-%d %H:%M}",
        )
    print_table(table)


@app.command("disable")
def disable_account(username: str) -> None:
    """Let an account sign in no longer; its tokens stop within 15 seconds."""
    _run(lambda accounts: accounts.set_active(username, is_active=False))
    print(f"{username} is disabled")


@app.command("enable")
def enable_account(username: str) -> None:
    """Let a disabled account sign in again."""
    _run(lambda accounts: accounts.set_active(username, is_active=True))
    print(f"{username} may sign in again")


@app.command("password")
def change_password(username: str) -> None:
    """Give an account a new password, asked for or read from standard input."""
    password = _new_password()
    _run(lambda accounts: accounts.set_password(username, password))
    print(f"{username} has a new password")
