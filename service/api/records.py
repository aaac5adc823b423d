"""What the service writes down by itself, over HTTP: a list and one, to those whom it concerns."""

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response, Security

from service.api.dependencies import authorize, caller_of, services_of
from service.api.parameters import list_parameters, read_parameters
from service.api.responses import ALWAYS, described, document_response, page_response
from service.api.routing import DirectRoute
from service.auth.scopes import ACCOUNTS_ADMIN
from service.documents.registry import DocumentType
from service.errors import (
    AuthenticationError,
    DatabaseUnavailableError,
    InvalidQueryError,
    NotFoundError,
    QueryTooExpensiveError,
    problems,
)
from service.store.query import read_list_query


def record_router(record_type: DocumentType, *, summary: tuple[str, ...] = (), scope: str | None = None) -> APIRouter:
    """The routes of one kind of records; `summary` names what lists show of them, if that is not all.

    They are for callers with the `scope`; without one, for everybody who has asked for something that has a record.
    """
    name, title, one = record_type.name, record_type.title, record_type.singular
    scopes = [scope] if scope else []
    refusals = ALWAYS if scope else (AuthenticationError, DatabaseUnavailableError)
    whose = "" if scope else " that the caller asked for"
    router = APIRouter(prefix=f"/api/v1/{name}", tags=[name], default_response_class=Response, route_class=DirectRoute)

    @router.get(
        "",
        operation_id=f"list_{name}",
        summary=f"A page of the {name}{whose}",
        dependencies=[Security(authorize, scopes=scopes)],
        responses={
            200: described(f"{title}Page", "A page", "Link"),
            **problems(*refusals, InvalidQueryError, QueryTooExpensiveError),
        },
        openapi_extra={"parameters": list_parameters(record_type)},
    )
    async def list_records(request: Request) -> Response:
        """All of everybody's with `accounts:admin`; filtered, sorted and paged as documents are."""
        query = read_list_query(record_type.whole, read_parameters(request))
        selection = query.selection
        own = replace(
            selection,
            filter={"$and": [seen_by(request), selection.filter]},
            fields=selection.fields or summary,
        )
        return page_response(request, await services_of(request).records[name].page(replace(query, selection=own)))

    @router.get(
        "/{record_id}",
        operation_id=f"get_{one}",
        summary=f"One {title.lower()}: how far it is, or what became of it",
        dependencies=[Security(authorize, scopes=scopes)],
        responses={
            200: described(title, "The record", "ETag"),
            **problems(*refusals, NotFoundError),
        },
    )
    async def get_record(request: Request, record_id: str) -> Response:
        """The caller's own; with `accounts:admin` anybody's. What is not theirs is not there."""
        record = await services_of(request).records[name].get(record_id, seen_by(request))
        return document_response(record)

    return router


def seen_by(request: Request) -> dict[str, Any]:
    """What the records that the caller may see have in common."""
    caller = caller_of(request)
    return {} if ACCOUNTS_ADMIN in caller.scopes else {"account_id": caller.account_id}
