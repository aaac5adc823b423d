"""What routes answer with: documents and pages, and how OpenAPI shows them."""

from typing import Any
from urllib.parse import quote, unquote_to_bytes

from fastapi import Request, Response

from service.api.bodies import JSON
from service.documents.json_text import dump_json
from service.errors import (
    AuthenticationError,
    BodyTooLargeError,
    DatabaseUnavailableError,
    InsufficientScopeError,
    OverloadedError,
    RequestTimeoutError,
    ServiceError,
    ShuttingDownError,
    UnsupportedMediaTypeError,
    ValidationFailedError,
)
from service.store.repository import Page, Presented, entity_tag
from service.store.schemas import REF_TEMPLATE

ALWAYS: tuple[type[ServiceError], ...] = (
    AuthenticationError,
    InsufficientScopeError,
    DatabaseUnavailableError,
    OverloadedError,
    ShuttingDownError,
)
"""What any route with a scope may refuse with."""

ON_BODY: tuple[type[ServiceError], ...] = (
    RequestTimeoutError,
    BodyTooLargeError,
    UnsupportedMediaTypeError,
    ValidationFailedError,
)
"""And any that takes a body."""

MAX_LINKED_BYTES = 2048
"""Of a query, which stands in the Link header twice, escaped."""

PLACE_PARAMETERS = {b"skip", b"cursor"}
QUERY_CHARACTERS = "%&=+!$'()*,;:@/?-._~"
"""What a query may have as it is (RFC 3986 §3.4), escapes included."""


def document_response(
    document: Presented, status: int = 200, headers: dict[str, str] | None = None, *, is_masked: bool = False
) -> Response:
    """One document, with its entity tag."""
    tag = {"ETag": entity_tag(document, is_masked=is_masked)}
    return Response(dump_json(document), status, headers=tag | (headers or {}), media_type=JSON)


def page_response(request: Request, page: Page) -> Response:
    """One page of the list that was asked for, with a link to the next."""
    body = {
        "items": page.items,
        "next_cursor": page.next_cursor,
        "total": page.total,
        "total_relation": page.total_relation,
    }
    query: bytes = request.scope["query_string"]
    # Clients stop at 8 KiB of headers or more; the body has the cursor anyway.
    headers = {"Link": _link(request.scope["path"], query, page)} if len(query) <= MAX_LINKED_BYTES else {}
    return Response(dump_json(body), headers=headers, media_type=JSON)


def _link(path: str, query: bytes, page: Page) -> str:
    """RFC 8288: where the first page is, and the next if there is one; the rest as the caller wrote it."""
    parts = [part for part in query.split(b"&") if part]
    kept = b"&".join(part for part in parts if unquote_to_bytes(part.partition(b"=")[0]) not in PLACE_PARAMETERS)
    first = f"{path}?{quote(kept, QUERY_CHARACTERS)}"
    links = f'<{first}>; rel="first"'
    if page.next_cursor:
        links += f', <{first}{"&" if kept else ""}cursor={page.next_cursor}>; rel="next"'
    return links


def described(schema: str, description: str, *headers: str) -> dict[str, Any]:
    """An answer in OpenAPI: JSON of this schema, with these headers."""
    return {
        "description": description,
        "headers": {header: {"schema": {"type": "string"}} for header in headers},
        "content": {JSON: {"schema": {"$ref": REF_TEMPLATE.format(model=schema)}}},
    }
