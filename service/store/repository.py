"""Reads and writes documents of one type; each write is one atomic command."""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Literal, TypeVar

import orjson
import pymongo
from bson import ObjectId
from pymongo import ReadPreference, ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection

from service.documents.base import now
from service.documents.json_text import dump_json
from service.documents.presenter import Presenter, prune, tree_of
from service.documents.registry import DocumentType
from service.documents.restorer import Present
from service.documents.values import OBJECT_ID
from service.documents.views import View
from service.errors import (
    DatabaseUnavailableError,
    Fault,
    InvalidQueryError,
    NotFoundError,
    QueryTooExpensiveError,
    RevisionMismatchError,
    WriteConflictError,
)
from service.store.elections import Elections, was_too_slow
from service.store.failures import driver_errors, operation
from service.store.paging import CursorSigner, InvalidCursorError, after
from service.store.projection import projection_of
from service.store.query import DEFAULT_LIMIT, CountMode, ListQuery, Selection
from service.store.schemas import validate_body
from service.store.stream import read_batches

CAPPED_TOTAL = 10_000
PATCH_ATTEMPTS = 20
PAUSE_SECONDS = 0.005
"""What each failed attempt adds to the longest pause before the next."""

LOAD_BATCH = 1000
"""Documents written at once by a load."""

MASKED = "-masked"
"""What the entity tag of a document with masks ends in."""

Presented = dict[str, Any]
"""A document as callers see it: `id`, then its fields."""

T = TypeVar("T")

TotalRelation = Literal["eq", "gte", "estimated"]

Revisions = frozenset[int] | None
"""The revisions that a write may replace; None: any."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long MongoDB may take, in seconds."""

    query_seconds: float
    """On a caller's query."""
    operation_seconds: float
    """On anything else, retries and elections included."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list."""

    items: list[Presented]
    next_cursor: str | None
    total: int | None
    total_relation: TotalRelation | None


