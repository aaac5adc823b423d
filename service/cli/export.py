"""`dossier export`."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer
from rich.filesize import decimal

from service.api.parameters import parse_parameters
from service.api.responses import QUERY_CHARACTERS
from service.cli.client import address_of, refuse_sign_in, sign_in_with
from service.cli.download import Incoming, receive
from service.cli.environment import find_type, read_settings, with_database
from service.cli.output import check_place, chosen_format, draft_of
from service.cli.sources import from_database, from_service
from service.cli.terminal import heed_every_signal
from service.exports import read_export_query
from service.observability.logs import configure_logging
from service.transfer.formats import FORMATS

Source = AbstractContextManager[AbstractAsyncContextManager[Incoming]]
"""Where a file comes from, and what has to be there as long as it does."""


def export_documents(  # noqa: PLR0913 - the options of a command
    type_name: Annotated[str, typer.Argument(metavar="TYPE", help="A type, such as users.")],
    query: Annotated[str, typer.Argument(help="An export's query string: 'age__gte=18&sort=name'.")] = "",
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file, which is there once it is whole.")],
    format_name: Annotated[
        str | None, typer.Option("--format", help=f"{', '.join(FORMATS)}; by default as the file's name ends.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="A running service to ask, instead of the database.")] = None,
    username: Annotated[
        str | None, typer.Option(help="With --url: whose password is asked for, or read from standard input.")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="With --url: a file with an access token.")] = None,
) -> None:
    """Download what a list would show, as one file."""
    heed_every_signal()
    chosen = chosen_format(output, format_name, FORMATS)
    check_place(output)
    text = quote(query.encode(errors="surrogateescape"), QUERY_CHARACTERS)  # as an address has it
    parse_parameters(text.encode())
    if url is not None:
        address, sign_in = address_of(url), sign_in_with(username, token_file)
        where: Source = nullcontext(from_service(address, sign_in, type_name, chosen, text))
    else:
        refuse_sign_in(username, token_file)
        where = _from_our_database(type_name, chosen, text)
    started = time.monotonic()
    with draft_of(output) as file, where as source:
        record = asyncio.run(receive(source, file, output.name))
    parts = [
        f"{output}: {record['rows']:,} rows",
        *([f"{record['cut_cells']:,} cells cut"] if record["cut_cells"] else []),
        decimal(record["bytes"]),
        f"{time.monotonic() - started:.1f} s",
        f"SHA-256 {record['sha256']}",
    ]
    print(", ".join(parts))


@contextmanager
def _from_our_database(type_name: str, format_name: str, query: str) -> Iterator[AbstractAsyncContextManager[Incoming]]:
    document_type = find_type(type_name)
    asked = read_export_query(document_type.whole, format_name, parse_parameters(query.encode()), query)
    configure_logging("critical")  # a person wants one line at the end, not what was overcome on the way
    with with_database(read_settings()) as settings:
        yield from_database(settings, document_type, asked)
