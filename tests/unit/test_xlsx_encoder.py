"""Excel workbooks, read back by openpyxl and by calamine."""

import io
import zipfile
import zlib
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from bson import Decimal128, Int64, ObjectId
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook, load_workbook
from openpyxl.utils.escape import unescape
from python_calamine import CalamineWorkbook

from service.documents.batches import PART_BYTES
from service.documents.fields import Field, Kind
from service.documents.introspection import fields_of
from service.documents.user import User
from service.transfer import workbook, xlsx_encoder
from service.transfer.encoding import About, FileSpec, Piece
from service.transfer.workbook import MAX_SHEET_ROWS, XlsxFile
from service.transfer.xlsx_encoder import CUT_MARK, MAX_CELL_LENGTH, PIECE_ROWS
from tests.unit.made_up import STARTED_AT, batch_of, file_spec, made_file, odd_values

SPEC = file_spec([Field("a", Kind.TEXT), Field("day", Kind.DATE)], "xlsx")
ABOUT = "About this file"
pieces = st.sampled_from(
    "_x0041_ _x0041 x0042_ _ _x _xD83D_ 😀 &lt; <![CDATA[ ]]> =1+1 ' &#10; 小".split(" ")  # noqa: SIM905
) | st.sampled_from("\r\n\t\x00\x1f\x7f\x85\u2028 ")
texts = st.text(st.characters(codec="utf-8", exclude_characters="\ufffe\uffff"), max_size=20) | st.lists(
    pieces, max_size=6
).map("".join)


def encoded(documents: list[dict[str, Any]], spec: FileSpec = SPEC) -> bytes:
    return made_file(spec, batch_of(*documents))


def pieces_of(*documents: dict[str, Any]) -> list[Piece]:
    return xlsx_encoder.xlsx_encoder(SPEC)(batch_of(*documents))


def inflated(pieces: list[Piece]) -> bytes:
    return b"".join(zlib.decompressobj(-zlib.MAX_WBITS).decompress(piece.data) for piece in pieces)


def opened(file: bytes) -> Workbook:
    return load_workbook(io.BytesIO(file))


def cell(value: Any, field: str = "a") -> Any:
    """A value, as openpyxl finds it in its cell."""
    sheet = opened(encoded([{field: value}])).worksheets[0]
    return sheet.cell(2, 1 if field == "a" else 2)


def calamine_rows(file: bytes, sheet: int = 0) -> list[list[Any]]:
    return CalamineWorkbook.from_filelike(io.BytesIO(file)).get_sheet_by_index(sheet).to_python(skip_empty_area=False)


@settings(max_examples=30)
@given(st.lists(texts, max_size=20))
@example(["&lt;"])
@example(["<"])
@example([">"])
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


@pytest.mark.parametrize("number", [*range(32), 0xFFFE, 0xFFFF])
def test_each_character_is_as_it_is_or_escaped(number: int) -> None:
    shown = chr(number) if chr(number) in "\t\n" else f"_x{number:04X}_"

    assert f">{shown}<".encode() in inflated(pieces_of({"a": chr(number)}))


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


@pytest.mark.parametrize(
    ("values", "cut"),
    [
        (["x" * 40_000, "y"], 1),
        (["x" * 40_000, None, "y" * 40_000], 2),
        ([["x" * 40_000], 1], 1),
        ([["x" * 40_000], None, {"a": "y" * 40_000}, []], 2),
        (["x" * MAX_CELL_LENGTH, None], 0),
        ([CUT_MARK], 0),
        ([1, 2], 0),
    ],
    ids=["text", "texts", "array", "arrays", "longest", "mark", "numbers"],
)
def test_cut_cells_are_counted(values: list[Any], cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx_encoder, "PIECE_ROWS", 1)
    documents = [{"a": value} for value in values]

    assert sum(piece.cut_cells for piece in pieces_of(*documents)) == cut
    file = made_file(SPEC, batch_of(*documents), batch_of({"a": "z" * 40_000}))
    assert about(file)["Cells cut"] == cut + 1


@given(
    st.lists(odd_values() | texts | st.none() | st.integers(-9, 9), min_size=1, max_size=5)
    | st.lists(st.lists(texts, max_size=2) | st.none(), min_size=1, max_size=5)
)
def test_a_cell_is_the_same_whatever_else_is_in_its_column(values: list[Any]) -> None:
    together = inflated(pieces_of(*({"a": value} for value in values)))

    assert together == b"".join(inflated(pieces_of({"a": value})) for value in values)


def test_a_large_batch_is_several_pieces() -> None:
    half = {"a": "x" * (PART_BYTES // 2 - 50)}
    pieces = pieces_of(*[half] * 5)

    assert [piece.rows for piece in pieces] == [2, 2, 1]
    assert [inflated([piece]).count(b"<row>") for piece in pieces] == [2, 2, 1]
    assert [(piece.size, piece.crc) for piece in pieces] == [
        (len(inflated([piece])), zlib.crc32(inflated([piece]))) for piece in pieces
    ]
    assert pieces_of() == []


def test_the_many_rows_of_few_documents_are_several_pieces_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx_encoder, "PIECE_ROWS", 2)
    spec = file_spec([Field("a", Kind.INTEGER, is_array=True)], "xlsx", explode="a")

    pieces = xlsx_encoder.xlsx_encoder(spec)(batch_of({"a": [1, 2, 3]}, {"a": [4, 5]}))

    assert [piece.rows for piece in pieces] == [2, 2, 1]


def test_a_piece_that_does_not_fit_goes_into_another_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx_encoder, "PIECE_ROWS", 2)
    monkeypatch.setattr(workbook, "MAX_SHEET_ROWS", 4)
    batches = [
        batch_of(*({"a": number} for number in numbers))
        for numbers in (range(2), range(2, 8), range(8, 8), range(8, 9))
    ]

    file = made_file(SPEC, *batches)

    *sheets, last = opened(file).worksheets
    assert [sheet.title for sheet in sheets] == ["things", "things 2", "things 3", "things 4"]
    assert last.title == ABOUT
    assert [[row[0].value for row in sheet.iter_rows()] for sheet in sheets] == [
        ["a", 0, 1],
        ["a", 2, 3],
        ["a", 4, 5],
        ["a", 6, 7, 8],
    ]
    assert [sheet.freeze_panes for sheet in sheets] == ["A2"] * 4
    assert [sheet.auto_filter.ref for sheet in sheets] == ["A1:B3"] * 3 + ["A1:B4"]
    assert all(sheet["A1"].font.bold for sheet in sheets)
    assert [row[0] for row in calamine_rows(file, 3)] == ["a", 6, 7, 8]
    assert about(file)["Rows"] == 9


