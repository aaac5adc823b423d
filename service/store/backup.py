"""All that a database keeps: read as it was at one moment, and put back."""

from collections.abc import AsyncGenerator, Mapping, Sequence
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
from service.store.leases import LOCKS
from service.store.preparation import Wanted
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

MARK = {"_id": "restoration"}
"""Which document of `locks` says what is being published."""


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


async def kept_collections(database: AsyncDatabase[dict[str, Any]], timeout_seconds: float) -> dict[str, Binary]:
    """The UUIDs of collections that a backup has in it, by their names and in the order of these."""
    with operation(timeout_seconds):
        cursor = await database.list_collections(filter={"type": "collection"})
        uuids = {found["name"]: found["info"]["uuid"] async for found in cursor}
    return {
        name: uuids[name] for name in sorted(uuids) if name not in PASSING and not name.startswith(("system.", DRAFT))
    }


async def full_collections(database: AsyncDatabase[dict[str, Any]], timeout_seconds: float) -> list[str]:
    """Those of them that have documents."""
    names = await kept_collections(database, timeout_seconds)
    with operation(timeout_seconds):
        return [name for name in names if await database[name].find_one({}, {"_id": 1}) is not None]


async def end_sign_ins(database: AsyncDatabase[dict[str, Any]], timeout_seconds: float) -> None:
    """Let everybody sign in anew, to the accounts as they are now."""
    with operation(timeout_seconds):
        await database["sessions"].delete_many({})


async def drop_collections(
    database: AsyncDatabase[dict[str, Any]], names: Sequence[str], timeout_seconds: float
) -> None:
    """Have them gone: what a backup lacks that has taken the place of everything."""
    for name in names:
        await until_answered(partial(database.drop_collection, name), timeout_seconds)


async def is_partly_restored(database: AsyncDatabase[dict[str, Any]], digest: str, timeout_seconds: float) -> bool:
    """Whether a restoration of the backup with this digest has begun to publish, and has not got to its end."""
    with operation(timeout_seconds):
        return await database[LOCKS].find_one(MARK | {"digest": digest}) is not None


async def forget_partial(database: AsyncDatabase[dict[str, Any]], timeout_seconds: float) -> None:
    """Remember none that has not got to its end: all is restored."""
    with operation(timeout_seconds):
        await database[LOCKS].delete_one(MARK)


class Restoration:
    """Collections that are written beside those that are there, and take their places once all are whole."""

    def __init__(
        self,
        database: AsyncDatabase[dict[str, Any]],
        timeout_seconds: float,
        wanted: Mapping[str, Wanted],
        *,
        bypasses_validators: bool,
    ) -> None:
        """`timeout_seconds` is how long one command may take."""
        self._database = database
        self._wanted = wanted
        self._timeout_seconds = timeout_seconds
        self._bypasses_validators = bypasses_validators
        self._drafts: dict[str, Binary] = {}
        """By the names of the collections that they are for, their UUIDs."""
        self.is_partial = False
        """Whether some collections have taken their places, and others not yet."""

    async def begin(self, name: str) -> None:
        """A collection with the options, validator and indexes that are wanted, and no documents.

        Where nobody wants any, with those that the one of this name has.
        """
        with operation(self._timeout_seconds):
            wanted = self._wanted.get(name) or await self._present(name)
            await self._database.drop_collection(DRAFT + name)  # of a restoration that was killed
            await self._database.create_collection(DRAFT + name, **wanted.options)
            self._drafts[name] = (await self._describe(DRAFT + name))["info"]["uuid"]
            if wanted.indexes:
                await self._database.command(SON(createIndexes=DRAFT + name, indexes=list(wanted.indexes)))

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

    async def publish(self, digest: str, *, replaces: bool) -> None:
        """Let all of them take their places, with nobody signed in.

        `digest` is the backup's; `replaces` says that collections that it lacks have to go. What fails once the first
        has taken its place leaves the drafts of the others.
        """
        with operation(self._timeout_seconds):
            for name, uuid in self._drafts.items():
                if (await self._describe(DRAFT + name)).get("info", {}).get("uuid") != uuid:
                    raise WriteConflictError("Somebody else restores this database too; nothing is restored.")
        lacked = await kept_collections(self._database, self._timeout_seconds) if replaces else {}
        await end_sign_ins(self._database, self._timeout_seconds)
        with operation(self._timeout_seconds):
            await self._database[LOCKS].update_one(MARK, {"$set": {"digest": digest}}, upsert=True)
        self.is_partial = True
        for name in self._drafts:
            await until_answered(partial(self._publish, name), self._timeout_seconds)
        others = [name for name in lacked if name not in self._drafts]
        await drop_collections(self._database, others, self._timeout_seconds)
        await forget_partial(self._database, self._timeout_seconds)
        self.is_partial = False
        self._drafts.clear()

    async def _present(self, name: str) -> Wanted:
        """What there is."""
        present = await self._describe(name)
        indexes = await (await self._database[name].list_indexes()).to_list() if present else []
        others = [{key: index[key] for key in index if key not in {"v", "ns"}} for index in indexes[1:]]
        return Wanted(present.get("options", {}), others)

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
        """Leave nothing behind of those that are not whole; but those whose turn it is to take their places."""
        if self.is_partial:
            return
        with suppress(DatabaseUnavailableError), operation(self._timeout_seconds):
            for name in self._drafts:
                await self._database.drop_collection(DRAFT + name)


@asynccontextmanager
async def restoration(
    database: AsyncDatabase[dict[str, Any]],
    timeout_seconds: float,
    wanted: Mapping[str, Wanted],
    *,
    bypasses_validators: bool = False,
) -> AsyncGenerator[Restoration]:
    """One that leaves everything as it was unless it is published.

    `wanted` is what collections have to be made with, by their names.
    """
    begun = Restoration(database, timeout_seconds, wanted, bypasses_validators=bypasses_validators)
    try:
        yield begun
    finally:
        await begun.discard()
