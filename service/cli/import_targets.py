"""Where a file to import goes: into the database itself, or to a service that runs somewhere."""

import asyncio
import secrets
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import httpx
from anyio import to_thread
from bson import ObjectId

from service.cli.client import (
    ANSWER_SECONDS,
    ASK_SECONDS,
    CONNECT_SECONDS,
    SignIn,
    json_object,
    open_client,
    read_record,
    refusal_of,
    text_of,
)
from service.cli.environment import COMMAND_LINE, open_repository
from service.cli.terminal import CommandError
from service.documents.registry import DocumentType
from service.errors import ServiceError
from service.imports.importer import Importer, Upload, open_importer
from service.imports.query import ImportQuery
from service.settings import Settings
from service.store.audit_records import Actor, AuditEvent, AuditTrail
from service.store.import_records import IMPORTS, Import
from service.store.preparation import open_ready_database
from service.store.query import read_list_query
from service.store.repository import Repository
from service.transfer.formats import FORMATS

SEND_BYTES = 1_048_576
"""As much of a file as is sent at once."""

PATIENCE_SECONDS = 600
"""How long a service may say nothing while it imports; after that its record is looked at, and it is asked again."""

ATTEMPTS = 3
PAUSE_SECONDS = 2
"""Before a service is asked again that has broken off."""

LONGEST_PAUSE_SECONDS = 60
"""Whoever is told to wait for longer is told so."""

Record = Mapping[str, Any]
"""What is kept of an import where it is done, see `Import`."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a file."""

    record: Record
    failed_table: str
    """The failed rows as CSV, if there are some."""


class Target(Protocol):
    """Where a file goes, which is known there by an Idempotency-Key of the command's own."""

    async def send(self) -> Result:
        """Have it imported."""

    async def record(self) -> Record | None:
        """How far that is; None where there is nothing of it yet."""


def new_key() -> str:
    """An Idempotency-Key that nobody else has."""
    return f"dossier-import-{secrets.token_hex(16)}"


@asynccontextmanager
async def into_database(
    settings: Settings, document_type: DocumentType, query: ImportQuery, upload: Upload
) -> AsyncGenerator[Target]:
    """An import that is done here, by a process of its own as in a service. Raises ServiceErrors."""
    quiet = settings.model_copy(update={"log_level": "error"})
    async with (
        open_ready_database(quiet, [document_type], [Import, AuditEvent]),
        open_importer(quiet) as importer,
    ):
        audit = AuditTrail(quiet.audit_days, quiet.operation_timeout_seconds)
        yield _Here(importer, open_repository(quiet, IMPORTS), document_type, query, upload, audit=audit)


class _Here:
    """An import into our database."""

    def __init__(  # noqa: PLR0913 - what, how, and where to
        self,
        importer: Importer,
        records: Repository,
        document_type: DocumentType,
        query: ImportQuery,
        upload: Upload,
        *,
        audit: AuditTrail,
    ) -> None:
        self._importer = importer
        self._records = records
        self._audit = audit
        self._type = document_type
        self._query = query
        self._upload = upload
        self._key = new_key()

    async def send(self) -> Result:
        key, _ = await self._importer.run(
            self._type,
            self._query,
            self._upload,
            self._begun,
            account_id=COMMAND_LINE,
            account=COMMAND_LINE,
            idempotency_key=self._key,
        )
        return Result(await self._records.get(str(key)), (await self._importer.failed_table(key))[0])

    async def _begun(self, key: ObjectId) -> None:
        await self._audit.note("import", Actor(COMMAND_LINE), type=self._type.name, target=str(key))

    async def record(self) -> Record | None:
        query = read_list_query(IMPORTS.whole, [("idempotency_key", self._key), ("count", "none")])
        with suppress(ServiceError):
            return next(iter((await self._records.page(query)).items), None)
        return None


@asynccontextmanager
async def into_service(
    url: httpx.URL, sign_in: SignIn, type_name: str, query: str, upload: Upload
) -> AsyncGenerator[Target]:
    """An import that a service does. Raises CommandError for all that the service or the network refuses."""
    async with open_client(url, sign_in) as client:
        yield _There(client, sign_in, f"/api/v1/{quote(type_name, safe='')}/import?{query}", upload)


class _There:
    """An import by a service."""

    def __init__(self, client: httpx.AsyncClient, sign_in: SignIn, address: str, upload: Upload) -> None:
        self._client = client
        self._sign_in = sign_in
        self._address = address
        self._upload = upload
        self._key = new_key()

    async def send(self) -> Result:
        """A request that is repeated with its key is answered, and not done again."""
        for attempts_left in reversed(range(ATTEMPTS)):
            try:
                response = await self._post()
                if "Import-Id" in response.headers:
                    return await self._result(response)
                said, pause = refusal_of(response), pause_of(response)
            except httpx.TransportError as error:
                said, pause = f"{self._client.base_url} broke off: {text_of(error)}", PAUSE_SECONDS
            if not pause or not attempts_left:
                break
            print(f"dossier: {said}; asking again in {pause} s", file=sys.stderr)
            await asyncio.sleep(pause)
            await self._wait_while_running()
        raise CommandError(said)

    async def record(self) -> Record | None:
        with suppress(httpx.HTTPError):
            response = await self._client.get("/api/v1/imports", params={"idempotency_key": self._key, "count": "none"})
            return next(iter(json_object(response).get("items", [])), None)
        return None

    async def _post(self) -> httpx.Response:
        return await self._client.post(
            self._address,
            content=_chunks(self._upload.path),
            headers={
                "Accept": "text/csv, application/problem+json",  # the failed rows; what else there is, the record says
                "Content-Length": str(self._upload.size),
                "Content-Type": FORMATS[self._upload.kind].media_type,
                "Idempotency-Key": self._key,
            },
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS, read=PATIENCE_SECONDS),
        )

    async def _result(self, answer: httpx.Response) -> Result:
        path = f"/api/v1/imports/{answer.headers['Import-Id']}"
        record = await read_record(self._client, self._sign_in, path)
        is_table = answer.headers["Content-Type"].startswith("text/csv")
        return Result(record, answer.text if is_table else "")

    async def _wait_while_running(self) -> None:
        while (record := await self.record()) and record["state"] == "running":  # noqa: ASYNC110 - no event comes from afar
            await asyncio.sleep(ASK_SECONDS)


def pause_of(response: httpx.Response) -> int:
    """The seconds after which to ask again (RFC 9110 §10.2.3); 0 where that would change nothing."""
    seconds = response.headers.get("Retry-After", "")
    return min(int(seconds), LONGEST_PAUSE_SECONDS) if seconds.isascii() and seconds.isdigit() else 0


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await to_thread.run_sync(file.read, SEND_BYTES):
            yield chunk
