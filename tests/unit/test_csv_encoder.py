"""CSV, read back by Python's own reader."""

import csv
import io
from datetime import date, datetime
from typing import Any

import pytest
from bson import Binary, Code, Decimal128, Int64, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from service.documents.fields import Field, Kind
from service.transfer.csv_encoder import csv_encoder, csv_file, guard_formula, unguard_formula
from service.transfer.encoding import DELIMITERS, Delimiter, Piece
from tests.unit.made_up import batch_of, file_spec, made_file, odd_values

TRIGGERS = ("=", "+", "-", "@", "\t", "\r", "\n")
EMPTY = "\ud800"
"""Stands for an empty text where Python's writer writes; no other text has it."""

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678_000)  # noqa: DTZ001 - as BSON has it
FIELDS = [Field("a", Kind.TEXT), Field("b", Kind.TEXT), Field("day", Kind.DATE)]
texts = st.text() | st.text(alphabet="'=+-@\t\r\n,;\"a", max_size=8)


def encoded(documents: list[dict[str, Any]], **options: Any) -> bytes:
    return made_file(file_spec(FIELDS, **options), batch_of(*documents))


def read(file: bytes, delimiter: Delimiter = "comma") -> list[list[str]]:
    return list(csv.reader(io.StringIO(file.decode(), newline=""), delimiter=DELIMITERS[delimiter], strict=True))


def unguarded(text: str) -> str:
    """What the importer makes of a cell: one ' less, where one was put."""
    is_guarded = text.startswith("'") and text.lstrip("'").startswith(TRIGGERS)
    return text[1:] if is_guarded else text


@given(st.lists(st.tuples(texts, texts), max_size=5), st.sampled_from(list(DELIMITERS)), st.booleans())
def test_texts_are_read_back_equal(
    cells: list[tuple[str, str]],
    delimiter: Delimiter,
    bom: bool,  # noqa: FBT001
) -> None:
    file = encoded([{"a": a, "b": b} for a, b in cells], delimiter=delimiter, bom=bom)

    header, *rows = read(file.removeprefix(b"\xef\xbb\xbf" if bom else b""), delimiter)

    assert header == ["a", "b", "day"]
    assert [tuple(map(unguarded, row[:2])) for row in rows] == cells
    assert not any(cell.startswith(TRIGGERS) for row in rows for cell in row)


@given(st.lists(texts, max_size=5))
def test_raw_texts_are_read_back_as_they_are(cells: list[str]) -> None:
    _, *rows = read(encoded([{"a": cell} for cell in cells], raw=True))

    assert [row[0] for row in rows] == cells


@given(
    st.lists(st.tuples(texts | st.none() | st.integers(-99, 99), texts | st.none()), max_size=5),
    st.sampled_from(list(DELIMITERS)),
    st.integers(1, 2),
)
def test_it_is_what_pythons_own_writer_writes_but_for_empty_texts(
    cells: list[tuple[Any, Any]], delimiter: Delimiter, columns: int
) -> None:
    spec = file_spec(FIELDS, raw=True, delimiter=delimiter, paths=("a", "b")[:columns])
    expected = io.StringIO(newline="")
    marked = [[EMPTY if cell == "" else cell for cell in pair[:columns]] for pair in cells]
    csv.writer(expected, delimiter=DELIMITERS[delimiter]).writerows([["a", "b"][:columns], *marked])

    file = made_file(spec, batch_of(*({"a": a, "b": b} for a, b in cells)))

    assert file.decode() == expected.getvalue().replace(EMPTY, '""')


@given(texts)
def test_the_guard_never_makes_two_texts_one(text: str) -> None:
    assert unguarded(guard_formula(text)) == text
    assert unguard_formula(guard_formula(text)) == text


@given(texts)
def test_only_a_guard_is_taken_off(text: str) -> None:
    assert unguard_formula(text) == unguarded(text)


@pytest.mark.parametrize(
    ("text", "guarded"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@a", "'@a"),
        ("\ta", "'\ta"),
        ("\ra", "'\ra"),
        ("\na", "'\na"),
        ("'=1", "''=1"),
        ("''=1", "'''=1"),
        ("'a", "'a"),
        ("'", "'"),
        ("", ""),
        ("a=1", "a=1"),
        (" =1", " =1"),
    ],
)
def test_only_what_a_spreadsheet_would_run_is_guarded(text: str, guarded: str) -> None:
    assert guard_formula(text) == guarded


