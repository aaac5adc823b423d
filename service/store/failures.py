"""The one place where the driver's errors become ours."""

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

from service.errors import (
    BodyTooLargeError,
    DatabaseUnavailableError,
    DuplicateValueError,
    Fault,
    InternalError,
    InvalidQueryError,
    ServiceError,
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


def _duplicate_value(details: Mapping[str, Any] | None) -> ServiceError:
    paths = list((details or {}).get("keyPattern", {}))
    together = "this value" if len(paths) == 1 else f"these values of {', '.join(paths)}"
    return DuplicateValueError(
        f"Another document has the same {' and '.join(paths)}.",
        faults=[
            Fault("duplicate_value", f"another document has {together}", "/" + path.replace(".", "/")) for path in paths
        ],
    )
