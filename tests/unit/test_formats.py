"""The kinds of file, by their names."""

import io
from typing import get_args

import bson
import pytest
from openpyxl import load_workbook

from service.documents.fields import Field, Kind
from service.transfer.formats import DELIMITERS, FORMATS, Delimiter, ExportOptions
from service.transfer.table import Table

TABLE = Table({"a": Field("a", Kind.TEXT), "b": Field("b", Kind.TEXT)})
BATCH = bson.encode({"_id": 0, "a": "=x", "b": "y"})


def made(name: str, options: ExportOptions) -> bytes:
    encoder = FORMATS[name].make(TABLE, options)
    return encoder.start() + encoder.encode(BATCH) + encoder.end()


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_has_a_media_type_and_makes_a_file(name: str) -> None:
    assert FORMATS[name].media_type.count("/") == 1
    assert made(name, ExportOptions("things"))


@pytest.mark.parametrize(
    ("options", "file"),
    [
        (ExportOptions("things"), b"a,b\r\n'=x,y\r\n"),
        (ExportOptions("things", delimiter="semicolon"), b"a;b\r\n'=x;y\r\n"),
        (ExportOptions("things", delimiter="tab"), b"a\tb\r\n'=x\ty\r\n"),
        (ExportOptions("things", bom=True), b"\xef\xbb\xbfa,b\r\n'=x,y\r\n"),
        (ExportOptions("things", raw=True), b"a,b\r\n=x,y\r\n"),
    ],
    ids=str,
)
def test_csv_is_written_as_asked(options: ExportOptions, file: bytes) -> None:
    assert made("csv", options) == file


def test_a_workbook_is_named_like_its_type() -> None:
    workbook = load_workbook(io.BytesIO(made("xlsx", ExportOptions("things"))))

    assert workbook.sheetnames == ["things"]
    assert workbook["things"]["A2"].value == "=x"
    assert workbook["things"]["A2"].data_type == "s"


def test_each_delimiter_that_can_be_asked_for_is_one_character() -> None:
    assert set(DELIMITERS) == set(get_args(Delimiter))
    assert all(len(character) == 1 for character in DELIMITERS.values())


def test_only_csv_has_the_options_of_csv() -> None:
    assert [name for name, file_format in FORMATS.items() if file_format.is_delimited] == ["csv"]
