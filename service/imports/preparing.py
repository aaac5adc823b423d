"""What can be done with the rows of a file without the database; by several processes, where a file is large."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Protocol

from anyio import to_thread

from service.documents.base import Record
from service.documents.json_text import dump_json
from service.documents.registry import DocumentType
from service.documents.values import parse_text
from service.errors import Fault
from service.imports.decoding import Decoding, Incoming, LinesDecoding, TableDecoding
from service.imports.query import ImportQuery
from service.imports.source import Part, Source, unpack
from service.imports.step import KeyMaker, Prepared, prepare_new, prepared


@dataclass(frozen=True, slots=True)
class Preparing:
    """What has to be known for it, by any process."""

    document_class: type[Record]
    query: ImportQuery
    header: Sequence[str]
    """Of a table; none: it is NDJSON."""
    seed: bytes

    def preparer(self) -> "Preparer":
        """Who does it."""
        document_type = DocumentType(self.document_class)
        decoding: Decoding
        if self.header:
            decoding = TableDecoding(document_type, self.query, self.header)
        else:
            decoding = LinesDecoding(document_type, self.query)
        return Preparer(document_type, self.query, decoding, KeyMaker(self.seed))


class Preparer:
    """Decodes rows; validates new documents, or knows by what those that are there are found."""

    def __init__(self, document_type: DocumentType, query: ImportQuery, decoding: Decoding, keys: KeyMaker) -> None:
        self._type = document_type
        self._view = query.view_of(document_type)
        self._decoding = decoding
        self._keys = keys
        self._key_path = (query.key or "id") if query.mode == "upsert" else None

    def prepare(self, part: Part) -> list[Prepared]:
        """The documents of some rows."""
        prepare = self._found if self._key_path else self._new
        return [prepare(incoming) for incoming in self._decoding.decode(part.ordinal, unpack(part.rows))]

    def _new(self, incoming: Incoming) -> Prepared:
        return prepare_new(self._view, incoming, self._keys.key(incoming))

    def _found(self, incoming: Incoming) -> Prepared:
        assert self._key_path is not None
        place = "/" + self._key_path.replace(".", "/")
        if incoming.key is None:
            is_new = self._key_path == "id"
            fault = Fault("missing_key", "a row finds its document by this", pointer=place)
            return prepared(incoming, incoming.faults or ([] if is_new else [fault]))
        text = incoming.key if isinstance(incoming.key, str) else dump_json(incoming.key).decode()
        try:
            key = parse_text(self._type.fields[self._key_path], text)
        except ValueError as error:
            return prepared(incoming, incoming.faults or [Fault("invalid_key_value", str(error), pointer=place)])
        return prepared(incoming, incoming.faults, key)


class Lane(Protocol):
    """Something that prepares one part at a time."""

    def prepare(self, part: Part) -> list[Prepared]:
        """The documents of some rows."""


class ProcessLane:
    """A process that prepares, at the other end of a connection; see `serve_lane`."""

    def __init__(self, connection: Connection, preparing: Preparing) -> None:
        self._connection = connection
        connection.send(preparing)

    def prepare(self, part: Part) -> list[Prepared]:
        """Have it done. Raises EOFError or OSError if the process is gone."""
        self._connection.send(part)
        prepared: list[Prepared] = self._connection.recv()
        return prepared


def serve_lane(connection: Connection) -> None:
    """Prepare whatever comes, until the other end is closed."""
    try:
        preparing: Preparing = connection.recv()
        preparer = preparing.preparer()
        while True:
            connection.send(preparer.prepare(connection.recv()))
    except (EOFError, BrokenPipeError):
        return


async def prepare_in_order(source: Source, lanes: Sequence[Lane]) -> AsyncGenerator[tuple[Part, list[Prepared]]]:
    """The parts of a file, in order, with their documents; the next ones are prepared while the first is written."""
    idle: asyncio.Queue[Lane] = asyncio.Queue()
    for lane in lanes:
        idle.put_nowait(lane)

    async def prepare(part: Part) -> tuple[Part, list[Prepared]]:
        lane = await idle.get()
        try:
            return part, await to_thread.run_sync(lane.prepare, part)
        finally:
            idle.put_nowait(lane)

    preparing: deque[asyncio.Task[tuple[Part, list[Prepared]]]] = deque()
    try:
        for part in source.parts():
            preparing.append(asyncio.create_task(prepare(part)))
            if len(preparing) > len(lanes):
                yield await preparing.popleft()
        while preparing:
            yield await preparing.popleft()
    finally:
        await asyncio.gather(*preparing, return_exceptions=True)  # so that no lane is left in the middle of a part
