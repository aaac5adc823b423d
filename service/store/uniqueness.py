"""What unique indexes would refuse, known beforehand: among documents not written yet, and against those that are."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from hashlib import blake2b
from itertools import product
from typing import Any

from bson import Decimal128, ObjectId
from pymongo import IndexModel
from pymongo.asynchronous.collection import AsyncCollection

from service.documents.registry import DocumentType
from service.errors import Fault
from service.store.bulk import until_answered
from service.store.elections import find_all

KEY_BYTES = 16
CACHE_KIB = 8192
CHECKED_AT_ONCE = 500
"""Keys in one query."""

DEPENDENT = frozenset({"sparse", "partialFilterExpression", "collation"})
"""Options by which it depends on more than the key what an index refuses; that is left to MongoDB."""

EXACT = Context(prec=800)
"""A 64-bit float has up to 767 decimal digits."""

ZERO = Decimal(0)
"""Without a sign."""

_EMPTY_ARRAY = "an empty array"
"""MongoDB's indexes have a key for it, which is not that of null."""


@dataclass(frozen=True, slots=True)
class UniqueIndex:
    """The fields of which no two documents have the same values."""

    paths: tuple[str, ...]
    arrays: frozenset[str] = frozenset()
    """The type's arrays, as a path may lead through one."""

    def keys(self, stored: Mapping[str, Any]) -> dict[bytes, tuple[Any, ...]]:
        """The document's keys, each with its values; several where there is an array."""
        combinations = product(*(list(_values(stored, path.split("."))) for path in self.paths))
        return {key_digest(self.paths, values): values for values in combinations}

    def conditions(self, values: Sequence[Any]) -> list[dict[str, Any]]:
        """What finds the documents that have such a key: one of these."""
        return [dict(one) for one in product(*map(self._conditions, self.paths, values))]

    def _conditions(self, path: str, value: Any) -> list[tuple[str, Any]]:
        """In an empty array is nothing, to an index; to a query there is not even that."""
        if value is None:
            return [(path, None), *((array, []) for array in self.arrays if path.startswith(f"{array}."))]
        return [(path, [] if value is _EMPTY_ARRAY else value)]


def unique_indexes(document_type: DocumentType) -> list[UniqueIndex]:
    """A type's unique indexes, but for those that depend on more than their keys."""
    arrays = frozenset(path for path, known in document_type.fields.items() if known.is_array)
    return [
        UniqueIndex(tuple(index.document["key"]), arrays)
        for index in document_type.indexes
        if index.document.get("unique") and not DEPENDENT & index.document.keys()
    ]


def unique_field(index: IndexModel) -> str | None:
    """The only field of a unique index."""
    paths = list(index.document["key"])
    return paths[0] if index.document.get("unique") and len(paths) == 1 else None


class SeenKeys:
    """Keys that came before, in a file that SQLite keeps for as long as this is open: they may be many millions."""

    def __init__(self) -> None:
        # Used by one thread at a time, but not always by the same one.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for command in (
            "PRAGMA journal_mode = OFF",
            "PRAGMA synchronous = OFF",
            f"PRAGMA cache_size = -{CACHE_KIB}",
            "CREATE TABLE seen (key BLOB PRIMARY KEY, row INTEGER) WITHOUT ROWID",
            "BEGIN",
        ):
            self._database.execute(command)

    def row_of(self, key: bytes) -> int | None:
        """The row that had it."""
        found = self._database.execute("SELECT row FROM seen WHERE key = ?", (key,)).fetchone()
        return found[0] if found else None

    def add(self, keys: Iterable[bytes], row: int) -> None:
        """Remember them."""
        self._database.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", ((key, row) for key in keys))

    def close(self) -> None:
        """Forget all."""
        self._database.close()


