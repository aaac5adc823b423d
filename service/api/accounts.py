"""Accounts over HTTP: managed by those with `accounts:admin`, and one's own password."""

from copy import deepcopy
from typing import Any

from fastapi import APIRouter, Request, Response, Security

from service.api.bodies import JSON, MERGE_PATCH, read_json
from service.api.conditions import if_match, is_not_modified
from service.api.dependencies import actor_of, authorize, caller_of, services_of
from service.api.parameters import IF_MATCH, IF_NONE_MATCH, list_parameters, read_parameters
from service.api.responses import ALWAYS, ON_BODY, described, document_response, page_response
from service.api.routing import DirectRoute
from service.auth.accounts import ACCOUNTS
from service.auth.administration import Administrator
from service.auth.scopes import ACCOUNTS_ADMIN
from service.errors import (
    AuthenticationError,
    DatabaseUnavailableError,
    DuplicateValueError,
    ExceedsAuthorityError,
    InvalidHeaderError,
    InvalidQueryError,
    LastAdminError,
    NotFoundError,
    QueryTooExpensiveError,
    RevisionMismatchError,
    ServiceError,
    TooManyAttemptsError,
    ValidationFailedError,
    WriteConflictError,
    problems,
)
from service.settings import MAX_PASSWORD_LENGTH, MIN_PASSWORD_LENGTH
from service.store.patching import merge_patch
from service.store.query import read_list_query
from service.store.repository import Presented, entity_tag
from service.store.schemas import REF_TEMPLATE, component_schemas

ON_CHANGE: tuple[type[ServiceError], ...] = (
    ExceedsAuthorityError,
    NotFoundError,
    LastAdminError,
    WriteConflictError,
)
PATH = "/api/v1/accounts"
NO_STORE = {"Cache-Control": "no-store"}
"""RFC 6749 §5.1 asks for it where secrets are answered."""

PASSWORD = {
    "type": "string",
    "format": "password",
    "writeOnly": True,
    "minLength": MIN_PASSWORD_LENGTH,
    "maxLength": MAX_PASSWORD_LENGTH,
    "description": "None of those that everybody tries first.",
}

admins_only = Security(authorize, scopes=[ACCOUNTS_ADMIN])
router = APIRouter(tags=["accounts"], default_response_class=Response, route_class=DirectRoute)
password_router = APIRouter(tags=["auth"], default_response_class=Response, route_class=DirectRoute)


def _body(schema: str, *media_types: str) -> dict[str, Any]:
    reference = {"schema": {"$ref": REF_TEMPLATE.format(model=schema)}}
    return {"requestBody": {"required": True, "content": dict.fromkeys(media_types, reference)}}


async def administrator_of(request: Request) -> Administrator:
    """The caller: may hand out what both their account and their token may."""
    services, caller = services_of(request), caller_of(request)
    withheld = frozenset(services.scopes) - caller.scopes
    return Administrator(actor_of(request), await services.accounts.patterns_of(caller.account_id), withheld)


@router.get(
    PATH,
    operation_id="list_accounts",
    summary="A page of accounts",
    dependencies=[admins_only],
    responses={
        200: described("AccountPage", "A page", "Link"),
        **problems(*ALWAYS, InvalidQueryError, QueryTooExpensiveError),
    },
    openapi_extra={"parameters": list_parameters(ACCOUNTS)},
)
async def list_accounts(request: Request) -> Response:
    """Filtered, sorted and paged as documents are."""
    query = read_list_query(ACCOUNTS.whole, read_parameters(request))
    return page_response(request, await services_of(request).records[ACCOUNTS.name].page(query))


@router.post(
    PATH,
    status_code=201,
    operation_id="create_account",
    summary="Create an account",
    dependencies=[admins_only],
    responses={
        201: described("AccountWithSecret", "Created", "ETag", "Location"),
        **problems(*ALWAYS, *ON_BODY, ExceedsAuthorityError, DuplicateValueError),
    },
    openapi_extra=_body("AccountCreate", JSON),
)
async def create_account(request: Request) -> Response:
    """For a client that is given no password, one is made, and shown in this answer only, as `client_secret`."""
    body = await read_json(request)
    account, secret = await services_of(request).administration.create(body, await administrator_of(request))
    return _response(account, secret, 201, {"Location": f"{PATH}/{account['id']}"})


