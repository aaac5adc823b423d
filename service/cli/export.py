"""`dossier export`."""

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import httpx
import typer
from rich.filesize import decimal

from service.api.parameters import parse_parameters
from service.api.responses import QUERY_CHARACTERS
from service.cli.download import Incoming, draft_of, receive
from service.cli.environment import find_type, read_settings, with_database
from service.cli.sources import SignIn, from_database, from_service, with_password, with_token
from service.cli.terminal import CommandError, ask_password
from service.exports import read_export_query
from service.observability import configure_logging
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
    _heed_every_signal()
    chosen = _format(output, format_name)
    _check_place(output)
    text = quote(query.encode(errors="surrogateescape"), QUERY_CHARACTERS)  # as an address has it
    parse_parameters(text.encode())
    if url is not None:
        where: Source = nullcontext(
            from_service(_address(url), _sign_in(username, token_file), type_name, chosen, text)
        )
    elif username is None and token_file is None:
        where = _from_our_database(type_name, chosen, text)
    else:
        raise CommandError("--username and --token-file need --url: the database has accounts of its own")
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


def _heed_every_signal() -> None:
    """Let each signal that ends a program end this one as Ctrl-C does, so that nothing half done is left."""

    def interrupt(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        signal.signal(signal.SIGHUP, interrupt)


def _format(output: Path, format_name: str | None) -> str:
    chosen = output.suffix.removeprefix(".").lower() if format_name is None else format_name
    if chosen not in FORMATS:
        wrong = f"{output} does not end in a format" if format_name is None else f"there is no format {format_name!r}"
        raise CommandError(f"{wrong}; one of {', '.join(FORMATS)} is expected, in the name or as --format")
    return chosen


def _check_place(output: Path) -> None:
    """Refuse, before anybody is asked, what could never be written."""
    place = output.resolve()
    if not place.parent.is_dir():
        raise CommandError(f"there is no directory {place.parent}")
    if place.exists() and not place.is_file():
        raise CommandError(f"{output} is there already, and is no file")


@contextmanager
def _from_our_database(type_name: str, format_name: str, query: str) -> Iterator[AbstractAsyncContextManager[Incoming]]:
    document_type = find_type(type_name)
    asked = read_export_query(document_type, format_name, parse_parameters(query.encode()), query)
    configure_logging("critical")  # a person wants one line at the end, not what was overcome on the way
    with with_database(read_settings()) as settings:
        yield from_database(settings, document_type, asked)


def _address(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in {"http", "https"} or not url.host or url.userinfo or url.query or url.fragment:
        raise CommandError("--url is expected to be like http://127.0.0.1:8000")
    return url


def _sign_in(username: str | None, token_file: Path | None) -> SignIn:
    if token_file is not None and username is None:
        return with_token(token_file)
    if username is not None and token_file is None:
        return with_password(username, ask_password())
    raise CommandError("--url needs either --username or --token-file")
