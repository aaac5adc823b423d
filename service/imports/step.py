"""What is done with the documents of a file, some at a time: the common part of `create` and `upsert`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import bson
from bson import ObjectId

from service.documents.batches import CODEC
from service.documents.views import View
from service.errors import Fault, ValidationFailedError
from service.imports.decoding import Incoming
from service.imports.report import Fate
from service.imports.source import MAX_DOCUMENT_BYTES
from service.store.bulk import BulkWriter
from service.store.repository import new_document
from service.store.schemas import validate_values
from service.store.uniqueness import UniquenessCheck


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document as far as it can be made without the database."""

    ordinal: int
    row: int
    """Its first row, by the number that a spreadsheet shows."""
    incoming: Incoming | None = None
    """As it came; of what is good and new, nothing, as it need not travel between processes."""
    faults: Sequence[Fault] = ()
    encoded: bytes = b""
    """What is to be inserted, if anything is, as BSON."""
    key: Any = None
    """By what it is found, as it is stored; None: it is new."""

    def stored(self) -> Mapping[str, Any]:
        """What is to be inserted."""
        return bson.decode(self.encoded, CODEC)


class Step(Protocol):
    """What is done with the documents of a file."""

    async def apply(self, part: Sequence[Prepared]) -> list[Fate]:
        """Do it, or foresee what would come of it; the fate of each."""

    def close(self) -> None:
        """Forget what came before."""


class KeyMaker:
    """Ids of new documents: the same ones for the same rows, so that what was written once is known again."""

    def __init__(self, seed: bytes) -> None:
        """`seed`: 9 bytes; the other 3 of an ObjectId count the rows."""
        self._seed = seed

    def key(self, incoming: Incoming) -> ObjectId:
        """That of a document."""
        return ObjectId(self._seed + incoming.ordinal.to_bytes(3, "big"))


def prepare_new(view: View, incoming: Incoming, key: ObjectId) -> Prepared:
    """A new document, validated; masks stand for nothing in it."""
    if incoming.faults and not incoming.body:  # of which nothing could be read, so that nothing in it is missing
        return prepared(incoming, incoming.faults)
    try:
        restored = view.restorer.restore(incoming.body)
        faults = [*incoming.faults, *restored.faults]
        encoded = bson.encode(new_document(key, validate_values(view.document_type, restored.body, faults)))
    except ValidationFailedError as error:
        return prepared(incoming, error.faults)
    if len(encoded) > MAX_DOCUMENT_BYTES:
        return prepared(incoming, [Fault("document_too_large", "a document has at most 16 MiB")])
    return Prepared(incoming.ordinal, incoming.row, encoded=encoded)


async def foresee_new(
    writer: BulkWriter, check: UniquenessCheck, documents: Sequence[tuple[int, Mapping[str, Any]]]
) -> list[Fate]:
    """What would become of new documents, which come with their rows; what is there was inserted before."""
    present = {stored["_id"] for stored in await writer.find("id", [stored["_id"] for _, stored in documents])}
    faults = iter(await check.faults([pair for pair in documents if pair[1]["_id"] not in present]))
    return ["unchanged" if stored["_id"] in present else next(faults) or "created" for _, stored in documents]


def prepared(incoming: Incoming, faults: Sequence[Fault] = (), key: Any = None) -> Prepared:
    """A document that is at fault, or that has to be looked for."""
    return Prepared(incoming.ordinal, incoming.row, incoming, faults, key=key)
