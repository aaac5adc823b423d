"""CSV, read as a slow and plain parser reads it, and as our own export wrote it."""

import csv
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.documents.fields import Field, Kind
from service.errors import Fault, InvalidFileError
from service.transfer.csv_reader import MAX_ROW_LENGTH, QUOTED_EMPTY, read_csv
from service.transfer.decoding import MAX_CELL_LENGTH, MAX_COLUMNS
from service.transfer.encoding import DELIMITERS
from service.transfer.file_kinds import CANDIDATES
from tests.unit.made_up import batch_of, file_spec, made_file

Cells = list[str | None]
Refusal = tuple[str, int | None]

texts = st.text() | st.text(alphabet="'=+-@\t\r\n,;|\" a", max_size=8)
anything = st.text(alphabet='"",,;\r\na\'=\0 ') | st.lists(
    st.sampled_from(['""', '"', ",", "\r\n", "\n", "\r", "'=", "a", "小", "😀"]), max_size=20
).map("".join)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each test puts its file."""
    return tmp_path_factory.mktemp("csv") / "things.csv"


def read(path: Path, content: bytes | str, delimiter: str | None = ",", **options: Any) -> list[tuple[int, Cells]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [(number, _texts(cells)) for number, cells in read_csv(path, delimiter, **options)]


def _texts(cells: Any) -> Cells:
    assert all(cell is None or isinstance(cell, str) for cell in cells)
    return list(cells)


def fault_in(path: Path, content: bytes | str, delimiter: str | None = ",") -> Fault:
    with pytest.raises(InvalidFileError) as refused:
        read(path, content, delimiter)
    [fault] = refused.value.faults
    return fault


# The plain parser


class WrongError(Exception):
    """The text is no CSV; the argument is the code for why."""


def slowly_parsed(text: str, delimiter: str) -> Iterator[Cells]:
    """Every record, blank ones too, character by character."""
    place = 0
    while place < len(text):
        cell, place = _cell(text, place, delimiter)
        cells = [cell]
        while text.startswith(delimiter, place):
            cell, place = _cell(text, place + 1, delimiter)
            cells.append(cell)
        place += 2 if text.startswith("\r\n", place) else 1
        yield cells


def _cell(text: str, place: int, delimiter: str) -> tuple[str | None, int]:
    """The cell that starts at a place, and where it ends."""
    if text.startswith('"', place):
        return _quoted_cell(text, place + 1, delimiter)
    end = place
    while end < len(text) and text[end] not in {delimiter, "\r", "\n"}:
        end += 1
    return text[place:end] or None, end


def _quoted_cell(text: str, place: int, delimiter: str) -> tuple[str, int]:
    cell = ""
    while place < len(text):
        if text.startswith('""', place):
            cell, place = cell + '"', place + 2
        elif text[place] != '"':
            cell, place = cell + text[place], place + 1
        elif text[place + 1 : place + 2] in {"", delimiter, "\r", "\n"}:
            return cell, place + 1
        else:
            raise WrongError("misplaced_quote")
    raise WrongError("unclosed_quote")


def slowly_read(text: str, delimiter: str) -> tuple[list[tuple[int, Cells]], Refusal | None]:
    """The rows as they should come, and why they stop."""
    rows: list[tuple[int, Cells]] = []
    number = 0
    try:
        for number, cells in enumerate(slowly_parsed(text, delimiter), 1):
            if not any(cell is not None for cell in cells):
                continue
            width = len(rows[0][1]) if rows else 0
            last = max([width, *(place for place, cell in enumerate(cells, 1) if cell is not None)])
            rows.append((number, cells[:last] if rows else [cell and cell.strip() for cell in cells[:last]]))
    except WrongError as error:
        return rows, (str(error), number + 1)
    if not rows:
        return rows, ("empty_file", None)
    if len(rows[-1][1]) < len(rows[0][1]) and rows[-1][0] == number and not text.endswith(("\r", "\n")):
        return rows[:-1], ("file_cut_off", number)
    return rows, None


def quickly_read(path: Path, text: str, delimiter: str) -> tuple[list[tuple[int, Cells]], Refusal | None]:
    path.write_bytes(text.encode())
    rows: list[tuple[int, Cells]] = []
    try:
        for number, cells in read_csv(path, delimiter, raw=True):
            rows.append((number, _texts(cells)))
    except InvalidFileError as refused:
        [fault] = refused.faults
        return rows, (fault.code, fault.row)
    return rows, None


@settings(max_examples=1000)
@given(text=anything, delimiter=st.sampled_from(CANDIDATES))
@example(text='a,b\r\n"",\r\n,""\r\n"",""\r\n', delimiter=",")
@example(text='a\n"x,"",""\n""\n"",y"\n', delimiter=",")
@example(text='a\n""""\n""""""\n', delimiter=",")
@example(text='a\r""\r"",\r', delimiter=",")
@example(text="a,b\n1", delimiter=",")
def test_any_text_is_read_as_the_plain_parser_reads_it(path: Path, text: str, delimiter: str) -> None:
    text = text.replace(",", delimiter)

    assert quickly_read(path, text, delimiter) == slowly_read(text, delimiter)


# What our own export wrote


@given(
    rows=st.lists(st.tuples(texts | st.none(), texts | st.none(), st.just("x")), max_size=5),
    options=st.fixed_dictionaries(
        {"delimiter": st.sampled_from(list(DELIMITERS)), "bom": st.booleans(), "raw": st.booleans()}
    ),
    is_told=st.booleans(),
)
def test_what_an_export_wrote_is_read_back_equal(
    path: Path,
    rows: list[tuple[str | None, str | None, str]],
    options: dict[str, Any],
    is_told: bool,  # noqa: FBT001
) -> None:
    spec = file_spec([Field(name, Kind.TEXT) for name in "abc"], **options)
    documents = [dict(zip("abc", row, strict=True)) for row in rows]

    delimiter = DELIMITERS[spec.delimiter] if is_told else None
    header, *read_rows = read(path, made_file(spec, batch_of(*documents)), delimiter, raw=spec.raw)

    assert header == (1, ["a", "b", "c"])
    assert read_rows == [(number, list(row)) for number, row in enumerate(rows, 2)]


@given(column=st.lists(texts, max_size=5))
def test_a_single_column_of_texts_is_read_back_equal(path: Path, column: list[str]) -> None:
    spec = file_spec([Field("a", Kind.TEXT)])

    _, *rows = read(path, made_file(spec, batch_of(*({"a": text} for text in column))), None)

    assert [cells for _, cells in rows] == [[text] for text in column]


@pytest.mark.parametrize(
    ("cell", "text", "raw_text"),
    [
        ("'=1", "=1", "'=1"),
        ("''=1", "'=1", "''=1"),
        ('"\'\n"', "\n", "'\n"),
        ('"\'=""1"', '="1', "'=\"1"),
        ("'-", "-", "'-"),
        ("'", "'", "'"),
        ("'a", "'a", "'a"),
        ("''a", "''a", "''a"),
        ("=1", "=1", "=1"),
        ("O'=1", "O'=1", "O'=1"),
        ("' =", "' =", "' ="),
    ],
)
def test_only_what_guards_a_formula_is_taken_off(path: Path, cell: str, text: str, raw_text: str) -> None:
    assert read(path, f"a\n{cell}\n")[1] == (2, [text])
    assert read(path, f"a\n{cell}\n", raw=True)[1] == (2, [raw_text])


# What people and spreadsheets send


def test_rows_are_numbered_as_a_spreadsheet_shows_them(path: Path) -> None:
    content = '\r\na,b\r\n1,"x\r\ny\r\n"\r\n\r\n,\r\n2,\r\n'

    assert read(path, content) == [(2, ["a", "b"]), (3, ["1", "x\r\ny\r\n"]), (6, ["2", None])]


def test_names_lose_the_blanks_around_them_and_are_otherwise_as_they_are(path: Path) -> None:
    assert read(path, ' a ,"b c\t",a,,\n') == [(1, ["a", "b c", "a"])]


def test_rows_keep_their_length_without_empty_cells_past_the_header(path: Path) -> None:
    content = 'a,b\n1\n1,2,,\n1,,,\n1,2,3,\n1,2,""\n'

    assert [cells for _, cells in read(path, content)[1:]] == [
        ["1"],
        ["1", "2"],
        ["1", None],
        ["1", "2", "3"],
        ["1", "2", ""],
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("ends_last", [True, False])
def test_lines_end_as_any_system_ends_them(path: Path, end: str, ends_last: bool) -> None:  # noqa: FBT001
    content = f'a,b{end}1,"{end}"{end}"",2{end if ends_last else ""}'

    assert read(path, content) == [(1, ["a", "b"]), (2, ["1", end]), (3, ["", "2"])]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_is_decoded_as_its_mark_says(path: Path, encoding: str) -> None:
    rows = read(path, 'a\tb\r\n小中 😀\t""\r\n'.encode(encoding), None)

    assert rows == [(1, ["a", "b"]), (2, ["小中 😀", ""])]


def test_nul_is_a_character_as_any_other(path: Path) -> None:
    assert read(path, "a,b\n\0,x\0y\n")[1] == (2, ["\0", "x\0y"])


def test_no_text_can_be_taken_for_the_mark_of_an_empty_cell(path: Path) -> None:
    content = b"a,b\n" + QUOTED_EMPTY.encode(errors="surrogatepass") + b",1\n"

    assert fault_in(path, content).code == "not_utf8"


# What is refused


@pytest.mark.parametrize(
    ("content", "code", "row", "words"),
    [
        ("", "empty_file", None, "no rows"),
        ("\ufeff", "empty_file", None, "no rows"),
        ("\r\n,,\r\n", "empty_file", None, "no rows"),
        ('a,b\n1,2\n\n3,"4\n5,6\n', "unclosed_quote", 4, "never closed"),
        ('a,b\n1,"2"3\n', "misplaced_quote", 2, "written twice"),
        ('a,b\n1,"2" \n', "misplaced_quote", 2, "written twice"),
        ("a,b,c\n1,2,3\n4,5", "file_cut_off", 3, "cut off"),
        ("a,b\n1,小".encode()[:-1], "file_cut_off", None, "line 2"),
        ("a,b\n1,小".encode("utf-16")[:-1], "file_cut_off", None, "line 2"),
        (",".join("a" * (MAX_COLUMNS + 1)), "too_many_columns", 1, "1,001 columns"),
        ("a\n1" + ",1" * MAX_COLUMNS, "too_many_columns", 2, "1,001 columns"),
        ("a\n" + "x" * (MAX_CELL_LENGTH + 1), "cell_too_long", 2, "1,048,576"),
        ('a\n"' + "x\n" * MAX_CELL_LENGTH, "cell_too_long", 2, "never closed"),
        (b"PK\x03\x04", "not_csv", None, "an Excel workbook"),
        (b"%PDF-1.7", "not_csv", None, "a PDF"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(
    path: Path, content: str | bytes, code: str, row: int | None, words: str
) -> None:
    fault = fault_in(path, content)

    assert (fault.code, fault.row) == (code, row)
    assert words in fault.message


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("line", [1, 2, 3, 1000, 5000])
def test_the_line_that_is_not_utf8_is_named(path: Path, end: str, line: int) -> None:
    lines = [f"小{number},x" for number in range(5001)]
    content = end.join(lines).encode().replace(f"小{line - 1},".encode(), f"M\xfcnchen{line},".encode("latin-1"))

    fault = fault_in(path, content)

    assert fault.code == "not_utf8"
    assert fault.message.startswith(f"Line {line:,} is not UTF-8")
    assert "CSV UTF-8" in fault.message


def test_the_longest_cell_is_read_whole(path: Path) -> None:
    text = '"x' * (MAX_CELL_LENGTH // 2)

    assert read(path, 'a\n"' + text.replace('"', '""') + '"\n')[1] == (2, [text])


@pytest.mark.parametrize("filler", ["x", "x,", '"",', '"\n",', '","', "\0"])
def test_a_row_without_end_is_refused_before_it_fills_the_memory(path: Path, filler: str) -> None:
    content = b"a,b\n1,2\n" + (filler * 2 * (MAX_ROW_LENGTH // len(filler))).encode()

    assert fault_in(path, content).code in {"row_too_long", "cell_too_long"}


def test_memory_does_not_grow_with_the_file(path: Path) -> None:
    path.write_bytes(b"a,b\n" + b'text of a cell,""\n' * 40_000)

    tracemalloc.start()
    try:
        assert sum(1 for _ in read_csv(path)) == 40_001
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_who_leaves_early_closes_the_file(path: Path) -> None:
    path.write_bytes(b"a\n1\n2\n")
    rows = read_csv(path)
    next(rows)

    rows.close()  # type: ignore[attr-defined]  # or the file is closed by chance, which warns, and warnings are errors


def test_another_librarys_limit_does_not_count(path: Path) -> None:
    csv.field_size_limit(1)

    assert read(path, "name\nvalue\n") == [(1, ["name"]), (2, ["value"])]
