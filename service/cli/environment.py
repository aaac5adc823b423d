"""What commands find: settings, a database, document types."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import SecretStr, ValidationError

from service.cli.terminal import CommandError
from service.documents.registry import DocumentType, registered_types
from service.errors import StartupError
from service.settings import MIN_SECRET_BYTES, Settings
from service.store.embedded import embedded_server
from service.store.paging import CursorSigner
from service.store.repository import Limits, Repository

COMMAND_LINE = "command line"
"""Who asks, in records; with its blank it is no account's name."""


def read_settings(**given: object) -> Settings:
    """The environment's, but for those that were given. Raises StartupError with all their faults."""
    try:
        return Settings(**given)  # type: ignore[arg-type] # it is what checks them
    except ValidationError as error:
        faults = [
            f"{_name_of(*fault['loc'])}: {fault['msg']}" if fault["loc"] else fault["msg"]
            for fault in error.errors(include_url=False, include_input=False)
        ]
        raise StartupError("; ".join(fault.replace("Value error, ", "") for fault in faults)) from None


def _name_of(setting: str | int, *place: str | int) -> str:
    """A setting, and where in its JSON something is: `DOSSIER_TRUSTED_ISSUERS.0.scopes`."""
    return ".".join([f"DOSSIER_{setting}".upper(), *map(str, place)])


@contextmanager
def with_database(settings: Settings) -> Iterator[Settings]:
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


def find_type(name: str) -> DocumentType:
    """The document type of this name. Raises CommandError."""
    for known in registered_types():
        if known.name == name:
            return known
    raise CommandError(f"there is no type {name!r}")


def open_repository(settings: Settings, document_type: DocumentType) -> Repository:
    """Its documents; cursors are good for this process only."""
    limits = Limits(settings.query_time_limit_seconds, settings.operation_timeout_seconds)
    return Repository(document_type, limits, CursorSigner(secrets.token_hex()))
