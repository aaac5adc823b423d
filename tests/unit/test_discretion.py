"""What faults tell whoever does not see the values that they are about; pure."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import pytest
from pydantic import model_validator

from service.documents.base import Email, Part, Private, Record
from service.documents.discretion import Discretion
from service.documents.registry import DocumentType
from service.documents.restorer import Present, Restored
from service.errors import Fault, ValidationFailedError
from service.store.schemas import validate_body

SECRET = "canary"


class Secret(Part):
    """Private as a whole."""

    pin: int


class Person(Part):
    """Has a validator that tells a private value."""

    phone: Annotated[str, Private()] = ""
    city: str = ""

    @model_validator(mode="after")
    def _is_reachable(self) -> "Person":
        if self.city == "nowhere":
            raise ValueError(f"nobody answers {self.phone}")
        return self


class Case(Record):
    """Has another, and something private of each shape."""

    email: Annotated[Email, Private()] | None = None
    secret: Annotated[Secret, Private()] | None = None
    emails: Annotated[list[Email], Private()] = []
    person: Person | None = None
    people: list[Person] = []
    note: str = ""

    class Settings(Record.Settings):
        """Never kept."""

        name: ClassVar[str] = "cases"

    @model_validator(mode="after")
    def _has_no_canary(self) -> "Case":
        if self.note == "tell":
            raise ValueError(f"it is {self.email}")
        return self


CASES = DocumentType(Case)


def faults_of(body: Mapping[str, Any], present: Present, *, is_masked: bool = True) -> list[tuple[str | None, str]]:
    """The pointers and codes of what is wrong with a body, none of which tells a secret."""
    view = CASES.masked if is_masked else CASES.whole
    with pytest.raises(ValidationFailedError) as refused:
        validate_body(view, body, present)
    if is_masked:
        assert SECRET not in str([(fault.message, fault.pointer) for fault in refused.value.faults])
    return [(fault.pointer, fault.code) for fault in refused.value.faults]


@pytest.mark.parametrize(
    ("whole", "seen", "change", "faults"),
    [
        ({"email": SECRET}, {"email": "***"}, {}, [("/email", "invalid_private_value")]),
        (
            {"email": SECRET},
            {"email": "***"},
            {"note": 7},
            [("/email", "invalid_private_value"), ("/note", "string_type")],
        ),
        ({"email": SECRET}, {"email": "***"}, {"email": "x"}, [("/email", "value_error")]),
        (
            {"secret": {"pin": 1, SECRET: 2}},
            {"secret": "***"},
            {"note": "tell"},
            [("/secret", "invalid_private_value"), ("", "invalid_whole")],
        ),
        ({"secret": {}}, {"secret": "***"}, {}, [("/secret", "invalid_private_value")]),
        ({"secret": {}}, {"secret": "***"}, {"secret": {}}, [("/secret/pin", "missing")]),
        (
            {"emails": ["a@b.cd", SECRET]},
            {"emails": ["a***@b.cd", "***"]},
            {},
            [("/emails/1", "invalid_private_value")],
        ),
        (
            {"emails": [SECRET]},
            {"emails": ["***"]},
            {"emails": ["***", "x"]},
            [("/emails/0", "invalid_private_value"), ("/emails/1", "value_error")],
        ),
        ({"email": f"{SECRET}@b.cd"}, {"email": "c***@b.cd"}, {"note": "tell"}, [("", "invalid_whole")]),
        (
            {"person": {"phone": SECRET, "city": "nowhere"}},
            {"person": {"phone": "***", "city": "nowhere"}},
            {},
            [("/person", "invalid_whole")],
        ),
        (
            {"people": [{"phone": SECRET, "city": "nowhere"}]},
            {"people": [{"phone": "***", "city": "nowhere"}]},
            {},
            [("/people/0", "invalid_whole")],
        ),
        (
            {"email": "a@b.cd"},
            {"email": "a***@b.cd"},
            {"person": 7, "people": 8},
            [("/person", "model_type"), ("/people", "list_type")],
        ),
    ],
    ids=str,
)
def test_nothing_is_told_of_what_is_hidden(whole: Any, seen: Any, change: Any, faults: Any) -> None:
    assert faults_of(seen | change, Present(whole, seen)) == faults


def test_of_what_was_sent_all_is_told() -> None:
    body = {"email": f"{SECRET}@b.cd", "note": "tell"}
    for view in (CASES.masked, CASES.whole):
        with pytest.raises(ValidationFailedError) as refused:
            validate_body(view, body)
        [fault] = refused.value.faults
        assert (fault.pointer, fault.message) == ("", f"Value error, it is {SECRET}@b.cd")


def test_whoever_sees_all_is_told_all() -> None:
    whole = {"email": SECRET, "person": {"phone": SECRET, "city": "nowhere"}}
    found = faults_of(whole, Present(whole, whole), is_masked=False)
    assert found == [("/email", "value_error"), ("/person", "value_error")]


@pytest.mark.parametrize(
    ("sent", "pointer", "told"),
    [
        ({"note": "x"}, "/email", "/email"),
        ({"email": "x"}, "/email", None),
        ({"email": None}, "/email", None),
        ({"note": "x"}, "/secret/pin", "/secret"),
        ({"secret": {}}, "/secret/pin", "/secret"),
        ({"secret": {"pin": "x"}}, "/secret/pin", None),
        ({"secret": {"pin": 1}}, "/secret", "/secret"),
        ({"emails": ["x"]}, "/emails/0", None),
        ({}, "/emails/0", "/emails"),
        ({}, "/note", None),
        ({}, "/person/phone", None),
    ],
    ids=str,
)
def test_what_a_body_is_merged_into_is_hidden_too(sent: Any, pointer: str, told: str | None) -> None:
    kept = {"email": SECRET, "secret": {"pin": SECRET}, "emails": [SECRET], "note": 7}
    fault = Fault("some_code", "why", pointer)

    found = Discretion(CASES.masked, Restored(), sent, kept).tell(fault)

    if told is None:
        assert found == fault
    else:
        assert (found.code, found.pointer) == ("invalid_private_value", told)
