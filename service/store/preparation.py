"""What every start finds ready in the database, or makes so: once, and one start at a time."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import pymongo
from beanie import Document
from pymongo.errors import PyMongoError

from service.documents.registry import DocumentType
from service.errors import StartupError
from service.observability.logs import log
from service.settings import Settings
from service.store.database import START_SECONDS, Database, Listener, open_database, startup_errors
from service.store.leases import PREPARATION, exclusive
from service.store.migrations import heed_migrations
from service.store.validators import apply_validators, options_of

INDEX_SECONDS = 86_400.0
"""How long the indexes of one collection may take, which are those of all documents that it has."""

LONG_SECONDS = 10.0
"""What takes longer is told of."""


@asynccontextmanager
async def open_ready_database(
    settings: Settings,
    types: Sequence[DocumentType],
    own_classes: Sequence[type[Document]],
    *,
    is_prepared: bool = False,
    listeners: Sequence[Listener] = (),
) -> AsyncIterator[Database]:
    """The database, made ready unless somebody has done that.

    Raises StartupError, also for documents of another release.
    """
    async with open_database(settings, classes_of(types, own_classes), listeners=listeners) as database:
        if not is_prepared:
            async with exclusive(database.handle, PREPARATION, settings.operation_timeout_seconds):
                await heed_migrations(database.handle)
                await prepare(database, types, own_classes)
        yield database


async def prepare(database: Database, types: Sequence[DocumentType], own_classes: Sequence[type[Document]]) -> None:
    """Have all indexes there, the types' and those of the service's own classes; none is ever dropped. Validators too.

    To do it again changes nothing. Raises StartupError.
    """
    for document_class in classes_of(types, own_classes):
        collection = document_class.get_pymongo_collection()
        if indexes := [field.index for field in document_class.get_settings().indexes]:
            with startup_errors(database.handle.client), _patience(collection.name):
                await collection.create_indexes(indexes)
    await apply_validators(database.handle, types, START_SECONDS)


@contextmanager
def _patience(collection: str) -> Iterator[None]:
    """Let indexes be made for very long, and say so. A server that is gone is noticed before. Raises StartupError."""
    telling = asyncio.get_running_loop().call_later(
        LONG_SECONDS, lambda: log.warning("indexes are still being made", collection=collection)
    )
    try:
        with pymongo.timeout(INDEX_SECONDS):
            yield
    except PyMongoError as error:
        if not error.timeout:
            raise
        raise StartupError(
            f"MongoDB takes too long to make the indexes of {collection}, or has stopped answering; its log says more"
        ) from error
    finally:
        telling.cancel()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a collection is made with."""

    options: Mapping[str, Any]
    indexes: Sequence[Mapping[str, Any]]


def wanted_collections(types: Sequence[DocumentType], own_classes: Sequence[type[Document]]) -> dict[str, Wanted]:
    """By their names, all that a start makes ready, once Beanie knows their classes."""
    options = {document_type.name: options_of(document_type) for document_type in types}
    wanted: dict[str, Wanted] = {}
    for document_class in classes_of(types, own_classes):
        name = document_class.get_collection_name()
        indexes = [field.index.document for field in document_class.get_settings().indexes]
        wanted[name] = Wanted(options.get(name, {}), indexes)
    return wanted


def classes_of(types: Sequence[DocumentType], own_classes: Sequence[type[Document]]) -> list[type[Document]]:
    """All that Beanie has to know."""
    return [*(document_type.document_class for document_type in types), *own_classes]
