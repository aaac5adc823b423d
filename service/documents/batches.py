"""Documents as MongoDB hands them out: batches of raw BSON (bsonspec.org), one document right after the other."""

from collections.abc import Iterator
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion

CODEC: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,  # a date past year 9999 must not fail its whole page
    unicode_decode_error_handler="replace",  # nor a text that is no UTF-8
)

PART_BYTES = 131_072
"""What is decoded at once, as BSON: so little that its memory is used again and again, and stays in the processor's
cache; so much (some 200 documents of 600 bytes) that what is done once for each part does not count."""


def decode_batch(batch: bytes) -> list[dict[str, Any]]:
    """The documents of a batch."""
    return bson.decode_all(batch, CODEC)


def last_document(batch: bytes) -> dict[str, Any]:
    """The last document of a batch that has one."""
    *_, (start, end) = _places(batch)
    return bson.decode(batch[start:end], CODEC)


def documents_of(batch: bytes) -> Iterator[bytes]:
    """The documents of a batch, each as it is."""
    return (batch[start:end] for start, end in _places(batch))


def parts_of(batch: bytes, max_bytes: int = PART_BYTES) -> Iterator[bytes]:
    """A batch in smaller ones, each of at least one document."""
    first = 0
    for start, end in _places(batch):
        if end - first > max_bytes and start > first:
            yield batch[first:start]
            first = start
    if first < len(batch):
        yield batch[first:]


def _places(batch: bytes) -> Iterator[tuple[int, int]]:
    """Where each document starts, which it does with its length, and where it ends."""
    start = 0
    while start < len(batch):
        end = start + int.from_bytes(batch[start : start + 4], "little")
        yield start, end
        start = end
