"""Migrations by Beanie's own runner, over our client; each is one transaction, together with its entry in the log."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pymongo
from beanie import init_beanie
from beanie.migrations.controllers.base import BaseMigrationController
from beanie.migrations.database import DBHandler
from beanie.migrations.models import MigrationLog, RunningDirections, RunningMode
from beanie.migrations.runner import MigrationNode
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase

import service.migrations
from service.documents.registry import DocumentType
from service.errors import StartupError
from service.store.database import START_SECONDS, startup_errors
from service.store.failures import driver_errors, operation
from service.store.leases import LOCKS, PREPARATION, exclusive
from service.store.validators import apply_validators, collection_options, set_options

FOLDER = Path(service.migrations.__path__[0])
"""Where a release has its migrations."""

RUN_SECONDS = 86_400.0
"""Without a transaction, what goes through all documents takes its time."""

Direction = Literal["forward", "backward"]


class MigrationError(Exception):
    """A migration cannot be run, or failed, and this text says why."""


@dataclass(frozen=True, slots=True)
class Step:
    """One migration, by its file's name."""

    name: str
    has_run: bool
    is_next: bool
    """Whether it is among those that were asked for."""


@dataclass(frozen=True, slots=True)
class Course:
    """Which migrations are to be run."""

    direction: Direction = "forward"
    distance: int | None = None
    """How many at most; None: forward all, backward one."""
    uses_transactions: bool = True
    folder: Path = FOLDER

    @property
    def beanies_distance(self) -> int:
        """The same as Beanie counts: 0 is all."""
        return self.distance or (0 if self.direction == "forward" else 1)

    def steps(self, names: Sequence[str], current: str | None) -> list[Step]:
        """All migrations, in the order of their names."""
        done = names.index(current) + 1 if current else 0
        some = self.beanies_distance or len(names)
        following = range(done, done + some) if self.direction == "forward" else range(done - some, done)
        return [Step(name, place < done, place in following) for place, name in enumerate(names)]


async def heed_migrations(database: AsyncDatabase[dict[str, Any]], folder: Path = FOLDER) -> None:
    """Refuse documents that are of another release than these migrations. Raises StartupError.

    Where there are none, all migrations count as run: whatever comes will be of this release.
    """
    with startup_errors(database.client), pymongo.timeout(START_SECONDS):
        try:
            steps = Course(folder=folder).steps(_names_in(folder), await _last_run(database, folder))
        except MigrationError as error:
            raise StartupError(str(error)) from error
        waiting = [step.name for step in steps if not step.has_run]
        if not waiting:
            return
        for name in await database.list_collection_names(filter={"type": "collection"}):
            is_ours = name != LOCKS and not name.startswith("system.")
            if is_ours and await database[name].find_one({}, {"_id": 1}) is not None:
                raise StartupError(
                    f"the database has not had {', '.join(waiting)}: stop all services, run `dossier database migrate`"
                )
        entry = {"name": waiting[-1], "ts": datetime.now(UTC)}
        await database[_log_name()].update_one({"is_current": True}, {"$setOnInsert": entry}, upsert=True)


class Migrator:
    """Runs migrations on one database, and sees to it that only one process does."""

    def __init__(
        self, database: AsyncDatabase[dict[str, Any]], document_types: Sequence[DocumentType], timeout_seconds: float
    ) -> None:
        """`timeout_seconds` is for what is no migration itself."""
        self._database = database
        self._types = document_types
        self._timeout_seconds = timeout_seconds

    async def plan(self, course: Course) -> list[Step]:
        """What has been run, and what would be. Raises MigrationError."""
        return course.steps(_names_in(course.folder), await self._current(course))

    async def run(self, course: Course) -> list[Step]:
        """Run what has not been; what there was to be done. Raises MigrationError."""
        async with exclusive(self._database, PREPARATION, self._timeout_seconds):
            steps = await self.plan(course)
            if any(step.is_next for step in steps):
                async with self._without_validators(course):
                    await self._run(course)
        return steps

    async def _current(self, course: Course) -> str | None:
        """The last migration that has been run. Raises MigrationError where it is of another release."""
        with operation(self._timeout_seconds):
            return await _last_run(self._database, course.folder)

    async def _run(self, course: Course) -> None:
        mode = RunningMode(direction=RunningDirections(course.direction.upper()), distance=course.beanies_distance)
        with _beanie_uses(self._database), driver_errors(), pymongo.timeout(RUN_SECONDS):
            with _told_of("the migrations cannot be read"):
                root = await _Migration.build(course.folder)
                # Not by each migration in its transaction, as Beanie would, where to make an index waits for its end.
                await init_beanie(database=self._database, document_models=root.models(), skip_indexes=True)
            await root.run(mode, allow_index_dropping=False, use_transaction=course.uses_transactions)

    @asynccontextmanager
    async def _without_validators(self, course: Course) -> AsyncIterator[None]:
        """Have none in force, as documents are in between two releases.

        Afterwards those of this release are, if all of its migrations have been run; those from before, if nothing
        was; else none, until a start of the release that the documents are of.
        """
        before = await self._current(course)
        with operation(self._timeout_seconds):
            found = await collection_options(self._database, [known.name for known in self._types])
        levels = {name: _level(options) for name, options in found.items() if options.get("validator")}
        await self._set_levels(dict.fromkeys(levels, "off"))
        try:
            yield
        finally:
            after = await self._current(course)
            if after == before:
                await self._set_levels(levels)
            elif all(step.has_run for step in await self.plan(course)):
                await apply_validators(self._database, self._types, self._timeout_seconds)

    async def _set_levels(self, levels: Mapping[str, str]) -> None:
        for name, level in levels.items():
            await set_options(self._database, name, {"validationLevel": level}, self._timeout_seconds)


