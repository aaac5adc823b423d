"""Sheets of ours, of openpyxl, and by hand."""

import io
import tracemalloc
from contextlib import closing
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import Decimal128
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook
from openpyxl.cell.rich_text import CellRichText, TextBlock
from openpyxl.cell.text import InlineFont
from openpyxl.utils.datetime import CALENDAR_MAC_1904
from python_calamine import CalamineWorkbook

from service.documents.fields import Field, Kind
from service.transfer import package_reader, workbook, workbook_reader, xlsx_encoder
from service.transfer.decoding import MAX_CELL_LENGTH, MAX_COLUMNS, Cell
from service.transfer.xlsx_reader import read_sheet
from tests.unit.made_up import batch_of, file_spec, made_file
from tests.unit.made_up_workbooks import (
    BOOK,
    HEADER,
    MAIN,
    SHARED,
    SHEET,
    STYLES,
    book,
    by_hand,
    cells_of,
    fault_of,
    read,
    sheet_xml,
    styles,
)

SPEC = file_spec([Field("a", Kind.TEXT), Field("b", Kind.TEXT)], "xlsx")
EPOCH = datetime(1899, 12, 30)  # noqa: DTZ001 - a spreadsheet's times are in no zone

texts = st.text(st.characters(codec="utf-8"), max_size=20) | st.lists(
    st.sampled_from(
        ["_x0041_", "_x005F_", "x0041_", "_", "_x", "_xD83D_", "😀", "<", "&amp;", "]]>", "\r\n", "\x00", "\ufffe"]
    ),
    max_size=6,
).map("".join)


def saved(book: Workbook) -> bytes:
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def days(moment: datetime) -> float:
    return (moment - EPOCH) / timedelta(days=1)


def calamine_rows(file: bytes) -> list[list[Any]]:
    return CalamineWorkbook.from_filelike(io.BytesIO(file)).get_sheet_by_index(0).to_python(skip_empty_area=False)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(st.tuples(texts | st.none(), texts | st.none()), max_size=20))
def test_what_our_export_wrote_is_read_back(pairs: list[tuple[str | None, str | None]]) -> None:
    file = made_file(SPEC, batch_of(*({"a": first, "b": second} for first, second in pairs)))

    rows = [(number, list(pair)) for number, pair in enumerate(pairs, start=2) if pair != (None, None)]
    assert read(file) == [(1, ["a", "b"]), *rows]


def test_values_of_our_export_are_read_back() -> None:
    kinds = {
        "text": Kind.TEXT, "yes": Kind.BOOLEAN, "count": Kind.INTEGER, "price": Kind.DECIMAL, "ratio": Kind.FLOAT,
        "day": Kind.DATE, "at": Kind.DATETIME, "tags": Kind.TEXT,
    }  # fmt: skip
    spec = file_spec([Field(name, kind) for name, kind in kinds.items()], "xlsx")
    at = datetime(2026, 1, 2, 3, 4, 5, 678_000)  # noqa: DTZ001 - as BSON has it
    document = {
        "text": "0042", "yes": False, "count": 10**15, "price": Decimal128("19.90"), "ratio": 0.1,
        "day": datetime(1900, 3, 1), "at": at, "tags": ["x"],  # noqa: DTZ001
    }  # fmt: skip

    _, (_, cells) = read(made_file(spec, batch_of(document)))

    assert cells == ["0042", False, str(10**15), "19.90", "0.1", 61.0, days(at), '["x"]']


def test_an_export_in_several_sheets_is_read_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx_encoder, "PIECE_ROWS", 1)
    monkeypatch.setattr(workbook, "MAX_SHEET_ROWS", 3)
    file = made_file(SPEC, batch_of(*({"a": number} for number in range(5))))

    assert read(file) == [
        (1, ["a", "b"]),
        *[(2, ["0", None]), (3, ["1", None])],
        *[(2, ["2", None]), (3, ["3", None])],
        (2, ["4", None]),
    ]
    assert read(file, "things 2") == [(1, ["a", "b"]), (2, ["2", None]), (3, ["3", None])]


