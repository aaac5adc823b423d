"""A document class, read as a flat table of fields."""

from datetime import date, datetime
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from beanie import PydanticObjectId
from pydantic import EmailStr, SecretStr, StringConstraints
from pydantic import Field as Info

from service.documents.base import Email, Part, Reference
from service.documents.fields import Field, Kind
from service.documents.introspection import UnsupportedFieldError, describe, fields_of
from service.documents.user import User
from tests.everything import Branch, Everything, Leaf
from tests.unit.made_up import named, part_class, record_class

Short = Annotated[str, Info(max_length=5)]


class Suit(StrEnum):
    """Texts of different lengths."""

    CLUBS = "clubs"
    HEARTS = "hearts"


class Dice(IntEnum):
    """Integers."""

    ONE = 1
    SIX = 6


class Mixed(Enum):
    """Neither."""

    TEXT = "text"
    NUMBER = 1


class Ring(Part):
    """Holds itself."""

    inner: "Ring | None" = None


def field_of(annotation: Any) -> Field:
    return fields_of(record_class({"field": annotation}))["field"]


@pytest.mark.parametrize(
    ("annotation", "kind", "is_array"),
    [
        (str, Kind.TEXT, False),
        (int, Kind.INTEGER, False),
        (bool, Kind.BOOLEAN, False),
        (float, Kind.FLOAT, False),
        (Decimal, Kind.DECIMAL, False),
        (date, Kind.DATE, False),
        (datetime, Kind.DATETIME, False),
        (PydanticObjectId, Kind.OBJECT_ID, False),
        (EmailStr, Kind.TEXT, False),
        (Suit, Kind.TEXT, False),
        (Dice, Kind.INTEGER, False),
        (Literal["a", "b"], Kind.TEXT, False),
        (Literal[1, 2], Kind.INTEGER, False),
        (Leaf, Kind.OBJECT, False),
        (Any, Kind.JSON, False),
        (dict, Kind.JSON, False),
        (dict[str, int], Kind.JSON, False),
        (str | None, Kind.TEXT, False),
        (Annotated[int, Info(ge=0)] | None, Kind.INTEGER, False),
        (Annotated[int | None, Info(ge=0)], Kind.INTEGER, False),
        (list[str], Kind.TEXT, True),
        (list[int | None], Kind.INTEGER, True),
        (set[Suit], Kind.TEXT, True),
        (frozenset[int], Kind.INTEGER, True),
        (set[date], Kind.DATE, True),
        (list[set[int]], Kind.JSON, False),
        (list[Leaf], Kind.OBJECT, True),
        (list[dict[str, int]], Kind.JSON, True),
        (list[list[int]], Kind.JSON, False),
        (list[str] | None, Kind.TEXT, True),
    ],
    ids=named,
)
def test_each_annotation_has_its_kind(annotation: Any, kind: Kind, is_array: bool) -> None:  # noqa: FBT001
    field = field_of(annotation)

    assert (field.kind, field.is_array) == (kind, is_array)


@pytest.mark.parametrize(
    ("annotation", "max_length"),
    [
        (str, None),
        (Short, 5),
        (Short | None, 5),
        (list[Short], 5),
        (Annotated[list[Short], Info(max_length=50)], 5),
        (Annotated[list[str], Info(max_length=50)], None),
        (Annotated[str, StringConstraints(max_length=7)], 7),
        (Annotated[Short, Info(max_length=3)], 3),
        (Annotated[str, Info(min_length=1)], None),
        (EmailStr, 254),
        (Annotated[EmailStr, Info(max_length=100)], 100),
        (Email, 254),
        (Suit, 6),
        (Literal["a", "bcd"], 3),
    ],
    ids=named,
)
def test_the_longest_text_is_known(annotation: Any, max_length: int | None) -> None:
    assert field_of(annotation).max_length == max_length


@pytest.mark.parametrize(
    ("annotation", "choices"),
    [(Suit, ("clubs", "hearts")), (list[Dice], (1, 6)), (Literal["b", "a"], ("b", "a")), (str, ())],
    ids=named,
)
def test_an_enumeration_keeps_its_values(annotation: Any, choices: tuple[str | int, ...]) -> None:
    assert field_of(annotation).choices == choices


def test_a_field_that_is_stored_in_lower_case_is_marked() -> None:
    assert field_of(Email).is_lower_case
    assert field_of(Email | None).is_lower_case
    assert not field_of(EmailStr).is_lower_case


@pytest.mark.parametrize(
    "annotation", [EmailStr, Email, Email | None, list[Email], Annotated[EmailStr, Info()]], ids=named
)
def test_an_email_is_marked(annotation: Any) -> None:
    assert field_of(annotation).is_email


def test_other_text_is_no_email() -> None:
    assert not field_of(str).is_email
    assert not field_of(Short).is_email


@pytest.mark.parametrize(
    ("annotation", "model"),
    [(Leaf, Leaf), (Leaf | None, Leaf), (list[Leaf], Leaf), (set[str], None), (dict[str, int], None)],
    ids=named,
)
def test_the_class_of_an_object_is_known(annotation: Any, model: type[Part] | None) -> None:
    assert field_of(annotation).model is model


