"""A backup as one file: a zip with a member of BSON for each collection, and last a manifest of what has to be there.

A member is what mongodump writes of a collection: raw documents, one right after the other (bsonspec.org). So nothing
is changed on the way, whatever it is, and what is cut off has no manifest.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from lzma import LZMAError
from pathlib import Path
from typing import IO, BinaryIO, Literal, Self
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile, is_zipfile

from pydantic import BaseModel, ConfigDict, ValidationError

from service.documents.batches import documents_of
from service.transfer.decoding import refuse_file

MANIFEST = "manifest.json"
SUFFIX = ".bson"
DAMAGES = (BadZipFile, EOFError, OSError, RuntimeError, LZMAError, zlib.error)
"""What a changed bit makes of a zip file: one that is no zip, ends nowhere, is encrypted or compressed otherwise."""

LENGTH_BYTES = 4
"""With which a document starts: its own, these included."""

QUICKLY = 1
"""zlib's level: a fifth larger than by default, in a third of the time, and the moment of a snapshot passes."""

MAX_DOCUMENT_BYTES = 16_777_216 + 16_384
"""Of BSON, as MongoDB keeps it, and a little for its own."""


class Member(BaseModel):
    """One collection of a backup."""

    model_config = ConfigDict(extra="forbid")

    name: str
    documents: int
    sha256: str
    """Of its BSON."""


class Manifest(BaseModel):
    """What a backup has in it."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["dossier-backup-1"] = "dossier-backup-1"
    version: str
    """Of the service that made it."""
    database: str
    begun_at: datetime
    collections: list[Member]

    @property
    def documents(self) -> int:
        """How many there are in all."""
        return sum(member.documents for member in self.collections)

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest, and so of all that is in the backup."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


@dataclass(slots=True)
class _Tally:
    """What has gone through so far."""

    sha256: "hashlib._Hash"
    documents: int = 0

    def member(self, name: str) -> Member:
        return Member(name=name, documents=self.documents, sha256=self.sha256.hexdigest())


class ArchiveWriter:
    """Writes a backup. Without `finish` the file is none."""

    def __init__(self, file: BinaryIO) -> None:
        self._zip = ZipFile(file, "w", ZIP_DEFLATED, compresslevel=QUICKLY)
        self._members: list[Member] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    @contextmanager
    def collection(self, name: str) -> Iterator[Callable[[bytes], int]]:
        """What takes a collection's documents, in batches of raw BSON, and says how many each one has."""
        tally = _Tally(hashlib.sha256())
        with self._zip.open(name + SUFFIX, "w", force_zip64=True) as member:

            def add(batch: bytes) -> int:
                count = sum(1 for _ in documents_of(batch))
                member.write(batch)
                tally.sha256.update(batch)
                tally.documents += count
                return count

            yield add
        self._members.append(tally.member(name))

    def finish(self, *, version: str, database: str, begun_at: datetime) -> Manifest:
        """Say what has to be there, which makes it whole."""
        manifest = Manifest(version=version, database=database, begun_at=begun_at, collections=self._members)
        self._zip.writestr(MANIFEST, manifest.model_dump_json(indent=2))
        return manifest


class Archive:
    """A backup that is there. Whatever is wrong with it is an InvalidFileError."""

    def __init__(self, path: Path) -> None:
        with _readable():
            self._zip = ZipFile(path)
            names = self._zip.namelist()
            if MANIFEST not in names:
                refuse_file("not_a_backup", "there is no manifest in this zip file")
            try:
                self.manifest = Manifest.model_validate_json(self._zip.read(MANIFEST))
            except ValidationError as error:
                fault = error.errors(include_url=False)[0]
                place = ".".join(map(str, fault["loc"]))
                refuse_file("not_a_backup", f"its manifest cannot be read: {place}: {fault['msg']}")
        named = sorted([MANIFEST, *(member.name + SUFFIX for member in self.manifest.collections)])
        if sorted(names) != named:
            refuse_file("damaged_backup", "the manifest names other members than there are")

    def close(self) -> None:
        """Let go of the file."""
        self._zip.close()

    def check(self) -> None:
        """Read all of it, and refuse it unless it is what was written."""
        for member in self.manifest.collections:
            tally = _Tally(hashlib.sha256())
            with _readable(), self._zip.open(member.name + SUFFIX) as file:
                for document in _read_documents(file):
                    tally.sha256.update(document)
                    tally.documents += 1
            if tally.member(member.name) != member:
                refuse_file("damaged_backup", f"{member.name} is not what was written: {tally.documents:,} documents")

    def documents(self, name: str, count: int, max_bytes: int) -> Iterator[Sequence[bytes]]:
        """A collection's documents, some at a time: so many at most, and so many bytes unless one alone has more."""
        some: list[bytes] = []
        size = 0
        with _readable(), self._zip.open(name + SUFFIX) as file:
            for document in _read_documents(file):
                if some and (len(some) == count or size + len(document) > max_bytes):
                    yield some
                    some, size = [], 0
                some.append(document)
                size += len(document)
        if some:
            yield some


def is_archive(path: Path) -> bool:
    """Whether this may be a backup of ours, or the beginning of one."""
    with path.open("rb") as file:
        return file.read(2) == b"PK" or is_zipfile(file)


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except DAMAGES as error:
        refuse_file("damaged_backup", f"it is cut off or was changed: {str(error) or 'it ends too early'}")


def _read_documents(file: IO[bytes]) -> Iterator[bytes]:
    """The documents of a member, each of which starts with its length."""
    while head := file.read(LENGTH_BYTES):
        length = int.from_bytes(head, "little")
        rest = file.read(length - LENGTH_BYTES) if LENGTH_BYTES < length <= MAX_DOCUMENT_BYTES else b""
        if len(head) + len(rest) != length:
            raise EOFError
        yield head + rest
