"""`dossier import`."""

import asyncio
import hashlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from service.api.parameters import parse_parameters
from service.cli.client import ASK_SECONDS, address_of, refuse_sign_in, sign_in_with
from service.cli.environment import find_type, read_settings, with_database
from service.cli.import_targets import Record, Result, Target, into_database, into_service
from service.cli.output import check_place, draft_of
from service.cli.progress import Update, progress_shown
from service.cli.terminal import CommandError, heed_every_signal, in_one_line, printable
from service.imports.importer import Upload
from service.imports.query import MODES, ON_ERROR, read_import_query
from service.observability.logs import configure_logging
from service.transfer.encoding import DELIMITERS
from service.transfer.file_kinds import kind_of, named_kind

SHOWN_ROWS = 20
"""Failed rows that a person is told of; a file may have them all."""

COUNTED = ("created", "updated", "unchanged", "failed")

Where = AbstractContextManager[AbstractAsyncContextManager[Target]]
"""Where a file goes, and what has to be there as long as it does."""


def import_file(  # noqa: PLR0913 - the options of a command
    type_name: Annotated[str, typer.Argument(metavar="TYPE", help="A type, such as users.")],
    file: Annotated[Path, typer.Argument(help="A file of CSV, NDJSON or Excel.")],
    *,
    mode: Annotated[str | None, typer.Option(help=f"{' or '.join(MODES)}; {MODES[0]} by default.")] = None,
    key: Annotated[
        str | None, typer.Option(help="With --mode upsert: the unique field by which rows find documents, not id.")
    ] = None,
    on_error: Annotated[
        str | None,
        typer.Option(help=f"{' or '.join(ON_ERROR)}: nothing is written unless all rows are good, or those."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    explode: Annotated[str | None, typer.Option(help="The array that has a row for each element.")] = None,
    sheet: Annotated[str | None, typer.Option(help="Of a workbook, a sheet that is not the first.")] = None,
    delimiter: Annotated[
        str | None, typer.Option(help=f"Of CSV: {', '.join(DELIMITERS)}; found out by default.")
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Of CSV: leave an apostrophe that stands before a formula.")
    ] = False,
    failed: Annotated[
        Path | None, typer.Option(help="A file for failed rows, if there are some, to correct and import.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="A running service to send it to, instead of the database.")] = None,
    username: Annotated[
        str | None, typer.Option(help="With --url: whose password is asked for, or read from standard input.")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="With --url: a file with an access token.")] = None,
) -> None:
    """Take a file in: its rows become documents, or change them. Status 1 unless every row is good."""
    heed_every_signal()
    if failed is not None:
        check_place(failed)
    upload = _upload(file)
    query = _query(
        mode=mode,
        key=key,
        on_error=on_error,
        dry_run=dry_run,
        explode=explode,
        sheet=sheet,
        delimiter=delimiter,
        raw=raw,
    )
    if url is not None:
        address, sign_in = address_of(url), sign_in_with(username, token_file)
        where: Where = nullcontext(into_service(address, sign_in, type_name, query, upload))
        others = f", and {url} goes on with what it has"
    else:
        refuse_sign_in(username, token_file)
        where, others = _our_database(type_name, query, upload), ""
    try:
        with where as target:
            result = asyncio.run(_send(target, file.name))
    except KeyboardInterrupt:
        print(f"dossier: interrupted{others}; send the file again, and nothing comes twice", file=sys.stderr)
        raise
    _tell(file, result, failed)


def _upload(file: Path) -> Upload:
    try:
        kind = kind_of(file, named_kind(file.name))
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256")
    except OSError as error:
        raise CommandError(f"cannot read {file}: {error.strerror or error}") from error
    return Upload(file, kind, file.stat().st_size, digest.hexdigest(), file.name)


def _query(**options: str | bool | None) -> str:
    """The query string of these options, but for those that nobody has given."""
    given = {name: "true" if value is True else value for name, value in options.items() if value not in {None, False}}
    return urlencode(given, errors="surrogateescape")


@contextmanager
def _our_database(type_name: str, query: str, upload: Upload) -> Iterator[AbstractAsyncContextManager[Target]]:
    document_type = find_type(type_name)
    asked = read_import_query(document_type.whole, parse_parameters(query.encode()), query)
    configure_logging("critical")  # a person wants one line at the end, not what was overcome on the way
    with with_database(read_settings()) as settings:
        yield into_database(settings, document_type, asked, upload)


async def _send(where: AbstractAsyncContextManager[Target], title: str) -> Result:
    async with where as target:

        async def follow(update: Update) -> None:
            while True:
                record = await target.record() or {}
                done = sum(record.get(name, 0) for name in COUNTED)
                update(completed=done, total=record.get("rows") if done else None)  # before that it is read and checked
                await asyncio.sleep(ASK_SECONDS)

        async with progress_shown(title, "rows", follow):
            return await target.send()


def _tell(file: Path, result: Result, failed: Path | None) -> None:
    """All that became of it. Raises CommandError unless every row was good."""
    record = result.record
    for line in [*_earlier(record), *_failed_rows(record)]:
        print(printable(line), file=sys.stderr)
    if failed is not None and record["failed_rows"]:
        with draft_of(failed) as table:
            table.write(result.failed_table.encode())
    print(_closing_line(file, record))
    if record["problem"]:
        raise CommandError(in_one_line(record["problem"]))
    if record["failed"]:
        raise CommandError(f"{record['failed']:,} of {record['rows']:,} rows have failed")


def _closing_line(file: Path, record: Record) -> str:
    parts = [
        f"{file}: {record['rows']:,} rows",
        *(f"{record[name]:,} {name}" for name in COUNTED),
        *(["nothing written, as asked"] if record["dry_run"] else []),
        f"{record['seconds'] or 0:.1f} s",
        f"import {record['id']}",
    ]
    return ", ".join(parts)


def _earlier(record: Record) -> Iterator[str]:
    earlier = record["earlier"]
    if earlier:
        counts = ", ".join(f"{earlier[name]:,} {name}" for name in COUNTED)
        yield f"The same file came before: import {earlier['id']}, {earlier['state']}, {counts}"


def _failed_rows(record: Record) -> Iterator[str]:
    rows = record["failed_rows"][:SHOWN_ROWS]
    for row in rows:
        for error in row["errors"]:
            yield f"row {row['row']}{_place_and_reason(error)}"
    if record["failed"] > len(rows):
        yield f"and {record['failed'] - len(rows):,} failed rows more"


def _place_and_reason(error: Mapping[str, Any]) -> str:
    place = f", {error['column']}" if error.get("column") else ""
    value = f" ({error['value']})" if error.get("value") is not None else ""
    return f"{place}: {error['message']}{value}"
