"""The encoders' common part: what a file is to be, and the pieces that it is made of.

An encoder is a pure function from a batch of raw BSON to pieces of a file, so that any process can do it; a file puts
the pieces together in their order.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, NamedTuple, Protocol

from service.documents.fields import Field
from service.transfer.table import Table

FormatName = Literal["csv", "xlsx", "ndjson", "json", "parquet"]
Delimiter = Literal["comma", "semicolon", "tab"]
DELIMITERS: Mapping[Delimiter, str] = {"comma": ",", "semicolon": ";", "tab": "\t"}


class Piece(NamedTuple):
    """Some rows of a file."""

    data: bytes
    rows: int
    cut_cells: int = 0
    """Cells whose value the format could not hold whole."""
    size: int = 0
    """Bytes before they were compressed, where they are."""
    crc: int = 0
    """CRC-32 of those."""


Encode = Callable[[bytes], list[Piece]]
"""A batch of raw BSON to pieces, in their order."""


@dataclass(frozen=True)
class FileSpec:
    """What a file has in it, and how it is written; all that an encoder needs to know."""

    format_name: FormatName
    title: str
    fields: Mapping[str, Field]
    """Of the document type, by path."""
    paths: tuple[str, ...] = ()
    """Those that are wanted, in this order; none: all."""
    explode: str | None = None
    delimiter: Delimiter = "comma"
    bom: bool = False
    raw: bool = False

    def table(self) -> Table:
        """The columns, and how documents fill them."""
        return Table(self.fields, self.paths, self.explode)

    def for_another_process(self) -> "FileSpec":
        """The same without document classes, which need not be imported where nothing but encoding is done."""
        return replace(self, fields={path: replace(known, model=None) for path, known in self.fields.items()})


@dataclass(frozen=True, slots=True)
class About:
    """What a file says of itself, where its format has a place for that."""

    asked_for: str
    """The type, and the query as it was asked."""
    by: str
    started_at: datetime
    """UTC, without saying so."""
    rows: int
    cut_cells: int
    is_masked: bool = False
    """Whether masks stand in the place of private values."""

    def lines(self) -> list[tuple[str, str | int | datetime]]:
        """Names and values, for people."""
        return [
            ("Asked for", self.asked_for),
            ("By", self.by),
            ("Started (UTC)", self.started_at),
            ("Rows", self.rows),
            ("Cells cut", self.cut_cells),
            *([("Private fields", "masked")] if self.is_masked else []),
            ("Complete", "yes"),
        ]


class File(Protocol):
    """Puts one file together: `start`, `add` for each piece, `end`, and the bytes in that order."""

    def start(self) -> bytes:
        """What stands before the first row."""

    def add(self, piece: Piece) -> bytes:
        """The next rows."""

    def end(self, about: About) -> bytes:
        """What stands after the last row."""


class PlainFile:
    """A file whose pieces just follow each other."""

    def __init__(self, head: bytes = b"") -> None:
        self._head = head

    def start(self) -> bytes:
        """The head."""
        return self._head

    def add(self, piece: Piece) -> bytes:
        """The piece as it is."""
        return piece.data

    def end(self, about: About) -> bytes:  # noqa: ARG002 - File's signature
        """Nothing: such a file just stops."""
        return b""
