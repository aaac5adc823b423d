"""Batches of raw BSON."""

from itertools import pairwise

import bson
from hypothesis import example, given
from hypothesis import strategies as st

from service.documents.batches import decode_batch, last_document, parts_of

sizes = st.lists(st.integers(0, 300), max_size=30)


def documents_of(sizes: list[int]) -> list[bytes]:
    """Documents with a number and so many bytes more."""
    return [bson.encode({"_id": number, "text": "x" * size}) for number, size in enumerate(sizes)]


@given(sizes, st.integers(5, 1000))
@example([0, 0], 64)  # two of 32 bytes just fit
@example([0, 0], 63)
def test_the_parts_of_a_batch_are_all_of_it_and_as_large_as_they_may_be(sizes: list[int], max_bytes: int) -> None:
    batch = b"".join(documents_of(sizes))

    parts = list(parts_of(batch, max_bytes))

    assert b"".join(parts) == batch
    assert all(len(part) <= max_bytes or len(decode_batch(part)) == 1 for part in parts)
    for part, following in pairwise(parts):
        assert len(part) + len(bson.encode(decode_batch(following)[0])) > max_bytes


def test_a_part_has_some_hundred_documents_of_usual_size() -> None:
    batch = b"".join(documents_of([600] * 1000))

    assert all(200 < len(decode_batch(part)) < 300 for part in list(parts_of(batch))[:-1])


@given(sizes.filter(bool))
def test_the_last_document_of_a_batch_is_found(sizes: list[int]) -> None:
    batch = b"".join(documents_of(sizes))

    assert last_document(batch) == decode_batch(batch)[-1]