ROOT = "root"
"""What Beanie calls the state before the first migration."""


class _Migration(MigrationNode):
    """A migration that is noted in its own transaction, so that it is there or not, and is never run twice."""

    _expected = _result = ROOT

    def models(self) -> list[Any]:
        """The classes of all migrations."""
        first: MigrationNode = self
        while first.prev_migration is not None:
            first = first.prev_migration
        found: list[Any] = [MigrationLog]
        node: MigrationNode | None = first
        while node is not None:
            for cls in (node.forward_class, node.backward_class):
                members = [getattr(cls, name) for name in dir(cls)]
                controllers = [member for member in members if isinstance(member, BaseMigrationController)]
                found += [model for controller in controllers for model in controller.models]
            node = node.next_migration
        return list(dict.fromkeys(found))

    async def run_forward(self, allow_index_dropping: bool, use_transaction: bool) -> None:  # noqa: FBT001 - Beanie's
        """Run it, and have it noted as the last one that was."""
        assert self.prev_migration is not None
        self._expected, self._result = self.prev_migration.name, self.name
        await self._run(self.forward_class, allow_index_dropping, use_transaction)

    async def run_backward(self, allow_index_dropping: bool, use_transaction: bool) -> None:  # noqa: FBT001 - Beanie's
        """Take it back, and have the one before it noted."""
        if self.prev_migration is not None:
            self._expected, self._result = self.name, self.prev_migration.name
            await self._run(self.backward_class, allow_index_dropping, use_transaction)

    async def _run(self, cls: type | None, *options: bool) -> None:
        kept = "nothing of it is kept" if options[-1] else "what it has written is kept"
        with _told_of(f"migration {self.name} has failed, and {kept}"):
            await self.run_migration_class(cls or object, *options)

    async def run_migrations(
        self,
        migrations: list[BaseMigrationController],
        db: AsyncDatabase[dict[str, Any]],
        allow_index_dropping: bool,  # noqa: ARG002, FBT001 - Beanie's
        session: AsyncClientSession,
    ) -> None:
        """Do what it consists of, in this session."""
        # Two that get here at the same time both write the lock, so MongoDB breaks one off.
        await db[LOCKS].update_one({"_id": "migration"}, {"$inc": {"taken": 1}}, upsert=True, session=session)
        log = MigrationLog.get_pymongo_collection()
        found = await log.find_one({"is_current": True}, session=session)
        if (found["name"] if found else ROOT) != self._expected:
            raise RuntimeError("another process has run migrations in the meantime")
        for migration in migrations:
            await migration.run(session=session)  # type: ignore[no-untyped-call]
        await log.update_many({"is_current": True}, {"$set": {"is_current": False}}, session=session)
        await MigrationLog(name=self._result, is_current=True).insert(session=session)


@contextmanager
def _beanie_uses(database: AsyncDatabase[dict[str, Any]]) -> Iterator[None]:
    """Let Beanie's runner have our client, where its own command would open another."""
    handler: Any = DBHandler  # which has no types
    handler.client, handler.database = database.client, database
    try:
        yield
    finally:
        del handler.client, handler.database


@contextmanager
def _told_of(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()) or "no reason is given"
        raise MigrationError(f"{what}: {type(error).__name__}: {reason}") from error


async def _last_run(database: AsyncDatabase[dict[str, Any]], folder: Path) -> str | None:
    """The last migration that the database has had. Raises MigrationError where it is not of this folder."""
    found = await database[_log_name()].find_one({"is_current": True})
    name: str | None = found["name"] if found and found["name"] != ROOT else None
    if name is not None and name not in _names_in(folder):
        raise MigrationError(f"the database has had migration {name}, which is not in {folder}")
    return name


def _names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("[!_]*.py"))


def _log_name() -> str:
    return str(MigrationLog.Settings.name)


def _level(options: Mapping[str, Any]) -> str:
    return str(options.get("validationLevel", "strict"))
