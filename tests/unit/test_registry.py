"""Which document types are served, and which are refused at start-up."""

from typing import Annotated, Any

import pytest
from pydantic import Field

from service.auth.accounts import ACCOUNTS, Account
from service.documents.base import Record, index, unique
from service.documents.item import Item
from service.documents.registry import (
    RESERVED_NAMES,
    DocumentType,
    check_types,
    examples_of,
    registered_types,
    type_faults,
)
from service.documents.user import User
from service.errors import StartupError
from tests.everything import Everything
from tests.unit.made_up import part_class, record_class

Text = Annotated[str, Field(max_length=1024)]


def test_the_folder_is_the_list_and_tests_add_nothing_to_it() -> None:
    stowaway = record_class(title="Stowaway")

    classes = [document_type.document_class for document_type in registered_types()]

    assert {Item, User} <= set(classes)
    assert stowaway not in classes
    assert Everything not in classes


def test_accounts_are_a_type_like_any_but_for_what_is_hidden() -> None:
    assert type_faults(Account) == ["Settings.name 'accounts' is taken by a route of the service"]
    assert set(Account.model_fields) - set(ACCOUNTS.fields) == {"password_hash", "epoch", "kept_session", "revision_id"}


def test_a_type_tells_what_its_class_says() -> None:
    document_type = DocumentType(Everything)

    assert document_type.name == Everything.Settings.name
    assert document_type.title == "Everything"
    assert document_type.search == ("code", "text", "branch.leaf.text", "branches.label")
    assert [model.document["name"] for model in document_type.indexes] == ["code", "left_right", "branch.leaf.day_id"]
    assert document_type.example["code"] == "E-1"
    assert document_type.fields["branch.leaf.day"].path == "branch.leaf.day"


def test_a_good_type_has_no_faults() -> None:
    inner = part_class("Inner", city=Text)
    cls = record_class(
        {"name": Text, "age": int, "inner": inner},
        search=["name", "inner.city"],
        indexes=[unique("name"), index("age")],
    )

    assert type_faults(cls) == []


@pytest.mark.parametrize("name", ["things", "a", "big-things_2", "a" * 63])
def test_a_good_name_is_taken(name: str) -> None:
    assert type_faults(record_class(name=name)) == []


@pytest.mark.parametrize(
    "name",
    ["", "Things", "1things", "_things", "my things", "my.things", "$things", "things/", "дела", "a" * 64, "a\n"],
)
def test_a_name_that_is_no_path_segment_is_refused(name: str) -> None:
    assert type_faults(record_class(name=name)) == [
        f"Settings.name {name!r} must be lower-case letters, digits, - and _, and start with a letter"
    ]


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_a_name_that_a_route_has_is_refused(name: str) -> None:
    assert type_faults(record_class(name=name)) == [f"Settings.name {name!r} is taken by a route of the service"]


def test_a_name_that_is_missing_is_a_fault() -> None:
    class Nameless(Record):
        model_config = {"json_schema_extra": {"examples": [{}]}}

        class Settings(Record.Settings):
            pass

    assert type_faults(Nameless) == ["Settings.name is missing"]


def test_settings_that_do_not_inherit_are_a_fault() -> None:
    class Alien(Record):
        model_config = {"json_schema_extra": {"examples": [{}]}}

        class Settings:
            name = "aliens"

    assert type_faults(Alien) == ["its Settings must inherit: class Settings(Record.Settings)"]


