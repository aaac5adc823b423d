"""Many writes at once, each with an answer of its own; they survive the loss of a primary, and none is done twice."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo import UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError, WriteError

from service.documents.registry import DocumentType
from service.errors import DatabaseUnavailableError, Fault, InternalError
from service.store.elections import find_all
from service.store.failures import operation, translate
from service.store.projection import projection_of
from service.store.query import stored_path
from service.store.repository import at_revision, replacement
from service.store.stream import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, RESUME_SECONDS

Answered = TypeVar("Answered")
Refusals = dict[int, list[Fault]]
"""By the position of the document that was not written."""

ID_INDEX = {"_id": 1}


@dataclass(frozen=True, slots=True)
class Replacement:
    """What a document becomes, if it is still as it was read."""

    key: ObjectId
    revision: int
    """The one that was read."""
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Inserted:
    """What became of new documents."""

    refusals: Refusals
    present: frozenset[int]
    """Positions of those that were there before, under their `_id`."""


class BulkWriter:
    """Writes documents of one type."""

    def __init__(self, document_type: DocumentType, timeout_seconds: float) -> None:
        """`timeout_seconds` is how long one command may take; one that fails is tried again for some elections."""
        self._collection: AsyncCollection[dict[str, Any]] = document_type.document_class.get_pymongo_collection()
        self._projection = projection_of(document_type)
        self._timeout_seconds = timeout_seconds

    async def find(self, path: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        """The documents that have one of these values at a path, as they are stored."""

        async def attempt() -> list[dict[str, Any]]:
            return await find_all(self._collection, {stored_path(path): {"$in": list(values)}}, self._projection)

        found, _ = await until_answered(attempt, self._timeout_seconds)
        return found

    async def insert(self, documents: Sequence[bytes]) -> Inserted:
        """Write new documents of raw BSON, whose `_id` is nobody else's."""
        errors, is_repeated = await insert_documents(self._collection, documents, self._timeout_seconds)
        present = {position for position, error in errors.items() if error.get("keyPattern") == ID_INDEX}
        refusals = {position: _faults(error) for position, error in errors.items() if position not in present}
        # What was there at a second attempt, the first has written without a word.
        return Inserted(refusals, frozenset() if is_repeated else frozenset(present))

    async def replace(self, replacements: Sequence[Replacement]) -> tuple[Refusals, bool]:
        """Write all; those that were refused, and whether it is certain that the others were written."""
        commands = [
            UpdateOne(at_revision(change.key, frozenset({change.revision})), replacement(change.fields))
            for change in replacements
        ]
        matched = 0

        async def attempt() -> dict[int, Mapping[str, Any]]:
            nonlocal matched
            try:
                matched = (await self._collection.bulk_write(commands, ordered=False)).matched_count
            except BulkWriteError as error:
                matched = error.details["nMatched"]
                return _by_position(error)
            return {}

        errors, _ = await until_answered(attempt, self._timeout_seconds)
        refusals = {position: _faults(error) for position, error in errors.items()}
        return refusals, matched + len(errors) == len(commands)


async def insert_documents(
    collection: AsyncCollection[dict[str, Any]],
    documents: Sequence[bytes],
    timeout_seconds: float,
    *,
    bypasses_validator: bool = False,
) -> tuple[dict[int, Mapping[str, Any]], bool]:
    """Write new documents of raw BSON: the errors by their positions, and whether MongoDB was asked before."""
    raw = [RawBSONDocument(document) for document in documents]

    async def attempt() -> dict[int, Mapping[str, Any]]:
        bypass = bypasses_validator or None  # which not everybody may even say no to
        return await _write_errors(collection.insert_many(raw, ordered=False, bypass_document_validation=bypass))

    return await until_answered(attempt, timeout_seconds)


async def until_answered(attempt: Callable[[], Awaitable[Answered]], timeout_seconds: float) -> tuple[Answered, bool]:
    """What MongoDB answers, and whether it was asked before; `timeout_seconds` is how long one attempt may take.

    Raises DatabaseUnavailableError, after some elections.
    """
    deadline = time.monotonic() + RESUME_SECONDS
    pause_seconds = FIRST_PAUSE_SECONDS
    is_repeated = False
    while True:
        try:
            with operation(timeout_seconds):
                return await attempt(), is_repeated
        except DatabaseUnavailableError:
            if time.monotonic() > deadline:
                raise
        is_repeated = True
        await asyncio.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 2, LONGEST_PAUSE_SECONDS)


async def _write_errors(writing: Awaitable[Any]) -> dict[int, Mapping[str, Any]]:
    try:
        await writing
    except BulkWriteError as error:
        return _by_position(error)
    return {}


def _by_position(error: BulkWriteError) -> dict[int, Mapping[str, Any]]:
    """The errors of single documents. Raises DatabaseUnavailableError."""
    if error.details.get("writeConcernErrors"):  # no majority has taken it
        raise DatabaseUnavailableError from error
    return {one["index"]: one for one in error.details["writeErrors"]}


def _faults(error: Mapping[str, Any]) -> list[Fault]:
    cause = WriteError(error.get("errmsg", ""), error.get("code"), dict(error))
    translated = translate(cause)
    if isinstance(translated, DatabaseUnavailableError | InternalError):
        raise translated from cause
    return list(translated.faults) or [Fault(translated.code, translated.detail)]
