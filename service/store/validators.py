"""The validators that types want, and those that the database has: what MongoDB refuses whoever writes it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import bson
import pymongo
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure, WriteError
from pymongo.read_concern import ReadConcern

from service.documents.batches import CODEC
from service.documents.registry import DocumentType
from service.errors import Fault, StartupError
from service.store.bson_schema import bson_schema_of
from service.store.failures import DOCUMENT_VALIDATION_FAILURE, driver_errors, operation, refusals

State = Literal["present", "missing", "different"]

CHECK_SECONDS = 3600.0
"""To look at all documents takes its time."""

EXAMPLES = 5
UNAUTHORIZED, NAMESPACE_NOT_FOUND, NAMESPACE_EXISTS = 13, 26, 48
MAJORITY = {"w": "majority"}


@dataclass(frozen=True, slots=True)
class ValidatorState:
    """The validator of one type."""

    type_name: str
    state: State
    """`different`: another one is there, or it does not refuse what it should."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Documents that a validator would not take."""

    count: int
    examples: Mapping[str, Sequence[Fault]]
    """What is wrong with the first of them, by `_id`."""


def options_of(document_type: DocumentType) -> dict[str, Any]:
    """A collection's options: documents that were there before and are not valid can still be changed."""
    validator = {"$jsonSchema": bson_schema_of(document_type)}
    return {"validator": validator, "validationLevel": "moderate", "validationAction": "error"}


async def compare_validators(
    database: AsyncDatabase[dict[str, Any]], document_types: Iterable[DocumentType], timeout_seconds: float
) -> list[ValidatorState]:
    """The state of each type's validator."""
    wanted = {document_type.name: options_of(document_type) for document_type in document_types}
    with operation(timeout_seconds):
        found = await collection_options(database, wanted)
    return [ValidatorState(name, _state(options, found.get(name, {}))) for name, options in wanted.items()]


async def collection_options(
    database: AsyncDatabase[dict[str, Any]], names: Iterable[str]
) -> dict[str, Mapping[str, Any]]:
    """The options of those of these collections that exist."""
    cursor = await database.list_collections(filter={"name": {"$in": list(names)}})
    return {found["name"]: found.get("options", {}) async for found in cursor}


def _state(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> State:
    if not found.get("validator"):
        return "missing"
    as_stored = bson.decode(bson.encode(wanted), CODEC)
    return "present" if all(found.get(name) == value for name, value in as_stored.items()) else "different"


async def apply_validators(
    database: AsyncDatabase[dict[str, Any]], document_types: Sequence[DocumentType], timeout_seconds: float
) -> None:
    """Install those that are missing or different; two that do this at once do each other no harm.

    Raises StartupError where that is not allowed.
    """
    states = await compare_validators(database, document_types, timeout_seconds)
    for document_type, known in zip(document_types, states, strict=True):
        if known.state != "present":
            await set_options(database, document_type.name, options_of(document_type), timeout_seconds)


async def set_options(
    database: AsyncDatabase[dict[str, Any]], name: str, options: Mapping[str, Any], timeout_seconds: float
) -> None:
    """Change a collection's validator, or create the collection with it. Raises StartupError."""
    with driver_errors(), pymongo.timeout(timeout_seconds):
        try:
            await _change_or_create(database, name, options)
        except OperationFailure as error:
            if error.code != UNAUTHORIZED:
                raise
            raise StartupError(
                f"MongoDB does not let the user of DOSSIER_MONGODB_URI change the validator of {name}: grant collMod, "
                "or run `dossier database validators --apply` as somebody who has it"
            ) from error


async def _change_or_create(database: AsyncDatabase[dict[str, Any]], name: str, options: Mapping[str, Any]) -> None:
    try:
        await database.command("collMod", name, **options, writeConcern=MAJORITY)
    except OperationFailure as error:
        if error.code != NAMESPACE_NOT_FOUND:
            raise
    else:
        return
    try:
        await database.command("create", name, **options, writeConcern=MAJORITY)
    except OperationFailure as error:
        if error.code != NAMESPACE_EXISTS:
            raise
        await database.command("collMod", name, **options, writeConcern=MAJORITY)


async def find_refused(database: AsyncDatabase[dict[str, Any]], document_type: DocumentType) -> Refused:
    """The documents that the type's validator would not take, if they were new."""
    collection = database[document_type.name]
    refused = {"$nor": [{"$jsonSchema": bson_schema_of(document_type)}]}
    with operation(CHECK_SECONDS):
        count = await collection.count_documents(refused)
        found = await collection.find(refused, sort=[("_id", 1)], limit=EXAMPLES).to_list() if count else []
        return Refused(count, {str(one["_id"]): await _faults_of(database, document_type, one) for one in found})


async def _faults_of(
    database: AsyncDatabase[dict[str, Any]], document_type: DocumentType, stored: Mapping[str, Any]
) -> list[Fault]:
    """What the server says of a document; only a write is told, so one is tried that leaves nothing behind."""
    scratch = f"{document_type.name}.check"
    async with (
        database.client.start_session() as session,
        await session.start_transaction(read_concern=ReadConcern("local")),
    ):
        await database.command("create", scratch, **options_of(document_type), session=session)
        try:
            await database[scratch].insert_one(dict(stored), session=session)
        except WriteError as error:
            if error.code != DOCUMENT_VALIDATION_FAILURE:
                raise
            return refusals(error.details)
        finally:
            await session.abort_transaction()
    return []
