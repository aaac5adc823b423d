"""Imports over HTTP: a file comes in, a report goes out."""

import re
from collections.abc import Mapping
from typing import Any, get_args

import orjson
from anyio import to_thread
from bson import ObjectId
from fastapi import Request, Response
from structlog.contextvars import get_contextvars

from service.api.bodies import JSON
from service.api.dependencies import actor_of, caller_of, services_of
from service.api.negotiation import prefers
from service.api.parameters import read_parameters
from service.api.records import record_router
from service.api.responses import document_response
from service.api.uploads import receive_upload
from service.documents.json_text import dump_json
from service.documents.registry import DocumentType
from service.documents.views import View
from service.errors import (
    PROBLEM_MEDIA_TYPE,
    DatabaseUnavailableError,
    ImportKilledError,
    InternalError,
    InvalidHeaderError,
    NotFoundError,
)
from service.imports.query import read_import_query
from service.imports.template import TemplateFormat, template
from service.store.import_records import IMPORTS, SUMMARY
from service.store.repository import Presented
from service.transfer.formats import FORMATS

CSV = "text/csv"
TEMPLATE_TYPES: Mapping[TemplateFormat, str] = {
    name: FORMATS[name].media_type.partition(";")[0] for name in get_args(TemplateFormat)
}
IDEMPOTENCY_KEY = re.compile("[!-~]{1,255}")

router = record_router(IMPORTS, summary=SUMMARY)


async def import_documents(request: Request, view: View) -> Response:
    """The report. A request with an Idempotency-Key that came before gets the first one's.

    Raises InvalidQueryError, PrivateFieldError, InvalidHeaderError, TooManyImportsError, BodyTooLargeError,
    UnsupportedMediaTypeError, InvalidFileError, ImportRunningError and IdempotencyKeyReusedError.
    """
    services, caller = services_of(request), caller_of(request)
    text = request.scope["query_string"].decode("ascii", "backslashreplace")
    query = read_import_query(view, read_parameters(request), text)
    idempotency_key = _idempotency_key(request)
    services.importer.refuse_if_busy()

    async def begun(key: ObjectId) -> None:
        await services.audit.note("import", actor_of(request), type=view.document_type.name, target=str(key))

    async with receive_upload(request, services.settings.import_max_bytes) as upload:
        key, is_replay = await services.importer.run(
            view.document_type,
            query,
            upload,
            begun,
            account_id=caller.account_id,
            account=caller.username,
            request_id=get_contextvars().get("request_id"),
            idempotency_key=idempotency_key,
        )
    record = await services.records[IMPORTS.name].get(str(key))
    response = await _report(request, key, record)
    response.headers["Import-Id"] = str(key)
    if is_replay:
        response.headers["Idempotency-Replayed"] = "true"
    return response


async def import_template(document_type: DocumentType, format_name: str) -> Response:
    """An empty file to fill in. Raises NotFoundError."""
    for name, media_type in TEMPLATE_TYPES.items():
        if name == format_name:
            data = await to_thread.run_sync(template, document_type, name)
            headers = {"Content-Disposition": f'attachment; filename="{document_type.name}-template.{name}"'}
            return Response(data, media_type=media_type, headers=headers)
    raise NotFoundError(f"There are templates in {', '.join(TEMPLATE_TYPES)}.")


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidHeaderError("An Idempotency-Key is 1 to 255 visible characters of ASCII.")
    return key


async def _report(request: Request, key: ObjectId, record: Presented) -> Response:
    """The record, or the problem with the record in it; or the failed rows, for whoever wants to correct them."""
    problem: dict[str, Any] | None = record["problem"]
    if problem is None and record["state"] != "complete":
        raise InternalError("What became of the import could not be written down; its record shows how far it was.")
    status = problem["status"] if problem else 200
    if prefers(request, CSV, JSON) and (problem is None or record["failed_rows"]):
        table, left_out = await services_of(request).importer.failed_table(key)
        headers = {
            "Content-Disposition": f'attachment; filename="{record["type"]}-failed-rows.csv"',
            "Failed-Rows-Left-Out": str(left_out),
        }
        return Response(table, status, media_type=f"{CSV}; charset=utf-8; header=present", headers=headers)
    if problem is None:
        return document_response(record)
    report = orjson.Fragment(dump_json({**record, "problem": None}))
    if problem["code"] == ImportKilledError.code:
        killed = ImportKilledError()
        killed.headers["Import-Id"] = str(key)
        killed.extras["report"] = report
        raise killed
    members = problem | {"request_id": get_contextvars().get("request_id"), "report": report}
    retry = DatabaseUnavailableError().headers if status == DatabaseUnavailableError.status else None
    return Response(orjson.dumps(members), status, headers=retry, media_type=PROBLEM_MEDIA_TYPE)
