"""What a file is, told by how it begins: its format, its encoding, what divides its cells."""

import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from service.transfer.decoding import refuse_file
from service.transfer.encoding import DELIMITERS

FileKind = Literal["csv", "ndjson", "xlsx"]

SUFFIXES: Mapping[str, FileKind] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".xlsx": "xlsx",
}

HEAD_BYTES = 65_536
"""As much of a file as is looked at."""

ZIP = b"PK\x03\x04"

FOREIGN: Mapping[bytes, str] = {
    ZIP: "an Excel workbook or another zip file",
    b"PK\x05\x06": "an empty zip file",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an Excel workbook of the old kind (.xls), or one with a password",
    b"\x1f\x8b": "a gzip file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
    b"\xfd7zXZ\x00": "an xz file",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip file",
    b"Rar!\x1a\x07": "a RAR file",
    b"%PDF-": "a PDF document",
    b"{\\rtf": "an RTF document",
    b"PAR1\x15": "a Parquet file",
    b"SQLite format 3\x00": "an SQLite database",
    b"\x89PNG\r\n\x1a\n": "a picture",
    b"\xff\xd8\xff": "a picture",
}
"""What is often sent for text, by its first bytes, which no table of text would have."""

BOMS: Mapping[bytes, str] = {BOM_UTF8: "utf-8-sig", BOM_UTF16_LE: "utf-16", BOM_UTF16_BE: "utf-16"}

CANDIDATES = (*DELIMITERS.values(), "|")
QUOTED = re.compile(r'"[^"]*"?')
RECORD = re.compile(r"[^\r\n]+")


def read_head(path: Path) -> bytes:
    """As much of the file as the functions here want to see."""
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def named_kind(filename: str) -> FileKind | None:
    """What its name says that a file is."""
    return SUFFIXES.get(Path(filename).suffix.lower())


def kind_of(path: Path, said: FileKind | None) -> FileKind:
    """What a file is said to be, if it looks so; else what it looks like. Raises InvalidFileError."""
    head = read_head(path)
    if said is None:
        return file_kind(head)
    looks = file_kind(head) if opening(head) else said
    if looks != said and (said, looks) != ("ndjson", "csv"):  # of NDJSON, the first line alone may be wrong
        refuse_file("not_what_it_says", f"this is said to be {said.upper()}, and is none")
    return said


def file_kind(head: bytes) -> FileKind:
    """The format of a file that begins so; one that cannot be read is refused, by its name if it is known."""
    if head.startswith(ZIP):
        return "xlsx"
    refuse_foreign(head, "unknown_format", "what can be read: CSV, NDJSON or XLSX")
    return "ndjson" if opening(head) in {"{", "["} else "csv"


def refuse_foreign(head: bytes, code: str, wanted: str) -> None:
    """Refuse a file that is no text, or a page of HTML or XML, as some programs save what they call a table."""
    found = next((name for magic, name in FOREIGN.items() if head.startswith(magic)), None)
    if found is None and opening(head) == "<":
        found = "a web page or an XML document"
    if found:
        refuse_file(code, f"This is {found}, not {wanted}.")


def encoding_of(head: bytes) -> str:
    """UTF-16 where a byte order mark says so, as in Excel's "Unicode Text"; else UTF-8."""
    return next((encoding for bom, encoding in BOMS.items() if head.startswith(bom)), "utf-8")


def opening(head: bytes) -> str:
    """The first character that is no blank."""
    return _text(head).lstrip()[:1]


def delimiter_of(head: bytes) -> str:
    """What occurs most in the first record, outside of quotes; a comma if there is but one column."""
    record = RECORD.search(QUOTED.sub("", _text(head)))
    return max(CANDIDATES, key=record.group().count) if record else CANDIDATES[0]


def _text(head: bytes) -> str:
    return head.decode(encoding_of(head), "replace")
