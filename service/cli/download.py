"""A file on its way here, compared with what was made."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, BinaryIO, Protocol

from service.cli.progress import Update, progress_shown
from service.cli.terminal import CommandError, stop_if_interrupted


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


async def receive(source: AbstractAsyncContextManager[Incoming], file: BinaryIO, title: str) -> Mapping[str, Any]:
    """Write all of an export there, showing how far it is; its record. Raises CommandError where the two differ."""
    sha256, size = hashlib.sha256(), 0
    async with source as incoming:

        async def count(update: Update) -> None:
            update(total=await incoming.count())

        async def follow(update: Update) -> None:
            async for rows in incoming.progress():
                update(completed=rows)

        async with progress_shown(title, "rows", count, follow):
            async for chunk in incoming.chunks:
                stop_if_interrupted()
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
