"""Signing in: the token endpoint (RFC 6749 §4.3), and who the caller is."""

from typing import Annotated, Any
from urllib.parse import parse_qsl

import orjson
from fastapi import APIRouter, Request, Response, Security

from service.api.bodies import JSON, media_type_of, read_body
from service.api.dependencies import TOKEN_PATH, ServicesDependency, address_of, authorize
from service.auth.scopes import allowed_scopes
from service.auth.tokens import Caller
from service.errors import (
    AuthenticationError,
    BodyTooLargeError,
    DatabaseUnavailableError,
    TokenRequestError,
    TooManyAttemptsError,
    problems,
)

FORM = "application/x-www-form-urlencoded"
MAX_FORM_BYTES = 16_384
DEFAULT_CLIENT = "dossier"

router = APIRouter(tags=["auth"], default_response_class=Response)

TOKEN_REQUEST: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["grant_type", "username", "password"],
                    "properties": {
                        "grant_type": {"const": "password"},
                        "username": {"type": "string", "minLength": 1},
                        "password": {"type": "string", "format": "password", "minLength": 1},
                        "scope": {
                            "type": "string",
                            "description": "What is asked for, with spaces between; empty: all.",
                        },
                        "client_id": {"type": "string"},
                    },
                }
            }
        },
    }
}


@router.post(
    TOKEN_PATH,
    operation_id="get_token",
    summary="An access token for a name and a password",
    responses={
        200: {
            "description": "The token",
            "content": {JSON: {"schema": {"$ref": "#/components/schemas/Token"}}},
        },
        400: {
            "description": TokenRequestError.title(),
            "content": {JSON: {"schema": {"$ref": "#/components/schemas/TokenError"}}},
        },
        **problems(BodyTooLargeError, TooManyAttemptsError, DatabaseUnavailableError),
    },
    openapi_extra=TOKEN_REQUEST,
)
async def get_token(request: Request, services: ServicesDependency) -> Response:
    """The password grant. Raises TokenRequestError and TooManyAttemptsError."""
    form = await _read_form(request)
    if "grant_type" not in form:
        raise TokenRequestError("invalid_request", "grant_type is needed.")
    if form["grant_type"] != "password":
        raise TokenRequestError("unsupported_grant_type", "grant_type must be password.")
    if not form.get("username") or not form.get("password"):
        raise TokenRequestError("invalid_request", "username and password are needed.")
    account = await services.throttle.attempt(
        form["username"],
        address_of(request),
        lambda: services.accounts.authenticate(form["username"], form["password"]),
    )
    if account is None:
        raise TokenRequestError("invalid_grant", "The name or the password is wrong, or the account is disabled.")
    allowed = allowed_scopes(account.patterns, services.scopes)
    asked = form.get("scope", "").split()
    granted = [scope for scope in allowed if scope in asked] if asked else allowed
    if asked and not granted:
        raise TokenRequestError("invalid_scope", "The account has none of these scopes.")
    client_id = form.get("client_id") or DEFAULT_CLIENT
    token = services.signer.issue(str(account.id), account.username, client_id, granted)
    body = {
        "access_token": token,
        "token_type": "Bearer",
        "expires_in": services.signer.lifetime_seconds,
        "scope": " ".join(granted),
    }
    return Response(orjson.dumps(body), headers={"Cache-Control": "no-store"}, media_type=JSON)


async def _read_form(request: Request) -> dict[str, str]:
    if media_type_of(request) != FORM:
        raise TokenRequestError("invalid_request", f"Send {FORM}.")
    body = await read_body(request, MAX_FORM_BYTES)
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=20)
    except ValueError:
        raise TokenRequestError("invalid_request", "The form cannot be read.") from None
    if len(dict(pairs)) < len(pairs):
        raise TokenRequestError("invalid_request", "A parameter comes twice.")  # RFC 6749 §3.2
    return dict(pairs)


@router.get(
    "/api/v1/auth/me",
    operation_id="get_me",
    summary="Who the token stands for",
    responses={
        200: {"description": "The caller", "content": {JSON: {"schema": {"$ref": "#/components/schemas/Me"}}}},
        **problems(AuthenticationError, DatabaseUnavailableError),
    },
)
async def get_me(caller: Annotated[Caller, Security(authorize)]) -> Response:
    """The account, and what this token allows."""
    body = {"id": caller.account_id, "username": caller.username, "scopes": sorted(caller.scopes)}
    return Response(orjson.dumps(body), media_type=JSON)