@pytest.mark.parametrize(
    ("annotation", "references"),
    [
        (Annotated[PydanticObjectId, Reference("users")], "users"),
        (Annotated[PydanticObjectId, Reference("users")] | None, "users"),
        (list[Annotated[PydanticObjectId, Reference("users")]], "users"),
        (PydanticObjectId, None),
    ],
    ids=named,
)
def test_the_type_whose_ids_a_field_holds_is_known(annotation: Any, references: str | None) -> None:
    assert field_of(annotation).references == references


@pytest.mark.parametrize(
    "annotation",
    [
        int | str,
        int | str | None,
        bytes,
        UUID,
        SecretStr,
        complex,
        Mixed,
        Literal["a", 1],
        Literal[True, 1],
        list[bytes],
        tuple[int, str],
        tuple[date, ...],
        list[tuple[int, ...]],
        list,
        Leaf | Branch,
    ],
    ids=named,
)
def test_what_cannot_be_stored_or_filtered_is_refused_with_the_name_of_its_field(annotation: Any) -> None:
    with pytest.raises(UnsupportedFieldError, match="'field'"):
        field_of(annotation)


def test_every_fault_of_a_class_is_told_and_the_other_fields_are_described() -> None:
    inner = part_class("Inner", blob=bytes, city=str)
    cls = record_class({"left": complex, "name": str, "inner": inner, "right": tuple[int, ...]})

    fields, faults = describe(cls)

    assert [path for path in fields if path not in {"id", "created_at", "updated_at", "revision"}] == [
        "name",
        "inner",
        "inner.city",
    ]
    assert [fault.partition(":")[0] for fault in faults] == ["field 'left'", "field 'inner.blob'", "field 'right'"]
    with pytest.raises(UnsupportedFieldError) as caught:
        fields_of(cls)
    assert str(caught.value) == "; ".join(faults)


def test_a_class_without_faults_is_described_as_its_fields() -> None:
    assert describe(Everything) == (fields_of(Everything), [])


def test_a_field_deep_inside_is_refused_by_its_path() -> None:
    inner = part_class("Inner", blob=bytes)
    outer = part_class("Outer", inner=inner)

    with pytest.raises(UnsupportedFieldError, match=r"'field\.inner\.blob'"):
        field_of(list[outer])  # type: ignore[valid-type]


def test_an_object_that_holds_itself_is_refused() -> None:
    with pytest.raises(UnsupportedFieldError, match=r"'field\.inner': Ring holds itself"):
        field_of(Ring)


def test_one_object_may_stand_in_two_places() -> None:
    paths = fields_of(record_class({"left": Leaf, "right": Leaf}))

    assert "left.day" in paths
    assert "right.day" in paths


def test_the_id_comes_first_and_the_other_fields_of_the_server_last() -> None:
    paths = list(fields_of(User))

    assert paths == [
        "id",
        "name",
        "email",
        "age",
        "is_active",
        "tags",
        "profile",
        "profile.bio",
        "profile.birthday",
        "profile.phone",
        "profile.addresses",
        "profile.addresses.street",
        "profile.addresses.city",
        "profile.addresses.zipcode",
        "profile.addresses.country",
        "created_at",
        "updated_at",
        "revision",
    ]


def test_a_path_is_the_key_and_in_the_field() -> None:
    assert all(path == field.path for path, field in fields_of(Everything).items())


@pytest.mark.parametrize(
    ("path", "is_scalar", "is_repeated", "is_sortable"),
    [
        ("code", True, False, True),
        ("texts", True, True, False),
        ("branch", False, False, False),
        ("branch.label", True, False, True),
        ("branch.leaf.moments", True, True, False),
        ("branches", False, True, False),
        ("branches.label", True, True, False),
        ("branches.leaf.number", True, True, False),
        ("free", False, False, False),
        ("matrix", False, False, False),
    ],
)
def test_a_field_in_an_array_is_repeated_and_so_not_sortable(
    path: str,
    is_scalar: bool,  # noqa: FBT001
    is_repeated: bool,  # noqa: FBT001
    is_sortable: bool,  # noqa: FBT001
) -> None:
    field = fields_of(Everything)[path]

    assert (field.is_scalar, field.is_repeated, field.is_sortable) == (is_scalar, is_repeated, is_sortable)


def test_a_field_that_is_excluded_is_in_no_list() -> None:
    assert "hidden" not in fields_of(record_class({"hidden": (str, Info(default="", exclude=True))}))


def test_a_field_that_is_excluded_from_an_object_is_in_no_list() -> None:
    part = part_class("Inner", shown=str, hidden=(str, Info(default="", exclude=True)))

    paths = fields_of(record_class({"inner": part, "inners": list[part]}))  # type: ignore[valid-type]

    assert [path for path in paths if "." in path] == ["inner.shown", "inners.shown"]
