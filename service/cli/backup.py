"""`dossier backup` and `dossier restore`."""

import asyncio
import time
from contextlib import AbstractAsyncContextManager, aclosing, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, get_args

import typer
from rich.filesize import decimal

from service.app import OWN_CLASSES
from service.cli import mongo_tools
from service.cli.environment import COMMAND_LINE, read_settings, with_database
from service.cli.output import check_place, draft_of
from service.cli.progress import Update, progress_bar
from service.cli.terminal import CommandError, heed_every_signal, stop_if_interrupted
from service.documents.registry import registered_types
from service.observability.logs import configure_logging
from service.settings import Settings
from service.store.audit_records import Action, Actor, AuditEvent, AuditTrail
from service.store.backup import (
    INSERT_BYTES,
    INSERT_DOCUMENTS,
    end_sign_ins,
    full_collections,
    read_database,
    restoration,
)
from service.store.database import Database, open_database
from service.store.preparation import open_ready_database
from service.transfer.archive import Archive, ArchiveWriter, Manifest, is_archive

Tool = Literal["mongodump", "driver"]

WholeSet = Annotated[
    bool,
    typer.Option("--whole-set", help="All databases of the set as of one moment, by mongodump and its oplog."),
]


def back_up(
    file: Annotated[Path, typer.Argument(help="The file, which is there once it is whole.")],
    *,
    tool: Annotated[
        Tool | None,
        typer.Option(help=f"{' or '.join(get_args(Tool))}; by default mongodump where it is installed."),
    ] = None,
    whole_set: WholeSet = False,
) -> None:
    """Write all that the database keeps into one file, for `dossier restore`."""
    heed_every_signal()
    check_place(file)
    if whole_set and tool == "driver":
        raise CommandError("--whole-set takes mongodump")
    is_dumped = whole_set or tool == "mongodump" or (tool is None and mongo_tools.find_program("mongodump") is not None)
    configure_logging("critical")  # a person wants one line at the end
    started = time.monotonic()
    with with_database(read_settings()) as settings, draft_of(file, mode=0o600) as draft:
        if is_dumped:
            asyncio.run(_note(settings, "backup", file))
            mongo_tools.dump(settings, draft, whole_set=whole_set)
            said = "by mongodump"
        else:
            manifest = asyncio.run(_write(settings, draft, file))
            said = f"{manifest.documents:,} documents of {len(manifest.collections)} collections"
    digest = mongo_tools.digest_of(file)
    if is_dumped:
        with draft_of(mongo_tools.digest_file(file)) as beside:
            beside.write(f"{digest}  {file.name}\n".encode())
    seconds = time.monotonic() - started
    print(f"{file}: {said}, {decimal(file.stat().st_size)}, {seconds:.1f} s, SHA-256 {digest}")


async def _write(settings: Settings, draft: BinaryIO, file: Path) -> Manifest:
    done, begun_at = 0, datetime.now(UTC)
    with ArchiveWriter(draft) as archive, progress_bar(file.name, "documents") as update:
        async with open_database(settings, [AuditEvent]) as database:
            await _audit(settings).note("backup", Actor(COMMAND_LINE), target=file.name)
            reading = read_database(database.handle, settings.operation_timeout_seconds)
            async with aclosing(reading) as collections:
                async for name, batches in collections:
                    with archive.collection(name) as add:
                        async for batch in batches:
                            stop_if_interrupted()
                            done += await asyncio.to_thread(add, batch)
                            _show(update, done)
        return archive.finish(version=version("dossier"), database=settings.mongodb_database, begun_at=begun_at)


