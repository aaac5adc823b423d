"""What is to be known of a file, and the file compressed."""

import gzip
import hashlib
import random
import zipfile
import zlib
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.documents.fields import Field, Kind
from service.transfer.assembly import Assembly
from service.transfer.encoders import ENCODERS
from service.transfer.encoding import About, FormatName, Piece, PlainFile
from service.transfer.formats import FORMATS
from tests.unit.made_up import STARTED_AT, batch_of, file_spec

FIELDS = [Field("a", Kind.TEXT), Field("number", Kind.INTEGER)]
ABOUT = About("things, everything", "tester", STARTED_AT, 0, 0)
BATCHES = [
    batch_of(*({"a": f"text {number}", "number": number} for number in range(start, start + 500)))
    for start in range(0, 2000, 500)
]
each_format = pytest.mark.parametrize("name", FORMATS)


def assembled(name: FormatName, batches: list[bytes], **options: Any) -> tuple[bytes, Assembly]:
    spec = file_spec(FIELDS, name)
    encode = ENCODERS[name](spec)
    assembly = Assembly(FORMATS[name].file(spec), **options)
    chunks = [assembly.start(), *(assembly.add(encode(batch)) for batch in batches), assembly.end(ABOUT)]
    return b"".join(chunks), assembly


def contents(file: bytes) -> Any:
    """What is in it; a workbook also has the second in it at which it was made."""
    if not file.startswith(b"PK"):
        return file
    with zipfile.ZipFile(BytesIO(file)) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name != "docProps/core.xml"}


def gunzipped(file: bytes) -> bytes:
    """What is in a file of one gzip member, which many a reader expects it to be."""
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    found = inflater.decompress(file)
    assert inflater.eof
    assert inflater.unused_data == b""
    assert found == gzip.decompress(file)
    return found


@each_format
@pytest.mark.parametrize("batches", [BATCHES, [b"", *BATCHES], []], ids=len)
def test_a_file_is_counted_and_hashed(name: FormatName, batches: list[bytes]) -> None:
    file, assembly = assembled(name, batches)

    assert assembly.rows == (2000 if batches else 0)
    assert assembly.cut_cells == 0
    assert assembly.size == len(file)
    assert assembly.sha256 == hashlib.sha256(file).hexdigest()


@each_format
def test_a_compressed_file_is_counted_and_hashed_as_it_was_before(name: FormatName) -> None:
    file, assembly = assembled(name, BATCHES)

    compressed, other = assembled(name, BATCHES, is_gzipped=True)

    assert gunzipped(compressed) == file
    assert (other.rows, other.size, other.sha256) == (assembly.rows, assembly.size, assembly.sha256)


@given(st.lists(st.lists(st.binary(max_size=50) | st.integers(0, 9999).map(bytes), max_size=3), max_size=5))
def test_what_was_compressed_in_any_parts_is_one_file(parts: list[list[bytes]]) -> None:
    whole = b"head" + b"".join(data for part in parts for data in part)
    assembly = Assembly(PlainFile(b"head"), is_gzipped=True)

    chunks = [
        assembly.start(),
        *(assembly.add(Piece(data, 2, 3) for data in part) for part in parts),
        assembly.end(ABOUT),
    ]

    assert gunzipped(b"".join(chunks)) == whole
    assert assembly.size == len(whole)
    assert assembly.sha256 == hashlib.sha256(whole).hexdigest()
    assert assembly.rows == 2 * sum(map(len, parts))
    assert assembly.cut_cells == 3 * sum(map(len, parts))


def test_large_pieces_are_compressed_whole() -> None:
    data = random.Random(0).randbytes(3_000_000) + bytes(3_000_000)
    assembly = Assembly(PlainFile(), is_gzipped=True)

    file = assembly.start() + assembly.add([Piece(data, 1)] * 2) + assembly.end(ABOUT)

    assert gunzipped(file) == data * 2
    assert len(file) < assembly.size * 0.51


def test_the_digest_is_of_what_has_left_so_far() -> None:
    assembly = Assembly(PlainFile(b"head"))
    assert assembly.sha256 == hashlib.sha256(b"").hexdigest()

    assembly.start()
    assert assembly.sha256 == hashlib.sha256(b"head").hexdigest()

    assembly.add([Piece(b"a", 1), Piece(b"b", 2)])
    assert assembly.sha256 == hashlib.sha256(b"headab").hexdigest()
    assert (assembly.rows, assembly.size) == (3, 6)


def test_cells_that_had_to_be_cut_are_counted() -> None:
    batch = batch_of({"a": "x" * 40_000}, {"a": "y"})

    assert assembled("xlsx", [batch] * 3)[1].cut_cells == 3
    assert assembled("csv", [batch] * 3)[1].cut_cells == 0


@each_format
def test_a_file_is_its_start_its_pieces_and_its_end(name: FormatName) -> None:
    spec = file_spec(FIELDS, name)
    encode, file = ENCODERS[name](spec), FORMATS[name].file(spec)

    chunks = [file.start(), *(file.add(piece) for batch in BATCHES for piece in encode(batch)), file.end(ABOUT)]

    assert contents(assembled(name, BATCHES)[0]) == contents(b"".join(chunks))
