"""`dossier serve`."""

import asyncio
import signal
import socket
from types import FrameType
from typing import Annotated, NoReturn

import typer
import uvicorn

from service.app import create_app
from service.auth.accounts import ACCOUNTS, Account, Accounts
from service.cli.environment import COMMAND_LINE, open_repository, read_settings, with_database
from service.cli.seed import add_samples
from service.documents.registry import DocumentType, registered_types
from service.errors import StartupError, ValidationFailedError
from service.observability.logs import configure_logging
from service.observability.metrics import serve_metrics
from service.server import LimitedHttpProtocol
from service.settings import Settings
from service.store.audit_records import Actor, AuditEvent, AuditTrail
from service.store.database import open_database


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; by default DOSSIER_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port, 0 for a free one; by default DOSSIER_PORT.")
    ] = None,
    sample: Annotated[int, typer.Option(min=0, help="Load so many sample documents of each type, if it has none.")] = 0,
) -> None:
    """Run the service, and in development a MongoDB for it."""
    settings = read_settings()
    configure_logging(settings.log_level, settings.log_format)
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, _leave)  # so that whatever was started is ended; uvicorn has its own while it runs
    listener = _listen(host or settings.host, settings.port if port is None else port)
    bound_host, bound_port = listener.getsockname()[:2]
    with with_database(settings.model_copy(update={"host": bound_host, "port": bound_port})) as complete:
        app = create_app(complete)
        sign_in = asyncio.run(_prepare(complete, sample))
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            http=LimitedHttpProtocol,
            # By default uvicorn believes whatever asks from this machine, and so whoever a proxy here passes on.
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=[str(network) for network in settings.trusted_proxies or ()],
            timeout_graceful_shutdown=settings.shutdown_grace_seconds,
        )
        explained = f"and explains itself at {complete.address}/docs" if settings.docs else "and its docs are off"
        print(f"Dossier listens on {complete.address}, {explained}")
        print(sign_in, flush=True)
        with serve_metrics(complete.metrics_host or complete.host, complete.metrics_port):
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


async def _prepare(settings: Settings, sample: int) -> str:
    """What a start finds ready: indexes, a first account, samples if asked for; says who may sign in."""
    types = registered_types()
    classes = [*(document_type.document_class for document_type in types), Account, AuditEvent]
    async with open_database(settings, classes):
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