def restore(
    file: Annotated[Path, typer.Argument(help="What `dossier backup` wrote.")],
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of what the database has; else that must be nothing.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Only read it whole, and say whether it is.")] = False,
    whole_set: WholeSet = False,
    bypass_validators: Annotated[
        bool, typer.Option("--bypass-validators", help="Put back what the collections' validators would refuse, too.")
    ] = False,
) -> None:
    """Put back what `dossier backup` wrote, once it is certain to be whole; services are stopped meanwhile."""
    heed_every_signal()
    configure_logging("critical")
    started = time.monotonic()
    asked = _Asked(file, replace=replace, check=check, whole_set=whole_set, bypass_validators=bypass_validators)
    try:
        if is_archive(file) and not whole_set:
            made = _restore_archive(asked)
        elif mongo_tools.is_dump(file):
            made = _restore_dump(asked)
        else:
            raise CommandError(f"{file} is no backup" + (" of a whole set" if whole_set else ""))
    except OSError as error:
        raise CommandError(f"cannot read {file}: {error.strerror or error}") from error
    became = "whole" if check else "restored, and everybody signs in anew"
    print(f"{file}: {made}, {became}, {time.monotonic() - started:.1f} s")


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is to be restored, and how."""

    file: Path
    replace: bool
    check: bool
    whole_set: bool
    bypass_validators: bool


def _restore_archive(asked: _Asked) -> str:
    with closing(Archive(asked.file)) as archive:
        archive.check()
        if not asked.check:
            with with_database(read_settings()) as settings:
                asyncio.run(_put_back(settings, archive, asked))
        return f"{archive.manifest.documents:,} documents of {archive.manifest.begun_at:%Y-%m-%d %H:%M:%S} UTC"


def _restore_dump(asked: _Asked) -> str:
    mongo_tools.check_digest(asked.file)
    if not asked.check:
        with with_database(read_settings()) as settings:
            if not asked.replace:
                _refuse_over(asyncio.run(_full(settings)))
            with asked.file.open("rb") as opened:
                mongo_tools.restore(
                    settings,
                    opened,
                    replace=asked.replace,
                    whole_set=asked.whole_set,
                    bypass_validators=asked.bypass_validators,
                )
            if not asyncio.run(_full(settings)):
                name = settings.mongodb_database
                raise CommandError(f"mongorestore has put nothing into {name}: {asked.file} is of another database")
            asyncio.run(_finish_dump(settings, asked.file))
    return "an archive of mongodump"


async def _put_back(settings: Settings, archive: Archive, asked: _Asked) -> None:
    manifest, seconds, bypass = archive.manifest, settings.operation_timeout_seconds, asked.bypass_validators
    with progress_bar(asked.file.name, "documents", manifest.documents) as update:
        async with (
            _open(settings) as database,
            restoration(database.handle, seconds, bypasses_validators=bypass) as restoring,
        ):
            if not asked.replace:
                _refuse_over(await full_collections(database.handle, seconds))
            done = 0
            for member in manifest.collections:
                await restoring.begin(member.name)
                for documents in archive.documents(member.name, INSERT_DOCUMENTS, INSERT_BYTES):
                    stop_if_interrupted()
                    await restoring.write(member.name, documents)
                    done += len(documents)
                    _show(update, done)
            await restoring.publish()
            await _finish(settings, database, asked.file)


async def _full(settings: Settings) -> list[str]:
    async with open_database(settings, [AuditEvent]) as database:
        return await full_collections(database.handle, settings.operation_timeout_seconds)


async def _finish_dump(settings: Settings, file: Path) -> None:
    async with _open(settings) as database:
        await _finish(settings, database, file)


async def _finish(settings: Settings, database: Database, file: Path) -> None:
    await end_sign_ins(database.handle, settings.operation_timeout_seconds)
    await _audit(settings).note("restore", Actor(COMMAND_LINE), target=file.name)


def _open(settings: Settings) -> AbstractAsyncContextManager[Database]:
    """The database, with all that a start of the service makes ready there."""
    return open_ready_database(settings, registered_types(), OWN_CLASSES)


def _refuse_over(full: list[str]) -> None:
    """Raise CommandError where a database has documents, which nobody has said may go."""
    if full:
        raise CommandError(f"there are documents in {', '.join(full)}; --replace puts the backup in their place")


def _show(update: Update | None, done: int) -> None:
    if update is not None:
        update(completed=done)


async def _note(settings: Settings, action: Action, file: Path) -> None:
    async with open_database(settings, [AuditEvent]):
        await _audit(settings).note(action, Actor(COMMAND_LINE), target=file.name)


def _audit(settings: Settings) -> AuditTrail:
    return AuditTrail(settings.audit_days, settings.operation_timeout_seconds)