class Repository:
    """The documents of one type, as somebody sees them."""

    def __init__(
        self, document_type: DocumentType, limits: Limits, cursors: CursorSigner, view: View | None = None
    ) -> None:
        """Without a `view` all is seen."""
        self.document_type = document_type
        self.view = view or document_type.whole
        self._limits = limits
        self._cursors = cursors
        self._presenter = Presenter(self.view.fields.values())
        self._projection = projection_of(document_type)

    def seen_with(self, scopes: Collection[str]) -> "Repository":
        """The same documents, as callers with these scopes see them."""
        return self if self.document_type.seen_with(scopes) is self.view else self._masked

    @cached_property
    def _masked(self) -> "Repository":
        return Repository(self.document_type, self._limits, self._cursors, self.document_type.masked)

    @cached_property
    def _whole_presenter(self) -> Presenter:
        return Presenter(self.document_type.fields.values())

    @property
    def _collection(self) -> AsyncCollection[dict[str, Any]]:
        return self.document_type.document_class.get_pymongo_collection()

    def _operation(self) -> AbstractContextManager[None]:
        return operation(self._limits.operation_seconds)

    @asynccontextmanager
    async def _query(self, patterns: Sequence[str] = ()) -> AsyncGenerator[None]:
        """Time running out is the query's fault, if MongoDB still answers."""
        election = Elections.of(self._collection).latest
        try:
            with driver_errors(patterns), pymongo.timeout(self._limits.query_seconds):
                yield
        except DatabaseUnavailableError as error:
            if await was_too_slow(self._collection, error.__cause__, election):
                raise QueryTooExpensiveError from error
            raise

    async def _read(self, ask: Callable[[AsyncClientSession | None], Awaitable[T]]) -> T:
        return await Elections.of(self._collection).read(self._collection, ask)

    async def get(self, document_id: str, among: Mapping[str, Any] | None = None) -> Presented:
        """One document, of those that have what `among` says.

        Raises NotFoundError, also for one that is not among them, and for what is no ObjectId.
        """
        return self._presenter.present(await self._find(document_id, among))

    async def _find(self, document_id: str, among: Mapping[str, Any] | None = None) -> dict[str, Any]:
        found_by = {"_id": self._key(document_id), **(among or {})}
        with self._operation():
            stored = await self._read(
                lambda session: self._collection.find_one(found_by, self._projection, session=session)
            )
        if stored is None:
            raise self._not_found(document_id)
        return stored

    async def page(self, query: ListQuery) -> Page:
        """Part of a list; a total that runs out of time is None.

        Raises InvalidQueryError for a cursor that is not this query's, and QueryTooExpensiveError.
        """
        selection, filter_ = query.selection, self._page_filter(query)

        async def ask(session: AsyncClientSession | None) -> list[dict[str, Any]]:
            async with self._collection.find(
                filter_,
                self._projection_for(selection),
                sort=list(selection.sort),
                skip=query.skip,
                limit=query.limit + 1,
                batch_size=query.limit + 2,  # one batch, and no cursor left behind it
                session=session,
            ) as cursor:
                return await cursor.to_list()

        async with self._query(selection.patterns):
            stored = await self._read(ask)
        total, relation = (None, None) if query.cursor else await self._total(selection.filter, query.count)
        has_next = len(stored) > query.limit
        name = self.document_type.name
        next_cursor = self._cursors.encode(selection, name, stored[query.limit - 1]) if has_next else None
        items = [self._presenter.present(document) for document in stored[: query.limit]]
        if selection.fields:
            tree = tree_of(["id", *selection.fields])
            items = [prune(item, tree) for item in items]
        return Page(items, next_cursor, total, relation)

    def _page_filter(self, query: ListQuery) -> Mapping[str, Any]:
        selection = query.selection
        if query.cursor is None:
            return selection.filter
        try:
            keys = self._cursors.decode(selection, self.document_type.name, query.cursor)
        except InvalidCursorError as error:
            raise InvalidQueryError([Fault("invalid_cursor", str(error), parameter="cursor")]) from error
        return {"$and": [selection.filter, after(selection.sort, keys)]}

    async def _total(self, selected: Mapping[str, Any], mode: CountMode) -> tuple[int | None, TotalRelation | None]:
        if mode == "none":
            return None, None
        if mode == "estimated" and not selected:
            with self._operation():
                return await self._collection.estimated_document_count(), "estimated"
        options: dict[str, Any] = {"limit": CAPPED_TOTAL + 1} if mode != "exact" else {}
        try:
            async with self._query():
                total = await self._read(
                    lambda session: self._collection.count_documents(selected, session=session, **options)
                )
        except QueryTooExpensiveError:
            return None, None
        if mode != "exact" and total > CAPPED_TOTAL:
            return CAPPED_TOTAL, "gte"
        return total, "eq"

    def stream(
        self, selection: Selection, *, is_snapshot: bool = False, from_secondaries: bool = False
    ) -> AsyncGenerator[bytes]:
        """All selected documents in batches of raw BSON, see `read_batches`."""
        collection = self._collection
        if from_secondaries:
            collection = collection.with_options(read_preference=ReadPreference.SECONDARY_PREFERRED)
        return read_batches(collection, selection, self._projection_for(selection), is_snapshot=is_snapshot)

    def _projection_for(self, selection: Selection) -> Mapping[str, int]:
        """The projection that has what was asked for, and what the next page or batch goes on by."""
        if not selection.fields:
            return self._projection
        sorted_by = ("id" if path == "_id" else path for path, _ in selection.sort)
        return projection_of(self.document_type, (*selection.fields, *sorted_by))

    async def explain(self, selection: Selection) -> Mapping[str, Any]:
        """How MongoDB finds the selected documents: its plan, and what came of it."""
        with self._operation():
            plan: Mapping[str, Any] = await self._collection.find(
                selection.filter, projection_of(self.document_type), sort=list(selection.sort), limit=DEFAULT_LIMIT
            ).explain()
        return plan

    async def insert(self, body: Any) -> Presented:
        """A new document. Raises ValidationFailedError and DuplicateValueError."""
        stored = new_document(ObjectId(), validate_body(self.view, body))
        with self._operation():
            await self._collection.insert_one(stored)
        return self._presenter.present(stored)

    async def load(self, bodies: Iterable[Any]) -> list[str]:
        """Many new documents; their ids. Raises as `insert`, for the first that is at fault."""
        ids: list[str] = []
        waiting = iter(bodies)
        while batch := [
            new_document(ObjectId(), validate_body(self.view, body)) for body in islice(waiting, LOAD_BATCH)
        ]:
            with self._operation():
                await self._collection.insert_many(batch)
            ids += [str(stored["_id"]) for stored in batch]
        return ids

    async def any(self) -> bool:
        """Whether there are documents at all."""
        with self._operation():
            found = await self._read(lambda session: self._collection.find_one({}, {"_id": 1}, session=session))
        return found is not None

    async def replace(self, document_id: str, body: Any, revisions: Revisions = None) -> Presented:
        """All of a document's own fields at once; masks stand for what is there.

        Raises ValidationFailedError, DuplicateValueError, NotFoundError and RevisionMismatchError; with masks also
        WriteConflictError.
        """
        if self.view.restorer.finds_masks(body):
            return await self.patch(document_id, lambda _seen: body, revisions)
        key = self._key(document_id)
        return await self._replace(key, validate_body(self.view, body), revisions)

    async def patch(self, document_id: str, change: Callable[[Any], Any], revisions: Revisions = None) -> Presented:
        """What `change` makes of the document's JSON as it is seen; when others are faster, made anew from theirs.

        Raises as `replace`, and WriteConflictError when they always are.
        """
        with self._operation():
            return await self._patch(self._key(document_id), change, revisions)

    async def _patch(self, key: ObjectId, change: Callable[[Any], Any], revisions: Revisions) -> Presented:
        for attempt in range(PATCH_ATTEMPTS):
            stored = await self._find(str(key))
            whole = _json(self._whole_presenter.present(deepcopy(stored))) if self.view.is_masked else None
            seen = self._presenter.present(stored)
            seen_json = _json(seen)
            revision = revision_of(seen)
            if revisions is not None and revision not in revisions:
                raise self._revision_mismatch(seen)
            present = Present(whole if self.view.is_masked else seen_json, seen_json)
            fields = validate_body(self.view, change(present.seen), present)
            try:
                return await self._replace(key, fields, frozenset({revision}))
            except RevisionMismatchError:
                await asyncio.sleep(random.uniform(0, attempt * PAUSE_SECONDS))  # noqa: S311 - so that one gets ahead
        raise WriteConflictError("Try again when fewer others are changing it.")

    async def delete(self, document_id: str, revisions: Revisions = None) -> None:
        """Remove a document. Raises NotFoundError and RevisionMismatchError."""
        key = self._key(document_id)
        with self._operation():
            deleted = await self._collection.find_one_and_delete(at_revision(key, revisions), {"_id": 1})
            if deleted is None:
                raise self._revision_mismatch(await self.get(document_id))

    async def _replace(self, key: ObjectId, fields: Mapping[str, Any], revisions: Revisions) -> Presented:
        with self._operation():
            stored = await self._collection.find_one_and_update(
                at_revision(key, revisions),
                replacement(fields),
                self._projection,
                return_document=ReturnDocument.AFTER,
            )
            if stored is None:
                raise self._revision_mismatch(await self.get(str(key)))
        return self._presenter.present(stored)

    def _revision_mismatch(self, present: Presented) -> RevisionMismatchError:
        return revision_mismatch(present, is_masked=self.view.is_masked)

    def _key(self, document_id: str) -> ObjectId:
        if not OBJECT_ID.fullmatch(document_id):
            raise self._not_found(document_id)
        return ObjectId(document_id)

    def _not_found(self, document_id: str) -> NotFoundError:
        return NotFoundError(f"There is no document {document_id!r} in {self.document_type.name}.")