@pytest.mark.parametrize(("name", "header"), [("users 3", "a"), ("users2", "a"), ("users 2", "b")])
def test_a_sheet_of_another_name_or_header_does_not_continue_the_first(name: str, header: str) -> None:
    book = Workbook()
    for title, cell in (("users", "a"), (name, header)):
        book.create_sheet(title).append([cell])
        book[title].append([title])
    del book["Sheet"]

    assert read(saved(book)) == [(1, ["a"]), (2, ["users"])]


def test_a_sheet_is_found_by_its_name_even_if_it_is_hidden() -> None:
    book = Workbook()
    book.worksheets[0].append(["first"])
    book.create_sheet("Ünï & co").append(["second"])
    book["Sheet"].sheet_state = "hidden"
    file = saved(book)

    assert read(file) == [(1, ["first"])]
    assert read(file, "Ünï & co") == [(1, ["second"])]
    fault = fault_of(file, "none")
    assert fault.code == "no_such_sheet"
    assert "'none'" in fault.message
    assert "'Sheet', 'Ünï & co'" in fault.message


def test_files_of_openpyxl_are_read() -> None:
    book = Workbook()
    bold = CellRichText("a", TextBlock(InlineFont(b=True), " b"), "c")
    book.worksheets[0].append(["text", "number", "yes", "day", "at", "time", "rich", "formula", "none"])
    day, at = date(2024, 2, 29), datetime(2024, 2, 29, 12)  # noqa: DTZ001
    book.worksheets[0].append(["", 36.0, True, day, at, time(6), bold, "=1+1", None, "beyond"])

    (_, header), (number, cells) = read(saved(book))

    assert len(header) == 9
    assert number == 2
    assert cells == [
        *[None, "36", True, days(datetime(2024, 2, 29)), days(at), 0.25, "a bc", None, None, "beyond"],  # noqa: DTZ001
    ]


def test_days_are_counted_from_1904_where_the_workbook_says_so() -> None:
    book = Workbook()
    book.epoch = CALENDAR_MAC_1904
    book.worksheets[0].append(["day"])
    book.worksheets[0].append([date(2024, 2, 29)])

    assert read(saved(book))[1] == (2, [days(datetime(2024, 2, 29))])  # noqa: DTZ001


def test_another_reader_finds_the_same() -> None:
    book = Workbook()
    book.worksheets[0].append(["a", "b", "c"])
    for number in range(200):
        book.worksheets[0].append([f"text {number} & <more>", number / 7, number % 2 == 0])
    file = saved(book)

    theirs = [[str(cell) if type(cell) is float else cell for cell in row] for row in calamine_rows(file)[1:]]
    ours = [
        [str(float(str(cell))) if place == 1 else cell for place, cell in enumerate(cells)]
        for _, cells in read(file)[1:]
    ]
    assert ours == theirs


