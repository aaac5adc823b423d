"""Files that are no workbooks, broken ones, and those that were made to do harm."""

import struct
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidFileError
from service.transfer import package_reader
from service.transfer.deflate import crc32, deflate
from service.transfer.encoding import Piece
from service.transfer.zip_stream import ZipStream
from tests.unit.made_up_workbooks import (
    BOOK,
    BOOK_RELATED,
    HEADER,
    SHARED,
    SHEET,
    STYLES,
    book,
    by_hand,
    fault_of,
    parts_of,
    read,
    related,
    sheet_xml,
    styles,
    zipped,
)

LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'


@pytest.mark.parametrize("part", [SHEET, SHARED, STYLES, BOOK, BOOK_RELATED, "_rels/.rels"])
@pytest.mark.parametrize("declaration", [LAUGHS, '<!DOCTYPE x SYSTEM "file:///etc/hostname">', "<!DOCTYPE x>"])
def test_declarations_are_refused_in_each_part(part: str, declaration: str) -> None:
    parts = parts_of()

    fault = fault_of(zipped(parts | {part: f"{declaration}{parts[part]!s}"}))

    assert fault.code == "broken_file"
    assert "declares" in fault.message


@pytest.mark.parametrize("part", [SHEET, SHARED, STYLES, BOOK, BOOK_RELATED, "_rels/.rels"])
@pytest.mark.parametrize(
    ("xml", "why"),
    [
        ("<a><b></a>", "well-formed"),
        ("<a>&b;</a>", "well-formed"),
        ("<a>", "well-formed"),
        ("", "well-formed"),
        (b"<a>\xff</a>", "well-formed"),
        (b"<a/>\x00", "well-formed"),
        ("<a>" * 1000 + "</a>" * 1000, "deep"),
        (f"<a><!--{' ' * 3_000_000}--></a>", "tags"),
        (f'<a b="{" " * 3_000_000}"/>', "tags"),
        (f"<a>{''.join(f'<b{number}/>' for number in range(20_000))}</a>", "tags"),
        (f"<a>{''.join(f'<b xmlns:c{number}={chr(34)}d{chr(34)}/>' for number in range(20_000))}</a>", "tags"),
    ],
    ids=["unclosed", "entity", "short", "empty", "bytes", "nul", "deep", "comment", "attribute", "names", "prefixes"],
)
def test_xml_that_is_broken_or_endless_is_refused_in_each_part(part: str, xml: str | bytes, why: str) -> None:
    fault = fault_of(zipped(parts_of() | {part: xml}))

    assert fault.code == "broken_file"
    assert why in fault.message


@pytest.mark.parametrize(
    ("file", "code", "word"),
    [
        (b"", "not_a_workbook", ".xlsx"),
        (b"a,b\r\n1,2\r\n", "not_a_workbook", ".xlsx"),
        (by_hand()[:-30], "not_a_workbook", "cut short"),
        (by_hand()[300:], "broken_file", "start"),
        (bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600), "old_or_protected_file", "password"),
        (zipped({"a.txt": "a"}), "not_a_workbook", "zip"),
        (
            zipped(parts_of() | {"_rels/.rels": related(("a", "officeDocument", "xl/other.xml"))}),
            "not_a_workbook",
            "zip",
        ),
        (zipped({"_rels/.rels": "<a/>", "word/document.xml": "<a/>"}), "not_a_workbook", "a Word document"),
        (zipped({"_rels/.rels": "<a/>", "xl/workbook.bin": "a"}), "not_a_workbook", ".xlsb"),
        (zipped({"mimetype": "application/vnd.oasis.opendocument.spreadsheet"}), "not_a_workbook", ".ods"),
        (zipped(parts_of() | {BOOK: book()}), "broken_file", "no sheets"),
        (zipped({name: part for name, part in parts_of().items() if name != SHEET}), "broken_file", "sheet1.xml"),
        (
            zipped({name: part for name, part in parts_of().items() if name != SHARED}),
            "broken_file",
            "sharedstrings.xml",
        ),
        (zipped(parts_of() | {BOOK_RELATED: related()}), "broken_file", "missing"),
        (
            zipped(parts_of() | {BOOK_RELATED: related(("r0", "worksheet", "../../../etc/passwd"))}),
            "broken_file",
            "missing",
        ),
        (zipped(parts_of() | {"XL/Workbook.xml": "<a/>"}), "broken_file", "same name"),
        (zipped(parts_of(), zipfile.ZIP_LZMA), "broken_file", "compressed"),
        (by_hand(""), "empty_file", "header"),
        (zipped(parts_of() | {SHEET: "<chartsheet/>"}), "empty_file", "header"),
        (zipped(parts_of() | {f"{number}": "" for number in range(10_000)}), "file_too_large_inside", "parts"),
        (zipped(parts_of() | {f"{number:0900}": "" for number in range(9_000)}), "file_too_large_inside", "parts"),
        (zipped(parts_of() | {STYLES: f"<a>{' ' * 2**24}</a>"}), "file_too_large_inside", "16 MiB"),
        (zipped(parts_of() | {STYLES: styles(*[14] * 100_001)}), "file_too_large_inside", "100,000"),
    ],
)
def test_a_file_that_is_no_sound_workbook_is_refused(file: bytes, code: str, word: str) -> None:
    fault = fault_of(file)

    assert fault.code == code
    assert word in fault.message


