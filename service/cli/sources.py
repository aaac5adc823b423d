"""Where an exported file comes from: the database itself, or a service that runs somewhere."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_plus

import httpx

from service.api.dependencies import TOKEN_PATH
from service.cli.download import Incoming
from service.cli.environment import open_repository
from service.cli.terminal import CommandError, in_one_line
from service.documents.registry import DocumentType
from service.errors import ServiceError
from service.exports import Asker, ExportQuery, RunningExport, open_exporter
from service.settings import Settings
from service.store.database import open_database
from service.store.export_records import EXPORTS, Export
from service.store.query import PARAMETERS, ListQuery
from service.store.repository import Repository
from service.transfer.pool import EncodingError

COMMAND_LINE = "command line"
"""Who asks, in records; with its blank it is no account's name."""

GLANCE_SECONDS = 0.2
"""How often a bar moves."""

ASK_SECONDS = 1.0
"""How often a service is asked how far it is."""

PATIENCE_SECONDS = 5.0
"""How long a MongoDB that answers nothing keeps Ctrl-C waiting."""

CONNECT_SECONDS = 10
ANSWER_SECONDS = 130
"""A service may wait for MongoDB for two minutes before it gives up."""

SELECTING = {"q", "q_mode"}
"""The parameters that decide which documents there are, beside the filters."""

BEARER_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750 §2.1."""

SignIn = Callable[[httpx.AsyncClient], Awaitable[str]]
"""Gets an access token."""


@asynccontextmanager
async def from_database(
    settings: Settings, document_type: DocumentType, query: ExportQuery
) -> AsyncGenerator[Incoming]:
    """An export that is made here. Raises CommandError where it cannot be encoded, and ServiceErrors."""
    classes = [document_type.document_class, Export]
    try:
        async with (
            open_database(settings, classes, creates_indexes=False),
            open_exporter(settings) as exporter,
        ):
            documents = open_repository(settings, document_type)
            export = await exporter.start(documents, query, Asker(COMMAND_LINE, COMMAND_LINE))
            async with aclosing(_unhurried(export.chunks)) as chunks:
                yield _MadeHere(chunks, export, query, documents, open_repository(settings, EXPORTS))
    except EncodingError as error:
        raise CommandError(f"this cannot be encoded: {str(error).strip().splitlines()[-1]}") from error


async def _unhurried(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The same, but Ctrl-C lets a chunk come that is under way, as nothing cancels a task that waits for the driver."""
    async with aclosing(chunks):
        while True:
            coming = asyncio.ensure_future(anext(chunks, None))
            try:
                chunk = await asyncio.shield(coming)
            except asyncio.CancelledError:
                await asyncio.wait([coming], timeout=PATIENCE_SECONDS)
                coming.cancel()
                await asyncio.wait([coming])
                raise
            if chunk is None:
                return
            yield chunk


class _MadeHere:
    """An export of this process."""

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        export: RunningExport,
        query: ExportQuery,
        documents: Repository,
        records: Repository,
    ) -> None:
        self.chunks = chunks
        self._export = export
        self._query = query
        self._documents = documents
        self._records = records

    async def progress(self) -> AsyncIterator[int]:
        while True:
            yield self._export.rows
            await asyncio.sleep(GLANCE_SECONDS)

    async def count(self) -> int | None:
        if self._query.spec.explode:
            return None  # a document has as many rows as it likes
        all_of_them = replace(self._query.selection, sort=(("_id", 1),), fields=("id",))
        try:
            page = await self._documents.page(ListQuery(all_of_them, limit=1, skip=0, cursor=None, count="exact"))
        except ServiceError:
            return None
        return page.total

    async def record(self) -> Mapping[str, Any]:
        return await self._records.get(str(self._export.record.id))


