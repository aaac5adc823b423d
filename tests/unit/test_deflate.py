"""Deflated pieces, inflated by zlib."""

import random
import zlib
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.transfer.deflate import END_OF_STREAM, crc32, deflate, joined_crc32

LARGE = random.Random(0).randbytes(1_000_000) + b"<c/>" * 1_000_000
data = st.binary(max_size=50) | st.integers(0, 100_000).map(lambda count: b"<row><c/></row>" * count)


def inflated(stream: bytes) -> bytes:
    """What a whole stream holds."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    found = inflater.decompress(stream)
    assert inflater.eof
    assert inflater.unused_data == b""
    return found


@given(st.lists(data, max_size=8))
def test_pieces_join_into_one_stream(pieces: list[bytes]) -> None:
    assert inflated(b"".join(map(deflate, pieces)) + END_OF_STREAM) == b"".join(pieces)


@given(st.lists(data, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_no_piece_needs_another(pieces: list[bytes], random: random.Random) -> None:
    deflated = list(map(deflate, pieces))
    order = random.sample(range(len(pieces)), len(pieces))

    assert inflated(b"".join(deflated[place] for place in order) + END_OF_STREAM) == b"".join(
        pieces[place] for place in order
    )


@given(st.lists(data, max_size=8))
def test_checksums_join_too(pieces: list[bytes]) -> None:
    joined = reduce(lambda total, piece: joined_crc32(total, crc32(piece), len(piece)), pieces, 0)

    assert joined == crc32(b"".join(pieces)) == zlib.crc32(b"".join(pieces))


@pytest.mark.parametrize("order", [1, -1])
def test_large_pieces_join(order: int) -> None:
    pieces = [LARGE, b"", LARGE[::-1]][::order]

    deflated = list(map(deflate, pieces))

    assert inflated(b"".join(deflated) + END_OF_STREAM) == b"".join(pieces)
    assert sum(map(len, deflated)) < sum(map(len, pieces)) / 2


def test_the_same_piece_is_always_the_same_bytes() -> None:
    assert deflate(LARGE) == deflate(LARGE)
