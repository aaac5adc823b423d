"""Excel workbooks, read back by openpyxl and by calamine."""

import io
import zipfile
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree as ET

import bson
import pytest
from bson import Decimal128, Int64, ObjectId
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook, load_workbook
from openpyxl.utils.escape import unescape
from python_calamine import CalamineWorkbook

from service.documents.fields import Field, Kind
from service.documents.introspection import fields_of
from service.documents.user import User
from service.transfer import xlsx_encoder
from service.transfer.table import Table
from service.transfer.xlsx_encoder import CUT_MARK, MAX_CELL_LENGTH, XlsxEncoder

TABLE = Table({"a": Field("a", Kind.TEXT), "day": Field("day", Kind.DATE)})
pieces = st.sampled_from(
    "_x0041_ _x0041 x0042_ _ _x _xD83D_ 😀 &lt; <![CDATA[ ]]> =1+1 ' &#10; 小".split(" ")  # noqa: SIM905
) | st.sampled_from("\r\n\t\x00\x1f\x7f\x85\u2028 ")
texts = st.text(st.characters(codec="utf-8", exclude_characters="\ufffe\uffff"), max_size=20) | st.lists(
    pieces, max_size=6
).map("".join)


def encoded(documents: list[dict[str, Any]], table: Table = TABLE, title: str = "things") -> bytes:
    encoder = XlsxEncoder(table, title=title)
    batch = b"".join(bson.encode({"_id": 0, **document}) for document in documents)
    return encoder.start() + encoder.encode(batch) + encoder.end()


def opened(file: bytes) -> Workbook:
    return load_workbook(io.BytesIO(file))


def cell(value: Any, field: str = "a") -> Any:
    """A value, as openpyxl finds it in its cell."""
    sheet = opened(encoded([{field: value}])).worksheets[0]
    return sheet.cell(2, 1 if field == "a" else 2)


def calamine_rows(file: bytes, sheet: int = 0) -> list[list[Any]]:
    return CalamineWorkbook.from_filelike(io.BytesIO(file)).get_sheet_by_index(sheet).to_python(skip_empty_area=False)


@settings(max_examples=60)
@given(st.lists(texts, max_size=20))
@example(["_x0041_x0042_"])
@example(["_x0041\x01"])
@example(["_x0041_", "\r\n", "\x00", "_x005F_x0041_", "__x0041__"])
def test_texts_are_read_back_equal(cells: list[str]) -> None:
    file = encoded([{"a": text} for text in cells])

    _, *rows = calamine_rows(file)
    assert [row[0] for row in rows] == cells
    sheet = opened(file).worksheets[0]
    found = [sheet.cell(row, 1) for row in range(2, len(cells) + 2)]
    assert [unescape(str(cell.value or "")) for cell in found] == cells  # openpyxl leaves that to its caller
    assert all(cell.data_type != "f" for cell in found)


@pytest.mark.parametrize("text", ["\ufffe", "a\uffffb", "_x0041\ufffe"])
def test_a_character_that_xml_forbids_is_escaped_like_a_control_character(text: str) -> None:
    assert unescape(cell(text).value) == text


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@a", "=HYPERLINK(1)", "{=1}", "1", "TRUE", "2026-01-01", "#N/A"])
def test_text_stays_text(text: str) -> None:
    found = cell(text)

    assert found.value == text
    assert found.data_type == "s"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (True, True),
        (False, False),
        (0, 0),
        (-5, -5),
        (999_999_999_999_999, 999_999_999_999_999),
        (Int64(2**40), 2**40),
        (0.1, 0.1),
        (-1.5e-300, -1.5e-300),
        (Decimal128("1.10"), 1.1),
        (Decimal128("-1E+3"), -1000),
        (Decimal128("99999999999999.9"), 99999999999999.9),
        (ObjectId("0123456789abcdef01234567"), "0123456789abcdef01234567"),
        (["a", 1], '["a",1]'),
        ({"a": None}, '{"a":null}'),
    ],
    ids=repr,
)
def test_each_value_has_its_cell(value: Any, shown: Any) -> None:
    found = cell(value)

    assert found.value == shown
    assert isinstance(found.value, bool) == isinstance(value, bool)


@pytest.mark.parametrize(
    "value",
    [
        10**15,
        -(10**15),
        Int64(2**63 - 1),
        Decimal128("1234567890.123456"),
        Decimal128("12345678901234567890.12345"),
        Decimal128("1E+300"),
        Decimal128("1E-6000"),
        Decimal128("NaN"),
        Decimal128("Infinity"),
        float("inf"),
    ],
    ids=repr,
)
def test_a_number_that_excel_would_round_is_text(value: Any) -> None:
    found = cell(value)

    assert found.data_type == "s"
    assert found.value == str(value)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**20), max_value=10**20))
@settings(max_examples=30)
def test_no_decimal_loses_a_digit(number: Decimal) -> None:
    found = cell(Decimal128(number)).value

    assert Decimal(str(found)) == number


@pytest.mark.parametrize("day", [date(1900, 3, 1), date(2024, 2, 29), date(9999, 12, 31)])
def test_a_date_is_a_true_date(day: date) -> None:
    file = encoded([{"day": datetime.combine(day, time.min)}])

    found = opened(file).worksheets[0].cell(2, 2)
    assert found.value == datetime.combine(day, time.min)
    assert found.is_date
    assert found.number_format == "yyyy-mm-dd"
    assert calamine_rows(file)[1][1] == day


