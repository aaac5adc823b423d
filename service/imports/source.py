"""A file that has been read to its end, and kept until its documents are written."""

import tempfile
from collections.abc import Iterator
from contextlib import closing
from itertools import groupby
from marshal import dumps, loads
from pathlib import Path
from typing import IO, Any, NamedTuple

from service.documents.registry import DocumentType
from service.imports.decoding import Decoding, LinesDecoding, TableDecoding
from service.imports.query import ImportQuery, check_kind
from service.transfer.csv_reader import read_csv
from service.transfer.decoding import refuse_file
from service.transfer.file_kinds import FileKind
from service.transfer.ndjson_reader import read_ndjson
from service.transfer.xlsx_reader import read_sheet

PART_ROWS = 500
PART_BYTES = 1_048_576
"""What is decoded, checked and written at once, by whichever of both is reached first."""

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
"""MongoDB's limit."""

MARSHAL_VERSION = 2
"""One that looks for nothing that is there twice, which takes longer than to write it."""


class Part(NamedTuple):
    """Some rows of a file, none of them without the others of its document."""

    ordinal: int
    """Of the first, among all rows of the file; they are counted from 1."""
    rows: bytes
    """For `unpack`."""


class Source:
    """The rows of a file in one of ours, so that nothing is written before all of them could be read.

    They can be read again from it, and quicker.
    """

    def __init__(self, rows: Iterator[Any], decoding: Decoding, max_rows: int) -> None:
        """Raises InvalidFileError for whatever is wrong with the file, and for too many rows."""
        self.decoding = decoding
        self.row_count = 0
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._parts: list[tuple[int, int]] = []
        """The ordinal of each part's first row, and its length in bytes."""
        try:
            for part in self._chunks(rows, max_rows):
                self._parts.append((self.row_count - len(part) + 1, self._file.write(dumps(part, MARSHAL_VERSION))))
            if not self.row_count:
                refuse_file("no_rows", "there is a header, and nothing below it")
        except BaseException:
            self.close()
            raise

    def parts(self) -> Iterator[Part]:
        """The rows from the first one on, as often as it is asked."""
        self._file.seek(0)
        for ordinal, length in self._parts:
            yield Part(ordinal, self._file.read(length))

    def close(self) -> None:
        """Forget them."""
        self._file.close()

    def _chunks(self, rows: Iterator[Any], max_rows: int) -> Iterator[list[bytes]]:
        chunk: list[bytes] = []
        size = 0
        for _, group in groupby(rows, self.decoding.group_of):
            if len(chunk) >= PART_ROWS or size > PART_BYTES:
                yield chunk
                chunk, size = [], 0
            start = size
            for row in group:
                self.row_count += 1
                if self.row_count > max_rows:
                    refuse_file("too_many_rows", f"at most {max_rows:,} rows are taken", row[0])
                chunk.append(dumps(row, MARSHAL_VERSION))
                size += len(chunk[-1])
                if size - start > MAX_DOCUMENT_BYTES:
                    refuse_file("document_too_large", "the rows of one document have at most 16 MiB", row[0])
        if chunk:
            yield chunk


def unpack(rows: bytes) -> list[Any]:
    """The rows of a part."""
    return [loads(row) for row in loads(rows)]  # noqa: S302 - what was written above


def open_source(path: Path, kind: FileKind, document_type: DocumentType, query: ImportQuery, max_rows: int) -> Source:
    """Read a file to its end.

    Raises InvalidFileError for all that makes it unreadable as a whole, and InvalidQueryError for what means nothing.
    """
    check_kind(query, kind)
    if kind == "ndjson":
        return Source(read_ndjson(path), LinesDecoding(document_type, query), max_rows)
    rows = read_sheet(path, query.sheet) if kind == "xlsx" else read_csv(path, query.delimiter, raw=query.raw)
    with closing(rows):  # type: ignore[type-var]
        _, header = next(rows)
        return Source(rows, TableDecoding(document_type, query, header), max_rows)
