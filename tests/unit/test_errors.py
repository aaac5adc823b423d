"""The error tree and its answers."""

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator

import pytest
from structlog.contextvars import bound_contextvars

import service
from service import errors
from service.errors import (
    DatabaseUnavailableError,
    DuplicateValueError,
    Fault,
    FaultyInputError,
    InternalError,
    InvalidHeaderError,
    InvalidQueryError,
    NotFoundError,
    QueryTooExpensiveError,
    ServiceError,
    TokenRequestError,
    ValidationFailedError,
    problems,
)

DRAWN = re.compile(r"[├└]── (?P<name>\w+) +(?P<status>\d{3}) +(?P<code>[a-z_]+)")


def subclasses(parent: type[ServiceError]) -> Iterator[type[ServiceError]]:
    for cls in parent.__subclasses__():
        if hasattr(cls, "code"):
            yield cls
        yield from subclasses(cls)


def every_error() -> list[type[ServiceError]]:
    for module in pkgutil.walk_packages(service.__path__, "service."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return sorted(
        (cls for cls in subclasses(ServiceError) if cls.__module__.startswith("service.")), key=lambda cls: cls.__name__
    )


ERRORS = every_error()


@pytest.mark.parametrize("cls", ERRORS, ids=lambda cls: cls.__name__)
def test_each_error_has_a_status_a_word_and_a_title_of_one_line(cls: type[ServiceError]) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", cls.code)
    assert 400 <= cls.status <= 599
    assert "code" in vars(cls)
    title, *more = (vars(cls)["__doc__"] or "").strip().splitlines()
    assert title.endswith(".")
    assert not more
    assert cls.title() == title.removesuffix(".")
    assert cls.__name__.endswith("Error")


def test_no_two_errors_have_one_code() -> None:
    assert len({cls.code for cls in ERRORS}) == len(ERRORS)


def test_the_tree_is_drawn_as_it_is() -> None:
    drawn = [(found["name"], int(found["status"]), found["code"]) for found in DRAWN.finditer(errors.__doc__ or "")]

    assert sorted(drawn) == [(cls.__name__, cls.status, cls.code) for cls in ERRORS]
    assert [status for _, status, _ in drawn] == sorted(status for _, status, _ in drawn)


def test_the_codes_that_are_published_never_change() -> None:
    assert {cls.code for cls in ERRORS} >= {
        "body_too_large",
        "database_unavailable",
        "duplicate_value",
        "insufficient_scope",
        "internal_error",
        "invalid_header",
        "invalid_query",
        "invalid_request",
        "method_not_allowed",
        "not_authenticated",
        "not_found",
        "query_too_expensive",
        "revision_mismatch",
        "unsupported_media_type",
        "validation_failed",
        "write_conflict",
    }


def test_a_problem_is_told_as_rfc_9457_says() -> None:
    error = NotFoundError("There is no user 1.", headers={"X-A": "b"}, extras={"id": "1"})

    with bound_contextvars(request_id="r-1"):
        response = error.response()

    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-a"] == "b"
    assert json.loads(bytes(response.body)) == {
        "type": "urn:dossier:problem:not_found",
        "title": "There is nothing here",
        "status": 404,
        "detail": "There is no user 1.",
        "code": "not_found",
        "request_id": "r-1",
        "id": "1",
    }


@pytest.mark.parametrize("cls", [InvalidQueryError, ValidationFailedError])
def test_all_faults_are_told_each_with_its_place(cls: type[FaultyInputError]) -> None:
    faults = [
        Fault("a", "A.", pointer="/x/0"),
        Fault("b", "B.", parameter="sort"),
        Fault("c", "C.", pointer=""),
        Fault("d", "D.", pointer="/x/0"),
    ]

    body = json.loads(bytes(cls(faults).response().body))

    assert body["detail"] == "4 faults: /x/0, sort, the whole body"
    assert body["errors"] == [
        {"code": "a", "message": "A.", "pointer": "/x/0"},
        {"code": "b", "message": "B.", "parameter": "sort"},
        {"code": "c", "message": "C.", "pointer": ""},
        {"code": "d", "message": "D.", "pointer": "/x/0"},
    ]


def test_one_fault_is_no_plural() -> None:
    assert InvalidQueryError([Fault("a", "A.", parameter="q")]).detail == "1 fault: q"


def test_a_problem_without_faults_has_no_list_of_them() -> None:
    assert "errors" not in InternalError("x").members()
    assert DuplicateValueError("x", faults=[Fault("a", "A.", "/b")]).members()["errors"]


def test_a_token_error_has_the_form_of_oauth() -> None:
    response = TokenRequestError("invalid_grant", "No.").response()

    assert response.status_code == 400
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["content-type"] == "application/json"
    assert json.loads(bytes(response.body)) == {
        "error": "invalid_grant",
        "error_description": "No.",
        "request_id": None,
    }


def test_an_unavailable_database_says_when_to_come_back() -> None:
    assert int(DatabaseUnavailableError().response().headers["retry-after"]) > 0


def test_the_errors_of_a_route_are_drawn_once_for_each_status() -> None:
    responses = problems(
        InvalidQueryError, QueryTooExpensiveError, InvalidHeaderError, InvalidQueryError, NotFoundError
    )

    assert list(responses) == [400, 404]
    assert responses[400]["description"] == (
        "The query string cannot be understood; or: MongoDB could not answer within the time limit;"
        " or: A header cannot be understood"
    )
    assert list(responses[404]["content"]) == ["application/problem+json"]


def test_an_error_is_its_detail() -> None:
    assert str(NotFoundError("There is no user 1.")) == "There is no user 1."
