"""What a file is taken for, by how it begins."""

import csv
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from contextlib import suppress

import openpyxl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from service.errors import InvalidFileError
from service.transfer.file_kinds import CANDIDATES, delimiter_of, encoding_of, file_kind, opening


def workbook() -> bytes:
    file = io.BytesIO()
    openpyxl.Workbook().save(file)
    return file.getvalue()


def zip_file() -> bytes:
    file = io.BytesIO()
    zipfile.ZipFile(file, "w").close()
    return file.getvalue()


def parquet_file() -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.table({"a": [1]}), file)
    return file.getvalue()


FOREIGN: list[tuple[Callable[[], bytes], str]] = [
    (lambda: bytes.fromhex("d0cf11e0a1b11ae1") + bytes(8), "an Excel workbook of the old kind (.xls)"),
    (zip_file, "an empty zip file"),
    (lambda: gzip.compress(b"a,b"), "a gzip file"),
    (lambda: lzma.compress(b"a,b"), "an xz file"),
    (parquet_file, "a Parquet file"),
    (lambda: b"%PDF-1.7", "a PDF document"),
    (lambda: b"{\\rtf1\\ansi", "an RTF document"),
    (lambda: b"\xef\xbb\xbf\r\n<html>", "a web page or an XML document"),
    (lambda: '<?xml version="1.0"?>'.encode("utf-16"), "a web page or an XML document"),
]


@pytest.mark.parametrize(("head", "kind"), [(b"a,b", "csv"), (b"", "csv"), (b"\n \xef\xbb\xbf{", "csv")])
def test_what_is_nothing_else_is_csv(head: bytes, kind: str) -> None:
    assert file_kind(head) == kind


@pytest.mark.parametrize("head", [b"{}", b'\xef\xbb\xbf\n\t {"a"', b"[{", '{"a": 1}'.encode("utf-16")])
def test_json_is_told_by_its_first_character(head: bytes) -> None:
    assert file_kind(head) == "ndjson"


def test_a_workbook_is_told_from_what_is_no_table() -> None:
    assert file_kind(workbook()) == "xlsx"


@pytest.mark.parametrize(("make", "name"), FOREIGN)
def test_what_cannot_be_read_is_refused_by_its_name(make: Callable[[], bytes], name: str) -> None:
    with pytest.raises(InvalidFileError) as refused:
        file_kind(make())

    [fault] = refused.value.faults
    assert fault.code == "unknown_format"
    assert fault.message.startswith(f"This is {name}")


@given(st.binary(max_size=30))
def test_any_bytes_are_something_or_refused(head: bytes) -> None:
    with suppress(InvalidFileError):
        assert file_kind(head) in {"csv", "ndjson", "xlsx"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_is_decoded_as_its_mark_says(encoding: str) -> None:
    head = "名前,b".encode(encoding)

    assert head.decode(encoding_of(head)) == "名前,b"
    assert opening(head) == "名"


@pytest.mark.parametrize("delimiter", CANDIDATES)
@given(names=st.lists(st.text(alphabet='ab ,;|\t"\r\n', min_size=1), min_size=1))
def test_the_delimiter_is_what_divides_the_names(delimiter: str, names: list[str]) -> None:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerow(names)
    csv.writer(file).writerow([",;\t|"] * 9)

    assert delimiter_of(file.getvalue().encode()) == (delimiter if len(names) > 1 else ",")


@pytest.mark.parametrize(
    ("head", "delimiter"),
    [
        (b"", ","),
        (b"\r\n", ","),
        (b"a", ","),
        (b"a;b,c;d", ";"),
        (b"\r\n\r\na\tb\r\nc,d,e", "\t"),
        (b'"a,b,c";d', ";"),
        (b'"a,b,c', ","),
        (b"\xef\xbb\xbfa|b", "|"),
        ("a\tb".encode("utf-16"), "\t"),
    ],
)
def test_the_most_frequent_delimiter_of_the_first_record_counts(head: bytes, delimiter: str) -> None:
    assert delimiter_of(head) == delimiter
