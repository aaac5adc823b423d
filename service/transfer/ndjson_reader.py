"""Lines of NDJSON, read in constant memory."""

import json
from codecs import BOM_UTF8
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from service.transfer.decoding import refuse_file
from service.transfer.file_kinds import encoding_of, opening, read_head, refuse_foreign

MAX_LINE_BYTES = 2_097_152
"""Twice what a body has by default: what Python makes of a line may take fifty times its size."""


def read_ndjson(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers and without their ends; raises InvalidFileError."""
    _check_head(read_head(path))
    is_empty = True
    for number, line in _numbered_lines(path):
        if line.isspace():
            continue
        is_empty = False
        text = line.rstrip(b"\r\n")
        if text == line and not _is_complete(line):
            message = "The last line has no line break and is no complete JSON: the file seems to be cut off."
            refuse_file("file_cut_off", message, number)
        yield number, text
    if is_empty:
        refuse_file("empty_file", "The file has no lines with anything on them.")


def _check_head(head: bytes) -> None:
    refuse_foreign(head, "not_ndjson", "NDJSON")
    if encoding_of(head) == "utf-16":
        refuse_file("not_utf8", "The file is UTF-16; save it as UTF-8.")
    if opening(head) == "[":
        message = "The file is a JSON array, not NDJSON, which has each document on a line of its own, without commas."
        refuse_file("not_ndjson", f"{message} `jq -c '.[]'` makes one of the other.")


def _numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        if file.read(len(BOM_UTF8)) != BOM_UTF8:
            file.seek(0)
        for number, line in enumerate(iter(partial(file.readline, MAX_LINE_BYTES + 1), b""), 1):
            if len(line) > MAX_LINE_BYTES:
                refuse_file("line_too_long", f"This line is longer than {MAX_LINE_BYTES:,} bytes.", number)
            yield number, line


def _is_complete(line: bytes) -> bool:
    """Whether JSON ends where the line does; what is wrong with it otherwise is for others to say."""
    try:
        json.loads(line.decode(errors="replace"), strict=False)
    except json.JSONDecodeError:
        return False
    except (ValueError, RecursionError):  # a number of too many digits, too many levels
        return True
    return True
