"""`dossier serve`."""

import asyncio
import signal
import socket
from types import FrameType
from typing import Annotated, NoReturn

import typer
import uvicorn

from service.app import create_app
from service.auth.accounts import Account, Accounts
from service.cli.environment import open_repository, read_settings, with_database
from service.cli.seed import add_samples
from service.documents.registry import DocumentType, registered_types
from service.errors import StartupError
from service.observability import configure_logging
from service.server import LimitedHttpProtocol
from service.settings import Settings
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
    configure_logging(settings.log_level)
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, _leave)  # so that whatever was started is ended; uvicorn has its own while it runs
    listener = _listen(host or settings.host, settings.port if port is None else port)
    with with_database(settings) as complete:
        password = asyncio.run(_prepare(complete, sample))
        config = uvicorn.Config(
            create_app(complete),
            log_config=None,
            access_log=False,
            server_header=False,
            http=LimitedHttpProtocol,
            # By default uvicorn believes whatever asks from this machine, and so whoever a proxy here passes on.
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=[str(network) for network in settings.trusted_proxies or ()],
            timeout_graceful_shutdown=settings.shutdown_grace_seconds,
        )
        bound_host, bound_port = listener.getsockname()[:2]
        address = f"http://{f'[{bound_host}]' if ':' in bound_host else bound_host}:{bound_port}"
        explained = f"and explains itself at {address}/docs" if settings.docs else "and its docs are off"
        print(f"Dossier listens on {address}, {explained}")
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
        for document_type in sorted(types, key=_has_references):
            if sample and not await open_repository(settings, document_type).any():
                await add_samples(settings, document_type, sample)
        return password


def _has_references(document_type: DocumentType) -> bool:
    return any(field.references for field in document_type.fields.values())
