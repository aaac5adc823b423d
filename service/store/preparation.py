"""What every start finds ready in the database, or makes so: once, and one start at a time."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pymongo
from beanie import Document

from service.documents.registry import DocumentType
from service.settings import Settings
from service.store.database import START_SECONDS, Database, Listener, open_database, startup_errors
from service.store.leases import exclusive
from service.store.validators import apply_validators, options_of

PREPARATION = "preparation"
"""The lock for what follows, and for whatever else only the first start does."""


@asynccontextmanager
async def open_ready_database(
    settings: Settings,
    types: Sequence[DocumentType],
    own_classes: Sequence[type[Document]],
    *,
    is_prepared: bool = False,
    listeners: Sequence[Listener] = (),
) -> AsyncIterator[Database]:
    """The database, made ready unless somebody has done that. Raises StartupError."""
    async with open_database(settings, classes_of(types, own_classes), listeners=listeners) as database:
        if not is_prepared:
            await make_ready(database, types, own_classes, settings.operation_timeout_seconds)
        yield database


async def make_ready(
    database: Database, types: Sequence[DocumentType], own_classes: Sequence[type[Document]], timeout_seconds: float
) -> None:
    """Prepare an open database while nobody else does. Raises StartupError."""
    async with exclusive(database.handle, PREPARATION, timeout_seconds):
        await prepare(database, types, own_classes)


async def prepare(database: Database, types: Sequence[DocumentType], own_classes: Sequence[type[Document]]) -> None:
    """Have all indexes there, the types' and those of the service's own classes; none is ever dropped. Validators too.

    To do it again changes nothing. Raises StartupError.
    """
    with startup_errors(database.handle.client), pymongo.timeout(START_SECONDS):
        for document_class in classes_of(types, own_classes):
            if indexes := [field.index for field in document_class.get_settings().indexes]:
                await document_class.get_pymongo_collection().create_indexes(indexes)
    await apply_validators(database.handle, types, START_SECONDS)


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