def _json(presented: Presented) -> Any:
    return orjson.loads(dump_json(presented))


def revision_of(document: Mapping[str, Any]) -> int:
    """The document's revision; one that was written by hand and has none counts as 0."""
    revision = document.get("revision")
    return revision if isinstance(revision, int) and not isinstance(revision, bool) else 0


def new_document(key: ObjectId, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What is stored of a new document."""
    moment = now().replace(tzinfo=None)
    return {"_id": key, **fields, "created_at": moment, "updated_at": moment, "revision": 1}


def replacement(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The update that replaces all of a document's own fields.

    A pipeline, so that the server can keep `created_at` and count `revision` by itself.
    """
    moment = now().replace(tzinfo=None)
    kept = {
        "created_at": {"$cond": [{"$eq": [{"$type": "$created_at"}, "date"]}, "$created_at", moment]},
        "updated_at": moment,
        "revision": {"$add": [{"$cond": [{"$in": [{"$type": "$revision"}, ["int", "long"]]}, "$revision", 0]}, 1]},
    }
    # $literal, because in a pipeline a text that starts with $ would be read as a field.
    return [{"$replaceWith": {"$mergeObjects": [{"_id": "$_id"}, {"$literal": fields}, kept]}}]


def at_revision(key: ObjectId, revisions: Revisions) -> dict[str, Any]:
    """The document, if it has one of these revisions."""
    if revisions is None:
        return {"_id": key}
    named = {"revision": {"$in": sorted(revisions)}}
    if 0 not in revisions:
        return {"_id": key, **named}
    return {"_id": key, "$or": [named, {"revision": {"$not": {"$type": ["int", "long"]}}}]}


def entity_tag(document: Presented, *, is_masked: bool = False) -> str:
    """The tag of what is seen of a document: its revision, and whether there are masks, as both are not the same bytes.

    RFC 9110 §8.8.3.
    """
    return f'"{revision_of(document)}{MASKED if is_masked else ""}"'


def revision_mismatch(present: Presented, *, is_masked: bool = False) -> RevisionMismatchError:
    """What a caller is told who named another revision."""
    return RevisionMismatchError(
        f"It has revision {revision_of(present)} now.",
        headers={"ETag": entity_tag(present, is_masked=is_masked)},
        extras={"current": orjson.Fragment(dump_json(present))},
    )
