"""Zip archives, read by Python's own reader, by a reader of streams, and by Info-ZIP's where it is installed."""

import io
import random
import shutil
import struct
import subprocess
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.transfer.deflate import crc32, deflate
from service.transfer.encoding import Piece
from service.transfer.zip_stream import ZipStream

LARGE = random.Random(0).randbytes(1_000_000) + b"<c/>" * 1_000_000
Members = dict[str, list[bytes]]
names = st.from_regex(r"[a-z]{1,4}(/[a-z]{1,4})?\.xml", fullmatch=True)
some_members = st.dictionaries(names, st.lists(st.binary(max_size=300), max_size=4), max_size=4)


def archive_of(members: Members) -> bytes:
    """Each member's first piece written as it is, the others deflated somewhere else."""
    stream = ZipStream()
    chunks = []
    for name, pieces in members.items():
        chunks.append(stream.open(name))
        chunks += map(stream.write, pieces[:1])
        chunks += [stream.add(Piece(deflate(piece), 0, size=len(piece), crc=crc32(piece))) for piece in pieces[1:]]
        chunks.append(stream.close())
    return b"".join([*chunks, stream.finish()])


def read_forwards(archive: bytes) -> dict[str, bytes]:
    """What somebody finds who cannot seek, and so never looks into the directory (APPNOTE 4.3.1)."""
    found = {}
    while archive.startswith(b"PK\3\4"):
        flags, method = struct.unpack_from("<HH", archive, 6)
        name_length, extra_length = struct.unpack_from("<HH", archive, 26)
        assert (flags, method, extra_length) == (8, 8, 0)
        name = archive[30 : 30 + name_length].decode()
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        found[name] = inflater.decompress(archive[30 + name_length :])
        assert inflater.eof
        compressed_size = len(archive) - 30 - name_length - len(inflater.unused_data)
        signature, *descriptor = struct.unpack_from("<4sLLL", inflater.unused_data)
        assert signature == b"PK\7\b"
        assert descriptor == [zlib.crc32(found[name]), compressed_size, len(found[name])]
        archive = inflater.unused_data[16:]
    assert archive[:4] in {b"PK\1\2", b"PK\5\6"}
    return found


def check(members: Members) -> None:
    whole = {name: b"".join(pieces) for name, pieces in members.items()}
    archive = archive_of(members)
    with zipfile.ZipFile(io.BytesIO(archive)) as reader:
        assert reader.testzip() is None
        assert reader.namelist() == list(members)
        assert {name: reader.read(name) for name in members} == whole
        assert all(info.date_time == (1980, 1, 1, 0, 0, 0) for info in reader.infolist())
    assert read_forwards(archive) == whole


@given(some_members)
def test_members_are_read_back_equal(members: Members) -> None:
    check(members)


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"nothing.xml": []},
        {"empty.xml": [b""]},
        {"empty/piece.xml": [b"a", b"", b"b"]},
        {"large.xml": [LARGE, LARGE[::-1], b"end"], "small.xml": [b"x"]},
        {f"{number}.xml": [b"x" * number] for number in range(300)},
    ],
    ids=["nothing", "no piece", "empty", "empty piece", "large", "many"],
)
def test_every_size_of_member_is_read_back(members: Members) -> None:
    check(members)


@pytest.mark.skipif(shutil.which("unzip") is None, reason="Info-ZIP's reader is not installed")
def test_another_reader_finds_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "made.zip"
    path.write_bytes(archive_of({"a.xml": [b"x", b"", b"y" * 100_000], "b/c.xml": [], "d.xml": [LARGE, LARGE]}))

    result = subprocess.run(["unzip", "-t", path], capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout + result.stderr  # 1 would be a warning
    assert "No errors detected" in result.stdout


def test_the_same_members_are_always_the_same_archive() -> None:
    members: Members = {"a.xml": [b"x", b"y"], "b.xml": [LARGE]}

    assert archive_of(members) == archive_of(members)


def test_a_member_or_an_archive_that_a_plain_zip_cannot_hold_is_refused() -> None:
    most = 2**32 - 1
    stream = ZipStream()
    stream.open("a.xml")
    stream.add(Piece(b"", 0, size=most))
    assert stream.close()
    stream.open("b.xml")
    stream.add(Piece(b"", 0, size=most + 1))
    with pytest.raises(struct.error):
        stream.close()

    stream = ZipStream()
    stream._offset = most + 1
    with pytest.raises(struct.error):
        stream.finish()
