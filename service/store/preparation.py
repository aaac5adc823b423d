"""What every start finds ready in the database, or makes so: once, and one start at a time."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pymongo
from beanie import Document

from service.documents.registry import DocumentType
from service.settings import Settings
from service.store.database import START_SECONDS, Database, Listener, open_database, startup_errors
from service.store.leases import PREPARATION, exclusive
from service.store.migrations import heed_migrations
from service.store.validators import apply_validators


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
    classes = _classes(types, own_classes)
    async with open_database(settings, classes, listeners=listeners) as database:
        if not is_prepared:
            async with exclusive(database.handle, PREPARATION, settings.operation_timeout_seconds):
                await heed_migrations(database.handle)
                await prepare(database, types, own_classes)
        yield database


async def prepare(database: Database, types: Sequence[DocumentType], own_classes: Sequence[type[Document]]) -> None:
    """Have all indexes there, the types' and those of the service's own classes; none is ever dropped. Validators too.

    To do it again changes nothing. Raises StartupError.
    """
    with startup_errors(database.handle.client), pymongo.timeout(START_SECONDS):
        for document_class in _classes(types, own_classes):
            if indexes := [field.index for field in document_class.get_settings().indexes]:
                await document_class.get_pymongo_collection().create_indexes(indexes)
    await apply_validators(database.handle, types, START_SECONDS)


def _classes(types: Sequence[DocumentType], own_classes: Sequence[type[Document]]) -> list[type[Document]]:
    return [*(document_type.document_class for document_type in types), *own_classes]