def test_rows_are_as_wide_as_the_header_or_wider_where_there_is_more() -> None:
    file = by_hand(
        '<row><c t="str"><v></v></c></row><row r="3"><c t="str"><v> a </v></c><c/><c t="str"><v>b</v></c>'
        '<c t="str"><v> </v></c><c t="str"><v></v></c></row>'
        '<row r="5"/><row r="6"><c r="A6" s="1"/></row><row r="7"><c r="B7"><v>1</v></c></row>'
        '<row r="1048576"><c r="C1048576"><v>2</v></c><c t="str"><v></v></c></row>'
        '<row><c r="D1" t="str"><v></v></c></row><row><c r="E1"><v>3</v></c></row>'
    )

    assert read(file) == [
        (3, ["a", None, "b"]),
        (7, [None, "1", None]),
        (1_048_576, [None, None, "2"]),
        (1_048_578, [None, None, None, None, "3"]),
    ]


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("<c/>", None),
        ('<c t="inlineStr"><is><t></t></is></c>', ""),
        ('<c t="inlineStr"><is><t/></is></c>', ""),
        ('<c t="str"><f>A1</f><v></v></c>', ""),
        ('<c t="inlineStr"><is></is></c>', None),
        ('<c t="inlineStr"><is><r><rPr><b/></rPr><t>東</t></r><r><t> b</t></r><rPh><t>トウ</t></rPh></is></c>', "東 b"),
        ('<c t="str"><f>A1&amp;"x"</f><v>x</v></c>', "x"),
        ("<c><f>1+1</f><v>2</v></c>", "2"),
        ("<c><f>1+1</f></c>", None),
        ("<c><f>1+1</f><v></v></c>", None),
        ('<c t="b"><v>1</v></c>', True),
        ('<c t="b"><v>0</v></c>', False),
        ('<c t="e"><f>1/0</f><v>#DIV/0!</v></c>', b"#DIV/0!"),
        ('<c t="s"><v>0</v></c>', "plain"),
        ('<c t="s"><v>1</v></c>', "rich text"),
        ('<c t="s"><v>2</v></c>', ""),
        ('<c t="d"><v>2024-02-29</v></c>', days(datetime(2024, 2, 29))),  # noqa: DTZ001
        ('<c t="d"><v>2024-02-29T12:00:00Z</v></c>', days(datetime(2024, 2, 29, 12))),  # noqa: DTZ001
        ('<c t="str"><v>a_x000D__x005F_x0041_&#10;_xD83D__xDE00_</v></c>', "a\r_x0041_\n😀"),
        ('<c t="str"><v>_x00e9__X0041_</v></c>', "é_X0041_"),
        ('<c t="str"><v><![CDATA[<&</row>]]></v></c>', "<&</row>"),
        ('<c t="str"><v>a<!-- </v></c></row> --><?b c?>d</v></c>', "ad"),
        ('<c t="str"><v>&lt;&quot;&amp;lt;&apos;&#65;</v></c>', "<\"&lt;'A"),
        ("<c>\n  <v>1</v>\n  </c>", "1"),
        ('<c t="str"  ><v xml:space="preserve"> 1 </v ></c >', " 1 "),
        ("<c t='str' cm='1'><v>1</v><extLst><ext/></extLst></c>", "1"),
    ],
)
def test_each_kind_of_cell_is_read(cell: str, value: Cell) -> None:
    table = "<si><t>plain</t></si><si><r><t>rich</t></r><r><t> text</t></r><rPh><t>x</t></rPh></si><si><t/></si>"

    [found] = cells_of(cell, others={SHARED: f'<sst xmlns="{MAIN}">{table}</sst>'})

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("36", "36"),
        ("36.0", "36.0"),
        ("3.6E1", "36"),
        ("+36", "36"),
        ("007", "7"),
        (" 5 ", "5"),
        ("19.90", "19.90"),
        ("19.989999999999998", "19.99"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("0.10000000000000001", "0.1"),
        ("1234567890123.40", "1234567890123.40"),
        ("-0.000012345", "-0.000012345"),
        ("0.00000000000000012", "0.00000000000000012"),
        ("123456789012345", "123456789012345"),
        ("-123456789012345678", "-1.2345678901234568e+17"),
        ("1E+15", "1000000000000000"),
        ("1E+300", "1e+300"),
        ("-1E-7", "-1e-07"),
        (".5", "0.5"),
    ],
)
def test_a_number_is_read_as_excel_shows_it(written: str, shown: str) -> None:
    assert cells_of(f"<c><v>{written}</v></c>", f'<c t="n"><v>{written}</v></c>') == [shown, shown]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_stays_the_same_float(number: float) -> None:
    [short, long] = cells_of(f"<c><v>{number!r}</v></c>", f"<c><v>{number:.17g}</v></c>")

    assert [float(str(short)), float(str(long))] == [number, number]


@pytest.mark.parametrize(
    ("number_format", "is_date"),
    [
        (0, False),
        (1, False),
        (13, False),
        (14, True),
        (22, True),
        (46, False),
        (47, True),
        (49, False),
        (58, True),
        ("yyyy-mm-dd", True),
        ("[$-409]d/m/yy h:mm AM/PM;@", True),
        ("[h]:mm", False),
        ("0.00 &quot;days&quot;", False),
        ("[Red]0.00", False),
        (r"0\d", False),
        ("General", False),
    ],
)
def test_a_style_makes_a_number_a_date(number_format: int | str, is_date: bool) -> None:  # noqa: FBT001 - parametrized
    [plain, styled, text] = cells_of(
        '<c s="0"><v>61.5</v></c>',
        '<c s="1" t="n"><v>61.5</v></c>',
        '<c s="1" t="str"><v>61.5</v></c>',
        others={STYLES: styles(0, number_format)},
    )

    assert (plain, styled, text) == ("61.5", 61.5 if is_date else "61.5", "61.5")


