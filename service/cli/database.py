"""`dossier database`: what MongoDB has, and how it finds it."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from service.api.parameters import parse_parameters
from service.auth.accounts import Account
from service.cli.environment import find_type, open_repository, read_settings, with_database
from service.cli.terminal import CommandError, print_table, printable
from service.documents.registry import registered_types
from service.settings import Settings
from service.store.database import open_database
from service.store.indexes import IndexState, compare_indexes, create_missing
from service.store.migrations import FOLDER, Course, Direction, MigrationError, Migrator, Step
from service.store.query import read_list_query
from service.store.validators import Refused, ValidatorState, apply_validators, compare_validators, find_refused

app = typer.Typer(no_args_is_help=True, help="What MongoDB has, and how it finds it.")


@app.command("indexes")
def show_indexes(
    *,
    apply: Annotated[
        bool, typer.Option("--apply", help="Create those that are missing; none is ever dropped.")
    ] = False,
) -> None:
    """Compare the indexes that the types want with those that the database has."""

    async def compare(settings: Settings) -> list[IndexState]:
        states: list[IndexState] = []
        async with open_database(settings, [Account], creates_indexes=False) as database:
            for document_type in registered_types():
                timeout = settings.operation_timeout_seconds
                found = await compare_indexes(database.handle, document_type, timeout)
                missing = {index.index_name for index in found if index.state == "missing"}
                if apply and missing:
                    await create_missing(database.handle, document_type, missing)
                    found = await compare_indexes(database.handle, document_type, timeout)
                states += found
        return states

    with with_database(read_settings()) as complete:
        states = asyncio.run(compare(complete))
    table = Table("type", "index", "keys", "state")
    for index in states:
        table.add_row(index.type_name, index.index_name, ", ".join(index.keys), index.state)
    print_table(table)


@app.command("validators")
def show_validators(
    *,
    apply: Annotated[bool, typer.Option("--apply", help="Install those that are missing or different.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Count the documents that they would not take; status 1 if there are any.")
    ] = False,
) -> None:
    """Compare the validators that the types want with those that the database has."""
    types = registered_types()

    async def compare(settings: Settings) -> tuple[list[ValidatorState], dict[str, Refused]]:
        seconds = settings.operation_timeout_seconds
        async with open_database(settings, [Account], creates_indexes=False) as database:
            if apply:
                await apply_validators(database.handle, types, seconds)
            states = await compare_validators(database.handle, types, seconds)
            checked = types if check else ()
            return states, {known.name: await find_refused(database.handle, known) for known in checked}

    with with_database(read_settings()) as complete:
        states, refused = asyncio.run(compare(complete))
    table = Table("type", "validator", *(["refused documents"] if check else []))
    for known in states:
        table.add_row(known.type_name, known.state, *([str(refused[known.type_name].count)] if check else []))
    print_table(table)
    if any(found.count for found in refused.values()):
        print_table(_examples(refused))
        raise SystemExit(1)


def _examples(refused: Mapping[str, Refused]) -> Table:
    table = Table("type", "for example", "place", "fault")
    for name, found in refused.items():
        for key, faults in found.examples.items():
            for fault in faults:
                table.add_row(name, key, fault.pointer, fault.message)
    return table


@app.command("migrate")
def migrate(
    *,
    backward: Annotated[bool, typer.Option("--backward", help="Take back what has been run, the last first.")] = False,
    distance: Annotated[
        int | None, typer.Option(min=1, help="How many migrations at most; by default forward all, backward one.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what has been run, and what would be.")] = False,
    transaction: Annotated[
        bool, typer.Option(help="Let each migration happen whole or not at all; MongoDB gives it 60 seconds.")
    ] = True,
    folder: Annotated[Path, typer.Option(help="Another folder of migrations.")] = FOLDER,
) -> None:
    """Change the documents that are there into what this release wants."""
    direction: Direction = "backward" if backward else "forward"
    course = Course(direction, distance, uses_transactions=transaction, folder=folder)

    async def follow(settings: Settings) -> list[Step]:
        async with open_database(settings, [Account], creates_indexes=False) as database:
            migrator = Migrator(database.handle, registered_types(), settings.operation_timeout_seconds)
            return await (migrator.plan(course) if dry_run else migrator.run(course))

    try:
        with with_database(read_settings()) as complete:
            steps = asyncio.run(follow(complete))
    except MigrationError as error:
        raise CommandError(printable(str(error))) from error
    table = Table("migration", "before", "this run")
    for step in steps:
        done = f"would run {direction}" if dry_run else f"has run {direction}"
        table.add_row(step.name, "has run" if step.has_run else "has not run", done if step.is_next else "")
    print_table(table)


@app.command("explain")
def explain_query(
    type_name: Annotated[str, typer.Argument(help="A type, such as users.")],
    query: Annotated[str, typer.Argument(help="A list's query string: 'age__gte=18&sort=name'.")] = "",
) -> None:
    """Show how MongoDB answers a list: its indexes, what it looks at, and how long that takes."""
    document_type = find_type(type_name)
    selection = read_list_query(document_type.whole, parse_parameters(query.encode(errors="surrogateescape"))).selection

    async def explain(settings: Settings) -> Mapping[str, Any]:
        async with open_database(settings, [document_type.document_class], creates_indexes=False):
            return await open_repository(settings, document_type).explain(selection)

    with with_database(read_settings()) as complete:
        plan = asyncio.run(explain(complete))
    statistics = plan["executionStats"]
    table = Table("stages", "indexes", "keys examined", "documents examined", "found", "milliseconds")
    stages = list(_stages(plan["queryPlanner"]["winningPlan"]))
    table.add_row(
        " < ".join(stage["stage"] for stage in stages),
        ", ".join(stage["indexName"] for stage in stages if "indexName" in stage) or "none",
        str(statistics["totalKeysExamined"]),
        str(statistics["totalDocsExamined"]),
        str(statistics["nReturned"]),
        str(statistics["executionTimeMillis"]),
    )
    print_table(table)


def _stages(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A plan's stages, from the last that works to the first."""
    inner = plan.get("queryPlan", plan)  # newer servers wrap it
    yield inner
    for child in [inner["inputStage"]] if "inputStage" in inner else inner.get("inputStages", []):
        yield from _stages(child)