@pytest.mark.parametrize(
    ("fields", "settings", "faults"),
    [
        ({"a__b": int}, {}, ["field 'a__b': __ divides a field from an operator in a query"]),
        ({"_a": int}, {}, ["field '_a': a leading _ makes it private, so it would not be stored"]),
        (
            {"a": (int, Field(alias="b"))},
            {},
            ["field 'a': fields are stored and shown under their own names, so no alias"],
        ),
        (
            {"part": part_class("Inner", a__b=int)},
            {},
            ["field 'a__b': __ divides a field from an operator in a query"],
        ),
        (
            {"parts": list[part_class("Inner", _a=int)]},  # type: ignore[misc]
            {},
            ["field '_a': a leading _ makes it private, so it would not be stored"],
        ),
        ({}, {"search": ["a"]}, ["search: there is no field 'a'"]),
        ({"a": int}, {"search": ["a"]}, ["search: 'a' is no text"]),
        ({"a": str}, {"search": ["a"]}, ["search: 'a' needs a max_length of at most 1024"]),
        (
            {"a": Annotated[str, Field(max_length=1025)]},
            {"search": ["a"]},
            ["search: 'a' needs a max_length of at most 1024"],
        ),
        ({}, {"indexes": [index("a")]}, ["indexes: there is no field 'a'"]),
        ({"a": int}, {"indexes": [unique("a", "b.c")]}, ["indexes: there is no field 'b.c'"]),
        ({"a": bytes}, {}, ["field 'a': bytes cannot be stored"]),
        ({"a": int | str}, {}, ["field 'a': a field has one type, or that type and None"]),
    ],
)
def test_each_kind_of_fault_is_found(fields: dict[str, Any], settings: dict[str, Any], faults: list[str]) -> None:
    assert type_faults(record_class(fields, **settings)) == faults


@pytest.mark.parametrize("config", [{}, {"json_schema_extra": {}}, {"json_schema_extra": {"examples": []}}])
def test_a_type_without_an_example_is_refused(config: dict[str, Any]) -> None:
    cls = record_class(config=config)

    assert examples_of(cls) == []
    assert type_faults(cls) == ['no example: set model_config = {"json_schema_extra": {"examples": [{…}]}}']


def test_all_faults_of_a_type_come_together() -> None:
    cls = record_class(
        {"a__b": int, "_private": str, "text": str},
        config={},
        name="Auth",
        search=["text", "nothing"],
        indexes=[index("nowhere"), unique("neither.nor")],
    )

    assert sorted(type_faults(cls)) == [
        "Settings.name 'Auth' must be lower-case letters, digits, - and _, and start with a letter",
        "field '_private': a leading _ makes it private, so it would not be stored",
        "field 'a__b': __ divides a field from an operator in a query",
        "indexes: there is no field 'neither.nor'",
        "indexes: there is no field 'nowhere'",
        'no example: set model_config = {"json_schema_extra": {"examples": [{…}]}}',
        "search: 'text' needs a max_length of at most 1024",
        "search: there is no field 'nothing'",
    ]


def test_a_field_that_cannot_be_stored_hides_no_other_fault() -> None:
    cls = record_class({"first": bytes, "second": int | str}, search=["nothing"], indexes=[index("nowhere")])

    assert sorted(type_faults(cls)) == [
        "field 'first': bytes cannot be stored",
        "field 'second': a field has one type, or that type and None",
        "indexes: there is no field 'nowhere'",
        "search: there is no field 'nothing'",
    ]


def test_a_private_field_of_a_parent_is_a_fault_too() -> None:
    class Parent(Record):
        _secret: int

    class Child(Parent):
        model_config = {"json_schema_extra": {"examples": [{}]}}

        class Settings(Record.Settings):
            name = "children"

    assert type_faults(Child) == ["field '_secret': a leading _ makes it private, so it would not be stored"]


def test_all_faults_of_all_types_come_together() -> None:
    classes = [
        record_class(title="Third", name="auth"),
        record_class(title="First", config={}),
        record_class(title="Second", search=["nothing"]),
    ]

    with pytest.raises(StartupError) as caught:
        check_types(classes)

    assert str(caught.value).splitlines() == [
        "these document types cannot be served:",
        '  First: no example: set model_config = {"json_schema_extra": {"examples": [{…}]}}',
        "  Second: search: there is no field 'nothing'",
        "  Third: Settings.name 'auth' is taken by a route of the service",
        "  Second: Settings.name 'things' is taken by First",
    ]


def test_good_types_come_by_name() -> None:
    types = check_types([record_class(name="b", title="First"), record_class(name="a", title="Second")])

    assert [document_type.name for document_type in types] == ["a", "b"]