@pytest.mark.parametrize(
    ("serial", "day"),
    [("0.5", 0.5), ("1", 2.0), ("59", 60.0), ("60", 60.0), ("61", 61.0), ("4.5E4", 45_000.0), ("-1", -1.0)],
)
def test_excel_counts_a_29_february_1900(serial: str, day: float) -> None:
    assert cells_of(f'<c s="0"><v>{serial}</v></c>', others={STYLES: styles(14)}) == [day]


def test_in_workbooks_of_1904_that_day_does_not_count() -> None:
    settings_1904 = {STYLES: styles(14), BOOK: book("s", more='<workbookPr date1904="1"/>')}

    assert cells_of('<c s="0"><v>1</v></c>', others=settings_1904) == [1463.0]


def test_prefixes_may_be_anything() -> None:
    rows = '<x:row r="1"><x:c r="A1" t="s"><x:v>0</x:v></x:c></x:row><x:row><x:c><x:v>1</x:v></x:c></x:row>'
    file = by_hand(
        others={
            SHEET: f'<x:worksheet xmlns:x="{MAIN}"><x:sheetData>{rows}</x:sheetData></x:worksheet>',
            SHARED: f'<y:sst xmlns:y="{MAIN}"><y:si><y:t>a</y:t></y:si></y:sst>',
            BOOK: book("s").replace("r:id", "rel:id").replace("xmlns:r", "xmlns:rel"),
        }
    )

    assert read(file) == [(1, ["a"]), (2, ["1"])]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1", "windows-1252", "us-ascii"])
def test_xml_may_be_in_any_encoding_that_it_declares(encoding: str) -> None:
    text = "a" if encoding == "us-ascii" else "é"
    rows = f'{HEADER}<row><c t="str"><v>{text}</v></c></row>' * 2
    declared = encoding.removesuffix("-sig")

    file = by_hand(others={SHEET: f'<?xml version="1.0" encoding="{declared}"?>{sheet_xml(rows)}'.encode(encoding)})

    assert [cells for _, cells in read(file)][1::2] == [[text, None]] * 2


characters = st.sampled_from("ab小😀 \t\x7f\x85\u2028") | st.sampled_from(
    ["&amp;", "&lt;", "&#65;", "&quot;", "_x0041_", "<!-- </row> -->", "<![CDATA[<row>]]>", "\r\n", "&#13;", "<?c d?>"]
)
written_texts = st.lists(characters, max_size=5).map("".join)
written_cells = st.one_of(
    st.builds(
        "<c{}{}{}>{}</c>".format,
        st.sampled_from(["", ' r="{}1"', ' r="C1"']),
        st.sampled_from(["", ' s="1"']),
        st.sampled_from(
            ["", ' t="str"', " t='inlineStr'", ' t="inlineStr"', ' cm="1" t="str"', ' t="n"', ' t="b"', ' t="s"']
        ),
        st.sampled_from(
            [
                "",
                "<v></v>",
                "<v/>",
                "<v>1</v>",
                "<is><t>1</t></is>",
                "<f>1</f><v>0</v>",
                "<f>1</f>",
                '<f t="shared" si="0"/><v>1</v>',
                '<f aca="false">A$1&amp;"</f><v>0</v>',
            ]
        ),
    ),
    st.builds('<c t="inlineStr"><is><t>{}</t></is></c>'.format, written_texts),
    st.builds('<c t="str"><v>{}</v></c>'.format, written_texts),
    st.builds('<c t="inlineStr"><is><t xml:space="preserve">{}</t><rPh><t>x</t></rPh></is></c>'.format, written_texts),
    st.sampled_from(["<c/>", "<c />", '<c r="B1" s="1"/>', "<!-- <c/> -->", " ", '<c t="str"><v>1</v ></c >']),
)
written_rows = st.builds(
    "<row{}>{}</row{}>".format,
    st.sampled_from(
        ["", ' r="7"', ' r="7" spans="1:3" x14ac:dyDescent="0.25"', ' spans="1:3" r="7"', ' a:r="7"', " r='8'"]
    ),
    st.lists(written_cells, max_size=4).map("".join),
    st.sampled_from(["", "", "", " "]),
) | st.sampled_from(["<row/>", '<row r="9"/>', "<!-- <row></row> -->", "\n", "<![CDATA[</row>]]>"])


