"""All documents of a selection, as they are stored, in batches that survive the loss of a cursor."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, cast

import structlog
from bson import ObjectId
from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError

from service.documents.batches import last_document
from service.errors import DatabaseUnavailableError, QueryTooExpensiveError, SnapshotUnavailableError
from service.store.elections import Elections, was_too_slow
from service.store.failures import driver_errors, translate
from service.store.paging import after, sort_keys
from service.store.query import Selection

BATCH_DOCUMENTS = 2000
"""What MongoDB is asked for at once: a MiB of documents of 600 bytes, so that to ask again costs little beside reading
them. Of large ones it hands out fewer, 16 MiB together."""

RESUME_SECONDS = 60
"""How long after its last batch a stream still looks for a server that goes on: a few elections."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.02, 1.0
"""Between two attempts; a server that is not there is waited for by the driver, one that refuses is not."""

log = structlog.get_logger()


async def read_batches(
    collection: AsyncCollection[dict[str, Any]],
    selection: Selection,
    projection: Mapping[str, int],
    *,
    is_snapshot: bool = False,
    session: AsyncClientSession | None = None,
) -> AsyncGenerator[bytes]:
    """The documents in batches of raw BSON, see `documents.batches`; the cursor is closed with the iterator.

    A cursor that is lost on the way is replaced by one that goes on after the last document, by the keys that it is
    sorted by, which the projection has. A snapshot has all documents as they are at one moment; with the `session` of
    a snapshot that others are read in too, at theirs.

    Raises QueryTooExpensiveError if the first batch takes too long, and SnapshotUnavailableError.
    """
    last: bytes | None = None
    progressed_at = time.monotonic()
    pause_seconds = FIRST_PAUSE_SECONDS
    election = Elections.of(collection).latest
    with driver_errors(selection.patterns):
        async with _session(collection, session, is_snapshot=is_snapshot) as own_session:
            is_whole = False
            while not is_whole:
                try:
                    async with collection.find_raw_batches(
                        _after_batch(selection, last),
                        projection,
                        sort=list(selection.sort),
                        batch_size=BATCH_DOCUMENTS,
                        session=own_session,
                    ) as cursor:
                        while (batch := cast("bytes | None", await anext(cursor, None))) is not None:
                            yield batch
                            last = batch
                            progressed_at = time.monotonic()
                            pause_seconds = FIRST_PAUSE_SECONDS
                    is_whole = True
                except PyMongoError as error:
                    if last is None:
                        await _refuse(collection, error, election, is_snapshot=is_snapshot or session is not None)
                        raise
                    if not _is_passing(error) or time.monotonic() - progressed_at > RESUME_SECONDS:
                        raise
                    log.warning("a lost cursor is replaced", cause=type(error).__name__)
                    await asyncio.sleep(pause_seconds)
                    pause_seconds = min(pause_seconds * 2, LONGEST_PAUSE_SECONDS)


def snapshot_session(client: AsyncMongoClient[dict[str, Any]]) -> AsyncClientSession:
    """A session in which everything is as it is when the first of it is read."""
    return client.start_session(snapshot=True)


def _session(
    collection: AsyncCollection[dict[str, Any]], session: AsyncClientSession | None, *, is_snapshot: bool
) -> AbstractAsyncContextManager[AsyncClientSession]:
    if session is not None:
        return nullcontext(session)
    if is_snapshot:
        return snapshot_session(collection.database.client)
    return Elections.of(collection).waiting(collection)


async def _refuse(
    collection: AsyncCollection[dict[str, Any]], error: PyMongoError, election: ObjectId | None, *, is_snapshot: bool
) -> None:
    """Say what is wrong with a query that MongoDB did not even begin to answer, if the query is what is wrong."""
    if await was_too_slow(collection, error, election):
        raise QueryTooExpensiveError from error
    if is_snapshot and isinstance(error, ConfigurationError | OperationFailure) and not _is_passing(error):
        raise SnapshotUnavailableError(f"MongoDB says: {error}") from error


def _is_passing(error: PyMongoError) -> bool:
    return isinstance(translate(error), DatabaseUnavailableError)


def _after_batch(selection: Selection, batch: bytes | None) -> Mapping[str, Any]:
    """What follows the last document of a raw batch; everything, if there was none."""
    if batch is None:
        return selection.filter
    keys = sort_keys(last_document(batch), selection.sort)
    return {"$and": [selection.filter, after(selection.sort, keys)]}
