"""The kinds of file there are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from service.transfer.csv_encoder import CsvEncoder
from service.transfer.table import Table
from service.transfer.xlsx_encoder import XlsxEncoder

Delimiter = Literal["comma", "semicolon", "tab"]
DELIMITERS: Mapping[Delimiter, str] = {"comma": ",", "semicolon": ";", "tab": "\t"}


class Encoder(Protocol):
    """Makes one file of one table: `start`, `encode` for each batch, `end`, and the bytes in that order."""

    def start(self) -> bytes:
        """What stands before the first row."""

    def encode(self, batch: bytes) -> bytes:
        """The rows of a raw BSON batch."""

    def end(self) -> bytes:
        """What stands after the last row."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How a file is to be written."""

    title: str
    delimiter: Delimiter = "comma"
    bom: bool = False
    raw: bool = False


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of file."""

    media_type: str
    make: Callable[[Table, ExportOptions], Encoder]
    is_delimited: bool = False
    """Whether it is text, with the options that go with that."""


def _make_csv(table: Table, options: ExportOptions) -> Encoder:
    return CsvEncoder(table, delimiter=DELIMITERS[options.delimiter], bom=options.bom, raw=options.raw)


def _make_xlsx(table: Table, options: ExportOptions) -> Encoder:
    return XlsxEncoder(table, title=options.title)


FORMATS: Mapping[str, Format] = {
    "csv": Format("text/csv; charset=utf-8", _make_csv, is_delimited=True),
    "xlsx": Format("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", _make_xlsx),
}
"""By the name that stands in the address, which is the file's extension too."""