def test_the_stated_size_of_a_sheet_is_not_believed() -> None:
    sheet = sheet_xml(HEADER).replace("<sheetData>", '<dimension ref="A1:XFD1048576"/><sheetData>')

    assert read(by_hand(others={SHEET: sheet})) == [(1, ["a", "b"])]


def test_a_file_with_a_password_in_the_zip_is_refused() -> None:
    file = bytearray(by_hand())
    file[file.index(b"PK\1\2") + 8] |= 1  # the flags of the first member

    assert fault_of(bytes(file)).code == "encrypted_file"


def test_two_members_of_one_name_are_refused() -> None:
    file = zipped(parts_of() | {"xl/worksheets/sheet2.xml": "<a/>"}).replace(b"sheet2.xml", b"sheet1.xml")

    assert "same name" in fault_of(file).message


@pytest.mark.parametrize(("size", "is_read"), [(60, True), (70, False)])
def test_a_file_that_is_nearly_nothing_may_not_become_large(size: int, is_read: bool) -> None:  # noqa: FBT001 - parametrized
    file = by_hand(HEADER + " " * (size * 2**20))

    if is_read:
        assert read(file) == [(1, ["a", "b"])]
    else:
        assert fault_of(file).code == "file_too_large_inside"


def test_gigabytes_of_nothing_are_refused_at_once() -> None:
    blanks = b" " * 2**24
    piece = Piece(deflate(blanks), 0, size=len(blanks), crc=crc32(blanks))
    archive = ZipStream()
    chunks = []
    for name, part in parts_of().items():
        chunks += [archive.open(name), archive.write(str(part).encode()), archive.close()]
    for name in ("blanks", "more blanks"):
        chunks += [archive.open(name), *(archive.add(piece) for _ in range(130)), archive.close()]
    file = b"".join([*chunks, archive.finish()])

    fault = fault_of(file)

    assert len(file) < 2**24
    assert fault.code == "file_too_large_inside"
    assert "unfolds" in fault.message


def test_a_part_that_is_read_again_and_again_counts_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_reader, "MAX_BYTES", 100_000)
    names = ["s", *(f"s {number}" for number in range(2, 50))]
    same = related(*((f"r{place}", "worksheet", "worksheets/sheet1.xml") for place in range(len(names))))
    file = by_hand(HEADER + " " * 10_000, {BOOK: book(*names), BOOK_RELATED: same})

    assert fault_of(file).code == "file_too_large_inside"


def test_a_member_that_is_larger_than_it_says_is_refused() -> None:
    sheet = sheet_xml(f"{HEADER}{' ' * 100_000}")
    file = by_hand(others={SHEET: sheet})

    lying = file.replace(struct.pack("<L", len(sheet)), struct.pack("<L", 1000))

    assert lying != file
    assert fault_of(lying).code == "broken_file"


def test_a_member_with_another_checksum_is_refused() -> None:
    file = zipped(parts_of(HEADER + "<row><c><v>12345</v></c></row>"), zipfile.ZIP_STORED)

    assert fault_of(file.replace(b"12345", b"12346")).code == "broken_file"


@given(st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=6), st.integers(0, 30))
@settings(max_examples=300)
def test_a_damaged_file_is_read_or_refused(changes: list[tuple[int, int]], cut: int) -> None:
    file = bytearray(DAMAGEABLE[: len(DAMAGEABLE) - cut] if cut < 5 else DAMAGEABLE)
    for place, byte in changes:
        file[place % len(file)] = byte

    try:
        read(bytes(file))
    except InvalidFileError as error:
        assert error.faults  # noqa: PT017 - either is right


DAMAGEABLE = by_hand(HEADER * 3, {SHARED: "<sst><si><t>a</t></si></sst>", STYLES: styles(0, 14)})
