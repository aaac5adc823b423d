"""OAuth2's endpoints: tokens (RFC 6749 §3.2), revocation (RFC 7009), introspection (RFC 7662); and who is calling."""

from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Request, Response, Security
from fastapi.security import SecurityScopes

from service.api.bodies import JSON
from service.api.clients import CLIENT_ID, FORM, Form, client_of, needed, read_form
from service.api.dependencies import (
    INTROSPECTION_PATH,
    REVOCATION_PATH,
    TOKEN_PATH,
    Services,
    ServicesDependency,
    authorize,
)
from service.api.grants import GRANTS, Grant
from service.api.presented_tokens import Asker, introspect, revoke
from service.auth.tokens import Caller
from service.errors import (
    AuthenticationError,
    BodyTooLargeError,
    DatabaseUnavailableError,
    InvalidClientError,
    RequestTimeoutError,
    TokenRequestError,
    TooManyAttemptsError,
    problems,
)

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
"""RFC 6749 §5.1."""

router = APIRouter(tags=["auth"], default_response_class=Response)

TEXT = {"type": "string", "minLength": 1}
SECRET = TEXT | {"format": "password"}
CLIENT = {
    "client_id": {
        "type": "string",
        "pattern": f"^{CLIENT_ID.pattern}$",
        "description": "Who the client is, where HTTP Basic does not say it.",
    },
    "client_secret": {"type": "string", "format": "password"},
}
SCOPE = {"scope": {"type": "string", "description": "What is asked for, with blanks between; empty: all."}}
TOKEN = {
    "token": TEXT | {"description": "An access token or a refresh token."},
    "token_type_hint": {"type": "string", "description": "Not needed."},
}


def _form(*kinds: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a route in OpenAPI, where its parameters may be of several kinds."""
    schemas = [
        {
            "type": "object",
            "required": [name for name in kind if name not in {*CLIENT, *SCOPE, "token_type_hint"}],
            "properties": {**kind, **CLIENT},
            "additionalProperties": {"type": "string", "description": "Ignored."},
            "dependentRequired": {"client_secret": ["client_id"]},
        }
        for kind in kinds
    ]
    schema = schemas[0] if len(schemas) == 1 else {"oneOf": schemas}
    return {"requestBody": {"required": True, "content": {FORM: {"schema": schema}}}}


def _answers(schema: str | None, description: str) -> dict[int | str, dict[str, Any]]:
    refusal = {"content": {JSON: {"schema": {"$ref": "#/components/schemas/TokenError"}}}}
    content = {"content": {JSON: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}} if schema else {}
    return {
        200: {"description": description, **content},
        400: {"description": TokenRequestError.title(), **refusal},
        401: {"description": InvalidClientError.title(), **refusal},
        **problems(RequestTimeoutError, BodyTooLargeError, TooManyAttemptsError, DatabaseUnavailableError),
    }


@router.post(
    TOKEN_PATH,
    operation_id="get_token",
    summary="An access token for a password, a client's credentials or a refresh token",
    responses=_answers("Token", "The token"),
    openapi_extra=_form(
        {"grant_type": {"const": "password"}, "username": TEXT, "password": SECRET, **SCOPE},
        {"grant_type": {"const": "client_credentials"}, **SCOPE},
        {"grant_type": {"const": "refresh_token"}, "refresh_token": SECRET, **SCOPE},
    ),
)
async def get_token(request: Request, services: ServicesDependency) -> Response:
    """The token endpoint. Raises TokenRequestError and TooManyAttemptsError."""
    form = await read_form(request)
    [grant_type] = needed(form, "grant_type")
    if grant_type not in GRANTS or (grant_type == "password" and not services.settings.password_grant):
        raise TokenRequestError("unsupported_grant_type", f"{', '.join(_grant_types(services))} are taken.")
    client = await client_of(request, form)
    return _token_response(services, await GRANTS[grant_type](request, form, client))


def _grant_types(services: Services) -> list[str]:
    return [name for name in GRANTS if name != "password" or services.settings.password_grant]


def _token_response(services: Services, grant: Grant) -> Response:
    account, refresh_token = grant.account, grant.refresh_token
    session_id = str(refresh_token.session_id) if refresh_token else None
    body = {
        "access_token": services.signer.issue(
            str(account.id), account.username, grant.client, grant.scopes, session_id, epoch=account.epoch
        ),
        "token_type": "Bearer",
        "expires_in": services.signer.lifetime_seconds,
        "scope": " ".join(grant.scopes),
    }
    if refresh_token:
        body["refresh_token"] = refresh_token.text
    return Response(orjson.dumps(body), headers=NO_STORE, media_type=JSON)


@router.post(
    REVOCATION_PATH,
    operation_id="revoke_token",
    summary="End the sign-in that a token goes back to",
    responses=_answers(None, "The token is not good any more, if it ever was"),
    openapi_extra=_form(TOKEN),
)
async def revoke_token(request: Request) -> Response:
    """RFC 7009. Raises TokenRequestError; for a token that is none, nothing (§2.2)."""
    form = await read_form(request)
    [token] = needed(form, "token")
    await revoke(request, token, await client_of(request, form))
    return Response(headers=NO_STORE)


@router.post(
    INTROSPECTION_PATH,
    operation_id="introspect_token",
    summary="Whether a token is good, and for what",
    responses=_answers("Introspection", "What is to be said of it"),
    openapi_extra=_form(TOKEN),
)
async def introspect_token(request: Request) -> Response:
    """RFC 7662. Raises TokenRequestError, and AuthenticationError for a bearer token that is not good."""
    form = await read_form(request)
    asker = await _asker(request, form)
    [token] = needed(form, "token")
    return Response(orjson.dumps(await introspect(request, token, asker)), headers=NO_STORE, media_type=JSON)


async def _asker(request: Request, form: Form) -> Asker:
    """Whoever asks proves who they are (RFC 7662 §2.1): a client by its credentials, others by an access token."""
    if request.headers.get("Authorization", "").lower().startswith("bearer "):
        return Asker.of_caller(await authorize(request, SecurityScopes([])))
    client = await client_of(request, form)
    if client.account is None:
        raise InvalidClientError("A client's credentials or an access token are needed.")
    return Asker.of_client(client.account)


@router.get(
    "/api/v1/auth/me",
    operation_id="get_me",
    summary="Who the token stands for",
    responses={
        200: {"description": "The caller", "content": {JSON: {"schema": {"$ref": "#/components/schemas/Me"}}}},
        **problems(AuthenticationError, DatabaseUnavailableError),
    },
)
async def get_me(caller: Annotated[Caller, Security(authorize)], services: ServicesDependency) -> Response:
    """The account, and what this token allows."""
    account = None if caller.issuer else await services.accounts.find_active(caller.account_id)
    body = {
        "id": caller.account_id,
        "username": caller.username,
        "kind": account and account.kind,
        "roles": account.roles if account else [],
        "client_id": caller.client_id,
        "scopes": sorted(caller.scopes),
    }
    return Response(orjson.dumps(body), media_type=JSON)
