"""A file on its way to its place, where it stands under its name only when it is whole."""

import asyncio
import hashlib
import os
import secrets
import shutil
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from service.cli.terminal import CommandError


class Incoming(Protocol):
    """An export, wherever it is made."""

    @property
    def chunks(self) -> AsyncIterator[bytes]:
        """The file; an error, where it breaks off."""

    def progress(self) -> AsyncIterator[int]:
        """How many rows are made, now and then."""

    async def count(self) -> int | None:
        """How many rows there will be; None where nobody can say that in time."""

    async def record(self) -> Mapping[str, Any]:
        """What is kept of it where it was made, see `Export`."""


@contextmanager
def draft_of(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when all went well; else nothing has changed there.

    Raises CommandError where it cannot be written.
    """
    place = path.resolve()  # what a link leads to is replaced, not the link
    draft = place.with_name(f".dossier-{secrets.token_hex(8)}.part")
    try:
        try:
            with draft.open("xb") as file:
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


async def receive(source: AbstractAsyncContextManager[Incoming], file: BinaryIO, title: str) -> Mapping[str, Any]:
    """Write all of an export there, showing how far it is; its record. Raises CommandError where the two differ."""
    sha256, size = hashlib.sha256(), 0
    this = asyncio.current_task()
    async with source as incoming:
        async with _shown(incoming, title):
            async for chunk in incoming.chunks:
                if this is not None and this.cancelling():
                    raise asyncio.CancelledError  # again: Python 3.11's wait_for, in the driver, can lose it
                file.write(chunk)
                sha256.update(chunk)
                size += len(chunk)
        record = await incoming.record()
        _compare(record, size, sha256.hexdigest())
    return record


def _compare(record: Mapping[str, Any], size: int, sha256: str) -> None:
    if record["state"] != "complete":
        raise CommandError(f"the file is not whole: its export is {record['state']}")
    if (record["bytes"], record["sha256"]) != (size, sha256):
        raise CommandError(
            f"the file is not what was exported: {size} bytes with SHA-256 {sha256} came,"
            f" of {record['bytes']} with {record['sha256']}"
        )


@asynccontextmanager
async def _shown(incoming: Incoming, title: str) -> AsyncIterator[None]:
    """A bar for a person, meanwhile. That it knows nothing is no reason to give the file up."""
    if not sys.stderr.isatty():
        yield
        return
    columns = (TextColumn("{task.description}"), BarColumn(), _Rows(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(title, total=None)

        async def count() -> None:
            progress.update(bar, total=await incoming.count())

        async def follow() -> None:
            async for rows in incoming.progress():
                progress.update(bar, completed=rows)

        watching = [asyncio.create_task(count()), asyncio.create_task(follow())]
        try:
            yield
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)


class _Rows(ProgressColumn):
    def render(self, task: Task) -> Text:
        """So many of so many."""
        return Text(f"{task.completed:,.0f}" + (f" of {task.total:,.0f}" if task.total else "") + " rows")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """How quickly they come."""
        return Text(f"{task.speed:,.0f} rows/s" if task.speed else "")
