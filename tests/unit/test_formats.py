"""The kinds of file, by their names."""

import io
from typing import Any, get_args

import pytest
from openpyxl import load_workbook

from service.documents.fields import Field, Kind
from service.documents.introspection import fields_of
from service.transfer.encoders import ENCODERS
from service.transfer.encoding import DELIMITERS, Delimiter, FormatName
from service.transfer.formats import FORMATS
from tests.everything import Everything
from tests.unit.made_up import STARTED_AT, batch_of, file_spec, made_file

FIELDS = [Field("a", Kind.TEXT), Field("b", Kind.TEXT)]


def made(name: FormatName, **options: Any) -> bytes:
    return made_file(file_spec(FIELDS, name, **options), batch_of({"a": "=x", "b": "y"}))


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_has_a_media_type_and_makes_a_file(name: FormatName) -> None:
    FORMATS[name].check()

    assert FORMATS[name].media_type.count("/") == 1
    assert made(name)


def test_each_format_has_a_name_that_can_be_asked_for_and_an_encoder() -> None:
    assert set(FORMATS) == set(ENCODERS) == set(get_args(FormatName))


@pytest.mark.parametrize("name", FORMATS)
def test_a_batch_of_nothing_is_no_piece(name: FormatName) -> None:
    assert ENCODERS[name](file_spec(FIELDS, name))(b"") == []


@pytest.mark.parametrize(
    ("options", "file"),
    [
        ({}, b"a,b\r\n'=x,y\r\n"),
        ({"delimiter": "semicolon"}, b"a;b\r\n'=x;y\r\n"),
        ({"delimiter": "tab"}, b"a\tb\r\n'=x\ty\r\n"),
        ({"bom": True}, b"\xef\xbb\xbfa,b\r\n'=x,y\r\n"),
        ({"raw": True}, b"a,b\r\n=x,y\r\n"),
    ],
    ids=str,
)
def test_csv_is_written_as_asked(options: dict[str, Any], file: bytes) -> None:
    assert made("csv", **options) == file


def test_a_workbook_is_named_like_its_type() -> None:
    workbook = load_workbook(io.BytesIO(made("xlsx")))

    assert workbook.sheetnames == ["things", "About this file"]
    assert workbook["things"]["A2"].value == "=x"
    assert workbook["things"]["A2"].data_type == "s"


def test_each_delimiter_that_can_be_asked_for_is_one_character() -> None:
    assert set(DELIMITERS) == set(get_args(Delimiter))
    assert all(len(character) == 1 for character in DELIMITERS.values())


def test_only_csv_has_the_options_of_csv() -> None:
    assert [name for name, file_format in FORMATS.items() if file_format.is_delimited] == ["csv"]


def test_what_is_compressed_says_so() -> None:
    rows = [{"a": "x" * 1000, "b": str(number)} for number in range(100)]
    sizes = {name: len(made_file(file_spec(FIELDS, name), batch_of(*rows))) for name in FORMATS}

    assert {name for name, size in sizes.items() if size < 50_000} == {
        name for name, file_format in FORMATS.items() if file_format.is_compressed
    }


def test_a_spec_for_another_process_makes_the_same_table() -> None:
    spec = file_spec(fields_of(Everything).values(), explode="branch.leaves")
    batch = batch_of({"code": "x", "branch": {"leaves": [{"day": STARTED_AT}, {"text": "y"}]}})

    other = spec.for_another_process()

    assert [field.path for field in other.table().columns] == [field.path for field in spec.table().columns]
    assert other.table().cells(batch) == spec.table().cells(batch)
    assert not any(field.model for field in other.fields.values())
