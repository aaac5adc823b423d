"""The `dossier` command."""

import asyncio
import getpass
import secrets
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any, NoReturn, TypeVar
from urllib.parse import parse_qsl

import typer
import uvicorn
from pydantic import SecretStr, ValidationError
from rich.console import Console
from rich.table import Table

from service.app import create_app
from service.auth.accounts import Account, Accounts
from service.auth.passwords import WeakPasswordError
from service.documents.registry import DocumentType, registered_types
from service.errors import ServiceError, StartupError
from service.observability import configure_logging
from service.samples import Sampler
from service.settings import MIN_SECRET_BYTES, Settings
from service.store.database import open_database
from service.store.embedded import embedded_server
from service.store.indexes import IndexState, compare_indexes, create_missing
from service.store.paging import CursorSigner
from service.store.query import read_list_query
from service.store.repository import Limits, Repository

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
accounts_app = typer.Typer(no_args_is_help=True, help="Who may sign in.")
app.add_typer(accounts_app, name="accounts")
database_app = typer.Typer(no_args_is_help=True, help="What MongoDB has, and how it finds it.")
app.add_typer(database_app, name="database")

T = TypeVar("T")

MAX_LINE = 10_000


def main() -> None:
    """Run the command; whatever can be foreseen ends it with one clear line and status 1."""
    try:
        app()
    except (StartupError, WeakPasswordError) as error:
        _fail(str(error))
    except ServiceError as error:
        faults = "; ".join(f"{fault.pointer or fault.parameter}: {fault.message}" for fault in error.faults)
        _fail(faults or error.detail)


def _fail(line: str) -> NoReturn:
    print(f"dossier: {line}", file=sys.stderr)
    raise SystemExit(1)


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        faults = [
            f"DOSSIER_{'_'.join(map(str, fault['loc'])).upper()}: {fault['msg']}" if fault["loc"] else fault["msg"]
            for fault in error.errors(include_url=False, include_input=False)
        ]
        raise StartupError("; ".join(fault.replace("Value error, ", "") for fault in faults)) from None


@contextmanager
def _with_database(settings: Settings) -> Iterator[Settings]:
    """The settings with nothing left open: an address of a MongoDB that runs, and a secret key."""
    if settings.mongodb_uri is not None:
        yield _with_secret_key(settings)
        return
    with embedded_server(settings.data_dir) as uri:
        yield _with_secret_key(settings).model_copy(update={"mongodb_uri": SecretStr(uri)})


def _with_secret_key(settings: Settings) -> Settings:
    if settings.secret_key is not None:
        return settings
    path = settings.data_dir / "secret_key"
    try:
        key = path.read_text().strip()
    except FileNotFoundError:
        key = ""
    if len(key) < MIN_SECRET_BYTES:
        key = secrets.token_hex(MIN_SECRET_BYTES)
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_suffix(".new")  # whole or not at all, as a start may be cut off anywhere
        draft.touch(mode=0o600)
        draft.write_text(key)
        draft.replace(path)
    return settings.model_copy(update={"secret_key": SecretStr(key)})


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; by default DOSSIER_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port, 0 for a free one; by default DOSSIER_PORT.")
    ] = None,
    sample: Annotated[int, typer.Option(min=0, help="Load so many sample documents of each type, if it has none.")] = 0,
) -> None:
    """Run the service, and in development a MongoDB for it."""
    settings = _settings()
    configure_logging(settings.log_level)
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, _leave)  # so that whatever was started is ended; uvicorn has its own while it runs
    listener = _listen(host or settings.host, settings.port if port is None else port)
    with _with_database(settings) as complete:
        password = asyncio.run(_prepare(complete, sample))
        config = uvicorn.Config(
            create_app(complete),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=settings.shutdown_grace_seconds,
        )
        bound_host, bound_port = listener.getsockname()[:2]
        address = f"http://{f'[{bound_host}]' if ':' in bound_host else bound_host}:{bound_port}"
        print(f"Dossier listens on {address}, and explains itself at {address}/docs")
        if password:
            print(
                f"Sign in as {settings.admin_username} with the password {password} (it is shown only now)", flush=True
            )
        else:
            print(f"Sign in as {settings.admin_username}, or with an account of `dossier accounts list`", flush=True)
        uvicorn.Server(config).run(sockets=[listener])


