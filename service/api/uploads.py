"""Files that clients send: kept on disk while they come, and no larger than they may be."""

import hashlib
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

from anyio import to_thread
from fastapi import Request
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.api.bodies import limited, media_type_of
from service.errors import UnsupportedMediaTypeError
from service.imports.importer import Upload
from service.transfer.decoding import refuse_file
from service.transfer.file_kinds import FileKind, kind_of, named_kind

MULTIPART = "multipart/form-data"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
MEDIA_TYPES: Mapping[str, FileKind] = {
    "text/csv": "csv",
    "text/tab-separated-values": "csv",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    XLSX: "xlsx",
}
UNKNOWN_TYPES = frozenset({"", "application/octet-stream", "application/x-www-form-urlencoded"})
"""What clients say that do not know; the last is what curl says by itself."""

FILE_FIELD = "file"
MAX_FIELDS = 20
MAX_FILENAME_LENGTH = 255
WRITE_BYTES = 1_048_576
OPEN_FILES = Path("/proc/self/fd")

BINARY: Mapping[str, Any] = {"schema": {"type": "string", "format": "binary"}}


def upload_body() -> dict[str, Any]:
    """The request body of a file, as OpenAPI shows it."""
    form = {"type": "object", "required": [FILE_FIELD], "properties": {FILE_FIELD: BINARY["schema"]}}
    content = {MULTIPART: {"schema": form}} | dict.fromkeys(MEDIA_TYPES, BINARY)
    return {"requestBody": {"required": True, "content": content}}


@asynccontextmanager
async def receive_upload(request: Request, max_bytes: int) -> AsyncGenerator[Upload]:
    """The file in a request, as its body or as `file` of a form; it is there as long as the context.

    Raises BodyTooLargeError, UnsupportedMediaTypeError and InvalidFileError.
    """
    media_type = media_type_of(request)
    if media_type not in {MULTIPART, *MEDIA_TYPES, *UNKNOWN_TYPES}:
        expected = ", ".join([MULTIPART, *MEDIA_TYPES])
        raise UnsupportedMediaTypeError(f"Send {expected}, not {media_type!r}.", headers={"Accept": expected})
    coding = request.headers.get("content-encoding", "identity")
    if coding != "identity":
        raise UnsupportedMediaTypeError(f"Send the file as it is, not as {coding!r}.")  # RFC 9110 §8.4
    with _temporary_file() as file:
        chunks = limited(request, max_bytes)
        filename: str | None = None
        if media_type == MULTIPART:
            part = await _form_file(request, chunks)
            filename, media_type = part.filename, (part.content_type or "").partition(";")[0].strip().lower()
            try:
                size, sha256 = await _keep(_read(part), file)
            finally:
                await part.close()
        else:
            size, sha256 = await _keep(chunks, file)
        path = Path(file.name) if isinstance(file.name, str) else Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")
        said = named_kind(filename or "") or MEDIA_TYPES.get(media_type)
        kind = await to_thread.run_sync(kind_of, path, said)
        yield Upload(path, kind, size, sha256, filename and filename[:MAX_FILENAME_LENGTH])


def _temporary_file() -> IO[bytes]:
    """One without a name, so that nothing is left of it whatever becomes of this process.

    Another one opens it through /proc; where there is none, as on macOS, the file has a name.
    """
    if OPEN_FILES.exists():
        return tempfile.TemporaryFile()
    return tempfile.NamedTemporaryFile(prefix="dossier-upload-")


class _FormParser(MultiPartParser):
    """Refuses a form that breaks off, which Starlette takes for whole, and leaves its file open."""

    def __init__(self, headers: Headers, chunks: AsyncGenerator[bytes], **limits: int) -> None:
        super().__init__(headers, self._whole(chunks), **limits)
        self._has_ended = False

    def on_end(self) -> None:
        """The last boundary has come."""
        self._has_ended = True

    async def _whole(self, chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        async for chunk in chunks:
            yield chunk
        if not self._has_ended:
            raise MultiPartException("the form breaks off before its end")


async def _form_file(request: Request, chunks: AsyncGenerator[bytes]) -> UploadFile:
    """The file of a form (RFC 7578)."""
    try:
        form = await _FormParser(request.headers, chunks, max_files=1, max_fields=MAX_FIELDS).parse()
    except MultiPartException as error:
        refuse_file("invalid_form", error.message)
    except UnicodeError:  # some of Python's charsets are no encodings of text
        refuse_file("invalid_form", "the form's charset is unknown")
    part = form.get(FILE_FIELD)
    if part is None or isinstance(part, str):
        await form.close()
        refuse_file("missing_file", f"the form has no file named {FILE_FIELD!r}")
    if len(form.multi_items()) > 1:  # `dry_run` in a form that is not read would be a file that is written
        await form.close()
        refuse_file("invalid_form", "the form has more in it than the file; parameters stand in the query string")
    return part


async def _read(part: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await part.read(WRITE_BYTES):
        yield chunk


async def _keep(chunks: AsyncIterator[bytes], file: IO[bytes]) -> tuple[int, str]:
    """Write them down; how many bytes there were, and their SHA-256."""
    digest = hashlib.sha256()
    waiting = bytearray()
    size = 0

    def write(data: bytes) -> None:
        digest.update(data)
        file.write(data)

    async for chunk in chunks:
        size += len(chunk)
        waiting += chunk
        if len(waiting) >= WRITE_BYTES:
            await to_thread.run_sync(write, bytes(waiting))
            waiting.clear()
    await to_thread.run_sync(write, bytes(waiting))
    file.flush()
    return size, digest.hexdigest()