@settings(max_examples=200)
@given(st.lists(written_rows, max_size=8).map("".join), st.sampled_from([16, 100, 500, 65_536]))
@example('<row><c t="str"><v>1</v></c></row><!-- <row><c><v>2</v></c></row> --><row><c><v>3</v></c></row>', 100)
def test_plain_rows_are_read_as_the_parser_reads_them(rows: str, chunk_bytes: int) -> None:
    shared = {SHARED: f'<sst xmlns="{MAIN}"><si><t>0</t></si><si><t>1</t></si></sst>', STYLES: styles(0, 14)}
    xml = sheet_xml(HEADER + rows.replace("{}", "B"))
    quick = by_hand(others=shared | {SHEET: xml})
    parsed = by_hand(others=shared | {SHEET: xml.encode("utf-16")})  # which only the parser understands

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(package_reader, "CHUNK_BYTES", chunk_bytes)
        assert read(quick) == read(parsed)


def test_plain_rows_are_kept_from_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[bytes] = []
    feed = package_reader.XmlParser.feed

    def watched_feed(parser: package_reader.XmlParser, xml: bytes) -> None:
        fed.append(xml)
        feed(parser, xml)

    monkeypatch.setattr(package_reader.XmlParser, "feed", watched_feed)
    plain = '<row r="3"><c r="A3" t="inlineStr"><is><t>plain &amp;</t></is></c><c s="1"/></row>'
    other = '<row><c t="str"><v>other&#65;</v></c></row>'

    assert len(read(by_hand(HEADER + plain * 20_000 + other + plain))) == 20_003

    assert b"other" in b"".join(fed)
    assert b"plain" not in b"".join(fed)


def test_texts_that_are_not_kept_are_read_from_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook_reader, "MAX_KEPT_BYTES", 10 * workbook_reader.TEXT_BYTES)
    table = [f"text {number} é😀" * (number % 3) for number in range(50)]
    shared = f"<sst>{''.join(f'<si><t>{text}</t></si>' for text in table)}</sst>"
    rows = "".join(f'<row><c t="s"><v>{number}</v></c></row>' for number in (49, *range(50), 0))

    _, *found = read(by_hand(HEADER + rows, {SHARED: shared}))

    assert [cells for _, cells in found] == [[table[number], None] for number in (49, *range(50), 0)]


def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 40_000
    monkeypatch.setattr(workbook_reader, "MAX_KEPT_BYTES", 2**16)
    path = tmp_path / "file.xlsx"
    table = "".join(f"<si><t>{number:0100}</t></si>" for number in range(rows))
    lines = "".join(f'<row><c t="s"><v>{number}</v></c><c><v>{number}</v></c></row>' for number in range(rows))
    path.write_bytes(by_hand(HEADER + lines, {SHARED: f"<sst>{table}</sst>"}))
    del table, lines

    tracemalloc.start()
    try:
        assert sum(1 for _ in read_sheet(path)) == rows + 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 2**21  # the texts alone are 6 MB


