"""The parts of an Office file (ECMA-376, part 2: XML in a zip archive), whatever it says of itself."""

import io
import posixpath
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, NoReturn
from xml.parsers import expat

from service.transfer.decoding import refuse_file

CHUNK_BYTES = 65_536
MAX_MEMBERS = 10_000
MAX_DIRECTORY_BYTES = 4 * 1024**2
"""Of the archive's list of members: some 400 bytes for each."""

MAX_BYTES = 4 * 1024**3
"""Inflated, all parts together: two sheets as long as Excel opens them. It limits how long a file is worked on."""

MAX_RATIO = 250
"""Of these bytes to the file's; what people have in their files reaches 10, a million equal rows of ours 140."""

MAX_BYTES_AT_ANY_RATIO = 64 * 1024**2

MAX_SMALL_PART_BYTES = 16 * 1024**2
"""Inflated, of a part that is no table: Excel's 65,490 cell styles take about 10 MB."""

MAX_ELEMENTS = 100_000
"""That are kept of such a part."""

MAX_TOKEN_BYTES = 1024**2
"""Of a tag or a comment, which the parser holds until it has seen its end."""

MAX_NAMES_LENGTH = 100_000
"""Of all names of elements and attributes together, in characters: the parser keeps each."""

MAX_DEPTH = 100
MAX_SHOWN = 100

OLE_MAGIC = bytes.fromhex("d0cf11e0a1b11ae1")
BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError)

Attributes = dict[str, str]
OnStart = Callable[[str, Attributes], None]
OnEnd = Callable[[str], None]


class Relationship(NamedTuple):
    """What one part says of another."""

    id: str
    kind: str
    """The last word of its type: `worksheet`."""
    target: str
    """The other part's name."""


class Package:
    """The parts of an open file; names are compared as Office does, without regard to case."""

    def __init__(self, archive: zipfile.ZipFile, max_bytes: int) -> None:
        """`max_bytes` may be read of its parts together, again and again included."""
        self._archive = archive
        self._members = {_part_name(info.filename): info for info in archive.infolist()}
        self._max_bytes = max_bytes
        self._bytes_read = 0

    def __contains__(self, name: str) -> bool:
        return _part_name(name) in self._members

    def elements(self, name: str, *places: str) -> list[tuple[str, Attributes]]:
        """The elements at these places (`parent/name`) of a small part; all names come without their prefixes."""
        if self._member(name).file_size > MAX_SMALL_PART_BYTES:
            refuse_size(f"its part {shown(name)} alone is larger than {MAX_SMALL_PART_BYTES // 1024**2} MiB")
        found: list[tuple[str, Attributes]] = []

        def start(_: str, attributes: Attributes) -> None:
            place = "/".join(parser.open_tags[-2:])
            if place in places:
                found.append((place, {_local(attribute): value for attribute, value in attributes.items()}))
                if len(found) > MAX_ELEMENTS:
                    refuse_size(f"its part {shown(name)} lists more than {MAX_ELEMENTS:,} things")

        parser = XmlParser(name, start)
        for chunk in self.chunks(name):
            parser.feed(chunk)
        parser.finish()
        return found

    def relationships(self, name: str = "") -> list[Relationship]:
        """What a part, or the file as a whole, is related to within the file."""
        folder, file = posixpath.split(name)
        listed = self.elements(posixpath.join(folder, f"_rels/{file}.rels"), "Relationships/Relationship")
        return [
            Relationship(of["Id"], of["Type"].rpartition("/")[2], _part_name(posixpath.join("/", folder, of["Target"])))
            for _, of in listed
            if of.keys() >= {"Id", "Type", "Target"} and of.get("TargetMode") != "External"
        ]

    def chunks(self, name: str) -> Iterator[bytes]:
        """The part's bytes."""
        try:
            with self._archive.open(self._member(name)) as member:
                while chunk := member.read(CHUNK_BYTES):
                    self._bytes_read += len(chunk)
                    _check_bytes(self._bytes_read, self._max_bytes)
                    yield chunk
        except BROKEN_ZIP:
            refuse_broken(f"Its part {shown(name)} is damaged.")

    def _member(self, name: str) -> zipfile.ZipInfo:
        member = self._members.get(_part_name(name))
        if member is None:
            refuse_broken(f"Its part {shown(name)} is missing.")
        return member


@contextmanager
def open_package(path: Path) -> Iterator[Package]:
    """The parts of this file, as long as it is open. Raises InvalidFileError for one that is unreadable or unsafe."""
    with _ShortReads(path) as file:
        if file.read(len(OLE_MAGIC)) == OLE_MAGIC:
            refuse_file(
                "old_or_protected_file",
                "The file is an old .xls file, or one with a password: save it as .xlsx without a password.",
            )
        try:
            archive = zipfile.ZipFile(file)
        except (*BROKEN_ZIP, OSError):
            refuse_file("not_a_workbook", "The file is not an Excel workbook (.xlsx), or it was cut short.")
        with archive:
            max_bytes = min(MAX_BYTES, max(MAX_BYTES_AT_ANY_RATIO, path.stat().st_size * MAX_RATIO))
            _check_members(archive.infolist())
            _check_bytes(sum(member.file_size for member in archive.infolist()), max_bytes)
            yield Package(archive, max_bytes)


