"""What a query string asks of an import."""

import pytest

from service.documents.base import index, unique
from service.documents.item import Item
from service.documents.registry import DocumentType
from service.documents.user import User
from service.errors import InvalidQueryError
from service.imports.query import ImportQuery, check_kind, key_fields, read_import_query
from service.transfer.file_kinds import FileKind
from tests.everything import Everything
from tests.unit.made_up import record_class

USERS = DocumentType(User)
WRONG = {"mode", "key", "on_error", "dry_run", "explode", "delimiter", "raw", "y", "z"}


def read(text: str) -> ImportQuery:
    """What this asks for."""
    return read_import_query(USERS.whole, parameters(text), text)


def parameters(text: str) -> list[tuple[str, str]]:
    pairs = [pair.partition("=") for pair in text.split("&") if pair]
    return [(name, value) for name, _, value in pairs]


def refused(text: str) -> list[tuple[str | None, str]]:
    """The parameters that are wrong, and the codes of what is."""
    with pytest.raises(InvalidQueryError) as caught:
        read(text)
    assert all(fault.message for fault in caught.value.faults)
    return [(fault.parameter, fault.code) for fault in caught.value.faults]


def test_by_default_every_row_is_a_new_document_and_all_are_good_or_none_is_written() -> None:
    assert read("") == ImportQuery("", mode="create", key=None, on_error="abort", is_dry_run=False)


def test_all_is_asked_for_together() -> None:
    text = "mode=upsert&key=email&on_error=skip&dry_run=true&explode=profile.addresses&delimiter=tab&raw=true&sheet=A b"

    assert read(text) == ImportQuery(
        text,
        mode="upsert",
        key="email",
        on_error="skip",
        is_dry_run=True,
        explode="profile.addresses",
        delimiter="\t",
        raw=True,
        sheet="A b",
    )


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("mode=replace", [("mode", "invalid_value")]),
        ("mode=", [("mode", "invalid_value")]),
        ("key=name", [("key", "not_unique")]),
        ("key=", [("key", "not_unique")]),
        ("key=nothing", [("key", "not_unique")]),
        ("on_error=ignore", [("on_error", "invalid_value")]),
        ("dry_run=1", [("dry_run", "invalid_value")]),
        ("dry_run=True", [("dry_run", "invalid_value")]),
        ("explode=name", [("explode", "not_an_array")]),
        ("explode=nothing", [("explode", "unknown_field")]),
        ("delimiter=;", [("delimiter", "invalid_value")]),
        ("raw=yes", [("raw", "invalid_value")]),
        ("name=Ada", [("name", "unknown_parameter")]),
        ("limit=1", [("limit", "unknown_parameter")]),
        ("mode=upsert&mode=upsert", [("mode", "repeated_parameter")]),
    ],
)
def test_what_is_not_understood_is_refused_by_its_name(text: str, faults: list[tuple[str, str]]) -> None:
    assert refused(text) == faults


def test_all_faults_are_told_together() -> None:
    found = refused("mode=x&key=x&on_error=x&dry_run=x&explode=x&delimiter=x&raw=x&y=1&z=2")

    assert {name for name, _ in found} == WRONG


def test_a_key_is_the_id_or_a_field_that_is_unique_by_itself() -> None:
    assert key_fields(USERS) == ["id", "email"]
    assert key_fields(DocumentType(Item)) == ["id", "sku"]
    assert key_fields(DocumentType(Everything)) == ["id", "code"]


def test_a_key_has_one_value_in_each_document() -> None:
    indexes = [unique("tags"), unique("one", "two"), index("three"), unique("two")]
    thing = record_class({"tags": list[str], "one": str, "two": int, "three": str}, indexes=indexes)

    assert key_fields(DocumentType(thing)) == ["id", "two"]


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("", {"csv", "ndjson", "xlsx"}),
        ("delimiter=comma", {"csv"}),
        ("raw=true", {"csv"}),
        ("raw=false", {"csv", "ndjson", "xlsx"}),
        ("sheet=users", {"xlsx"}),
        ("explode=tags", {"csv", "xlsx"}),
        ("key=email", {"csv", "xlsx"}),
        ("key=email&mode=upsert", {"csv", "ndjson", "xlsx"}),
    ],
)
def test_what_means_nothing_for_a_kind_of_file_is_refused(text: str, kinds: set[FileKind]) -> None:
    every_kind: tuple[FileKind, ...] = ("csv", "ndjson", "xlsx")
    for kind in every_kind:
        if kind in kinds:
            check_kind(read(text), kind)
        else:
            with pytest.raises(InvalidQueryError) as caught:
                check_kind(read(text), kind)
            assert [fault.code for fault in caught.value.faults] == ["needless_parameter"]
