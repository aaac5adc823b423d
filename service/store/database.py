"""The client and the database behind it."""

import re
import warnings
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import pymongo
from beanie import Document, init_beanie
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ConfigurationError, InvalidURI, OperationFailure, PyMongoError
from pymongo.monitoring import CommandListener, ConnectionPoolListener, ServerHeartbeatListener

from service.documents.batches import CODEC
from service.errors import StartupError
from service.settings import Settings
from service.store.elections import Elections
from service.store.failures import said_in_short
from service.store.monitoring import PrimaryMetrics

Listener = CommandListener | ConnectionPoolListener | ServerHeartbeatListener

MOST_CONNECTIONS = 100
"""For requests: one process keeps no more of them busy, and to open them all takes its time from those that are."""

SPARE_CONNECTIONS = 10
"""For what is no request that is counted, and no export: probes, leases and records."""

START_SECONDS = 30
"""How long a start waits for a primary: a set that starts together with the service elects one in this time."""


@dataclass(frozen=True)
class Database:
    """An open database, with Beanie ready."""

    handle: AsyncDatabase[dict[str, Any]]

    async def has_primary(self, seconds: float) -> bool:
        """Whether a primary answers within this time."""
        try:
            with pymongo.timeout(seconds):
                hello = await self.handle.client.admin.command("hello")
        except PyMongoError:
            return False
        return bool(hello.get("isWritablePrimary"))


@asynccontextmanager
async def open_database(
    settings: Settings,
    document_classes: Sequence[type[Document]],
    *,
    listeners: Sequence[Listener] = (),
) -> AsyncIterator[Database]:
    """Connect, and have Beanie ready; the driver tells its listeners what it does. Raises StartupError."""
    if settings.mongodb_uri is None:
        raise StartupError("DOSSIER_MONGODB_URI is not set; `dossier serve` starts a local MongoDB by itself")
    async with _connect(settings.mongodb_uri.get_secret_value(), settings, listeners) as client:
        database = client.get_database(settings.mongodb_database, codec_options=CODEC)
        with startup_errors(client), pymongo.timeout(START_SECONDS):
            await init_beanie(database=database, document_models=list(document_classes), skip_indexes=True)
        yield Database(database)


@contextmanager
def startup_errors(client: AsyncMongoClient[dict[str, Any]]) -> Iterator[None]:
    """Let the driver's errors leave as the line that says why the service cannot start."""
    try:
        yield
    except OperationFailure as error:
        said = said_in_short(str((error.details or {}).get("errmsg")))
        raise StartupError(f"MongoDB refused: {said}") from error
    except PyMongoError as error:
        servers = client.topology_description.server_descriptions()
        addresses = ", ".join(f"{host}:{port}" for host, port in servers)
        raise StartupError(f"MongoDB does not answer at {addresses}, see DOSSIER_MONGODB_URI") from error


def _pool_options(uri: str, settings: Settings) -> dict[str, Any]:
    """A connection for each that may want one at once, unless they are very many or the address says how many.

    Whoever has a deadline waits for a connection until then, whatever `waitQueueTimeoutMS` says.
    """
    if re.search("[?&;]maxPoolSize=", uri, re.IGNORECASE):
        return {}
    requests = min(settings.limit_concurrency, MOST_CONNECTIONS)
    return {"maxPoolSize": requests + settings.exports_at_once + SPARE_CONNECTIONS}


def _connect(uri: str, settings: Settings, listeners: Sequence[Listener]) -> AsyncMongoClient[dict[str, Any]]:
    elections = Elections([listener.elected for listener in listeners if isinstance(listener, PrimaryMetrics)])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # with which the driver lets a wrong option pass
        try:
            return AsyncMongoClient(
                uri,
                appname="dossier",
                event_listeners=[elections, *listeners],
                w="majority",
                readConcernLevel="majority",
                retryReads=True,
                retryWrites=True,
                connectTimeoutMS=2000,
                # For what has no other deadline, as below: 5 s, unless an operation may take less.
                serverSelectionTimeoutMS=int(min(5, settings.operation_timeout_seconds) * 1000),
                # A server that is silent for this and the time to connect is lost, and who waits for it asks another.
                # By default that takes 12 s, which is longer than a request waits.
                heartbeatFrequencyMS=2000,
                # Both for what has no other deadline, the next batch of an export. No deadline of ours cancels a task
                # that waits for the driver: that can leave its pool broken.
                waitQueueTimeoutMS=2000,
                socketTimeoutMS=int(settings.operation_timeout_seconds * 1000),
                **_pool_options(uri, settings),
            )
        except (ConfigurationError, InvalidURI, ValueError, UserWarning) as error:
            raise StartupError(f"DOSSIER_MONGODB_URI cannot be used: {error}") from error
