"""The driver's errors, each turned into one of ours."""

import pkgutil
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

import pymongo
import pytest
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ClientBulkWriteException,
    ConnectionFailure,
    CursorNotFound,
    DocumentTooLarge,
    DuplicateKeyError,
    EncryptedCollectionError,
    EncryptionError,
    ExecutionTimeout,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
    WriteError,
    WTimeoutError,
)

from service.errors import (
    BodyTooLargeError,
    DatabaseUnavailableError,
    DuplicateValueError,
    InternalError,
    InvalidQueryError,
    ServiceError,
    ValidationFailedError,
)
from service.store.failures import driver_errors, operation, reason_of, said_in_short, translate

RETRYABLE_CODES = (6, 7, 89, 91, 134, 189, 262, 9001, 10058, 10107, 11600, 11602, 13435, 13436)
"""What the specifications of retryable reads and writes list, with the older servers' 10058."""

BULK_RESULT: dict[str, Any] = {"writeErrors": [], "writeConcernErrors": [], "nInserted": 0}

makers: Mapping[type[PyMongoError], Callable[[], PyMongoError]] = {
    BulkWriteError: lambda: BulkWriteError(BULK_RESULT),
    ClientBulkWriteException: lambda: ClientBulkWriteException(
        {"error": None, "writeErrors": [], "writeConcernErrors": []}, verbose=False
    ),
    EncryptionError: lambda: EncryptionError(ValueError("x")),
    EncryptedCollectionError: lambda: EncryptedCollectionError(ValueError("x"), {}),
}
"""For those that are not made from a text alone."""


def subclasses(parent: type[PyMongoError]) -> Iterator[type[PyMongoError]]:
    for cls in parent.__subclasses__():
        yield cls
        yield from subclasses(cls)


def every_error() -> list[type[PyMongoError]]:
    for module in pkgutil.iter_modules(pymongo.__path__, "pymongo."):
        if module.name.rpartition(".")[2] in {"errors", "pool_shared", "encryption_options"}:
            import_module(module.name)
    return sorted({PyMongoError, *subclasses(PyMongoError)}, key=lambda cls: cls.__name__)


def made(cls: type[PyMongoError]) -> PyMongoError:
    return makers[cls]() if cls in makers else cls("canary: 10.0.0.1")


@pytest.mark.parametrize("cls", every_error(), ids=lambda cls: cls.__name__)
def test_every_error_of_the_driver_has_a_translation_that_says_nothing_of_the_inside(cls: type[PyMongoError]) -> None:
    translation = translate(made(cls))

    assert isinstance(translation, ServiceError)
    assert "canary" not in bytes(translation.response().body).decode()


@pytest.mark.parametrize(
    "cls",
    [
        cls
        for cls in every_error()
        if issubclass(cls, ConnectionFailure | ExecutionTimeout | WriteConcernError | CursorNotFound)
    ],
    ids=lambda cls: cls.__name__,
)
def test_what_may_work_next_time_is_unavailable(cls: type[PyMongoError]) -> None:
    translation = translate(made(cls))

    assert isinstance(translation, DatabaseUnavailableError)
    assert translation.headers["Retry-After"]


def test_the_errors_that_a_change_of_primary_brings_are_among_them() -> None:
    passing = {AutoReconnect, NetworkTimeout, NotPrimaryError, ServerSelectionTimeoutError, WaitQueueTimeoutError}

    assert all(issubclass(cls, ConnectionFailure) for cls in passing)
    assert issubclass(WTimeoutError, WriteConcernError)
    assert passing <= set(every_error())


@pytest.mark.parametrize("code", RETRYABLE_CODES)
def test_each_code_that_drivers_retry_is_unavailable(code: int) -> None:
    assert isinstance(translate(OperationFailure("canary", code)), DatabaseUnavailableError)


@pytest.mark.parametrize("code", [217, 251])
def test_what_only_a_new_primary_does_not_know_is_unavailable(code: int) -> None:
    assert isinstance(translate(OperationFailure("canary", code)), DatabaseUnavailableError)


def test_an_error_that_the_server_labels_as_retryable_is_unavailable() -> None:
    error = OperationFailure("canary", 1, {"errorLabels": ["RetryableWriteError"]})

    assert isinstance(translate(error), DatabaseUnavailableError)


@pytest.mark.parametrize("code", [None, 1, 2, 9, 13, 18, 8000])
def test_any_other_failure_of_an_operation_is_ours(code: int | None) -> None:
    assert isinstance(translate(OperationFailure("canary", code)), InternalError)


@pytest.mark.parametrize(
    ("key", "pointers"),
    [
        ({"email": 1}, ["/email"]),
        ({"left": 1, "right": 1}, ["/left", "/right"]),
        ({"profile.addresses.city": 1}, ["/profile/addresses/city"]),
    ],
)
@pytest.mark.parametrize("cls", [DuplicateKeyError, BulkWriteError])
def test_a_unique_conflict_names_the_fields_of_the_index(
    key: Mapping[str, int], pointers: list[str], cls: type[PyMongoError]
) -> None:
    details = {"index": 0, "code": 11000, "errmsg": "canary", "keyPattern": key, "keyValue": {"email": "canary"}}
    bulk = BulkWriteError({**BULK_RESULT, "writeErrors": [details]})

    translation = translate(bulk if cls is BulkWriteError else DuplicateKeyError("", 11000, details))

    assert isinstance(translation, DuplicateValueError)
    assert [(fault.code, fault.pointer) for fault in translation.faults] == [
        ("duplicate_value", pointer) for pointer in pointers
    ]
    assert all(path in translation.detail for path in key)
    assert "canary" not in bytes(translation.response().body).decode()


