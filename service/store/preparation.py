"""What every start finds ready in the database, or makes so: once, and one start at a time."""

from collections.abc import Sequence

import pymongo
from beanie import Document

from service.documents.registry import DocumentType
from service.store.database import START_SECONDS, Database, startup_errors
from service.store.validators import apply_validators

PREPARATION = "preparation"
"""The lock for what follows, and for whatever else only the first start does."""


async def prepare(database: Database, types: Sequence[DocumentType], own_classes: Sequence[type[Document]]) -> None:
    """Have all indexes there, the types' and those of the service's own classes; none is ever dropped. Validators too.

    To do it again changes nothing. Raises StartupError.
    """
    classes = [*(document_type.document_class for document_type in types), *own_classes]
    with startup_errors(database.handle.client), pymongo.timeout(START_SECONDS):
        for document_class in classes:
            if indexes := [field.index for field in document_class.get_settings().indexes]:
                await document_class.get_pymongo_collection().create_indexes(indexes)
    await apply_validators(database.handle, types, START_SECONDS)