def test_a_reader_that_leaves_early_leaves_nothing_open(tmp_path: Path) -> None:
    path = tmp_path / "file.xlsx"
    path.write_bytes(by_hand(HEADER * 100_000))

    with closing(read_sheet(path)) as rows:  # type: ignore[type-var]
        assert next(rows) == (1, ["a", "b"])

    assert not [link for link in Path("/proc/self/fd").iterdir() if link.exists() and link.samefile(path)]


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        ("<c><v>abc</v></c>", "invalid_cell"),
        ("<c><v>1_000</v></c>", "invalid_cell"),
        ("<c><v>NaN</v></c>", "invalid_cell"),
        ("<c><v>1E999</v></c>", "invalid_cell"),
        ("<c><v>٣</v></c>", "invalid_cell"),
        ('<c s="1"><v>INF</v></c>', "invalid_cell"),
        ('<c t="b"><v>yes</v></c>', "invalid_cell"),
        ('<c t="d"><v>29.2.2024</v></c>', "invalid_cell"),
        ('<c t="s"><v>1</v></c>', "invalid_cell"),
        ('<c t="s"><v>-1</v></c>', "invalid_cell"),
        ('<c t="s"><v>a</v></c>', "invalid_cell"),
        ('<c t="s"><v>99999999999999999999</v></c>', "invalid_cell"),
        ('<c t="x"><v>a</v></c>', "invalid_cell"),
        ('<c t="str"><v>_xD83D_</v></c>', "invalid_cell"),
        ('<c t="str"><v>_xDE00__xD83D_</v></c>', "invalid_cell"),
        (f'<c t="str"><v>{"a" * (MAX_CELL_LENGTH + 1)}</v></c>', "cell_too_long"),
        (f'<c t="inlineStr"><is>{f"<r><t>{chr(97) * 2**18}</t></r>" * 5}</is></c>', "cell_too_long"),
        (f'<c t="str"><v>{"a" * 2**21}', "cell_too_long"),
    ],
)
def test_a_cell_that_cannot_be_read_is_named(cell: str, code: str) -> None:
    shared = {SHARED: "<sst><si><t>0</t></si></sst>", STYLES: styles(0, 14)}

    fault = fault_of(by_hand(f'{HEADER}<row r="7"><c/><c/>{cell}</row>', shared))

    assert (fault.code, fault.row, fault.column) == (code, 7, "C")
    assert len(fault.message) < 250


@pytest.mark.parametrize("reference", ["AAAA1", "a1", "$A$1", "A1:B2", "Ä1", "ABCDEFG1"])
def test_a_cell_with_no_place_in_the_sheet_is_refused(reference: str) -> None:
    assert fault_of(by_hand(f'<row><c r="{reference}"><v>1</v></c></row>')).code == "broken_file"


@pytest.mark.parametrize("number", ["a", "-1", "1.5", "٣", "9" * 5000])
def test_a_row_with_no_number_is_refused(number: str) -> None:
    assert fault_of(by_hand(f'<row r="{number}"><c><v>1</v></c></row>')).code == "broken_file"


@pytest.mark.parametrize(("column", "is_read"), [("ALL", True), ("ALM", False), ("XFD", False), ("ZZZ", False)])
def test_columns_are_counted_where_something_is(column: str, is_read: bool) -> None:  # noqa: FBT001 - parametrized
    file = by_hand(f'{HEADER}<row r="2"><c r="{column}2"><v>1</v></c><c r="XFD2"/><c/><c/></row>')

    if is_read:
        assert len(read(file)[1][1]) == MAX_COLUMNS
    else:
        fault = fault_of(file)
        assert (fault.code, fault.row, fault.column) == ("too_many_columns", 2, column)


def test_the_longest_text_is_read() -> None:
    text = "é" * MAX_CELL_LENGTH
    shared = {SHARED: f"<sst><si><t>{text}</t></si></sst>"}

    assert cells_of('<c t="s"><v>0</v></c>', f'<c t="str"><v>{text}</v></c>', others=shared) == [text, text]
    assert fault_of(by_hand(others={SHARED: f"<sst><si><t>{text}a</t></si></sst>"})).code == "cell_too_long"


def test_a_shared_text_without_end_is_not_held() -> None:
    assert fault_of(by_hand(others={SHARED: f"<sst><si><t>{'a' * 2**21}"})).code == "cell_too_long"


def test_shared_texts_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook_reader, "MAX_KEPT_BYTES", 0)
    monkeypatch.setattr(workbook_reader, "MAX_SHARED_TEXTS", 3)

    assert read(by_hand(others={SHARED: f"<sst>{'<si/>' * 3}</sst>"}))
    assert fault_of(by_hand(others={SHARED: f"<sst>{'<si/>' * 4}</sst>"})).code == "file_too_large_inside"


def test_a_shared_text_that_is_none_is_refused() -> None:
    assert fault_of(by_hand(others={SHARED: "<sst><si><t>_xD800_</t></si></sst>"})).code == "invalid_cell"