class UniquenessCheck:
    """Tells of documents, in the order in which they would be written, which ones unique indexes would refuse."""

    def __init__(self, document_type: DocumentType, timeout_seconds: float) -> None:
        self._indexes = unique_indexes(document_type)
        self._collection: AsyncCollection[dict[str, Any]] = document_type.document_class.get_pymongo_collection()
        self._timeout_seconds = timeout_seconds
        self._seen = SeenKeys()

    def close(self) -> None:
        """Let go of what was seen."""
        self._seen.close()

    async def faults(
        self, documents: Sequence[tuple[int, Mapping[str, Any]]], *, are_there: bool = False
    ) -> list[list[Fault]]:
        """What is wrong with each; they come with their rows, for what comes after them.

        `are_there`: they take the place of what MongoDB has under the same `_id`, and others may have what that gives
        up.
        """
        keys = [[index.keys(stored) for index in self._indexes] for _, stored in documents]
        owners = [
            await self._owners(index, {key: values for own in keys for key, values in own[position].items()})
            for position, index in enumerate(self._indexes)
        ]
        found: list[list[Fault]] = []
        for (row, stored), own in zip(documents, keys, strict=True):
            faults = [
                fault
                for index, own_keys, owner in zip(self._indexes, own, owners, strict=True)
                for fault in self._conflicts(index, own_keys, owner, stored["_id"])
            ]
            if not faults:
                self._seen.add((key for own_keys in own for key in own_keys), row)
                self._seen.add([_id_key(stored["_id"])] if are_there else [], row)
            found.append(faults)
        return found

    def _conflicts(
        self, index: UniqueIndex, keys: Iterable[bytes], owners: Mapping[bytes, ObjectId], own_id: ObjectId
    ) -> Iterator[Fault]:
        for key in keys:
            row = self._seen.row_of(key)
            if row is not None:
                yield from duplicates(index.paths, f"row {row}")
                return
            owner = owners.get(key, own_id)
            if owner != own_id and self._seen.row_of(_id_key(owner)) is None:
                yield from duplicates(index.paths, "another document")
                return

    async def _owners(self, index: UniqueIndex, keys: Mapping[bytes, tuple[Any, ...]]) -> dict[bytes, ObjectId]:
        """Which documents have these keys."""
        owners: dict[bytes, ObjectId] = {}
        conditions = [condition for values in keys.values() for condition in index.conditions(values)]
        for start in range(0, len(conditions), CHECKED_AT_ONCE):
            some = conditions[start : start + CHECKED_AT_ONCE]
            clauses = some if len(index.paths) > 1 else _together(some)
            for document in await self._find({"$or": clauses}, index.paths):
                owners |= dict.fromkeys(index.keys(document), document["_id"])
        return owners

    async def _find(self, query: Mapping[str, Any], paths: Sequence[str]) -> list[dict[str, Any]]:
        async def attempt() -> list[dict[str, Any]]:
            return await find_all(self._collection, query, dict.fromkeys(paths, 1))

        found, _ = await until_answered(attempt, self._timeout_seconds)
        return found


def _together(conditions: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same of one path each, which MongoDB finds quicker so."""
    found: dict[str, list[Any]] = {}
    for condition in conditions:
        for path, value in condition.items():
            found.setdefault(path, []).append(value)
    return [{path: {"$in": values}} for path, values in found.items()]


def duplicates(paths: Sequence[str], other: str) -> list[Fault]:
    """A fault for each field of a unique index, as another row or document has the same values."""
    together = "this value" if len(paths) == 1 else f"these values of {', '.join(paths)}"
    return [Fault("duplicate_value", f"{other} has {together}", pointer="/" + path.replace(".", "/")) for path in paths]


def _id_key(document_id: ObjectId) -> bytes:
    return key_digest(["_id"], [document_id])


def _values(value: Any, names: Sequence[str]) -> Iterator[Any]:
    """All values at a path, as MongoDB's indexes find them: an array's elements, null where there is nothing."""
    if isinstance(value, list):
        if not names and not value:
            yield _EMPTY_ARRAY
        for element in value:
            yield from [element] if not names else _values(element, names)
        if names and not value:
            yield None
    elif names:
        yield from _values(value.get(names[0]) if isinstance(value, dict) else None, names[1:])
    else:
        yield value


def key_digest(paths: Sequence[str], values: Sequence[Any]) -> bytes:
    """What stands for these values at these paths."""
    text = repr((paths, [comparable(value) for value in values]))
    return blake2b(text.encode(errors="surrogatepass"), digest_size=KEY_BYTES).digest()


def comparable(value: Any) -> Any:
    """The value, so that Python takes for equal what MongoDB takes for equal."""
    if isinstance(value, bool):
        return value
    if isinstance(value, Decimal128):
        value = value.to_decimal()
    return (EXACT.normalize(Decimal(value)) or ZERO) if isinstance(value, int | float | Decimal) else value
