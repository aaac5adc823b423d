"""Request bodies, read whole and no larger than they may be."""

from collections.abc import AsyncGenerator, Collection
from typing import Any

from fastapi import Request

from service.api.dependencies import services_of
from service.documents.json_text import InvalidJsonError, load_json
from service.errors import BodyTooLargeError, Fault, UnsupportedMediaTypeError, ValidationFailedError

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"


def media_type_of(request: Request) -> str:
    """The body's media type, in lower case and without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def limited(request: Request, max_bytes: int) -> AsyncGenerator[bytes]:
    """The body as it comes. Raises BodyTooLargeError as soon as it is known, whatever Content-Length says."""
    error = BodyTooLargeError(f"A body has at most {max_bytes} bytes.", headers={"Connection": "close"})
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > max_bytes:
        raise error
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise error
        yield chunk


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body. Raises BodyTooLargeError."""
    return b"".join([chunk async for chunk in limited(request, max_bytes)])


async def read_json(request: Request, media_types: Collection[str] = (JSON,)) -> Any:
    """The body's JSON. Raises UnsupportedMediaTypeError, BodyTooLargeError and ValidationFailedError."""
    media_type = media_type_of(request)
    if media_type not in media_types:
        expected = ", ".join(media_types)
        name = "Accept-Patch" if request.method == "PATCH" else "Accept"  # RFC 5789 §3.1, RFC 9110 §15.5.16
        raise UnsupportedMediaTypeError(f"Send {expected}, not {media_type or 'nothing'!r}.", headers={name: expected})
    body = await read_body(request, services_of(request).settings.max_body_bytes)
    try:
        return load_json(body)
    except InvalidJsonError as error:
        raise ValidationFailedError([Fault("invalid_json", str(error), "")]) from None
