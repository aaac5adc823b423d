"""All that a database keeps: read as it was at one moment, and put back."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from typing import Any

import bson
from bson import SON, Binary
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from service.documents.batches import CODEC
from service.errors import DatabaseUnavailableError, Fault, ValidationFailedError, WriteConflictError
from service.store.bulk import ID_INDEX, insert_documents, until_answered
from service.store.failures import operation
from service.store.query import Selection
from service.store.stream import read_batches, snapshot_session

PASSING = frozenset({"locks", "quotas", "sessions"})
"""Collections that are not kept: what they say is true for minutes, and a sign-in that has ended since must not begin
again."""

DRAFT = "restoring."
"""What the name of a collection starts with that is not whole yet."""

EVERYTHING = Selection({}, sort=(("_id", 1),), fields=())

INSERT_DOCUMENTS = 2000
INSERT_BYTES = 16_777_216
"""As many are written together."""

NAMESPACE_NOT_FOUND = 26


async def read_database(
    database: AsyncDatabase[dict[str, Any]], timeout_seconds: float
) -> AsyncGenerator[tuple[str, AsyncGenerator[bytes]]]:
    """Each collection's name, with its documents in batches of raw BSON, all of them as they are at one moment.

    `timeout_seconds` is how long one command may take. Raises SnapshotUnavailableError.
    """
    async with snapshot_session(database.client) as session:
        for name in await kept_collections(database, timeout_seconds):
            async with aclosing(read_batches(database[name], EVERYTHING, {}, session=session)) as batches:
                yield name, batches


async def kept_collections(database: AsyncDatabase[dict[str, Any]], timeout_seconds: float) -> list[str]:
    """The names of collections that a backup has in it."""
    with operation(timeout_seconds):
        names = await database.list_collection_names(filter={"type": "collection"})
    return sorted(name for name in names if name not in PASSING and not name.startswith(("system.", DRAFT)))


async def full_collections(database: AsyncDatabase[dict[str, Any]], timeout_seconds: float) -> list[str]:
    """Those of them that have documents."""
    names = await kept_collections(database, timeout_seconds)
    with operation(timeout_seconds):
        return [name for name in names if await database[name].find_one({}, {"_id": 1}) is not None]


async def end_sign_ins(database: AsyncDatabase[dict[str, Any]], timeout_seconds: float) -> None:
    """Let everybody sign in anew, to the accounts as they are now."""
    with operation(timeout_seconds):
        await database["sessions"].delete_many({})


class Restoration:
    """Collections that are written beside those that are there, and take their places once all are whole."""

    def __init__(
        self, database: AsyncDatabase[dict[str, Any]], timeout_seconds: float, *, bypasses_validators: bool = False
    ) -> None:
        """`timeout_seconds` is how long one command may take."""
        self._database = database
        self._timeout_seconds = timeout_seconds
        self._bypasses_validators = bypasses_validators
        self._drafts: dict[str, Binary] = {}
        """By the names of the collections that they are for, their UUIDs."""

    async def begin(self, name: str) -> None:
        """A collection with the options, validator and indexes that the one of this name has, and no documents."""
        with operation(self._timeout_seconds):
            present = await self._describe(name)
            indexes = await (await self._database[name].list_indexes()).to_list() if present else []
            await self._database.drop_collection(DRAFT + name)  # of a restoration that was killed
            await self._database.create_collection(DRAFT + name, **present.get("options", {}))
            self._drafts[name] = (await self._describe(DRAFT + name))["info"]["uuid"]
            others = [{key: index[key] for key in index if key not in {"v", "ns"}} for index in indexes[1:]]
            if others:
                await self._database.command(SON(createIndexes=DRAFT + name, indexes=others))

    async def write(self, name: str, documents: Sequence[bytes]) -> None:
        """Some of its documents. Raises ValidationFailedError for what a unique index or the validator refuses."""
        errors, is_repeated = await insert_documents(
            self._database[DRAFT + name],
            documents,
            self._timeout_seconds,
            bypasses_validator=self._bypasses_validators,
        )
        faults = [
            Fault("not_restorable", f"{name}, {bson.decode(documents[position], CODEC)['_id']}: {error.get('errmsg')}")
            for position, error in errors.items()
            # What is there at a second attempt, the first has written.
            if not (is_repeated and error.get("keyPattern") == ID_INDEX)
        ]
        if faults:
            raise ValidationFailedError(faults)

    async def publish(self) -> None:
        """Let all of them take their places."""
        with operation(self._timeout_seconds):
            for name, uuid in self._drafts.items():
                if (await self._describe(DRAFT + name)).get("info", {}).get("uuid") != uuid:
                    raise WriteConflictError("Somebody else restores this database too; nothing is restored.")
        for name in list(self._drafts):
            await until_answered(partial(self._publish, name), self._timeout_seconds)
            del self._drafts[name]

    async def _describe(self, name: str) -> dict[str, Any]:
        """What MongoDB knows of a collection; nothing, where there is none."""
        cursor = await self._database.list_collections(filter={"name": name})
        return dict(next(iter(await cursor.to_list()), {}))

    async def _publish(self, name: str) -> None:
        try:
            await self._database[DRAFT + name].rename(name, dropTarget=True)
        except OperationFailure as error:
            if error.code != NAMESPACE_NOT_FOUND:  # as where the answer of an earlier attempt was lost
                raise

    async def discard(self) -> None:
        """Leave nothing behind of those that are not whole."""
        with suppress(DatabaseUnavailableError), operation(self._timeout_seconds):
            for name in self._drafts:
                await self._database.drop_collection(DRAFT + name)


@asynccontextmanager
async def restoration(
    database: AsyncDatabase[dict[str, Any]], timeout_seconds: float, *, bypasses_validators: bool = False
) -> AsyncGenerator[Restoration]:
    """One that leaves everything as it was unless it is published."""
    begun = Restoration(database, timeout_seconds, bypasses_validators=bypasses_validators)
    try:
        yield begun
    finally:
        await begun.discard()
