"""NDJSON, read line by line."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidFileError
from service.transfer.ndjson_reader import MAX_LINE_BYTES, read_ndjson

documents = st.dictionaries(st.text(max_size=3), st.text() | st.integers() | st.lists(st.booleans()), min_size=1)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each test puts its file."""
    return tmp_path_factory.mktemp("ndjson") / "things.ndjson"


def read(path: Path, content: bytes) -> list[tuple[int, bytes]]:
    path.write_bytes(content)
    return list(read_ndjson(path))


def refusal(path: Path, content: bytes) -> tuple[str, int | None, str]:
    with pytest.raises(InvalidFileError) as refused:
        read(path, content)
    [fault] = refused.value.faults
    return fault.code, fault.row, fault.message


@given(
    documents=st.lists(documents, min_size=1, max_size=5),
    end=st.sampled_from(["\n", "\r\n", "\n\n", "\n \t\r\n"]),
    ends_last=st.booleans(),
    bom=st.booleans(),
)
def test_each_document_comes_with_the_number_of_its_line(
    path: Path,
    documents: list[dict[str, Any]],
    end: str,
    ends_last: bool,  # noqa: FBT001
    bom: bool,  # noqa: FBT001
) -> None:
    text = end.join(json.dumps(document, ensure_ascii=False) for document in documents) + (end if ends_last else "")

    lines = read(path, text.encode("utf-8-sig" if bom else "utf-8"))

    assert [json.loads(line) for _, line in lines] == documents
    assert [number for number, _ in lines] == [1 + place * end.count("\n") for place in range(len(documents))]


@given(document=documents, data=st.data())
def test_a_file_that_stops_within_a_document_is_cut_off(
    path: Path, document: dict[str, Any], data: st.DataObject
) -> None:
    whole = json.dumps(document, ensure_ascii=False).encode()
    length = data.draw(st.integers(1, len(whole) - 1))

    assert refusal(path, b"{}\n" + whole[:length])[:2] == ("file_cut_off", 2)


@pytest.mark.parametrize(
    "last", [b'{"a": NaN}', b'{"a": "\\ud800"}', b'{"a": 1, "a": 2}', b"1" * 5000, b"[" * 100_000, b'{"a": "\x01\xff"}']
)
def test_a_last_line_with_another_fault_is_not_called_cut_off(path: Path, last: bytes) -> None:
    assert read(path, b"{}\n" + last) == [(1, b"{}"), (2, last)]


def test_a_line_that_is_no_json_is_for_the_caller_to_judge(path: Path) -> None:
    assert read(path, b"{\nx\n \xff\r\n") == [(1, b"{"), (2, b"x"), (3, b" \xff")]


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"", "empty_file", "no lines"),
        (b"\xef\xbb\xbf", "empty_file", "no lines"),
        (b"\n \r\n\t", "empty_file", "no lines"),
        (b'\n [{"a": 1}]', "not_ndjson", "a JSON array"),
        (b"PK\x03\x04", "not_ndjson", "an Excel workbook"),
        (b"\x1f\x8b\x08", "not_ndjson", "a gzip file"),
        ("{}\r\n".encode("utf-16"), "not_utf8", "UTF-16"),
    ],
)
def test_what_is_no_ndjson_is_refused(path: Path, content: bytes, code: str, words: str) -> None:
    refused_code, _, message = refusal(path, content)

    assert refused_code == code
    assert words in message


def test_a_line_may_be_as_long_as_a_document_and_no_longer(path: Path) -> None:
    longest = b'"' + b"x" * (MAX_LINE_BYTES - 3) + b'"\n'

    assert read(path, longest) == [(1, longest[:-1])]
    assert refusal(path, b"{}\n" + b"x" * 5 * MAX_LINE_BYTES)[:2] == ("line_too_long", 2)


def test_memory_does_not_grow_with_the_file(path: Path) -> None:
    path.write_bytes(b'{"a": "b"}\n' * 150_000)

    tracemalloc.start()
    try:
        assert sum(1 for _ in read_ndjson(path)) == 150_000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_who_leaves_early_closes_the_file(path: Path) -> None:
    path.write_bytes(b"{}\n{}\n")
    lines = read_ndjson(path)
    next(lines)

    lines.close()  # type: ignore[attr-defined]  # or the file is closed by chance, which warns, and warnings are errors