@asynccontextmanager
async def from_service(
    url: httpx.URL, sign_in: SignIn, type_name: str, format_name: str, query: str
) -> AsyncGenerator[Incoming]:
    """An export that a service makes. Raises CommandError for all that the service or the network refuses."""
    timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
    path = f"/api/v1/{quote(type_name, safe='')}"
    try:
        async with httpx.AsyncClient(base_url=url, timeout=timeout) as client:
            await _authorize(client, sign_in)
            async with client.stream(
                "GET", f"{path}/export/{format_name}?{query}", headers={"Accept-Encoding": "gzip"}
            ) as response:
                await _check(response)
                yield _MadeThere(response, client, sign_in, path)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise CommandError(f"{url} cannot be reached: {_text(error)}") from error
    except httpx.HTTPError as error:
        raise CommandError(f"{url} broke off: {_text(error)}") from error
    except KeyError as error:
        raise CommandError(f"{url} does not answer as Dossier does, without {error}") from error


class _MadeThere:
    """An export of a service."""

    def __init__(self, response: httpx.Response, client: httpx.AsyncClient, sign_in: SignIn, documents: str) -> None:
        self._response = response
        self._record = f"/api/v1/exports/{response.headers['Export-Id']}"
        self._size = 0
        self._client = client
        self._sign_in = sign_in
        self._documents = documents

    @property
    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.aiter_bytes():
            self._size += len(chunk)
            yield chunk

    async def progress(self) -> AsyncIterator[int]:
        # The record is written every few seconds; in between, rows are reckoned by the bytes that have come.
        while True:
            record = await self.record()
            for _ in range(round(ASK_SECONDS / GLANCE_SECONDS)):
                yield self._size * record["rows"] // (record["bytes"] or 1)
                await asyncio.sleep(GLANCE_SECONDS)

    async def count(self) -> int | None:
        counting = _counting(self._response.url.query.decode("ascii"))
        if counting is None:
            return None
        total: int | None = _json(await self._client.get(f"{self._documents}?{counting}")).get("total")
        return total

    async def record(self) -> Mapping[str, Any]:
        response = await self._client.get(self._record)
        if response.status_code == httpx.codes.UNAUTHORIZED:  # the file took longer than a token is good for
            await _authorize(self._client, self._sign_in)
            response = await self._client.get(self._record)
        await _check(response)
        return _json(response)


async def _authorize(client: httpx.AsyncClient, sign_in: SignIn) -> None:
    client.headers["Authorization"] = f"Bearer {await sign_in(client)}"


def _counting(query: str) -> str | None:
    """The query of a list that counts the rows of an export; None where a document may have many."""
    named = [(unquote_plus(part.partition("=")[0]), part) for part in query.split("&") if part]
    if any(name == "explode" for name, _ in named):
        return None
    selecting = [part for name, part in named if name in SELECTING or name not in PARAMETERS]
    return "&".join([*selecting, "fields=id", "limit=1", "count=exact"])


def with_password(username: str, password: str) -> SignIn:
    """The password grant (RFC 6749 §4.3)."""

    async def sign_in(client: httpx.AsyncClient) -> str:
        form = {"grant_type": "password", "username": username, "password": password}
        response = await client.post(TOKEN_PATH, data=form)
        await _check(response)
        token: str = _json(response)["access_token"]
        return token

    return sign_in


def with_token(path: Path) -> SignIn:
    """A token that somebody else puts into a file, and renews there."""

    async def sign_in(_client: httpx.AsyncClient) -> str:
        return _read_token(path)

    return sign_in


def _read_token(path: Path) -> str:
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"no token can be read from {path}: {error}") from error
    if not BEARER_TOKEN.fullmatch(token):
        raise CommandError(f"there is no access token in {path}")
    return token


async def _check(response: httpx.Response) -> None:
    """Raise CommandError with all that a service says is wrong."""
    if response.status_code == httpx.codes.OK:
        return
    await response.aread()
    problem = _json(response)
    try:
        said = problem.get("error_description") or in_one_line(problem)
    except KeyError:
        said = response.reason_phrase
    raise CommandError(f"{response.url.copy_with(query=None)} answers {response.status_code}: {said}")


def _json(response: httpx.Response) -> dict[str, Any]:
    """What it has in it; nothing, where that is no JSON object."""
    try:
        found = response.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__
