"""`dossier accounts`: who may sign in, and what each may do."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import typer
from rich.table import Table

from service.auth.accounts import ACCOUNTS, Account, AccountKind, Accounts
from service.auth.administration import Administration, Administrator
from service.auth.scopes import ROLES
from service.cli.environment import COMMAND_LINE, open_repository, read_settings, with_database
from service.cli.terminal import CommandError, ask_password, print_table
from service.settings import Settings
from service.store.audit_records import Actor, AuditEvent, AuditTrail
from service.store.preparation import open_ready_database

app = typer.Typer(no_args_is_help=True, help="Who may sign in, and what each may do.")

T = TypeVar("T")

OPERATOR = Administrator(Actor(COMMAND_LINE), patterns=("*",))
"""Whoever has the settings has the database."""

Roles = Annotated[list[str] | None, typer.Option("--role", help=f"One of {', '.join(ROLES)}. May be repeated.")]
Scopes = Annotated[
    list[str] | None, typer.Option("--scope", help="A scope or pattern: users:read, *:read, *. May be repeated.")
]


@dataclass(frozen=True, slots=True)
class _Office:
    """Where accounts are managed."""

    accounts: Accounts
    administration: Administration

    async def patch(self, username: str, change: Callable[[Any], Any]) -> None:
        account = await self.accounts.get(username)
        await self.administration.patch(str(account.id), change, OPERATOR)


def _run(work: Callable[[_Office], Awaitable[T]]) -> T:
    """Do something with the accounts in the database."""

    async def connected(settings: Settings) -> T:
        async with open_ready_database(settings, [], [Account, AuditEvent]):
            accounts = Accounts(settings.operation_timeout_seconds)
            audit = AuditTrail(settings.audit_days, settings.operation_timeout_seconds)
            # Nothing is remembered here; services ask again within 15 s.
            administration = Administration(accounts, open_repository(settings, ACCOUNTS), audit, lambda _id: None)
            return await work(_Office(accounts, administration))

    with with_database(read_settings()) as complete:
        return asyncio.run(connected(complete))


def _new_password() -> str:
    """Asked for, on a terminal twice. Raises CommandError."""
    password = ask_password("New password: ")
    if sys.stdin.isatty() and ask_password("Once more: ") != password:
        raise CommandError("these were two different passwords")
    return password


@app.command("create")
def create_account(
    username: str,
    role: Roles = None,
    scope: Scopes = None,
    kind: Annotated[AccountKind, typer.Option(help="A client is a program, which gets a secret.")] = "person",
) -> None:
    """Create an account: a person's password is asked for, or read from standard input; a client's secret is shown."""
    body = {"username": username, "kind": kind, "roles": role or [], "scopes": scope or []}
    if kind == "person":
        body["password"] = _new_password()
    _, secret = _run(lambda office: office.administration.create(body, OPERATOR))
    print(f"{username} may now sign in")
    if secret:
        _show_secret(secret)


@app.command("list")
def list_accounts() -> None:
    """Show who there is."""
    table = Table("username", "kind", "active", "roles", "scopes", "created")
    for account in _run(lambda office: office.accounts.list()):
        table.add_row(account.username, account.kind, *_shown(account))
    print_table(table)


@app.command("show")
def show_account(username: str) -> None:
    """Show one account."""
    account = _run(lambda office: office.accounts.get(username))
    table = Table.grid(padding=(0, 2))
    names = ("username", "id", "kind", "active", "roles", "scopes", "created", "changed")
    values = (account.username, str(account.id), account.kind, *_shown(account), f"{account.updated_at:%Y-%m-%d %H:%M}")
    for name, value in zip(names, values, strict=True):
        table.add_row(name, value)
    print_table(table)


def _shown(account: Account) -> tuple[str, str, str, str]:
    is_active = "yes" if account.is_active else "no"
    return is_active, " ".join(account.roles), " ".join(account.scopes), f"{account.created_at:%Y-%m-%d %H:%M}"


@app.command("change")
def change_account(  # noqa: PLR0913 - its options are that many
    username: str,
    *,
    role: Roles = None,
    scope: Scopes = None,
    add: Annotated[bool, typer.Option("--add", help="Add these to what the account has.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take these from what the account has.")] = False,
    no_roles: Annotated[bool, typer.Option("--no-roles", help="It has no role any more.")] = False,
    no_scopes: Annotated[bool, typer.Option("--no-scopes", help="It has no scope of its own any more.")] = False,
) -> None:
    """Give an account these roles and scopes; of what is not named it keeps what it has."""
    named = {
        "roles": [] if no_roles else role,
        "scopes": [] if no_scopes else scope,
    }
    if add and remove:
        raise CommandError("either --add or --remove")
    if (add or remove) and (no_roles or no_scopes):
        raise CommandError("--no-roles and --no-scopes leave nothing to --add to or to --remove from")
    if (no_roles and role) or (no_scopes and scope):
        raise CommandError("--no-roles and --no-scopes go without --role and --scope")
    if all(values is None for values in named.values()):
        raise CommandError("say what to change: --role, --scope, --no-roles or --no-scopes")

    def change(present: Any) -> Any:
        for name, values in named.items():
            if values is not None:
                present[name] = _changed(present.get(name, []), values, add=add, remove=remove)
        return present

    _run(lambda office: office.patch(username, change))
    print(f"{username} is changed")


def _changed(present: Sequence[str], named: Sequence[str], *, add: bool, remove: bool) -> list[str]:
    if remove:
        return [value for value in present if value not in named]
    return list(dict.fromkeys([*present, *named] if add else named))


@app.command("disable")
def disable_account(username: str) -> None:
    """Let an account sign in no longer; its tokens stop within 15 seconds."""
    _run(lambda office: office.patch(username, lambda present: {**present, "is_active": False}))
    print(f"{username} is disabled")


@app.command("enable")
def enable_account(username: str) -> None:
    """Let a disabled account sign in again."""
    _run(lambda office: office.patch(username, lambda present: {**present, "is_active": True}))
    print(f"{username} may sign in again")


@app.command("delete")
def delete_account(username: str) -> None:
    """Delete an account; its records stay."""

    async def delete(office: _Office) -> None:
        account = await office.accounts.get(username)
        await office.administration.delete(str(account.id), OPERATOR)

    _run(delete)
    print(f"{username} is deleted")


@app.command("password")
def change_password(username: str) -> None:
    """Give an account a new password, asked for or read from standard input."""
    password = _new_password()
    _run(lambda office: office.patch(username, lambda present: {**present, "password": password}))
    print(f"{username} has a new password")


@app.command("secret")
def renew_secret(username: str) -> None:
    """Make a new secret for a client, and show it; the old one is good no longer."""

    async def renew(office: _Office) -> str:
        account = await office.accounts.get(username)
        _, secret = await office.administration.renew_secret(str(account.id), OPERATOR)
        return secret

    _show_secret(_run(renew))


def _show_secret(secret: str) -> None:
    print(f"Its secret, which is shown only now: {secret}")