def test_no_sheet_has_more_rows_than_excel_takes() -> None:
    (piece,) = pieces_of(*[{}] * PIECE_ROWS)
    fitting = (MAX_SHEET_ROWS - 1) // PIECE_ROWS
    file = XlsxFile(SPEC)
    told = About("things", "tester", STARTED_AT, (fitting + 1) * PIECE_ROWS, 0)

    chunks = [file.start(), *(file.add(piece) for _ in range(fitting + 1)), file.end(told)]

    with zipfile.ZipFile(io.BytesIO(b"".join(chunks))) as archive:
        rows = [archive.read(f"xl/worksheets/sheet{number}.xml").count(b"<row") for number in (1, 2)]
    assert rows == [fitting * PIECE_ROWS + 1, PIECE_ROWS + 1]  # each has its header


def test_a_sheet_that_is_just_full_is_not_followed_by_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "MAX_SHEET_ROWS", 3)

    assert opened(encoded([{"a": 1}, {"a": 2}])).sheetnames == ["things", ABOUT]


def test_a_sheet_of_too_many_bytes_is_followed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "MAX_SHEET_BYTES", 7000)
    batch = batch_of({"a": "x" * 3000})

    file = made_file(SPEC, *[batch] * 5)

    assert [(sheet.title, sheet.max_row) for sheet in opened(file).worksheets[:-1]] == [
        ("things", 3),
        ("things 2", 3),
        ("things 3", 2),
    ]


@pytest.mark.parametrize("title", ["a", "a" * 31, "a" * 32, "a" * 63])
def test_a_sheet_has_a_name_that_excel_takes(title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx_encoder, "PIECE_ROWS", 1)
    monkeypatch.setattr(workbook, "MAX_SHEET_ROWS", 2)

    *names, last = opened(encoded([{"a": number} for number in range(12)], replace(SPEC, title=title))).sheetnames

    assert len(set(names)) == 12
    assert all(name.startswith("a") and len(name) <= 31 for name in names)
    assert last == ABOUT


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
    assert XlsxFile(SPEC).start().startswith(b"PK")


def test_every_column_of_a_type_has_its_place() -> None:
    spec = file_spec(fields_of(User).values(), "xlsx")

    header, row = calamine_rows(encoded([{"name": "Ada", "revision": 1}], spec))

    assert header == [column.path for column in spec.table().columns]
    assert dict(zip(header, row, strict=True))["name"] == "Ada"
    assert row[-1] == 1


def about(file: bytes) -> dict[Any, Any]:
    """What the last sheet says."""
    return {row[0].value: row[1].value for row in opened(file).worksheets[-1].iter_rows()}


def told(asked_for: str) -> bytes:
    """A workbook of nothing but what it says of itself."""
    file = XlsxFile(SPEC)
    return file.start() + file.end(About(asked_for, "ada@example.org", STARTED_AT, 1_234_567, 89))


def test_the_last_sheet_tells_about_the_file() -> None:
    file = told("things, xlsx, age__gte=18&sort=name")

    assert list(about(file).items()) == [
        ("Asked for", "things, xlsx, age__gte=18&sort=name"),
        ("By", "ada@example.org"),
        ("Started (UTC)", STARTED_AT),
        ("Rows", 1_234_567),
        ("Cells cut", 89),
        ("Complete", "yes"),
    ]
    masked = XlsxFile(SPEC)
    file = masked.start() + masked.end(About("things", "ada", STARTED_AT, 0, 0, is_masked=True))
    assert about(file)["Private fields"] == "masked"
    sheet = opened(file).worksheets[-1]
    assert sheet.title == ABOUT
    assert sheet["B3"].is_date
    assert all(label.font.bold for label in sheet["A"])
    assert not any(value.font.bold for value in sheet["B"])
    assert calamine_rows(file, 1) == [list(line) for line in about(file).items()]
    assert CalamineWorkbook.from_filelike(io.BytesIO(file)).sheet_names == ["things", ABOUT]


@pytest.mark.parametrize("text", ["=1+1", "+1", "@a", "=", "#N/A", "1", "TRUE", "2026-01-01", "<&>"])
def test_what_was_asked_for_stays_text(text: str) -> None:
    found = opened(told(text)).worksheets[-1]["B1"]

    assert found.value == text
    assert found.data_type == "s"


@pytest.mark.parametrize(("text", "shown"), [("a\x00\x1fb", "ab"), ("x" * 40_000, "x" * MAX_CELL_LENGTH)])
def test_whatever_was_asked_for_the_workbook_can_be_opened(text: str, shown: str) -> None:
    assert about(told(text))["Asked for"] == shown
    assert calamine_rows(told(text), 1)[0] == ["Asked for", shown]
