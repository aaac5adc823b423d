"""What can go wrong, once for all: the error tree and its answers as RFC 9457 `application/problem+json`.

    ServiceError
    ├── InvalidQueryError        400  invalid_query
    ├── QueryTooExpensiveError   400  query_too_expensive
    ├── InvalidHeaderError       400  invalid_header
    ├── MalformedRequestError    400  malformed_request
    ├── TokenRequestError        400  invalid_request, invalid_grant … (RFC 6749 §5.2 has its own form)
    │   └── InvalidClientError   401  invalid_client
    ├── AuthenticationError      401  not_authenticated
    ├── InsufficientScopeError   403  insufficient_scope
    ├── ExceedsAuthorityError    403  exceeds_authority
    ├── CrossOriginError         403  cross_origin
    ├── PrivateFieldError        403  private_field
    ├── NotFoundError            404  not_found
    ├── MethodNotAllowedError    405  method_not_allowed
    ├── RequestTimeoutError      408  request_timeout
    ├── DuplicateValueError      409  duplicate_value
    ├── WriteConflictError       409  write_conflict
    ├── PatchTestFailedError     409  patch_test_failed
    ├── LastAdminError           409  last_admin
    ├── ImportRunningError       409  import_running
    ├── ImportBrokenOffError     409  import_broken_off
    ├── RevisionMismatchError    412  revision_mismatch
    ├── BodyTooLargeError        413  body_too_large
    ├── UrlTooLongError          414  url_too_long
    ├── UnsupportedMediaTypeError 415 unsupported_media_type
    ├── MisdirectedRequestError  421  misdirected_request
    ├── ValidationFailedError    422  validation_failed
    ├── InvalidFileError         422  invalid_file
    ├── ImportRefusedError       422  import_refused
    ├── IdempotencyKeyReusedError 422 idempotency_key_reused
    ├── TooManyExportsError      429  too_many_exports
    ├── TooManyImportsError      429  too_many_imports
    ├── TooManyAttemptsError     429  too_many_attempts
    ├── TooManyRequestsError     429  too_many_requests
    ├── HeadersTooLargeError     431  headers_too_large
    ├── InternalError            500  internal_error (goes out to what logs and reports it)
    │   └── ImportKilledError    500  import_killed
    ├── DatabaseUnavailableError 503  database_unavailable
    ├── IssuerUnavailableError   503  issuer_unavailable
    ├── SnapshotUnavailableError 503  snapshot_unavailable
    ├── OverloadedError          503  overloaded
    └── ShuttingDownError        503  shutting_down

    StartupError: the service cannot start; its text is the one line that a person reads.

The first line of a class's docstring is the problem's `title`. `code` never changes once published.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import compile_path
from structlog.contextvars import get_contextvars

PROBLEM_MEDIA_TYPE = "application/problem+json"
MAX_FAULTS = 100
MAX_PLACE_LENGTH = 200
"""In characters: what is said of a request is not much longer than the request."""


class StartupError(Exception):
    """The service cannot start, and this text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong in a request: where (RFC 6901 pointer, query parameter, row and column of a file), why."""

    code: str
    message: str
    pointer: str | None = None
    parameter: str | None = None
    row: int | None = None
    column: str | None = None

    def members(self) -> dict[str, str | int]:
        """As it stands in a problem's `errors`."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class ServiceError(Exception):
    """Something went wrong."""

    status: ClassVar[int]
    code: ClassVar[str]

    def __init__(
        self,
        detail: str,
        *,
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
        extras: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults)
        self.headers = dict(headers or {})
        self.extras = dict(extras or {})

    @classmethod
    def title(cls) -> str:
        """The first line of the docstring, without its full stop."""
        return (cls.__doc__ or "").strip().splitlines()[0].removesuffix(".")

    def members(self) -> dict[str, Any]:
        """The answer's body: RFC 9457 §3.1, and our extensions (§3.2)."""
        members: dict[str, Any] = {
            "type": f"urn:dossier:problem:{self.code}",
            "title": self.title(),
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "request_id": get_contextvars().get("request_id"),
        }
        if self.faults:
            members["errors"] = [fault.members() for fault in self.faults]
        return members | self.extras

    def response(self) -> Response:
        """The whole answer."""
        return Response(orjson.dumps(self.members()), self.status, headers=self.headers, media_type=PROBLEM_MEDIA_TYPE)