class XmlParser:
    """Parses a part that comes in pieces; gives tags without their prefixes, and text to whoever collects it.

    It refuses what could make it grow: declarations, by which entities unfold, and what it would have to remember.
    """

    def __init__(self, part: str, start: OnStart, end: OnEnd = lambda _: None) -> None:
        self._part = part
        self._start, self._end = start, end
        self._expat = expat.ParserCreate()
        self._expat.buffer_text = True
        self._expat.buffer_size = CHUNK_BYTES
        self._expat.XmlDeclHandler = self._declared
        self._expat.StartDoctypeDeclHandler = self._refuse_declarations
        self._expat.StartElementHandler = self._started
        self._expat.EndElementHandler = self._ended
        self._names_seen = 0
        self.open_tags: list[str] = []
        self.bytes_fed = 0
        self.is_utf8 = True
        """Unless the part says otherwise."""

    @property
    def position(self) -> int:
        """Where the present tag starts, in bytes."""
        return self._expat.CurrentByteIndex

    def feed(self, data: bytes) -> None:
        """Parse more."""
        self.bytes_fed += len(data)
        self._parse(data)
        is_too_long = self.bytes_fed - self._expat.CurrentByteIndex > MAX_TOKEN_BYTES
        if is_too_long or self._learned_too_much():
            refuse_broken(f"Its part {shown(self._part)} has tags that no spreadsheet has.")

    def finish(self) -> None:
        """That was all."""
        self._parse(b"", is_final=True)

    def collect(self, pieces: list[str] | None) -> None:
        """From here on, add text to this list, or ignore it."""
        self._expat.CharacterDataHandler = None if pieces is None else pieces.append

    def _parse(self, data: bytes, *, is_final: bool = False) -> None:
        try:
            self._expat.Parse(data, is_final)
        except expat.ExpatError as error:
            refuse_broken(f"Its part {shown(self._part)} is not well-formed XML: {error}.")

    def _learned_too_much(self) -> bool:
        names = self._expat.intern
        if len(names) == self._names_seen:
            return False
        self._names_seen = len(names)
        return sum(map(len, names)) > MAX_NAMES_LENGTH

    def _started(self, tag: str, attributes: Attributes) -> None:
        if ":" in tag:
            tag = _local(tag)
        self.open_tags.append(tag)
        if len(self.open_tags) > MAX_DEPTH:
            refuse_broken(f"In its part {shown(self._part)} tags lie too deep in each other.")
        self._start(tag, attributes)

    def _ended(self, _: str) -> None:
        self._end(self.open_tags.pop())

    def _declared(self, _version: str, encoding: str | None, _standalone: int) -> None:
        self.is_utf8 = encoding is None or encoding.lower() == "utf-8"

    def _refuse_declarations(self, *_: object) -> None:
        refuse_broken(f"Its part {shown(self._part)} declares entities, which no spreadsheet program does.")


def refuse_broken(why: str) -> NoReturn:
    """The file is not as such a file has to be."""
    refuse_file("broken_file", f"The file is broken. {why}")


def refuse_size(why: str) -> NoReturn:
    """The file has more in it than anybody would wait for."""
    refuse_file("file_too_large_inside", f"The file is too large inside: {why}.")


def shown(text: str) -> str:
    """A text out of a file, for a message."""
    return repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…")


class _ShortReads(io.FileIO):
    """A file that refuses to be read in bulk, which zipfile does only with a directory of very many members."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > MAX_DIRECTORY_BYTES:
            refuse_size("it has too many parts")
        return super().read(size)


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    if len(members) > MAX_MEMBERS:
        refuse_size(f"it has more than {MAX_MEMBERS:,} parts")
    if any(member.header_offset < 0 for member in members):
        refuse_broken("It does not start where it should.")
    if any(member.flag_bits & 0x1 for member in members):
        refuse_file("encrypted_file", "The file is protected with a password: save it without one.")
    if len({_part_name(member.filename) for member in members}) < len(members):
        refuse_broken("It has two parts of the same name.")
    if any(member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED} for member in members):
        refuse_broken("It is compressed in a way that Excel does not know.")


def _check_bytes(count: int, max_bytes: int) -> None:
    if count > max_bytes:
        refuse_size(f"it unfolds to more than {max_bytes // 1024**2:,} MiB")


def _local(name: str) -> str:
    return name.rpartition(":")[2]


def _part_name(name: str) -> str:
    return posixpath.normpath(name.replace("\\", "/")).lstrip("/").lower()