@router.get(
    PATH + "/{account_id}",
    operation_id="get_account",
    summary="One account",
    dependencies=[admins_only],
    responses={
        200: described("Account", "The account", "ETag"),
        304: {"description": "Not changed since"},
        **problems(*ALWAYS, NotFoundError, InvalidHeaderError),
    },
    openapi_extra={"parameters": [IF_NONE_MATCH]},
)
async def get_account(request: Request, account_id: str) -> Response:
    """Without anything that is secret."""
    account = await services_of(request).records[ACCOUNTS.name].get(account_id)
    if is_not_modified(request, account):
        return Response(status_code=304, headers={"ETag": entity_tag(account)})
    return document_response(account)


@router.patch(
    PATH + "/{account_id}",
    operation_id="patch_account",
    summary="Change parts of an account",
    dependencies=[admins_only],
    responses={
        200: described("Account", "As it is now", "ETag"),
        **problems(*ALWAYS, *ON_BODY, *ON_CHANGE, InvalidHeaderError, RevisionMismatchError),
    },
    openapi_extra=_body("AccountPatch", JSON, MERGE_PATCH) | {"parameters": [IF_MATCH]},
)
async def patch_account(request: Request, account_id: str) -> Response:
    """Roles, scopes, whether it is active, and a new password; what it is called and what it is stay."""
    revisions = if_match(request)
    patch = await read_json(request, (JSON, MERGE_PATCH))
    account = await services_of(request).administration.patch(
        account_id,
        lambda present: merge_patch(present, patch, ACCOUNTS.has_field),
        await administrator_of(request),
        revisions,
    )
    return _response(account)


@router.delete(
    PATH + "/{account_id}",
    status_code=204,
    operation_id="delete_account",
    summary="Delete an account",
    dependencies=[admins_only],
    responses=problems(*ALWAYS, *ON_CHANGE, InvalidHeaderError, RevisionMismatchError),
    openapi_extra={"parameters": [IF_MATCH]},
)
async def delete_account(request: Request, account_id: str) -> Response:
    """Its records stay."""
    revisions = if_match(request)
    await services_of(request).administration.delete(account_id, await administrator_of(request), revisions)
    return Response(status_code=204)


@router.post(
    PATH + "/{account_id}/secret",
    operation_id="renew_client_secret",
    summary="A new secret for a client",
    dependencies=[admins_only],
    responses={
        200: described("AccountWithSecret", "The new secret", "ETag"),
        **problems(*ALWAYS, *ON_CHANGE, ValidationFailedError),
    },
)
async def renew_client_secret(request: Request, account_id: str) -> Response:
    """Shown in this answer only; the old one is good no longer."""
    administration = services_of(request).administration
    account, secret = await administration.renew_secret(account_id, await administrator_of(request))
    return _response(account, secret)


@password_router.put(
    "/api/v1/auth/me/password",
    status_code=204,
    operation_id="change_my_password",
    summary="A new password for the caller",
    dependencies=[Security(authorize, scopes=[])],
    responses=problems(
        AuthenticationError,
        DatabaseUnavailableError,
        *ON_BODY,
        NotFoundError,
        TooManyAttemptsError,
        WriteConflictError,
    ),
    openapi_extra=_body("PasswordChange", JSON),
)
async def change_my_password(request: Request) -> Response:
    """For a person who knows the current one, whatever their token may."""
    body = await read_json(request)
    services = services_of(request)
    await services.administration.change_own_password(
        body, actor_of(request), caller_of(request).session_id, services.throttle
    )
    return Response(status_code=204, headers=NO_STORE)


def _response(
    account: Presented, secret: str | None = None, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    shown = account if secret is None else {**account, "client_secret": secret}
    return document_response(shown, status, NO_STORE | (headers or {}))


def account_schemas() -> dict[str, Any]:
    """What OpenAPI says of accounts: as any type, but for the secrets, which go only one way."""
    schemas = component_schemas([ACCOUNTS])
    for name in ("AccountCreate", "AccountPatch"):
        schemas[name]["properties"]["password"] = PASSWORD
    is_client = {"required": ["kind"], "properties": {"kind": {"const": "client"}}}
    schemas["AccountCreate"]["anyOf"] = [{"required": ["password"]}, is_client]
    with_secret = deepcopy(schemas["Account"]) | {"title": "AccountWithSecret"}
    with_secret["properties"]["client_secret"] = {
        "type": "string",
        "description": "Of a client, where it was made by the service; it is shown only now.",
    }
    passwords = {"current_password": {"type": "string", "format": "password"}, "new_password": PASSWORD}
    change = {
        "title": "PasswordChange",
        "type": "object",
        "additionalProperties": False,
        "required": list(passwords),
        "properties": passwords,
    }
    return {**schemas, "AccountWithSecret": with_secret, "PasswordChange": change}