class FaultyInputError(ServiceError):
    """The input has faults; the first hundred are told."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        told = faults[:MAX_FAULTS]
        where = ", ".join(dict.fromkeys(_place(fault) for fault in told))
        more = f", and {len(faults) - len(told)} more" if len(faults) > len(told) else ""
        super().__init__(f"{len(faults)} fault{'s' if len(faults) > 1 else ''}: {where}{more}", faults=told)


def _place(fault: Fault) -> str:
    in_file = [f"row {fault.row}" if fault.row else "", f"column {fault.column}" if fault.column else ""]
    whole = "the file" if fault.pointer is None else "the whole body"
    place = fault.parameter or fault.pointer or ", ".join(filter(None, in_file)) or whole
    return cut(place, MAX_PLACE_LENGTH)


def cut(text: str, length: int) -> str:
    """The text, or so many characters of it and a mark."""
    return text if len(text) <= length else f"{text[:length]}…"


class InvalidQueryError(FaultyInputError):
    """The query string cannot be understood."""

    status = 400
    code = "invalid_query"


class QueryTooExpensiveError(ServiceError):
    """MongoDB could not answer within the time limit."""

    status = 400
    code = "query_too_expensive"

    def __init__(self) -> None:
        super().__init__("MongoDB ran out of time: filter by an indexed field, or search for less.")


class InvalidHeaderError(ServiceError):
    """A header cannot be understood."""

    status = 400
    code = "invalid_header"


class MalformedRequestError(ServiceError):
    """This is not HTTP."""

    status = 400
    code = "malformed_request"


class TokenRequestError(ServiceError):
    """No token for this request."""

    status = 400
    code = "invalid_request"

    def __init__(
        self,
        error: Literal["invalid_request", "invalid_client", "invalid_grant", "invalid_scope", "unsupported_grant_type"],
        detail: str,
    ) -> None:
        super().__init__(detail, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})
        self.error = error

    def members(self) -> dict[str, Any]:
        """RFC 6749 §5.2, so that any OAuth2 client understands it."""
        return {
            "error": self.error,
            "error_description": self.detail,
            "request_id": get_contextvars().get("request_id"),
        }

    def response(self) -> Response:
        """RFC 6749 §5.2: JSON, and never from a cache."""
        return Response(orjson.dumps(self.members()), self.status, headers=self.headers, media_type="application/json")


class InvalidClientError(TokenRequestError):
    """The client has not proved to be who it says."""

    status = 401
    code = "invalid_client"

    def __init__(self, detail: str) -> None:
        super().__init__("invalid_client", detail)
        self.headers["WWW-Authenticate"] = 'Basic realm="dossier", charset="UTF-8"'  # RFC 7617 §2


class AuthenticationError(ServiceError):
    """A valid access token is needed."""

    status = 401
    code = "not_authenticated"


class InsufficientScopeError(ServiceError):
    """The access token does not allow this."""

    status = 403
    code = "insufficient_scope"


class ExceedsAuthorityError(ServiceError):
    """This reaches beyond what the caller may do themselves."""

    status = 403
    code = "exceeds_authority"


class CrossOriginError(ServiceError):
    """Pages of other sites may not ask for this."""

    status = 403
    code = "cross_origin"


class PrivateFieldError(FaultyInputError):
    """The query depends on private fields."""

    status = 403
    code = "private_field"


class NotFoundError(ServiceError):
    """There is nothing here."""

    status = 404
    code = "not_found"


class MethodNotAllowedError(ServiceError):
    """This address does not take that method."""

    status = 405
    code = "method_not_allowed"


class RequestTimeoutError(ServiceError):
    """The request comes too slowly."""

    status = 408
    code = "request_timeout"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Connection": "close"})


class DuplicateValueError(ServiceError):
    """Another document has this value already."""

    status = 409
    code = "duplicate_value"


class WriteConflictError(ServiceError):
    """Too many others were changing this document at the same time."""

    status = 409
    code = "write_conflict"


class PatchTestFailedError(ServiceError):
    """A `test` of the JSON Patch failed."""

    status = 409
    code = "patch_test_failed"


class LastAdminError(ServiceError):
    """Nobody would be left to manage accounts."""

    status = 409
    code = "last_admin"

    def __init__(self) -> None:
        super().__init__("This is the last active account that has accounts:admin: give that to another one first.")


class ImportRunningError(ServiceError):
    """The same file is being imported at this moment."""

    status = 409
    code = "import_running"

    def __init__(self, lease_seconds: int) -> None:
        super().__init__(
            "Look at its record, or send it again when that has ended.", headers={"Retry-After": str(lease_seconds)}
        )


class ImportBrokenOffError(ServiceError):
    """The import broke off; what was written is told."""

    status = 409
    code = "import_broken_off"


class RevisionMismatchError(ServiceError):
    """The document has changed since it was read."""

    status = 412
    code = "revision_mismatch"


class BodyTooLargeError(ServiceError):
    """The body is too large."""

    status = 413
    code = "body_too_large"


class UrlTooLongError(ServiceError):
    """The URL is too long."""

    status = 414
    code = "url_too_long"


class UnsupportedMediaTypeError(ServiceError):
    """The body's media type is not taken here."""

    status = 415
    code = "unsupported_media_type"


class MisdirectedRequestError(ServiceError):
    """This host is not served here."""

    status = 421
    code = "misdirected_request"


