"""The one place where the driver's errors become ours."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pymongo
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    CursorNotFound,
    DocumentTooLarge,
    DuplicateKeyError,
    ExecutionTimeout,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
    WriteError,
)

from service.documents.values import pointer_to
from service.errors import (
    BodyTooLargeError,
    DatabaseUnavailableError,
    DuplicateValueError,
    Fault,
    InternalError,
    InvalidQueryError,
    ServiceError,
    ValidationFailedError,
)

INVALID_REGEX = 51091
PASSING_TROUBLE = frozenset(
    {6, 7, 89, 91, 112, 134, 175, 189, 211, 217, 237, 251, 262, 9001, 10058, 10107, 11600, 11602, 13435, 13436}
)
"""HostUnreachable, HostNotFound, NetworkTimeout, ShutdownInProgress, WriteConflict, ReadConcernMajorityNotAvailableYet,
QueryPlanKilled, PrimarySteppedDown, KeyNotFound, IncompleteTransactionHistory, CursorKilled, NoSuchTransaction,
ExceededTimeLimit, SocketException, LegacyNotPrimary, NotWritablePrimary, InterruptedAtShutdown,
InterruptedDueToReplStateChange, NotPrimaryNoSecondaryOk, NotPrimaryOrSecondary.

A new primary may know of a repeated write that it was done, but not what was answered, and of a transaction nothing.
"""


TIMEOUTS = (ExecutionTimeout, NetworkTimeout)
"""Of the server and of the client, whichever was first."""

DOCUMENT_VALIDATION_FAILURE = 121

PING_SECONDS = 1.0


@contextmanager
def driver_errors(patterns: Sequence[str] = ()) -> Iterator[None]:
    """Let errors of the driver leave as ServiceErrors, with the driver's as their cause.

    `patterns` names the parameters that hold regular expressions, for the case that MongoDB refuses one.
    """
    try:
        yield
    except (PyMongoError, DocumentTooLarge) as error:
        raise translate(error, patterns) from error


@contextmanager
def operation(seconds: float) -> Iterator[None]:
    """The same, and all commands inside have so long together, retries and elections included."""
    with driver_errors(), pymongo.timeout(seconds):
        yield


async def answers(database: AsyncDatabase[dict[str, Any]]) -> bool:
    """Whether MongoDB does, so that what took too long was the query."""
    try:
        with operation(PING_SECONDS):
            await database.command("ping")
    except DatabaseUnavailableError:
        return False
    return True


def translate(error: PyMongoError | DocumentTooLarge, patterns: Sequence[str] = ()) -> ServiceError:
    """What a caller should be told of a driver's error."""
    match error:
        case BulkWriteError(details={"writeErrors": [first, *_]}):
            return translate(WriteError(first.get("errmsg", ""), first.get("code"), first))
        case BulkWriteError():
            return DatabaseUnavailableError()  # no majority took it in time
        case DuplicateKeyError() | WriteError(code=11000):
            return _duplicate_value(error.details)
        case OperationFailure(code=code) if code == DOCUMENT_VALIDATION_FAILURE:
            return ValidationFailedError(refusals(error.details))
        case DocumentTooLarge() | OperationFailure(code=10334 | 17419):
            return BodyTooLargeError("MongoDB keeps at most 16 MiB in one document.")
        case ConnectionFailure() | ExecutionTimeout() | WriteConcernError() | CursorNotFound():
            return DatabaseUnavailableError()
        case OperationFailure(code=code) if code == INVALID_REGEX:
            message = "this is no regular expression" + (", or another one here" if len(patterns) > 1 else "")
            return InvalidQueryError([Fault("invalid_pattern", message, parameter=name) for name in patterns or "q"])
        case OperationFailure(code=code) if code in PASSING_TROUBLE or error.has_error_label("RetryableWriteError"):
            return DatabaseUnavailableError()
    return InternalError("The service failed; its log says more under this request id.")


NOT_AUTHORIZED = re.compile(
    r'not authorized on (?P<database>\S+) to execute command \{ (?P<command>\w+): "?(?P<on>[^",}]*)'
)


def said_in_short(message: str) -> str:
    """What the server says; of a right that lacks only which, as the server repeats the whole command."""
    found = NOT_AUTHORIZED.search(message)
    if found is None:
        return message
    database, command, on = found.group("database", "command", "on")
    # A command without a collection has a number there, and admin's have a whole name.
    place = database if re.fullmatch(r"[\d.]+", on.strip()) else on if database == "admin" else f"{database}.{on}"
    return f"the user of DOSSIER_MONGODB_URI has no right to {command} on {place}"


def reason_of(error: InternalError) -> str:
    """What the driver said, for who runs the service."""
    match error.__cause__:
        case OperationFailure(details={"errmsg": str(message)}):
            return f"MongoDB says: {said_in_short(message)}"
        case None:
            return error.detail
        case cause:
            return f"MongoDB says: {cause}"


def _duplicate_value(details: Mapping[str, Any] | None) -> ServiceError:
    paths = list((details or {}).get("keyPattern", {}))
    together = "this value" if len(paths) == 1 else f"these values of {', '.join(paths)}"
    return DuplicateValueError(
        f"Another document has the same {' and '.join(paths)}.",
        faults=[
            Fault("duplicate_value", f"another document has {together}", "/" + path.replace(".", "/")) for path in paths
        ],
    )


REFUSED = "refused_by_validator"


def refusals(details: Mapping[str, Any] | None) -> list[Fault]:
    """What a collection's validator does not take; of values only where they are, as some are private.

    The server says it since MongoDB 5.0.
    """
    rule = (details or {}).get("errInfo", {}).get("details", {})
    found = _refusals(rule, "") or [Fault(REFUSED, "the database's validator does not take this document", "")]
    return list(dict.fromkeys(found))


def _refusals(rule: Mapping[str, Any], pointer: str) -> list[Fault]:
    """Those of one rule that is not satisfied, and of the rules in it."""
    match rule:
        case {"schemaRulesNotSatisfied": rules}:
            inside = [(rules, pointer)]
        case {"propertiesNotSatisfied": members}:
            inside = [(member["details"], pointer_to(pointer, member["propertyName"])) for member in members]
        case {"operatorName": "items", "itemIndex": position, "details": rules}:
            inside = [(rules, pointer_to(pointer, position))]
        case {"missingProperties": names}:
            message = "the database's validator wants this field"
            return [Fault(REFUSED, message, pointer_to(pointer, name)) for name in names]
        case {"operatorName": "additionalProperties", "additionalProperties": names}:
            message = "the database's validator knows no such field"
            return [Fault(REFUSED, message, pointer_to(pointer, name)) for name in names]
        case {"operatorName": _}:
            return [Fault(REFUSED, "the database's validator does not take this value", pointer)] if pointer else []
        case _:
            return []
    return [fault for rules, place in inside for inner in rules for fault in _refusals(inner, place)]
