"""Pieces put together into one file, and what is to be known of it."""

import hashlib
from collections.abc import Iterable

from isal import isal_zlib

from service.transfer.encoding import About, File, Piece

GZIP = 16 + isal_zlib.MAX_WBITS
GZIP_LEVEL = 1


class Assembly:
    """Counts and hashes a file on its way; compresses it afterwards, where that is wanted.

    Each method returns the next bytes to send.
    """

    def __init__(self, file: File, *, is_gzipped: bool = False) -> None:
        self._file = file
        self._gzip = isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, GZIP) if is_gzipped else None
        self._sha256 = hashlib.sha256()
        self.rows = 0
        self.cut_cells = 0
        self.size = 0
        """In bytes, not compressed."""

    @property
    def sha256(self) -> str:
        """Of the file so far, in hexadecimal."""
        return self._sha256.hexdigest()

    def start(self) -> bytes:
        """What stands before the first row."""
        return self._passed(self._file.start())

    def add(self, pieces: Iterable[Piece]) -> bytes:
        """The next rows."""
        data = []
        for piece in pieces:
            self.rows += piece.rows
            self.cut_cells += piece.cut_cells
            data.append(self._file.add(piece))
        return self._passed(b"".join(data))

    def end(self, about: About) -> bytes:
        """What stands after the last row."""
        data = self._passed(self._file.end(about))
        return data + self._gzip.flush() if self._gzip else data

    def _passed(self, data: bytes) -> bytes:
        self.size += len(data)
        self._sha256.update(data)
        return self._gzip.compress(data) if self._gzip else data
