"""The routes that every document type has, made from the type."""

import re
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode

import orjson
from fastapi import APIRouter, Depends, Path, Request, Response, Security
from fastapi.params import Security as SecurityParameter

from service.api.bodies import JSON, JSON_PATCH, MERGE_PATCH, media_type_of, read_json
from service.api.conditions import etag, if_match, is_not_modified
from service.api.dependencies import ServicesDependency, authorize
from service.api.exports import export_documents
from service.api.parameters import export_parameters, header_parameter, list_parameters, read_parameters
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
SCHEMA_JSON = "application/schema+json"
FormatName = Annotated[str, Path(description="The kind of file.", json_schema_extra={"enum": list(FORMATS)})]
IF_MATCH = header_parameter("If-Match", 'Write only if the document has this entity tag: `"3"`.')
IF_NONE_MATCH = header_parameter("If-None-Match", "Answer 304 if the document still has this entity tag.")
ON_CHANGE: tuple[type[ServiceError], ...] = (InvalidHeaderError, NotFoundError, RevisionMismatchError)


def document_router(document_type: DocumentType) -> APIRouter:  # noqa: C901 - a function for each route
    """All routes of one type, under its name."""
    name, title = document_type.name, document_type.title
    one = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", title).lower()
    router = APIRouter(prefix=f"/api/v1/{name}", tags=[name], default_response_class=Response)
    schema = partial(_schema, title)
    body = partial(_request_body, title)

    async def repository(services: ServicesDependency) -> Repository:
        return services.repositories[name]

    RepositoryDependency = Annotated[Repository, Depends(repository)]  # noqa: N806 - a type

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
    async def list_documents(request: Request, documents: RepositoryDependency) -> Response:
        query = read_list_query(document_type, read_parameters(request))
        page = await documents.page(query)
        return Response(_page_body(page), headers={"Link": _link(request, page)}, media_type=JSON)

    @router.post(
        "",
        status_code=201,
        operation_id=f"create_{one}",
        summary=f"Create a {title}",
        dependencies=[_scope(name, "write")],
        responses={201: schema("", "Created", "ETag", "Location"), **problems(*ALWAYS, *ON_BODY, DuplicateValueError)},
        openapi_extra=body("Create", JSON),
    )
    async def create_document(
        request: Request, services: ServicesDependency, documents: RepositoryDependency
    ) -> Response:
        value = await read_json(request, services.settings.max_body_bytes)
        document = await documents.insert(value)
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
    async def export(
        request: Request, format_name: FormatName, services: ServicesDependency, documents: RepositoryDependency
    ) -> Response:
        return await export_documents(
            documents,
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
    async def get_schema() -> Response:
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
    async def get_document(request: Request, document_id: str, documents: RepositoryDependency) -> Response:
        document = await documents.get(document_id)
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
    async def replace_document(
        request: Request, document_id: str, services: ServicesDependency, documents: RepositoryDependency
    ) -> Response:
        revisions = if_match(request)
        value = await read_json(request, services.settings.max_body_bytes)
        return _document_response(await documents.replace(document_id, value, revisions))

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
    async def patch_document(
        request: Request, document_id: str, services: ServicesDependency, documents: RepositoryDependency
    ) -> Response:
        revisions = if_match(request)
        patch = await read_json(request, services.settings.max_body_bytes, (JSON, MERGE_PATCH, JSON_PATCH))
        apply = json_patch if media_type_of(request) == JSON_PATCH else merge_patch
        return _document_response(await documents.patch(document_id, lambda present: apply(present, patch), revisions))

    @router.delete(
        "/{document_id}",
        status_code=204,
        operation_id=f"delete_{one}",
        summary=f"Delete a {title}",
        dependencies=[_scope(name, "delete")],
        responses=problems(*ALWAYS, *ON_CHANGE),
        openapi_extra={"parameters": [IF_MATCH]},
    )
    async def delete_document(request: Request, document_id: str, documents: RepositoryDependency) -> Response:
        await documents.delete(document_id, if_match(request))
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


def _link(request: Request, page: Page) -> str:
    """RFC 8288: where the first page is, and the next if there is one."""
    kept: Sequence[tuple[str, str]] = [pair for pair in read_parameters(request) if pair[0] not in {"skip", "cursor"}]
    places = {"first": kept} | ({"next": [*kept, ("cursor", page.next_cursor)]} if page.next_cursor else {})
    return ", ".join(f'<{request.url.path}?{urlencode(query)}>; rel="{name}"' for name, query in places.items())
