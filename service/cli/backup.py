"""`dossier backup` and `dossier restore`."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, closing, contextmanager
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
from service.cli.terminal import (
    CommandError,
    heed_every_signal,
    line_of,
    stop_if_interrupted,
    uninterrupted,
    warn,
)
from service.documents.registry import registered_types
from service.errors import ServiceError
from service.observability.logs import configure_logging
from service.settings import Settings
from service.store.audit_records import Action, Actor, AuditEvent, AuditTrail
from service.store.backup import (
    INSERT_BYTES,
    INSERT_DOCUMENTS,
    Restoration,
    drop_collections,
    end_sign_ins,
    forget_partial,
    full_collections,
    is_partly_restored,
    kept_collections,
    read_database,
    restoration,
)
from service.store.database import Database, open_database
from service.store.embedded import has_data
from service.store.leases import PREPARATION, exclusive
from service.store.preparation import classes_of, prepare, wanted_collections
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
    with _present_database() as settings:
        if is_dumped:
            asyncio.run(_note_backup(settings, file))
            digest = mongo_tools.dump(settings, file, whole_set=whole_set)
            said = "by mongodump"
        else:
            with draft_of(file, mode=0o600) as draft:
                manifest = asyncio.run(_write(settings, draft, file))
            digest = mongo_tools.digest_of(file)
            said = f"{manifest.documents:,} documents of {len(manifest.collections)} collections"
    seconds = time.monotonic() - started
    print(f"{file}: {said}, {decimal(file.stat().st_size)}, {seconds:.1f} s, SHA-256 {digest}")


async def _write(settings: Settings, draft: BinaryIO, file: Path) -> Manifest:
    done, begun_at = 0, datetime.now(UTC)
    with ArchiveWriter(draft) as archive, progress_bar(file.name, "documents") as update:
        async with open_database(settings, [AuditEvent]) as database:
            await _note(settings, "backup", file)
            reading = read_database(database.handle, settings.operation_timeout_seconds)
            async with aclosing(reading) as collections:
                async for name, batches in collections:
                    with archive.collection(name) as add:
                        async for batch in batches:
                            stop_if_interrupted()
                            done += await asyncio.to_thread(add, batch)
                            _show(update, done)
        return archive.finish(version=version("dossier"), database=settings.mongodb_database, begun_at=begun_at)


@contextmanager
def _present_database() -> Iterator[Settings]:
    """One that is there. Raises CommandError where a new one would be started, as in a folder that is not meant."""
    settings = read_settings()
    if settings.mongodb_uri is None and not has_data(settings.data_dir):
        raise CommandError(
            f"DOSSIER_MONGODB_URI is not set, and {settings.data_dir.resolve()} has no MongoDB;"
            " settings are those of the environment, and of .env in the folder where this runs"
        )
    with with_database(settings) as complete:
        yield complete


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
            with _present_database() as settings:
                asyncio.run(_put_back(settings, archive, asked))
        return f"{archive.manifest.documents:,} documents of {archive.manifest.begun_at:%Y-%m-%d %H:%M:%S} UTC"


def _restore_dump(asked: _Asked) -> str:
    origin = mongo_tools.check_digest(asked.file)
    if not asked.check:
        with _present_database() as settings:
            before = asyncio.run(_collections_before(settings, asked))
            with asked.file.open("rb") as opened:
                mongo_tools.restore(
                    settings,
                    opened,
                    origin=origin,
                    replace=asked.replace,
                    whole_set=asked.whole_set,
                    bypass_validators=asked.bypass_validators,
                )
            asyncio.run(_finish_dump(settings, asked, before))
    return "an archive of mongodump"


async def _put_back(settings: Settings, archive: Archive, asked: _Asked) -> None:
    manifest, seconds, bypass = archive.manifest, settings.operation_timeout_seconds, asked.bypass_validators
    async with _open(settings) as database:
        wanted = wanted_collections(registered_types(), OWN_CLASSES)
        is_repeated = await is_partly_restored(database.handle, manifest.digest, seconds)
        if not (asked.replace or is_repeated):
            _refuse_over(await full_collections(database.handle, seconds))
        async with restoration(database.handle, seconds, wanted, bypasses_validators=bypass) as restoring:
            with progress_bar(asked.file.name, "documents", manifest.documents) as update:
                done = 0
                for member in manifest.collections:
                    await restoring.begin(member.name)
                    for documents in archive.documents(member.name, INSERT_DOCUMENTS, INSERT_BYTES):
                        stop_if_interrupted()
                        await restoring.write(member.name, documents)
                        done += len(documents)
                        _show(update, done)
            with uninterrupted():
                stop_if_interrupted()
                await _publish(restoring, manifest.digest, replaces=asked.replace)
        await _finish(settings, database, asked.file)


async def _publish(restoring: Restoration, digest: str, *, replaces: bool) -> None:
    try:
        await restoring.publish(digest, replaces=replaces)
    except ServiceError as error:
        if not restoring.is_partial:
            raise
        raise CommandError(f"partly restored: run it again; {line_of(error)}") from error


async def _collections_before(settings: Settings, asked: _Asked) -> Mapping[str, bytes]:
    """Those that there are before mongorestore."""
    async with open_database(settings, [AuditEvent]) as database:
        if not asked.replace:
            _refuse_over(await full_collections(database.handle, settings.operation_timeout_seconds))
        return await kept_collections(database.handle, settings.operation_timeout_seconds)


async def _finish_dump(settings: Settings, asked: _Asked, before: Mapping[str, bytes]) -> None:
    """Do what mongorestore does not. It makes those collections anew that it replaces."""
    seconds = settings.operation_timeout_seconds
    async with _open(settings) as database:
        present = await kept_collections(database.handle, seconds)
        lacked = [name for name, uuid in present.items() if before.get(name) == uuid]
        full = await full_collections(database.handle, seconds)
        if not (set(full) - set(lacked) if asked.replace else full):
            name = settings.mongodb_database
            raise CommandError(f"mongorestore has put nothing into {name}: {asked.file} is of another database")
        if asked.replace:
            await drop_collections(database.handle, lacked, seconds)
        await end_sign_ins(database.handle, seconds)
        await forget_partial(database.handle, seconds)
        await _finish(settings, database, asked.file)


async def _finish(settings: Settings, database: Database, file: Path) -> None:
    async with exclusive(database.handle, PREPARATION, settings.operation_timeout_seconds):
        await prepare(database, registered_types(), OWN_CLASSES)
    await _note(settings, "restore", file)


def _open(settings: Settings) -> AbstractAsyncContextManager[Database]:
    """The database as it is, which a start might refuse."""
    return open_database(settings, classes_of(registered_types(), OWN_CLASSES))


def _refuse_over(full: list[str]) -> None:
    """Raise CommandError where a database has documents, which nobody has said may go."""
    if full:
        raise CommandError(f"there are documents in {', '.join(full)}; --replace puts the backup in their place")


def _show(update: Update | None, done: int) -> None:
    if update is not None:
        update(completed=done)


async def _note_backup(settings: Settings, file: Path) -> None:
    async with open_database(settings, [AuditEvent]):
        await _note(settings, "backup", file)


async def _note(settings: Settings, action: Action, file: Path) -> None:
    trail = AuditTrail(settings.audit_days, settings.operation_timeout_seconds)
    if not await trail.note(action, Actor(COMMAND_LINE), target=file.name):
        warn(f"the audit trail has no event of this {action}: the user of DOSSIER_MONGODB_URI has to insert into audit")
