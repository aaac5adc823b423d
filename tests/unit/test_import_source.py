"""Files as documents on their way in, each with the rows that it comes from."""

import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openpyxl
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.documents.registry import DocumentType
from service.documents.user import User
from service.errors import Fault, InvalidFileError, InvalidQueryError
from service.imports.decoding import Incoming
from service.imports.query import ImportQuery
from service.imports.source import PART_BYTES, PART_ROWS, Source, open_source
from service.transfer.file_kinds import FileKind
from tests.bodies import bodies_of, documents_of
from tests.everything import Everything

USERS, EVERYTHINGS = DocumentType(User), DocumentType(Everything)
MAX_ROWS = 10_000
HEAD = "id,name,email,profile.addresses.street,profile.addresses.city,profile.addresses.country\r\n"


@contextmanager
def opened(
    content: str | bytes,
    kind: FileKind = "csv",
    *,
    document_type: DocumentType = USERS,
    max_rows: int = MAX_ROWS,
    **options: Any,
) -> Iterator[Source]:
    """A file that has been read."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        source = open_source(Path(file.name), kind, document_type, ImportQuery("", **options), max_rows)
    try:
        yield source
    finally:
        source.close()


def documents(content: str | bytes, kind: FileKind = "csv", **options: Any) -> list[Incoming]:
    """All of a file."""
    with opened(content, kind, **options) as source:
        return [incoming for part in documents_of(source) for incoming in part]


def refused(content: str | bytes, kind: FileKind = "csv", **options: Any) -> list[tuple[str, int | None, str | None]]:
    """Code, row and column of all that makes a file unreadable."""
    with pytest.raises(InvalidFileError) as caught, opened(content, kind, **options):
        pass
    return [(fault.code, fault.row, fault.column) for fault in caught.value.faults]


def lines(*found: Any) -> bytes:
    return b"".join(orjson.dumps(one) + b"\n" for one in found)


def keys(found: Sequence[Incoming]) -> list[Any]:
    return [incoming.key for incoming in found]


def test_each_row_is_a_document_with_its_place_in_the_file() -> None:
    found = documents('name,email\r\nAda,ada@example.org\r\n\r\n,\r\n"B\nb",b@example.org\r\n')

    assert [(incoming.ordinal, incoming.row, dict(incoming.body)) for incoming in found] == [
        (1, 2, {"name": "Ada", "email": "ada@example.org"}),
        (2, 5, {"name": "B\nb", "email": "b@example.org"}),
    ]
    assert keys(found) == [None, None]


def test_a_workbook_is_read_as_a_table_too() -> None:
    workbook = openpyxl.Workbook()
    workbook.active.append(["age", "name", "email"])  # type: ignore[union-attr]
    workbook.active.append([36, "Ada", "ada@example.org"])  # type: ignore[union-attr]
    file = io.BytesIO()
    workbook.save(file)

    [ada] = documents(file.getvalue(), "xlsx")

    assert (ada.row, ada.body) == (2, {"age": 36, "name": "Ada", "email": "ada@example.org"})


def test_each_line_is_a_document_without_the_servers_fields() -> None:
    file = lines({"id": "1", "name": "Ada", "revision": 7}) + b"\n" + lines({"age": 1.0, "nothing": 1, "tags": "x"})

    first, second = documents(file, "ndjson", mode="upsert")

    assert (first.ordinal, first.row, first.body, first.key) == (1, 1, {"name": "Ada"}, "1")
    assert (second.ordinal, second.row, second.key) == (2, 3, None)
    assert [(fault.code, fault.pointer) for fault in second.faults] == [
        ("int_type", "/age"),
        ("unknown_field", "/nothing"),
    ]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{\n", "invalid_json"),
        (b"[1]", "object_expected"),
        (b'{"a": 1, "a": 2}', "invalid_json"),
        (b"null", "object_expected"),
    ],
)
def test_a_line_that_is_no_object_is_at_fault_and_no_other(line: bytes, code: str) -> None:
    good, bad = documents(lines({"name": "Ada"}) + line, "ndjson")

    assert [fault.code for fault in bad.faults] == [code]
    assert bad.rows == [(2, [line.decode().strip()])]
    assert good.faults == []


# By what a row finds its document


def test_a_row_finds_its_document_by_id_or_by_the_key_that_was_asked_for() -> None:
    file = "id,name,email\r\n1,Ada,ADA@example.org\r\n,Bob,\r\n"

    assert keys(documents(file, mode="upsert")) == ["1", None]
    assert keys(documents(file, mode="upsert", key="email")) == ["ADA@example.org", None]
    assert keys(documents('id,name\r\n"",Ada\r\n', mode="upsert")) == [None]


@pytest.mark.parametrize(
    ("options", "column"), [({"mode": "upsert"}, "id"), ({"mode": "upsert", "key": "email"}, "email")]
)
def test_the_column_by_which_rows_find_their_documents_is_there(options: dict[str, Any], column: str) -> None:
    assert refused("name\r\nAda\r\n", **options) == [("missing_column", None, column)]


def test_a_key_means_nothing_to_new_documents_of_one_row() -> None:
    with pytest.raises(InvalidQueryError), opened("name,email\r\nAda,a@example.org\r\n", key="email"):
        pass


# Rows of one document


def test_rows_that_follow_each_other_with_one_key_are_one_document() -> None:
    file = HEAD + "1,A,a@x.de,s,c,DE\r\n1,A,a@x.de,t,d,DE\r\n2,B,b@x.de,,,\r\n1,C,c@x.de,u,e,DE\r\n"

    found = documents(file)

    assert [(one.ordinal, [number for number, _ in one.rows]) for one in found] == [(1, [2, 3]), (3, [4]), (4, [5])]
    assert [len((one.body["profile"] or {"addresses": []})["addresses"]) for one in found] == [2, 0, 1]


def test_rows_without_a_key_are_documents_of_their_own() -> None:
    file = HEAD + ',A,a@x.de,s,c,DE\r\n,A,a@x.de,t,d,DE\r\n"",A,a@x.de,t,d,DE\r\n"",A,a@x.de,t,d,DE\r\n'

    assert [one.ordinal for one in documents(file)] == [1, 2, 3, 4]


def test_rows_of_one_document_are_told_by_the_first_key_that_the_file_has() -> None:
    file = "name,email,tags\r\nA,a@x.de,x\r\nA,a@x.de,y\r\nB,b@x.de,z\r\n"

    assert [one.body["tags"] for one in documents(file, explode="tags")] == [["x", "y"], ["z"]]
    assert refused("name,email,tags\r\n", explode="tags", key="id") == [("missing_column", None, "id")]


def test_a_document_stays_whole_where_a_part_ends() -> None:
    rows = [f"{number // 3},A,{number // 3}@x.de,s,c,DE\r\n" for number in range(PART_ROWS * 3)]

    with opened(HEAD + "".join(rows)) as source:
        parts = list(documents_of(source))

    assert [incoming.ordinal for part in parts for incoming in part] == list(range(1, PART_ROWS * 3, 3))
    assert all(len(incoming.rows) == 3 for part in parts for incoming in part)
    assert len(parts) > 1


# The file as a whole


def test_the_documents_can_be_read_again() -> None:
    with opened("name,email\r\nAda,ada@example.org\r\nBob,b@example.org\r\n") as source:
        first = list(documents_of(source))
        some = documents_of(source)
        next(some)
        some.close()

        assert list(documents_of(source)) == first
        assert source.row_count == 2


def test_parts_are_small() -> None:
    many = "name,email\r\n" + "".join(f"n,{number}@x.de\r\n" for number in range(2 * PART_ROWS + 1))
    long = "name,email\r\n" + f"{'n' * (PART_BYTES // 2)},e\r\n" * 5

    with opened(many) as source:
        assert [len(part) for part in documents_of(source)] == [PART_ROWS, PART_ROWS, 1]
    with opened(long) as source:
        assert max(len(part) for part in documents_of(source)) <= 3


def test_there_are_not_more_rows_than_allowed() -> None:
    file = "name,email\r\nAda,a@x.de\r\n\r\nBob,b@x.de\r\n"

    assert len(documents(file, max_rows=2)) == 2
    assert refused(file, max_rows=1) == [("too_many_rows", 4, None)]
    assert refused(lines({}, {}), "ndjson", max_rows=1) == [("too_many_rows", 2, None)]


def test_the_rows_of_one_document_are_no_larger_than_a_document() -> None:
    street = "x" * 1_000_000
    rows = "".join(f"1,A,a@x.de,{street},c,DE\r\n" for _ in range(18))

    assert refused(HEAD + rows) == [("document_too_large", 18, None)]


@pytest.mark.parametrize("content", ["", "\r\n", 'name,email\r\nAda,ada@example.org\r\n"Bob', "name,email\r\nAda"])
def test_a_file_that_is_broken_anywhere_is_refused_before_its_first_document(content: str) -> None:
    assert len(refused(content)) == 1


def test_a_header_alone_is_refused() -> None:
    assert refused("name,email\r\n") == [("no_rows", None, None)]


# Where a fault is


def test_a_fault_in_a_table_is_at_its_column() -> None:
    with opened('name,email,tags,age\r\nAda,x,"[""a"",7]",36\r\n') as source:
        [[ada]] = documents_of(source)
        place_of = source.decoding.place_of

        assert place_of(ada, Fault("c", "m", column="age")) == ("age", "36")
        assert place_of(ada, Fault("c", "m", "/email")) == ("email", "x")
        assert place_of(ada, Fault("c", "m", "/tags/1")) == ("tags", '["a",7]')
        assert place_of(ada, Fault("c", "m", "/profile/bio")) == ("profile.bio", None)
        assert place_of(ada, Fault("c", "m")) == (None, None)


def test_a_fault_in_one_of_a_documents_rows_is_shown_as_that_row_has_it() -> None:
    with opened(HEAD + "1,A,a@x.de,s,c,DE\r\n1,A,a@x.de,t,d,Germany\r\n") as source:
        [[found]] = documents_of(source)

        assert source.decoding.place_of(found, Fault("c", "m", "/profile/addresses/1/country")) == (
            "profile.addresses.country",
            "Germany",
        )


def test_a_fault_in_a_line_is_at_its_pointer() -> None:
    with opened(lines({"name": "Ada", "tags": ["a", 7], "id": "x"}), "ndjson") as source:
        [[ada]] = documents_of(source)
        place_of = source.decoding.place_of

        assert place_of(ada, Fault("c", "m", "/tags/1")) == ("/tags/1", 7)
        assert place_of(ada, Fault("c", "m", "/email")) == ("/email", None)
        assert place_of(ada, Fault("c", "m", "/name/0")) == ("/name/0", None)
        assert place_of(ada, Fault("c", "m", "/id")) == ("/id", "x")
        assert place_of(ada, Fault("c", "m", "")) == ("", None)


@settings(max_examples=50)
@given(st.lists(bodies_of(EVERYTHINGS), min_size=1, max_size=4))
def test_lines_are_the_bodies_that_they_say(bodies: list[dict[str, Any]]) -> None:
    found = documents(lines(*bodies), "ndjson", document_type=EVERYTHINGS)

    assert [(incoming.row, incoming.body, incoming.faults) for incoming in found] == [
        (number, body, []) for number, body in enumerate(bodies, start=1)
    ]
