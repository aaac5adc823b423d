"""The routes that every document type has, made from the type."""

import re
from functools import partial
from typing import Annotated, Any
from urllib.parse import quote, unquote_to_bytes

import orjson
from fastapi import APIRouter, Path, Request, Response, Security
from fastapi.params import Security as SecurityParameter

from service.api.bodies import JSON, JSON_PATCH, MERGE_PATCH, media_type_of, read_json
from service.api.conditions import etag, if_match, is_not_modified
from service.api.dependencies import authorize, services_of
from service.api.exports import export_documents
from service.api.parameters import export_parameters, header_parameter, list_parameters, read_parameters
from service.api.routing import DirectRoute
from service.documents.json_text import dump_json
from service.documents.registry import DocumentType
from service.errors import (
    AuthenticationError,
    BodyTooLargeError,
    DatabaseUnavailableError,
    DuplicateValueError,
    InsufficientScopeError,
    InvalidHeaderError,
    InvalidQueryError,
    NotFoundError,
    PatchTestFailedError,
    QueryTooExpensiveError,
    RevisionMismatchError,
    ServiceError,
    TooManyExportsError,
    UnsupportedMediaTypeError,
    ValidationFailedError,
    WriteConflictError,
    problems,
)
from service.store.patching import json_patch, merge_patch
from service.store.query import read_list_query
from service.store.repository import Page, Presented, Repository
from service.store.schemas import REF_TEMPLATE, read_schema
from service.transfer.formats import FORMATS

ALWAYS: tuple[type[ServiceError], ...] = (AuthenticationError, InsufficientScopeError, DatabaseUnavailableError)
ON_BODY: tuple[type[ServiceError], ...] = (BodyTooLargeError, UnsupportedMediaTypeError, ValidationFailedError)
PLACE_PARAMETERS = {b"skip", b"cursor"}
QUERY_CHARACTERS = "%&=+!$'()*,;:@/?-._~"
"""What a query may have as it is (RFC 3986 §3.4), escapes included."""

SCHEMA_JSON = "application/schema+json"
FormatName = Annotated[str, Path(description="The kind of file.", json_schema_extra={"enum": list(FORMATS)})]
IF_MATCH = header_parameter("If-Match", 'Write only if the document has this entity tag: `"3"`.')
IF_NONE_MATCH = header_parameter("If-None-Match", "Answer 304 if the document still has this entity tag.")
ON_CHANGE: tuple[type[ServiceError], ...] = (InvalidHeaderError, NotFoundError, RevisionMismatchError)


