"""The OpenAPI document, and its page, which needs nothing from elsewhere."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from service.api.accounts import account_schemas
from service.api.links import add_links
from service.documents.registry import DocumentType
from service.errors import TooManyRequestsError, problems
from service.store.audit_records import AUDIT
from service.store.export_records import EXPORTS
from service.store.import_records import IMPORTS
from service.store.patching import MAX_OPERATIONS
from service.store.schemas import REF_TEMPLATE, component_schemas

ASSETS = "/docs/assets"
WRITTEN_SCRIPT = re.compile("<script>(.*?)</script>", re.DOTALL)

TEXT = {"type": "string"}
POINTER = TEXT | {"pattern": "^(/([^/~]|~[01])*)*$"}
"""RFC 6901."""


def _operation(names: Sequence[str], **members: Any) -> dict[str, Any]:
    """Operations of a JSON Patch that take these members; others are ignored (RFC 6902 §4)."""
    return {
        "type": "object",
        "required": ["op", "path", *members],
        "properties": {"op": {"enum": list(names)}, "path": POINTER, **members},
    }


SCHEMAS: Mapping[str, Any] = {
    "Problem": {
        "title": "Problem",
        "description": "RFC 9457. `code` is stable; `errors` has all faults at once.",
        "type": "object",
        "required": ["type", "title", "status", "detail", "code", "request_id"],
        "properties": {
            "type": TEXT,
            "title": TEXT,
            "status": {"type": "integer"},
            "detail": TEXT,
            "code": TEXT,
            "request_id": {"type": ["string", "null"]},
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["code", "message"],
                    "properties": {
                        "pointer": TEXT,
                        "parameter": TEXT,
                        "row": {"type": "integer", "description": "Of a file, as a spreadsheet shows it."},
                        "column": TEXT,
                        "code": TEXT,
                        "message": TEXT,
                    },
                },
            },
            "report": {"$ref": REF_TEMPLATE.format(model="Import")},
            "current": {"type": "object", "description": "With `revision_mismatch`: the document as it is now."},
        },
    },
    "JsonPatch": {
        "title": "JsonPatch",
        "description": "RFC 6902.",
        "type": "array",
        "maxItems": MAX_OPERATIONS,
        "items": {
            "oneOf": [
                _operation(["add", "replace", "test"], value={}),
                _operation(["remove"]),
                _operation(["move", "copy"], **{"from": POINTER}),
            ]
        },
    },
    "Token": {
        "title": "Token",
        "type": "object",
        "required": ["access_token", "token_type", "expires_in", "scope"],
        "properties": {
            "access_token": TEXT,
            "token_type": {"const": "Bearer"},
            "expires_in": {"type": "integer", "description": "Seconds."},
            "scope": TEXT,
            "refresh_token": TEXT,
        },
    },
    "Introspection": {
        "title": "Introspection",
        "description": "RFC 7662 §2.2. A refresh token has no `token_type`.",
        "type": "object",
        "required": ["active"],
        "properties": {
            "active": {"type": "boolean"},
            **dict.fromkeys(("scope", "client_id", "username", "token_type", "sub", "iss", "jti"), TEXT),
            "aud": {"type": ["string", "array"], "items": TEXT},
            **{name: {"type": "number", "description": "Seconds since 1970."} for name in ("iat", "exp")},
        },
    },
    "TokenError": {
        "title": "TokenError",
        "description": "RFC 6749 §5.2.",
        "type": "object",
        "required": ["error", "error_description"],
        "properties": {"error": TEXT, "error_description": TEXT, "request_id": {"type": ["string", "null"]}},
    },
    "Me": {
        "title": "Me",
        "type": "object",
        "required": ["id", "username", "kind", "roles", "client_id", "scopes"],
        "properties": {
            **dict.fromkeys(("id", "username", "client_id"), TEXT),
            "kind": {"enum": ["person", "client", None], "description": "Null of who has no account here."},
            **{name: {"type": "array", "items": TEXT} for name in ("roles", "scopes")},
        },
    },
    "JwkSet": {
        "title": "JwkSet",
        "description": "RFC 7517 §5.",
        "type": "object",
        "required": ["keys"],
        "properties": {
            "keys": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["kty", "kid", "use", "alg"],
                    "properties": {"kty": TEXT, "kid": TEXT, "use": {"const": "sig"}, "alg": TEXT},
                },
            }
        },
    },
    "ServerMetadata": {
        "title": "ServerMetadata",
        "description": "RFC 8414 §2.",
        "type": "object",
        "required": ["issuer", "token_endpoint", "jwks_uri", "response_types_supported", "grant_types_supported"],
        "properties": {
            **{
                name: TEXT | {"format": "uri"}
                for name in ("issuer", "token_endpoint", "revocation_endpoint", "introspection_endpoint", "jwks_uri")
            },
            **{
                name: {"type": "array", "items": TEXT}
                for name in ("response_types_supported", "grant_types_supported", "scopes_supported")
            },
        },
    },
    "Health": {"title": "Health", "type": "object", "required": ["status"], "properties": {"status": TEXT}},
}


def install_openapi(
    app: FastAPI,
    document_types: Sequence[DocumentType],
    scopes: Mapping[str, str],
    *,
    has_password_grant: bool = True,
    is_rate_limited: bool = False,
) -> None:
    """Let the app describe itself."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            _drop_framework_errors(document)
            add_links(document)
            if is_rate_limited:
                _add_rate_limit(document)
            components = document["components"]
            records = [EXPORTS, IMPORTS, AUDIT]
            components["schemas"] = {**SCHEMAS, **component_schemas(document_types, read_only=records)}
            components["schemas"] |= account_schemas()
            flows = components["securitySchemes"]["OAuth2"]["flows"]
            if not has_password_grant:
                del flows["password"]
            for flow in flows.values():
                flow["scopes"] = dict(scopes)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def serve_docs(app: FastAPI) -> None:
    """The description as a page, at `/docs`."""
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=app.title,
        swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{ASSETS}/favicon.png",
    )
    page.headers["Content-Security-Policy"] = _policy_of(bytes(page.body).decode())
    app.mount(ASSETS, StaticFiles(packages=[("fastapi_offline", "static")]))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return page


def _policy_of(page: str) -> str:
    """What the page may load: the scripts that are written in it, its assets, and nothing from elsewhere."""
    digests = (hashlib.sha256(script.encode()).digest() for script in WRITTEN_SCRIPT.findall(page))
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src 'self' {hashes}; style-src 'self'; img-src 'self' data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _add_rate_limit(document: dict[str, Any]) -> None:
    """What every route may answer whose callers are known, as they are counted there."""
    [(status, refusal)] = problems(TooManyRequestsError).items()
    for path in document["paths"].values():
        for operation in path.values():
            if "security" in operation:
                described = operation["responses"].setdefault(str(status), {**refusal, "description": ""})
                parts = filter(None, [described["description"], refusal["description"]])
                described["description"] = "; or: ".join(parts)


def _drop_framework_errors(document: dict[str, Any]) -> None:
    """FastAPI's own 422 for path parameters: ours are any text, and what is no id is 404."""
    for path in document["paths"].values():
        for operation in path.values():
            answer = operation["responses"].get("422", {})
            if "HTTPValidationError" in str(answer):
                del operation["responses"]["422"]
