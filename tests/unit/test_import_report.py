"""What a report says of the rows that failed."""

import csv
import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.documents.registry import DocumentType
from service.documents.user import User
from service.errors import Fault
from service.imports.query import ImportQuery
from service.imports.report import (
    MAX_FAILED_ROWS,
    MAX_FAULTS_OF_ROW,
    MAX_TABLE_CHARACTERS,
    MAX_TEXT_LENGTH,
    MAX_VALUE_LENGTH,
    Report,
)
from service.imports.source import Source, open_source
from service.transfer.csv_encoder import csv_text
from service.transfer.file_kinds import FileKind
from service.transfer.row_decoder import REASONS_COLUMN
from tests.bodies import documents_of

USERS = DocumentType(User)
MAX_BYTES = 16 * 1024 * 1024
BAD = Fault("bad", "is bad", "/name")
texts = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=5) | st.sampled_from(
    ["=1", "'=1", '"', ",", "\n", ""]
)


@contextmanager
def opened(content: str, kind: FileKind = "csv") -> Iterator[Source]:
    """A file that has been read."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content.encode())
        file.flush()
        source = open_source(Path(file.name), kind, USERS, ImportQuery(""), 1_000_000)
    try:
        yield source
    finally:
        source.close()


def report_of(content: str, faults: Sequence[Fault], kind: FileKind = "csv") -> Report:
    """A report in which these are the faults of every document of a file."""
    with opened(content, kind) as source:
        report = Report(source)
        for part in documents_of(source):
            for incoming in part:
                report.add_failed(incoming, faults)
        return report


def table_of(report: Report) -> list[list[str]]:
    """The failed rows, read by Python's own reader."""
    return list(csv.reader(io.StringIO(report.table()[0], newline=""), strict=True))


def test_documents_are_counted_by_their_fates() -> None:
    with opened("name,email\r\na,a\r\nb,b\r\nc,c\r\nd,d\r\n") as source:
        report = Report(source)
        first, *_ = (incoming for part in documents_of(source) for incoming in part)
        report.count("created")
        report.count("updated")
        report.count("updated")
        report.add_failed(first, [BAD])

        assert report.counts() == {"rows": 4, "created": 1, "updated": 2, "unchanged": 0, "failed": 1}
        report.nothing_was_done()
        assert report.counts() == {"rows": 4, "created": 0, "updated": 0, "unchanged": 0, "failed": 1}


def test_a_failed_row_says_where_what_is_wrong() -> None:
    report = report_of("name,email\r\nAda,x\r\n", [BAD, Fault("other", "is missing", "/age"), Fault("all", "is odd")])

    assert report.failed_rows == [
        {
            "row": 2,
            "errors": [
                {"column": "name", "code": "bad", "message": "is bad", "value": "Ada"},
                {"column": "age", "code": "other", "message": "is missing", "value": None},
                {"column": None, "code": "all", "message": "is odd", "value": None},
            ],
        }
    ]
    assert table_of(report) == [
        ["name", "email", REASONS_COLUMN],
        ["Ada", "x", "name: is bad; age: is missing; is odd"],
    ]


def test_the_failed_rows_can_be_corrected_and_sent_again() -> None:
    first = report_of('name,email,tags\r\n"=A, ""b""",,\r\n"",x,"[""a""]"\r\n', [BAD])

    again = report_of(first.table()[0], [BAD])

    assert again.table() == first.table()


@settings(max_examples=60)
@given(rows=st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=4), position=st.integers(0, 3))
def test_a_table_of_failed_rows_says_the_same_however_often_it_comes(
    rows: list[tuple[str, str, str]], position: int
) -> None:
    header = ["name", "email", "profile.bio"]
    header.insert(position, REASONS_COLUMN)
    content = csv_text([header, *([*row[:position], "why", *row[position:]] for row in rows)])

    report = report_of(content, [BAD])

    assert report.table()[0] == csv_text(
        [["name", "email", "profile.bio", REASONS_COLUMN], *([*row, "name: is bad"] for row in rows)]
    )


def test_a_line_that_failed_is_one_cell() -> None:
    line = '{"name": "Ada", "age": 1.5}'

    report = report_of(f"{line}\n", [Fault("int_type", "an integer is expected", "/age")], "ndjson")

    assert report.failed_rows[0]["errors"][0]["value"] == "1.5"
    assert table_of(report) == [["line", REASONS_COLUMN], [line, "/age: an integer is expected"]]


@pytest.mark.parametrize(("value", "shown"), [("x" * 100, "x" * 100), ("x" * 101, "x" * 100 + "…")])
def test_a_value_is_cut(value: str, shown: str) -> None:
    report = report_of(f"name,email\r\n{value},e\r\n", [BAD])

    assert report.failed_rows[0]["errors"][0]["value"] == shown
    assert len(shown.removesuffix("…")) == MAX_VALUE_LENGTH
    assert table_of(report)[1][0] == value


@pytest.mark.parametrize(("cells", "row"), [("Ada", ["Ada", ""]), ("Ada,x,more", ["Ada", "x"])])
def test_a_row_of_another_length_is_as_wide_as_the_table(cells: str, row: list[str]) -> None:
    assert table_of(report_of(f"name,email\r\n{cells}\r\n", [Fault("row_length", "is odd")]))[1] == [*row, "is odd"]


def test_a_thousand_failed_rows_are_listed_and_the_rest_is_counted() -> None:
    report = report_of("name,email\r\n" + "a,b\r\n" * (MAX_FAILED_ROWS + 7), [BAD])

    assert len(report.failed_rows) == MAX_FAILED_ROWS
    assert len(table_of(report)) == MAX_FAILED_ROWS + 1
    assert report.table()[1] == 7
    assert report.counts()["failed"] == MAX_FAILED_ROWS + 7


def test_whatever_fails_a_report_is_one_document() -> None:
    long = "😀" * 5000
    faults = [Fault("c" * 30, long, "/" + long) for _ in range(50)]

    report = report_of("name,email\r\n" + f"{long},{long}\r\n" * MAX_FAILED_ROWS, faults)

    assert 0 < len(report.failed_rows) < MAX_FAILED_ROWS
    assert report.failed == MAX_FAILED_ROWS
    assert {len(row["errors"]) for row in report.failed_rows} == {MAX_FAULTS_OF_ROW}
    assert max(len(row["errors"][0]["message"]) for row in report.failed_rows) == MAX_TEXT_LENGTH + 1
    assert len(report.table()[0]) < MAX_TABLE_CHARACTERS * 1.1
    kept: dict[str, Any] = {"failed_rows": report.failed_rows, "failed_table": report.table()}
    assert len(bson.encode(kept)) < MAX_BYTES
