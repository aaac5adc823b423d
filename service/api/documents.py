"""The routes that every document type has, made from the type."""

from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Request, Response, Security
from fastapi.params import Security as SecurityParameter

from service.api.bodies import JSON, JSON_PATCH, MERGE_PATCH, media_type_of, read_json
from service.api.conditions import if_match, is_not_modified
from service.api.dependencies import actor_of, authorize, caller_of, services_of
from service.api.exports import export_documents
from service.api.imports import CSV, TEMPLATE_TYPES, import_documents, import_template
from service.api.parameters import (
    IF_MATCH,
    IF_NONE_MATCH,
    export_parameters,
    import_parameters,
    list_parameters,
    read_parameters,
)
from service.api.responses import ALWAYS, ON_BODY, described, document_response, page_response
from service.api.routing import DirectRoute
from service.api.uploads import BINARY, upload_body
from service.documents.registry import DocumentType
from service.errors import (
    BodyTooLargeError,
    DuplicateValueError,
    IdempotencyKeyReusedError,
    ImportBrokenOffError,
    ImportKilledError,
    ImportRefusedError,
    ImportRunningError,
    InvalidFileError,
    InvalidHeaderError,
    InvalidQueryError,
    NotFoundError,
    PatchTestFailedError,
    PrivateFieldError,
    QueryTooExpensiveError,
    RequestTimeoutError,
    RevisionMismatchError,
    ServiceError,
    SnapshotUnavailableError,
    TooManyExportsError,
    TooManyImportsError,
    UnsupportedMediaTypeError,
    WriteConflictError,
    problems,
)
from service.store.patching import json_patch, merge_patch
from service.store.query import read_list_query
from service.store.repository import Repository, entity_tag
from service.store.schemas import REF_TEMPLATE, read_schema
from service.transfer.formats import FORMATS

SCHEMA_JSON = "application/schema+json"
FormatName = Annotated[str, Path(description="The kind of file.", json_schema_extra={"enum": list(FORMATS)})]
TemplateFormatName = Annotated[
    str, Path(description="The kind of file.", json_schema_extra={"enum": [*TEMPLATE_TYPES]})
]
ON_CHANGE: tuple[type[ServiceError], ...] = (InvalidHeaderError, NotFoundError, RevisionMismatchError)