def _leave(_sign: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises StartupError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        raise StartupError(f"cannot listen on {host}:{port}: {error.strerror}; set another with --port") from error
    listener.setblocking(False)  # noqa: FBT003 - the standard library's signature
    return listener


async def _prepare(settings: Settings, sample: int) -> str | None:
    """What a start finds ready: indexes, a first account, samples if asked for; the password that was made up."""
    types = registered_types()
    async with open_database(settings, [*(document_type.document_class for document_type in types), Account]):
        password = None
        if settings.admin_password is not None or settings.environment == "development":
            given = settings.admin_password.get_secret_value() if settings.admin_password else None
            password = await Accounts(settings.operation_timeout_seconds).create_first(settings.admin_username, given)
        ids: dict[str, list[str]] = {}
        for document_type in sorted(types, key=_has_references):
            documents = _repository(settings, document_type)
            if sample and not await documents.any():
                ids[document_type.name] = await documents.load(Sampler(document_type, ids=ids).bodies(sample))
        return password


def _has_references(document_type: DocumentType) -> bool:
    return any(field.references for field in document_type.fields.values())


def _run(work: Callable[[Accounts], Awaitable[T]]) -> T:
    """Do something with the accounts in the database."""

    async def connected(settings: Settings) -> T:
        async with open_database(settings, [Account]):
            return await work(Accounts(settings.operation_timeout_seconds))

    with _with_database(_settings()) as complete:
        return asyncio.run(connected(complete))


def _new_password() -> str:
    """Asked for twice on a terminal; else one line of standard input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass("New password: ")
    if getpass.getpass("Once more: ") != password:
        raise WeakPasswordError("these were two different passwords")
    return password


@accounts_app.command("create")
def create_account(
    username: str,
    scope: Annotated[list[str], typer.Option(help="A scope or pattern: users:read, *:read, *. May be repeated.")],
) -> None:
    """Create an account; its password is asked for, or read from standard input."""
    password = _new_password()
    _run(lambda accounts: accounts.create(username, password, scope))
    print(f"{username} may now sign in")


@accounts_app.command("list")
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
    _print(table)


@accounts_app.command("disable")
def disable_account(username: str) -> None:
    """Let an account sign in no longer; its tokens stop within 15 seconds."""
    _run(lambda accounts: accounts.set_active(username, is_active=False))
    print(f"{username} is disabled")


@accounts_app.command("enable")
def enable_account(username: str) -> None:
    """Let a disabled account sign in again."""
    _run(lambda accounts: accounts.set_active(username, is_active=True))
    print(f"{username} may sign in again")


@accounts_app.command("password")
def change_password(username: str) -> None:
    """Give an account a new password, asked for or read from standard input."""
    password = _new_password()
    _run(lambda accounts: accounts.set_password(username, password))
    print(f"{username} has a new password")


@database_app.command("indexes")
def show_indexes(
    *,
    apply: Annotated[
        bool, typer.Option("--apply", help="Create those that are missing; none is ever dropped.")
    ] = False,
) -> None:
    """Compare the indexes that the types want with those that the database has."""

    async def compare(settings: Settings) -> list[IndexState]:
        states: list[IndexState] = []
        async with open_database(settings, [Account], creates_indexes=False) as database:
            for document_type in registered_types():
                timeout = settings.operation_timeout_seconds
                found = await compare_indexes(database.handle, document_type, timeout)
                missing = {index.index_name for index in found if index.state == "missing"}
                if apply and missing:
                    await create_missing(database.handle, document_type, missing)
                    found = await compare_indexes(database.handle, document_type, timeout)
                states += found
        return states

    with _with_database(_settings()) as complete:
        states = asyncio.run(compare(complete))
    table = Table("type", "index", "keys", "state")
    for index in states:
        table.add_row(index.type_name, index.index_name, ", ".join(index.keys), index.state)
    _print(table)


@database_app.command("explain")
def explain_query(
    type_name: Annotated[str, typer.Argument(help="A type, such as users.")],
    query: Annotated[str, typer.Argument(help="A list's query string: 'age__gte=18&sort=name'.")] = "",
) -> None:
    """Show how MongoDB answers a list: its indexes, what it looks at, and how long that takes."""
    document_type = next((known for known in registered_types() if known.name == type_name), None)
    if document_type is None:
        _fail(f"there is no type {type_name!r}")
    selection = read_list_query(document_type, parse_qsl(query, keep_blank_values=True)).selection

    async def explain(settings: Settings) -> Mapping[str, Any]:
        async with open_database(settings, [document_type.document_class], creates_indexes=False):
            return await _repository(settings, document_type).explain(selection)

    with _with_database(_settings()) as complete:
        plan = asyncio.run(explain(complete))
    statistics = plan["executionStats"]
    table = Table("stages", "indexes", "keys examined", "documents examined", "found", "milliseconds")
    stages = list(_stages(plan["queryPlanner"]["winningPlan"]))
    table.add_row(
        " < ".join(stage["stage"] for stage in stages),
        ", ".join(stage["indexName"] for stage in stages if "indexName" in stage) or "none",
        str(statistics["totalKeysExamined"]),
        str(statistics["totalDocsExamined"]),
        str(statistics["nReturned"]),
        str(statistics["executionTimeMillis"]),
    )
    _print(table)


def _stages(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A plan's stages, from the last that works to the first."""
    inner = plan.get("queryPlan", plan)  # newer servers wrap it
    yield inner
    for child in [inner["inputStage"]] if "inputStage" in inner else inner.get("inputStages", []):
        yield from _stages(child)


def _repository(settings: Settings, document_type: DocumentType) -> Repository:
    limits = Limits(settings.query_time_limit_seconds, settings.operation_timeout_seconds)
    return Repository(document_type, limits, CursorSigner(secrets.token_hex()))


def _print(table: Table) -> None:
    # Only a person has lines that end.
    Console(width=None if sys.stdout.isatty() else MAX_LINE).print(table)