def test_another_fault_in_a_bulk_write_is_no_unique_conflict() -> None:
    error = BulkWriteError({**BULK_RESULT, "writeErrors": [{"index": 0, "code": 1, "errmsg": "odd"}]})

    assert isinstance(translate(error), InternalError)


UNSATISFIED: dict[str, Any] = {
    "operatorName": "$jsonSchema",
    "schemaRulesNotSatisfied": [
        {
            "operatorName": "properties",
            "propertiesNotSatisfied": [
                {"propertyName": "a/b", "details": [{"operatorName": "minimum", "consideredValue": "canary"}]},
                {
                    "propertyName": "list",
                    "details": [
                        {"operatorName": "maxItems", "consideredValue": ["canary"]},
                        {
                            "operatorName": "items",
                            "itemIndex": 1,
                            "details": [
                                {"operatorName": "additionalProperties", "additionalProperties": ["stray"]},
                                {"operatorName": "required", "missingProperties": ["c", "d"]},
                            ],
                        },
                    ],
                },
                {
                    "propertyName": "free",
                    "details": [
                        {
                            "operatorName": "additionalProperties",
                            "failingProperty": "canary",
                            "details": [{"operatorName": "bsonType", "consideredValue": "canary"}],
                        }
                    ],
                },
            ],
        },
        {"operatorName": "required", "missingProperties": ["name"]},
    ],
}
"""As MongoDB says it, shortened."""


@pytest.mark.parametrize("cls", [WriteError, OperationFailure, BulkWriteError])
def test_what_a_validator_refuses_is_told_by_its_places_and_never_by_values(cls: type[OperationFailure]) -> None:
    details = {"index": 0, "code": 121, "errmsg": "canary", "errInfo": {"details": UNSATISFIED}}
    error = BulkWriteError({**BULK_RESULT, "writeErrors": [details]})

    translation = translate(error if cls is BulkWriteError else cls("canary", 121, details))

    assert isinstance(translation, ValidationFailedError)
    assert {fault.code for fault in translation.faults} == {"refused_by_validator"}
    places = ["/a~1b", "/list", "/list/1/stray", "/list/1/c", "/list/1/d", "/free", "/name"]
    assert [fault.pointer for fault in translation.faults] == places
    assert "canary" not in bytes(translation.response().body).decode()


@pytest.mark.parametrize(
    "details",
    [None, {}, {"errInfo": {"details": {"operatorName": "$and", "clausesNotSatisfied": []}}}],
    ids=["none", "an older server", "no schema"],
)
def test_a_refusal_without_places_is_of_the_whole_document(details: dict[str, Any] | None) -> None:
    translation = translate(WriteError("canary", 121, details))

    assert isinstance(translation, ValidationFailedError)
    assert [fault.pointer for fault in translation.faults] == [""]


def test_a_bulk_write_that_only_lacks_its_majority_is_unavailable() -> None:
    error = BulkWriteError({**BULK_RESULT, "writeConcernErrors": [{"code": 64, "errmsg": "waiting for replication"}]})

    assert isinstance(translate(error), DatabaseUnavailableError)


def test_a_document_that_the_driver_finds_past_16_mib_is_too_large() -> None:
    with pytest.raises(BodyTooLargeError), driver_errors():
        raise DocumentTooLarge("canary")  # which is no PyMongoError


@pytest.mark.parametrize("code", [10334, 17419])
def test_a_document_that_the_server_finds_past_16_mib_is_too_large(code: int) -> None:
    assert isinstance(translate(OperationFailure("canary", code)), BodyTooLargeError)


def test_a_pattern_that_mongodb_refuses_is_the_fault_of_q() -> None:
    translation = translate(OperationFailure("Regular expression is invalid", 51091))

    assert isinstance(translation, InvalidQueryError)
    assert [fault.parameter for fault in translation.faults] == ["q"]


def test_an_error_leaves_as_ours_with_the_drivers_as_its_cause() -> None:
    cause = AutoReconnect("x")

    with pytest.raises(DatabaseUnavailableError) as caught, driver_errors():
        raise cause

    assert caught.value.__cause__ is cause


@pytest.mark.parametrize("context", [driver_errors, lambda: operation(1)])
def test_errors_that_are_not_the_drivers_pass_through(context: Callable[[], Any]) -> None:
    cause = ValueError("x")

    with pytest.raises(ValueError, match="x") as caught, context():
        raise cause

    assert caught.value is cause


LACKED = 'lsid: { id: UUID("8ddcbfd4-68ec-4001-9853-e8a802d325a0") }, $db: "dossier" }'
"""How the server goes on for up to 1,000 characters."""


@pytest.mark.parametrize(
    ("message", "right"),
    [
        (
            f'not authorized on dossier to execute command {{ drop: "restoring.users", {LACKED}',
            "drop on dossier.restoring.users",
        ),
        (
            f"not authorized on dossier to execute command {{ listCollections: 1, cursor: {{}}, {LACKED}",
            "listCollections on dossier",
        ),
        (
            f'Failed: not authorized on admin to execute command {{ renameCollection: "dossier.a", {LACKED}',
            "renameCollection on dossier.a",
        ),
    ],
    ids=["a collection's", "the database's", "admin's"],
)
def test_who_runs_the_service_is_told_the_right_that_lacks_and_not_the_whole_command(message: str, right: str) -> None:
    line = f"the user of DOSSIER_MONGODB_URI has no right to {right}"
    error = InternalError("The service failed.")
    error.__cause__ = OperationFailure(message, 13, {"errmsg": message, "code": 13})

    assert said_in_short(message) == line
    assert reason_of(error) == f"MongoDB says: {line}"
    assert said_in_short("another message") == "another message"
