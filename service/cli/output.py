"""Where a file that a command makes goes: its place, its format, and nothing there until it is whole."""

import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from service.cli.terminal import CommandError

Name = TypeVar("Name", bound=str)


def chosen_format(output: Path, format_name: str | None, formats: Collection[Name]) -> Name:
    """The format that is named, or else how the file's name ends. Raises CommandError."""
    wanted = output.suffix.removeprefix(".").lower() if format_name is None else format_name
    for name in formats:
        if name == wanted:
            return name
    wrong = f"{output} does not end in a format" if format_name is None else f"there is no format {format_name!r}"
    raise CommandError(f"{wrong}; one of {', '.join(formats)} is expected, in the name or as --format")


def check_place(output: Path) -> None:
    """Refuse, before anybody is asked, what could never be written."""
    place = output.resolve()
    if not place.parent.is_dir():
        raise CommandError(f"there is no directory {place.parent}")
    if place.exists() and not place.is_file():
        raise CommandError(f"{output} is there already, and is no file")


@contextmanager
def draft_of(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when all went well; else nothing has changed there.

    `mode` is what a new file may be used for, less the umask. Raises CommandError where it cannot be written.
    """
    place = path.resolve()  # what a link leads to is replaced, not the link
    draft = place.with_name(f".dossier-{secrets.token_hex(8)}.part")
    try:
        try:
            with open(draft, "xb", opener=partial(os.open, mode=mode)) as file:
                if place.exists():
                    shutil.copymode(place, draft)
                yield file
                file.flush()
                os.fsync(file.fileno())
            draft.replace(place)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror or error}") from error