def document_router(document_type: DocumentType) -> APIRouter:  # noqa: C901 - a function for each route
    """All routes of one type, under its name."""
    name, title = document_type.name, document_type.title
    one = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", title).lower()
    router = APIRouter(prefix=f"/api/v1/{name}", tags=[name], default_response_class=Response, route_class=DirectRoute)
    schema = partial(_schema, title)
    body = partial(_request_body, title)

    def repository(request: Request) -> Repository:
        return services_of(request).repositories[name]

    @router.get(
        "",
        operation_id=f"list_{name}",
        summary=f"A page of {name}",
        dependencies=[_scope(name, "read")],
        responses={
            200: schema("Page", "A page", "Link"),
            **problems(*ALWAYS, InvalidQueryError, QueryTooExpensiveError),
        },
        openapi_extra={"parameters": list_parameters(document_type)},
    )
    async def list_documents(request: Request) -> Response:
        page = await repository(request).page(read_list_query(document_type, read_parameters(request)))
        return Response(
            _page_body(page),
            headers={"Link": _link(router.prefix, request.scope["query_string"], page)},
            media_type=JSON,
        )

    @router.post(
        "",
        status_code=201,
        operation_id=f"create_{one}",
        summary=f"Create a {title}",
        dependencies=[_scope(name, "write")],
        responses={201: schema("", "Created", "ETag", "Location"), **problems(*ALWAYS, *ON_BODY, DuplicateValueError)},
        openapi_extra=body("Create", JSON),
    )
    async def create_document(request: Request) -> Response:
        document = await repository(request).insert(await read_json(request))
        return _document_response(document, status=201, headers={"Location": f"/api/v1/{name}/{document['id']}"})

    @router.get(
        "/export/{format_name}",
        operation_id=f"export_{name}",
        summary=f"{name.capitalize()} as a file",
        dependencies=[_scope(name, "export")],
        responses={
            200: {
                "description": "The file",
                "headers": {"Content-Disposition": {"schema": {"type": "string"}}},
                "content": {
                    file_format.media_type.partition(";")[0]: {"schema": {"type": "string", "format": "binary"}}
                    for file_format in FORMATS.values()
                },
            },
            **problems(*ALWAYS, InvalidQueryError, QueryTooExpensiveError, TooManyExportsError),
        },
        openapi_extra={"parameters": export_parameters(document_type)},
    )
    async def export(request: Request, format_name: FormatName) -> Response:
        services = services_of(request)
        return await export_documents(
            repository(request),
            format_name,
            read_parameters(request),
            slots=services.export_slots,
            stall_seconds=services.settings.export_stall_seconds,
        )

    @router.get(
        "/schema",
        operation_id=f"get_{one}_schema",
        summary=f"The JSON Schema of a {title}",
        dependencies=[_scope(name, "read")],
        responses={
            200: {"description": "The schema", "content": {SCHEMA_JSON: {"schema": {"type": "object"}}}},
            **problems(*ALWAYS),
        },
    )
    async def get_schema(_request: Request) -> Response:
        return Response(orjson.dumps(read_schema(document_type)), media_type=SCHEMA_JSON)

    @router.get(
        "/{document_id}",
        operation_id=f"get_{one}",
        summary=f"One {title}",
        dependencies=[_scope(name, "read")],
        responses={
            200: schema("", "The document", "ETag"),
            304: {"description": "Not changed since"},
            **problems(*ALWAYS, NotFoundError, InvalidHeaderError),
        },
        openapi_extra={"parameters": [IF_NONE_MATCH]},
    )
    async def get_document(request: Request, document_id: str) -> Response:
        document = await repository(request).get(document_id)
        if is_not_modified(request, document):
            return Response(status_code=304, headers={"ETag": etag(document)})
        return _document_response(document)

    @router.put(
        "/{document_id}",
        operation_id=f"replace_{one}",
        summary=f"Replace a {title}",
        dependencies=[_scope(name, "write")],
        responses={
            200: schema("", "As it is now", "ETag"),
            **problems(*ALWAYS, *ON_BODY, *ON_CHANGE, DuplicateValueError),
        },
        openapi_extra=body("Create", JSON) | {"parameters": [IF_MATCH]},
    )
    async def replace_document(request: Request, document_id: str) -> Response:
        revisions = if_match(request)
        return _document_response(await repository(request).replace(document_id, await read_json(request), revisions))

    @router.patch(
        "/{document_id}",
        operation_id=f"patch_{one}",
        summary=f"Change parts of a {title}",
        dependencies=[_scope(name, "write")],
        responses={
            200: schema("", "As it is now", "ETag"),
            **problems(*ALWAYS, *ON_BODY, *ON_CHANGE, DuplicateValueError, WriteConflictError, PatchTestFailedError),
        },
        openapi_extra=_patch_body(title) | {"parameters": [IF_MATCH]},
    )
    async def patch_document(request: Request, document_id: str) -> Response:
        revisions = if_match(request)
        patch = await read_json(request, (JSON, MERGE_PATCH, JSON_PATCH))
        apply = json_patch if media_type_of(request) == JSON_PATCH else merge_patch
        return _document_response(
            await repository(request).patch(document_id, lambda present: apply(present, patch), revisions)
        )

    @router.delete(
        "/{document_id}",
        status_code=204,
        operation_id=f"delete_{one}",
        summary=f"Delete a {title}",
        dependencies=[_scope(name, "delete")],
        responses=problems(*ALWAYS, *ON_CHANGE),
        openapi_extra={"parameters": [IF_MATCH]},
    )
    async def delete_document(request: Request, document_id: str) -> Response:
        await repository(request).delete(document_id, if_match(request))
        return Response(status_code=204)

    return router


def _scope(name: str, action: str) -> SecurityParameter:
    dependency: SecurityParameter = Security(authorize, scopes=[f"{name}:{action}"])
    return dependency


def _schema(title: str, suffix: str, description: str, *headers: str) -> dict[str, Any]:
    reference = {"$ref": REF_TEMPLATE.format(model=f"{title}{suffix}")}
    described = {header: {"schema": {"type": "string"}} for header in headers}
    return {"description": description, "headers": described, "content": {JSON: {"schema": reference}}}


def _request_body(title: str, suffix: str, *media_types: str) -> dict[str, Any]:
    content = {media_type: _schema(title, suffix, "")["content"][JSON] for media_type in media_types}
    return {"requestBody": {"required": True, "content": content}}


def _patch_body(title: str) -> dict[str, Any]:
    described = _request_body(title, "Patch", JSON, MERGE_PATCH)
    operations = {"schema": {"$ref": REF_TEMPLATE.format(model="JsonPatch")}}
    described["requestBody"]["content"][JSON_PATCH] = operations
    return described


def _document_response(document: Presented, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(dump_json(document), status, headers={"ETag": etag(document)} | (headers or {}), media_type=JSON)


def _page_body(page: Page) -> bytes:
    return dump_json(
        {
            "items": page.items,
            "next_cursor": page.next_cursor,
            "total": page.total,
            "total_relation": page.total_relation,
        }
    )


def _link(path: str, query: bytes, page: Page) -> str:
    """RFC 8288: where the first page is, and the next if there is one; the rest as the caller wrote it."""
    parts = [part for part in query.split(b"&") if part]
    kept = b"&".join(part for part in parts if unquote_to_bytes(part.partition(b"=")[0]) not in PLACE_PARAMETERS)
    first = f"{path}?{quote(kept, QUERY_CHARACTERS)}"
    links = f'<{first}>; rel="first"'
    if page.next_cursor:
        links += f', <{first}{"&" if kept else ""}cursor={page.next_cursor}>; rel="next"'
    return links
