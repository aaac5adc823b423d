"""`dossier serve`."""

import os
import socket
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer

from service.app import OWN_CLASSES, create_app
from service.auth.accounts import ACCOUNTS, Accounts
from service.cli.environment import COMMAND_LINE, open_repository, read_settings, with_database
from service.cli.seed import add_samples
from service.documents.registry import DocumentType, registered_types
from service.errors import StartupError, ValidationFailedError
from service.observability.logs import configure_logging
from service.observability.metrics import FOLDER_VARIABLE, serve_metrics
from service.server.process import allow_many_connections, leave_on_signals, run_server, run_until_signal
from service.server.workers import supervise
from service.settings import Settings
from service.store.audit_records import Actor, AuditTrail
from service.store.database import open_database
from service.store.leases import PREPARATION, exclusive
from service.store.migrations import heed_migrations
from service.store.preparation import prepare


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; by default DOSSIER_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port, 0 for a free one; by default DOSSIER_PORT.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="How many processes serve; by default DOSSIER_WORKERS.")
    ] = None,
    limit_concurrency: Annotated[
        int | None,
        typer.Option(min=1, help="Requests that a process does at once; by default DOSSIER_LIMIT_CONCURRENCY."),
    ] = None,
    sample: Annotated[int, typer.Option(min=0, help="Load so many sample documents of each type, if it has none.")] = 0,
) -> None:
    """Run the service, and in development a MongoDB for it."""
    given = {"host": host, "port": port, "workers": workers, "limit_concurrency": limit_concurrency}
    settings = read_settings(**{name: value for name, value in given.items() if value is not None})
    configure_logging(settings.log_level, settings.log_format)
    leave_on_signals()
    allow_many_connections()
    listener = _listen(settings.host, settings.port)
    bound_host, bound_port = listener.getsockname()[:2]
    with with_database(settings.model_copy(update={"host": bound_host, "port": bound_port})) as complete:
        app = create_app(complete, is_prepared=True)  # also where workers make their own: it refuses what is wrong
        sign_in = run_until_signal(_prepare(complete, sample))

        def introduce() -> None:
            explained = f"and explains itself at {complete.address}/docs" if settings.docs else "and its docs are off"
            print(f"Dossier listens on {complete.address}, {explained}")
            print(sign_in, flush=True)

        with serve_metrics(complete.metrics_host or complete.host, complete.metrics_port):
            if complete.workers == 1:
                run_server(app, complete, listener, introduce)
            else:
                _run_workers(complete, listener, introduce)


def _run_workers(settings: Settings, listener: socket.socket, have_started: Callable[[], None]) -> None:
    """Have several processes serve, which keep their metrics in one folder, so that each can tell those of all."""
    with tempfile.TemporaryDirectory(prefix="dossier-metrics-") as folder:
        os.environ[FOLDER_VARIABLE] = folder
        supervise(
            settings.workers,
            partial(_serve, settings),
            listener,
            grace_seconds=settings.shutdown_grace_seconds,
            have_started=have_started,
        )


def _serve(settings: Settings, listener: socket.socket, has_started: Callable[[], None]) -> None:
    """What each of them does."""
    run_server(create_app(settings, is_prepared=True), settings, listener, has_started)


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


async def _prepare(settings: Settings, sample: int) -> str:
    """Make the database ready, with a first account, and samples if asked for; says who may sign in."""
    types = registered_types()
    classes = [*(document_type.document_class for document_type in types), *OWN_CLASSES]
    async with (
        open_database(settings, classes) as database,
        exclusive(database.handle, PREPARATION, settings.operation_timeout_seconds),
    ):
        await heed_migrations(database.handle)
        await prepare(database, types, OWN_CLASSES)
        password = None
        if settings.admin_password is not None or settings.environment == "development":
            given = settings.admin_password.get_secret_value() if settings.admin_password else None
            password = await _create_first(settings, given)
        for document_type in sorted(types, key=_has_references):
            if sample and not await open_repository(settings, document_type).any():
                await add_samples(settings, document_type, sample)
        if password:
            return f"Sign in as {settings.admin_username} with the password {password} (it is shown only now)"
        if await Accounts(settings.operation_timeout_seconds).any():
            return "Sign in with an account of `dossier accounts list`"
        return "Nobody can sign in yet: try `dossier accounts create NAME --role admin`"


async def _create_first(settings: Settings, given: str | None) -> str | None:
    """The password that was made up for the first account, if one was. Raises StartupError."""
    try:
        chosen = await Accounts(settings.operation_timeout_seconds).create_first(settings.admin_username, given)
    except ValidationFailedError as error:
        reasons = "; ".join(fault.message for fault in error.faults)
        raise StartupError(f"DOSSIER_ADMIN_PASSWORD cannot be used: {reasons}") from None
    if chosen is not None:
        audit = AuditTrail(settings.audit_days, settings.operation_timeout_seconds)
        await audit.note("account_created", Actor(COMMAND_LINE), type=ACCOUNTS.name, target=settings.admin_username)
    return None if given else chosen


def _has_references(document_type: DocumentType) -> bool:
    return any(field.references for field in document_type.fields.values())
