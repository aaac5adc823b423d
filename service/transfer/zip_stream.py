"""A zip archive (APPNOTE 6.3) as it is made: members of deflated pieces, and nothing held but a line for each member.

The standard library's zipfile compresses by itself, in one thread.
"""

import struct
from dataclasses import dataclass

from service.transfer.deflate import END_OF_STREAM, crc32, deflate, joined_crc32
from service.transfer.encoding import Piece

VERSION = 20
"""2.0: deflate, and no Zip64, which Excel does not read in a streamed member."""

SIZES_FOLLOW, DEFLATED = 0x0008, 8
FIRST_OF_JANUARY_1980 = 0x0021
"""The earliest time that a zip can name: a member's own time would only make equal files differ."""

LOCAL_HEADER = struct.Struct("<4sHHHHHLLLHH")
DATA_DESCRIPTOR = struct.Struct("<4sLLL")
CENTRAL_HEADER = struct.Struct("<4sHHHHHHLLLHHHHHLL")
END_OF_DIRECTORY = struct.Struct("<4sHHHHLLH")


@dataclass(slots=True)
class _Member:
    name: bytes
    offset: int
    crc: int = 0
    compressed_size: int = 0
    size: int = 0


class ZipStream:
    """Each method returns the archive's next bytes."""

    def __init__(self) -> None:
        self._members: list[_Member] = []
        self._offset = 0

    def open(self, name: str) -> bytes:
        """Start a member."""
        member = _Member(name.encode("ascii"), self._offset)
        self._members.append(member)
        header = LOCAL_HEADER.pack(
            b"PK\3\4", VERSION, SIZES_FOLLOW, DEFLATED, 0, FIRST_OF_JANUARY_1980, 0, 0, 0, len(member.name), 0
        )
        return self._passed(header + member.name)

    def write(self, data: bytes) -> bytes:
        """More of the open member."""
        return self.add(Piece(deflate(data), 0, size=len(data), crc=crc32(data)))

    def add(self, piece: Piece) -> bytes:
        """The same, deflated already."""
        member = self._members[-1]
        member.crc = joined_crc32(member.crc, piece.crc, piece.size)
        member.size += piece.size
        return self._passed(self._compressed(piece.data))

    def close(self) -> bytes:
        """The end of the open member. Raises struct.error where it has 4 GiB or more."""
        end = self._compressed(END_OF_STREAM)
        member = self._members[-1]
        return self._passed(end + DATA_DESCRIPTOR.pack(b"PK\7\b", member.crc, member.compressed_size, member.size))

    def finish(self) -> bytes:
        """The directory. Raises struct.error where the archive has 4 GiB or more."""
        directory = b"".join(
            CENTRAL_HEADER.pack(
                b"PK\1\2",
                VERSION,
                VERSION,
                SIZES_FOLLOW,
                DEFLATED,
                0,
                FIRST_OF_JANUARY_1980,
                member.crc,
                member.compressed_size,
                member.size,
                len(member.name),
                0,
                0,
                0,
                0,
                0,
                member.offset,
            )
            + member.name
            for member in self._members
        )
        count = len(self._members)
        return directory + END_OF_DIRECTORY.pack(b"PK\5\6", 0, 0, count, count, len(directory), self._offset, 0)

    def _compressed(self, data: bytes) -> bytes:
        self._members[-1].compressed_size += len(data)
        return data

    def _passed(self, data: bytes) -> bytes:
        self._offset += len(data)
        return data