class ValidationFailedError(FaultyInputError):
    """The document is not valid."""

    status = 422
    code = "validation_failed"


class InvalidFileError(FaultyInputError):
    """The file cannot be read."""

    status = 422
    code = "invalid_file"


class ImportRefusedError(ServiceError):
    """Nothing was imported, as some rows cannot be."""

    status = 422
    code = "import_refused"


class IdempotencyKeyReusedError(ServiceError):
    """This Idempotency-Key came with another request before."""

    status = 422
    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__("The file or the query is another one: send it with a key of its own.")


class TooManyImportsError(ServiceError):
    """Enough imports are running already."""

    status = 429
    code = "too_many_imports"

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} run at once; try again when one has ended.", headers={"Retry-After": "10"})


class TooManyExportsError(ServiceError):
    """Enough exports are running already."""

    status = 429
    code = "too_many_exports"

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} run at once; try again when one has ended.", headers={"Retry-After": "10"})


class TooManyAttemptsError(ServiceError):
    """Too many attempts to sign in have failed."""

    status = 429
    code = "too_many_attempts"

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(f"Try again in {retry_after_seconds} s.", headers={"Retry-After": str(retry_after_seconds)})

    def members(self) -> dict[str, Any]:
        """A problem that is RFC 6749's form too: OAuth2 clients take what has no `error` for a token."""
        return super().members() | {"error": self.code, "error_description": f"{self.title()}. {self.detail}"}


class TooManyRequestsError(ServiceError):
    """The account has sent too many requests."""

    status = 429
    code = "too_many_requests"

    def __init__(self, limit: int, group: str, retry_after_seconds: int) -> None:
        super().__init__(
            f"It may send {limit} {group} a minute; try again in {retry_after_seconds} s.",
            headers={"Retry-After": str(retry_after_seconds)},
        )


class HeadersTooLargeError(ServiceError):
    """The headers are too large."""

    status = 431
    code = "headers_too_large"


class InternalError(ServiceError):
    """The service failed."""

    status = 500
    code = "internal_error"


class ImportKilledError(InternalError):
    """The import's process was killed."""

    status = 500
    code = "import_killed"

    def __init__(self) -> None:
        super().__init__("Send the file again: what was written stays, and nothing comes twice.")


class DatabaseUnavailableError(ServiceError):
    """The database does not answer."""

    status = 503
    code = "database_unavailable"

    def __init__(self, detail: str = "Try again shortly.") -> None:
        super().__init__(detail, headers={"Retry-After": "2"})


class IssuerUnavailableError(ServiceError):
    """The keys of the token's issuer cannot be had."""

    status = 503
    code = "issuer_unavailable"

    def __init__(self, retry_seconds: int) -> None:
        super().__init__(
            "Nobody can tell yet whether the token is good.", headers={"Retry-After": str(max(1, retry_seconds))}
        )


class SnapshotUnavailableError(ServiceError):
    """The database cannot read everything as of one moment."""

    status = 503
    code = "snapshot_unavailable"


class OverloadedError(ServiceError):
    """Too many requests are being done at once."""

    status = 503
    code = "overloaded"

    def __init__(self) -> None:
        super().__init__("Try again in a moment.", headers={"Retry-After": "1"})


class ShuttingDownError(ServiceError):
    """The service is shutting down."""

    status = 503
    code = "shutting_down"

    def __init__(self) -> None:
        super().__init__("Try again: another process will answer.", headers={"Retry-After": "1", "Connection": "close"})


def problems(*errors: type[ServiceError]) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI `responses=` of a route that may raise these."""
    responses: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        response = responses.setdefault(
            error.status,
            {
                "description": error.title(),
                "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        )
        if error.title() not in response["description"]:
            response["description"] += f"; or: {error.title()}"
    return responses


def _allowed_methods(request: Request) -> str:
    """Of all routes with this path; the framework names those of one. A path that is written out comes first."""
    matching = {
        path: operations
        for path, operations in request.app.openapi()["paths"].items()
        if compile_path(path)[0].fullmatch(request.url.path)
    }
    described = [matching[request.url.path]] if request.url.path in matching else list(matching.values())
    return ", ".join(method.upper() for operations in described for method in operations)


def install_handlers(app: FastAPI) -> None:
    """Let every error of the tree, and the framework's own, leave as a problem."""

    async def answer(_request: Request, error: Exception) -> Response:
        assert isinstance(error, ServiceError)
        if isinstance(error, InternalError):
            raise error  # to the middlewares that log it, report it and answer
        return error.response()

    async def answer_framework(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == MethodNotAllowedError.status:
            return MethodNotAllowedError(
                "See the Allow header.", headers={"Allow": _allowed_methods(request)}
            ).response()
        if error.status_code == NotFoundError.status:
            return NotFoundError("No such address.").response()
        raise error

    app.add_exception_handler(ServiceError, answer)
    app.add_exception_handler(HTTPException, answer_framework)