@given(
    st.datetimes(datetime(1900, 3, 1), datetime(9999, 12, 31, 23, 59, 59)).map(  # noqa: DTZ001 - as BSON has it
        lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    )
)
@settings(max_examples=30)
def test_a_time_is_a_true_time_to_the_millisecond(moment: datetime) -> None:
    found = cell(moment)

    assert found.is_date
    assert found.number_format == "yyyy-mm-dd hh:mm:ss.000"
    assert abs(found.value - moment) < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("field", "moment", "text"),
    [
        ("day", datetime(1900, 2, 28), "1900-02-28"),  # noqa: DTZ001
        ("day", datetime(1, 1, 1), "0001-01-01"),  # noqa: DTZ001
        ("a", datetime(1900, 2, 28, 23, 59, 59, 999_000), "1900-02-28T23:59:59.999Z"),  # noqa: DTZ001
    ],
)
def test_a_date_before_march_1900_is_text(field: str, moment: datetime, text: str) -> None:
    found = cell(moment, field)

    assert found.value == text
    assert found.data_type == "s"


@pytest.mark.parametrize(
    "text", ["x" * MAX_CELL_LENGTH, "😀" * (MAX_CELL_LENGTH // 2), "x" + "😀" * (MAX_CELL_LENGTH // 2)]
)
def test_the_longest_text_is_whole(text: str) -> None:
    assert calamine_rows(encoded([{"a": text}]))[1][0] == text


@pytest.mark.parametrize(
    "text", ["x" * (MAX_CELL_LENGTH + 1), "😀" * 20_000, "x" + "😀" * 20_000, "\x01" * 40_000, ["y" * 40_000]]
)
def test_a_longer_text_is_cut_and_says_so(text: Any) -> None:
    found = calamine_rows(encoded([{"a": text}]))[1][0]
    units = len(found.encode("utf-16-le")) // 2

    whole = text if isinstance(text, str) else f'["{text[0]}"]'
    assert found.endswith(CUT_MARK)
    assert whole.startswith(found.removesuffix(CUT_MARK))
    assert units in {MAX_CELL_LENGTH, MAX_CELL_LENGTH - 1}  # one less where a character of two units did not fit


def test_the_header_is_bold_and_frozen_and_has_a_filter() -> None:
    sheet = opened(encoded([{"a": "x"}, {"a": "y"}])).worksheets[0]

    assert [found.value for found in sheet[1]] == ["a", "day"]
    assert all(found.font.bold for found in sheet[1])
    assert not sheet["A2"].font.bold
    assert sheet.freeze_panes == "A2"
    assert sheet.auto_filter.ref == "A1:B3"


def test_a_full_sheet_is_followed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx_encoder, "MAX_SHEET_ROWS", 4)
    encoder = XlsxEncoder(TABLE, title="things")
    batches = [
        b"".join(bson.encode({"_id": 0, "a": number}) for number in numbers)
        for numbers in (range(2), range(2, 8), range(8, 8), range(8, 9))
    ]

    file = encoder.start() + b"".join(map(encoder.encode, batches)) + encoder.end()

    workbook = opened(file)
    assert workbook.sheetnames == ["things", "things 2", "things 3"]
    assert [[row[0].value for row in sheet.iter_rows()] for sheet in workbook] == [
        ["a", 0, 1, 2],
        ["a", 3, 4, 5],
        ["a", 6, 7, 8],
    ]
    assert [sheet.freeze_panes for sheet in workbook] == ["A2"] * 3
    assert [sheet.auto_filter.ref for sheet in workbook] == ["A1:B4"] * 3
    assert all(sheet["A1"].font.bold for sheet in workbook)
    assert [row[0] for row in calamine_rows(file, 2)] == ["a", 6, 7, 8]


def test_a_sheet_that_is_just_full_is_not_followed_by_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx_encoder, "MAX_SHEET_ROWS", 3)

    assert opened(encoded([{"a": 1}, {"a": 2}])).sheetnames == ["things"]


def test_a_sheet_of_too_many_bytes_is_followed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx_encoder, "MAX_SHEET_BYTES", 5000)
    encoder = XlsxEncoder(TABLE, title="things")
    batch = bson.encode({"_id": 0, "a": "x" * 3000})

    file = encoder.start() + encoder.encode(batch) + encoder.encode(batch) + encoder.encode(batch) + encoder.end()

    assert [sheet.max_row for sheet in opened(file)] == [3, 2]


@pytest.mark.parametrize("title", ["a", "a" * 31, "a" * 32, "a" * 63])
def test_a_sheet_has_a_name_that_excel_takes(title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx_encoder, "MAX_SHEET_ROWS", 2)

    names = opened(encoded([{"a": number} for number in range(12)], title=title)).sheetnames

    assert len(set(names)) == 12
    assert all(name.startswith("a") and len(name) <= 31 for name in names)


def test_a_workbook_without_rows_has_its_header() -> None:
    file = encoded([])

    assert [[found.value for found in row] for row in opened(file).worksheets[0].iter_rows()] == [["a", "day"]]
    assert calamine_rows(file) == [["a", "day"]]


def test_every_part_is_sound_xml_and_the_archive_is_whole() -> None:
    with zipfile.ZipFile(io.BytesIO(encoded([{"a": "<&>\x01\uffff"}]))) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert len(set(names)) == len(names)
        for name in names:
            ET.fromstring(archive.read(name))


def test_the_first_bytes_leave_at_once() -> None:
    encoder = XlsxEncoder(TABLE, title="things")

    assert encoder.start().startswith(b"PK")


def test_every_column_of_a_type_has_its_place() -> None:
    table = Table(fields_of(User))

    header, row = calamine_rows(encoded([{"name": "Ada", "revision": 1}], table))

    assert header == [column.path for column in table.columns]
    assert dict(zip(header, row, strict=True))["name"] == "Ada"
    assert row[-1] == 1
