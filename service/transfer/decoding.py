"""What files that come in are read as: rows of cells, each cell as the file has it, with nothing of a document type."""

from collections.abc import Iterator, Sequence
from typing import NoReturn

from service.errors import Fault, InvalidFileError

Cell = str | bool | float | bytes | None
"""Text, which a number is too, as it is written; a truth value; a moment, in days since 1899-12-30; nothing; or what a
formula came to that cannot be computed, `#N/A`, as bytes, so that no field takes it for a text."""

Row = tuple[int, Sequence[Cell]]
"""The row's number, as a spreadsheet shows it, and its cells."""

Rows = Iterator[Row]
"""The header first; rows with nothing in them are left out. Whoever leaves early closes it."""

MAX_COLUMNS = 1000
MAX_CELL_LENGTH = 1_048_576
"""In characters."""


def refuse_file(code: str, message: str, row: int | None = None, column: str | None = None) -> NoReturn:
    """Raise InvalidFileError for what makes the whole file unreadable; `row` as a spreadsheet shows it."""
    raise InvalidFileError([Fault(code, message, row=row, column=column)])