def document_router(document_type: DocumentType) -> APIRouter:  # noqa: C901 - a function for each route
    """All routes of one type, under its name."""
    name, title, one = document_type.name, document_type.title, document_type.singular
    router = APIRouter(prefix=f"/api/v1/{name}", tags=[name], default_response_class=Response, route_class=DirectRoute)
    body = partial(_request_body, title)

    def repository(request: Request) -> Repository:
        return services_of(request).repositories[name].seen_with(caller_of(request).scopes)

    @router.get(
        "",
        operation_id=f"list_{name}",
        summary=f"A page of {name}",
        dependencies=[_scope(name, "read")],
        responses={
            200: described(f"{title}Page", "A page", "Link"),
            **problems(*ALWAYS, InvalidQueryError, PrivateFieldError, QueryTooExpensiveError),
        },
        openapi_extra={"parameters": list_parameters(document_type)},
    )
    async def list_documents(request: Request) -> Response:
        documents = repository(request)
        query = read_list_query(documents.view, read_parameters(request))
        return page_response(request, await documents.page(query))

    @router.post(
        "",
        status_code=201,
        operation_id=f"create_{one}",
        summary=f"Create a {title}",
        dependencies=[_scope(name, "write")],
        responses={
            201: described(title, "Created", "ETag", "Location"),
            **problems(*ALWAYS, *ON_BODY, DuplicateValueError),
        },
        openapi_extra=body("Create", JSON),
    )
    async def create_document(request: Request) -> Response:
        documents = repository(request)
        document = await documents.insert(await read_json(request))
        place = {"Location": f"/api/v1/{name}/{document['id']}"}
        return document_response(document, 201, place, is_masked=documents.view.is_masked)

    @router.get(
        "/export/{format_name}",
        operation_id=f"export_{name}",
        summary=f"{name.capitalize()} as a file",
        dependencies=[_scope(name, "export")],
        responses={
            200: {
                "description": "The file",
                "headers": {name: {"schema": {"type": "string"}} for name in ("Content-Disposition", "Export-Id")},
                "content": _file_contents(title),
            },
            **problems(
                *ALWAYS,
                InvalidQueryError,
                PrivateFieldError,
                QueryTooExpensiveError,
                SnapshotUnavailableError,
                TooManyExportsError,
            ),
        },
        openapi_extra={"parameters": export_parameters(document_type)},
    )
    async def export(request: Request, format_name: FormatName) -> Response:
        return await export_documents(request, repository(request), format_name)

    @router.post(
        "/import",
        operation_id=f"import_{name}",
        summary=f"Create or change {name} by a file",
        dependencies=[_scope(name, "write")],
        responses=_import_responses(),
        openapi_extra=upload_body() | {"parameters": import_parameters(document_type)},
    )
    async def import_file(request: Request) -> Response:
        return await import_documents(request, repository(request).view)

    @router.get(
        "/import/template/{format_name}",
        operation_id=f"get_{one}_import_template",
        summary=f"An empty file of {name} to fill in",
        dependencies=[_scope(name, "write")],
        responses={
            200: {
                "description": "The file",
                "headers": {"Content-Disposition": {"schema": {"type": "string"}}},
                "content": dict.fromkeys(TEMPLATE_TYPES.values(), BINARY),
            },
            **problems(*ALWAYS, NotFoundError),
        },
    )
    async def get_template(_request: Request, format_name: TemplateFormatName) -> Response:
        return await import_template(document_type, format_name)

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
            200: described(title, "The document", "ETag"),
            304: {"description": "Not changed since"},
            **problems(*ALWAYS, NotFoundError, InvalidHeaderError),
        },
        openapi_extra={"parameters": [IF_NONE_MATCH]},
    )
    async def get_document(request: Request, document_id: str) -> Response:
        documents = repository(request)
        document, is_masked = await documents.get(document_id), documents.view.is_masked
        if is_not_modified(request, document, is_masked=is_masked):
            return Response(status_code=304, headers={"ETag": entity_tag(document, is_masked=is_masked)})
        return document_response(document, is_masked=is_masked)

    @router.put(
        "/{document_id}",
        operation_id=f"replace_{one}",
        summary=f"Replace a {title}",
        dependencies=[_scope(name, "write")],
        responses={
            200: described(title, "As it is now", "ETag"),
            **problems(*ALWAYS, *ON_BODY, *ON_CHANGE, DuplicateValueError, WriteConflictError),
        },
        openapi_extra=body("Create", JSON) | {"parameters": [IF_MATCH]},
    )
    async def replace_document(request: Request, document_id: str) -> Response:
        revisions = if_match(request)
        documents = repository(request)
        document = await documents.replace(document_id, await read_json(request), revisions)
        return document_response(document, is_masked=documents.view.is_masked)

    @router.patch(
        "/{document_id}",
        operation_id=f"patch_{one}",
        summary=f"Change parts of a {title}",
        dependencies=[_scope(name, "write")],
        responses={
            200: described(title, "As it is now", "ETag"),
            **problems(*ALWAYS, *ON_BODY, *ON_CHANGE, DuplicateValueError, WriteConflictError, PatchTestFailedError),
        },
        openapi_extra=_patch_body(title) | {"parameters": [IF_MATCH]},
    )
    async def patch_document(request: Request, document_id: str) -> Response:
        revisions = if_match(request)
        documents = repository(request)
        patch = await read_json(request, (JSON, MERGE_PATCH, JSON_PATCH))

        def change(present: Any) -> Any:
            if media_type_of(request) == JSON_PATCH:
                return json_patch(present, patch, documents.view.has_masks_at)
            return merge_patch(present, patch, document_type.has_field)

        document = await documents.patch(document_id, change, revisions)
        return document_response(document, is_masked=documents.view.is_masked)

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
        try:
            await repository(request).delete(document_id, if_match(request))
        except RevisionMismatchError as error:
            if f"{name}:read" not in caller_of(request).scopes:
                error.extras.clear()  # the present document
            raise
        await services_of(request).audit.note("document_deleted", actor_of(request), type=name, target=document_id)
        return Response(status_code=204)

    return router


def _scope(name: str, action: str) -> SecurityParameter:
    dependency: SecurityParameter = Security(authorize, scopes=[f"{name}:{action}"])
    return dependency


def _file_contents(title: str) -> dict[str, Any]:
    """Each format's media type; of JSON, which is read as a value and not as a file, the schema too."""
    contents: dict[str, Any] = {file_format.media_type.partition(";")[0]: BINARY for file_format in FORMATS.values()}
    item = {"$ref": REF_TEMPLATE.format(model=f"{title}Item")}
    contents[JSON] = {"schema": {"type": "array", "items": item}}
    return contents


def _import_responses() -> dict[int | str, dict[str, Any]]:
    """The report, or the problem that has it; of rows that failed, whoever prefers CSV gets those."""
    responses = {
        200: described("Import", "What became of each row", "Import-Id", "Idempotency-Replayed"),
        **problems(
            *ALWAYS,
            BodyTooLargeError,
            IdempotencyKeyReusedError,
            ImportBrokenOffError,
            ImportKilledError,
            ImportRefusedError,
            ImportRunningError,
            InvalidFileError,
            InvalidHeaderError,
            InvalidQueryError,
            PrivateFieldError,
            RequestTimeoutError,
            TooManyImportsError,
            UnsupportedMediaTypeError,
        ),
    }
    for status in (200, ImportBrokenOffError.status, ImportRefusedError.status):
        responses[status]["content"][CSV] = BINARY
    return responses


def _request_body(title: str, suffix: str, *media_types: str) -> dict[str, Any]:
    content = {media_type: described(f"{title}{suffix}", "")["content"][JSON] for media_type in media_types}
    return {"requestBody": {"required": True, "content": content}}


def _patch_body(title: str) -> dict[str, Any]:
    body = _request_body(title, "Patch", JSON, MERGE_PATCH)
    operations = {"schema": {"$ref": REF_TEMPLATE.format(model="JsonPatch")}}
    body["requestBody"]["content"][JSON_PATCH] = operations
    return body
