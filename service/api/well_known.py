"""What other programs find out by themselves (RFC 8615): the public keys, and where the token endpoints are."""

from typing import Any

import orjson
from fastapi import APIRouter, Response

from service.api.bodies import JSON
from service.api.dependencies import (
    INTROSPECTION_PATH,
    REVOCATION_PATH,
    TOKEN_PATH,
    Services,
    ServicesDependency,
)
from service.api.responses import described
from service.auth.key_ring import PUBLISHED_SECONDS
from service.auth.keys import public_jwk

JWK_SET = "application/jwk-set+json"
JWKS_PATH = "/.well-known/jwks.json"
METADATA_SECONDS = 300
"""How long the metadata may be kept; settings change only with a new start."""

CLIENT_SECRET_METHODS = ["client_secret_basic", "client_secret_post"]

router = APIRouter(tags=["auth"], default_response_class=Response)


@router.get(
    JWKS_PATH,
    operation_id="get_jwks",
    summary="The public keys that verify access tokens",
    responses={
        200: {
            "description": "The keys; none where a secret key signs",
            "headers": {"Cache-Control": {"schema": {"type": "string"}}},
            "content": {JWK_SET: {"schema": {"$ref": "#/components/schemas/JwkSet"}}},
        }
    },
)
async def get_jwks(services: ServicesDependency) -> Response:
    """RFC 7517 §5."""
    keys = [public_jwk(key) for key in services.keys.public_keys]
    return Response(orjson.dumps({"keys": keys}), headers=_cached(PUBLISHED_SECONDS), media_type=JWK_SET)


@router.get(
    "/.well-known/oauth-authorization-server",
    operation_id="get_server_metadata",
    summary="What an OAuth2 client has to know of this server",
    responses={200: described("ServerMetadata", "The metadata", "Cache-Control")},
)
async def get_server_metadata(services: ServicesDependency) -> Response:
    """RFC 8414 §3."""
    return Response(orjson.dumps(_metadata(services)), headers=_cached(METADATA_SECONDS), media_type=JSON)


def _metadata(services: Services) -> dict[str, Any]:
    """RFC 8414 §2. There is no authorization endpoint, and so no response type."""
    base = services.settings.issuer
    password = ["password"] if services.settings.password_grant else []
    return {
        "issuer": base,
        "token_endpoint": base + TOKEN_PATH,
        "token_endpoint_auth_methods_supported": [*CLIENT_SECRET_METHODS, "none"],
        "revocation_endpoint": base + REVOCATION_PATH,
        "revocation_endpoint_auth_methods_supported": [*CLIENT_SECRET_METHODS, "none"],
        "introspection_endpoint": base + INTROSPECTION_PATH,
        "introspection_endpoint_auth_methods_supported": [*CLIENT_SECRET_METHODS, "Bearer"],
        "jwks_uri": base + JWKS_PATH,
        "grant_types_supported": [*password, "client_credentials", "refresh_token"],
        "response_types_supported": [],
        "scopes_supported": list(services.scopes),
        **({"service_documentation": f"{base}/docs"} if services.settings.docs else {}),
    }


def _cached(seconds: int) -> dict[str, str]:
    return {"Cache-Control": f"public, max-age={seconds}"}