@pytest.mark.parametrize("odd", [Code("=1+1"), Binary(b"\xf8\x00\x00"), b"\xf8\x00\x00"], ids=repr)
def test_a_value_that_somebody_wrote_by_hand_is_guarded_too(odd: Any) -> None:
    (cell, *_), *_ = read(encoded([{"a": odd}]))[1:]

    assert not cell.startswith(TRIGGERS)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (-5, "-5"),
        (Int64(2**62), str(2**62)),
        (0.1, "0.1"),
        (-1e-7, "-1e-07"),
        (Decimal128("-1.10"), "-1.10"),
        (MOMENT, "2026-01-02T03:04:05.678Z"),
        (ObjectId("0123456789abcdef01234567"), "0123456789abcdef01234567"),
        (["a", 1, None], '["a",1,null]'),
        ({"a": MOMENT}, '{"a":"2026-01-02T03:04:05.678Z"}'),
        ([], "[]"),
        ("ü 小 😀", "ü 小 😀"),
    ],
    ids=repr,
)
def test_each_value_has_its_text(value: Any, text: str) -> None:
    assert read(encoded([{"a": value}]))[1][0] == text


def test_a_date_is_a_date() -> None:
    assert read(encoded([{"day": datetime(1899, 12, 31)}]))[1][2] == date(1899, 12, 31).isoformat()  # noqa: DTZ001


@pytest.mark.parametrize(("name", "delimiter"), [("comma", ","), ("semicolon", ";"), ("tab", "\t")])
def test_fields_are_divided_as_asked(name: Delimiter, delimiter: str) -> None:
    file = encoded([{"a": "x,y;z\tw", "b": "p"}], delimiter=name).decode()

    assert file == f'a{delimiter}b{delimiter}day\r\n"x,y;z\tw"{delimiter}p{delimiter}\r\n'


def test_the_mark_of_utf8_comes_once_and_only_if_asked_for() -> None:
    assert encoded([{"a": "x"}], bom=True) == b"\xef\xbb\xbf" + encoded([{"a": "x"}])
    assert not encoded([]).startswith(b"\xef\xbb\xbf")


def test_quotes_are_doubled_and_line_breaks_stay() -> None:
    assert encoded([{"a": 'say "a"\r\nb'}]).splitlines(keepends=True)[1:] == [b'"say ""a""\r\n', b'b",,\r\n']


def test_batches_follow_each_other_without_a_seam() -> None:
    spec = file_spec(FIELDS)
    batches = [*(batch_of({"a": text}) for text in "xyz"), b"", batch_of({"a": "="}, {"a": "="})]

    assert csv_file(spec).start() == b"a,b,day\r\n"
    assert [csv_encoder(spec)(batch) for batch in batches] == [
        [Piece(b"x,,\r\n", 1)],
        [Piece(b"y,,\r\n", 1)],
        [Piece(b"z,,\r\n", 1)],
        [],
        [Piece(b"'=,,\r\n'=,,\r\n", 2)],
    ]
    assert made_file(spec, *batches) == b"a,b,day\r\nx,,\r\ny,,\r\nz,,\r\n'=,,\r\n'=,,\r\n"


@given(
    st.lists(odd_values() | texts | st.none(), min_size=1, max_size=5)
    | st.lists(st.lists(texts, max_size=2) | st.none(), min_size=1, max_size=5),
    st.booleans(),
)
def test_a_cell_is_the_same_whatever_else_is_in_its_column(values: list[Any], raw: bool) -> None:  # noqa: FBT001
    header = encoded([])
    alone = [encoded([{"a": value}], raw=raw).removeprefix(header) for value in values]

    assert encoded([{"a": value} for value in values], raw=raw) == header + b"".join(alone)


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize(
    ("column", "cells"),
    [
        (["", None], ['""', ""]),
        (["x", ""], ["x", '""']),
        (["x", None], ["x", ""]),
        ([None, None], ["", ""]),
        (["", ""], ['""', '""']),
        (['"', ""], ['""""', '""']),
        ([0, None, ""], ["0", "", '""']),
        ([b"", None], ['""', ""]),
    ],
    ids=repr,
)
def test_an_empty_text_is_told_from_nothing(column: list[Any], cells: list[str], raw: bool) -> None:  # noqa: FBT001
    file = encoded([{"a": value} for value in column], raw=raw)

    assert file.decode().splitlines()[1:] == [f"{cell},," for cell in cells]


@pytest.mark.parametrize("empty", [{}, {"a": None}, {"a": ""}], ids=repr)
def test_a_row_of_nothing_is_a_row(empty: dict[str, Any]) -> None:
    file = made_file(file_spec(FIELDS, paths=("a",)), batch_of(empty, empty))

    assert read(file) == [["a"], [""], [""]]
