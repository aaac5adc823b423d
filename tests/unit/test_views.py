"""What callers with and without the scope see of a type; pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import pytest
from bson import ObjectId
from hypothesis import given

from service.documents.base import Email, Private
from service.documents.fields import Kind
from service.documents.presenter import Presenter
from service.documents.registry import DocumentType, check_types, registered_types
from service.errors import PrivateFieldError
from service.store.query import read_list_query
from tests.everything import Everything
from tests.unit.made_up import everything_documents, part_class, record_class

[EVERYTHING] = check_types([Everything])
[USERS] = [known for known in registered_types() if known.name == "users"]
[ITEMS] = [known for known in registered_types() if known.name == "items"]

SECRET = part_class("Secret", pin=int, deep=part_class("Deep", code=(Annotated[str, Private()])))
THINGS = DocumentType(
    record_class({"secret": Annotated[SECRET, Private()], "secrets": Annotated[list[SECRET], Private()]})  # type: ignore[valid-type]
)


def test_users_have_four_private_fields() -> None:
    assert set(USERS.masked.masks) == {"email", "profile.phone", "profile.birthday", "profile.addresses.street"}


@pytest.mark.parametrize("scopes", [{"users:private"}, {"users:read", "users:private"}], ids=["alone", "with others"])
def test_with_the_scope_a_type_is_seen_whole(scopes: set[str]) -> None:
    assert USERS.seen_with(scopes) is USERS.whole
    assert USERS.whole.fields is USERS.fields


@pytest.mark.parametrize("scopes", [[], ["users:read"], ["items:private"], ["users"], ["*"], ["users:privateer"]])
def test_without_the_scope_it_is_masked(scopes: list[str]) -> None:
    assert USERS.seen_with(scopes) is USERS.masked
    assert {path for path in USERS.fields if USERS.masked.hides(path)} == set(USERS.masked.masks)


def test_a_type_without_private_fields_is_seen_whole_by_everybody() -> None:
    assert ITEMS.seen_with([]) is ITEMS.whole


def test_of_a_private_object_nothing_is_seen() -> None:
    view = THINGS.masked

    assert "secret.pin" not in view.fields
    assert view.fields["secret"].kind is Kind.TEXT
    assert {path for path in THINGS.fields if view.hides(path)} == {
        *("secret", "secret.pin", "secret.deep", "secret.deep.code"),
        *("secrets", "secrets.pin", "secrets.deep", "secrets.deep.code"),
    }
    stored = {"_id": 1, "secret": {"pin": 1}, "secrets": [{"pin": 2}, None, 7]}
    assert Presenter(view.fields.values()).present(stored) == {
        "id": 1,
        "secret": "***",
        "secrets": ["***", None, "***"],
    }


@pytest.mark.parametrize(
    ("stored", "seen"),
    [
        ({"email": "ada@example.org"}, {"email": "a***@example.org"}),
        ({"email": None}, {"email": None}),
        ({"email": 7}, {"email": "***"}),
        ({"email": ["ada@example.org"]}, {"email": "***"}),
        ({"day": datetime(2026, 1, 2)}, {"day": "***"}),  # noqa: DTZ001 - as it is stored
        ({"boolean": False, "level": 1}, {"boolean": "***", "level": "hidden"}),
        ({"reference": ObjectId("0123456789abcdef01234567")}, {"reference": "***"}),
        ({"integers": [1, None, "x"]}, {"integers": ["***", None, "***"]}),
        ({"integers": []}, {"integers": []}),
        ({"integers": 7}, {"integers": "***"}),
        ({"matrix": [[1.5]], "free": {"a": 1}}, {"matrix": "***", "free": "***"}),
        (
            {"branch": {"label": "b", "days": [None], "leaf": {"text": "x", "number": 1}}},
            {"branch": {"label": "b", "days": [None], "leaf": {"text": "***", "number": 1}}},
        ),
        ({"branches": [{"label": "b", "leaves": [{"text": "x"}]}]}, {"branches": [{"label": "b", "leaves": ["***"]}]}),
        (
            {"branches": [[{"label": "b", "leaf": {"text": "x"}}]]},
            {"branches": [[{"label": "b", "leaf": {"text": "***"}}]]},
        ),
        ({"branch": "by hand"}, {"branch": "***"}),
        ({"branches": ["by hand", None]}, {"branches": ["***", None]}),
    ],
    ids=str,
)
def test_private_values_are_masked_whatever_they_are(stored: Mapping[str, Any], seen: Mapping[str, Any]) -> None:
    present = Presenter(EVERYTHING.masked.fields.values()).present
    assert present({"_id": 1, **stored}) == {"id": 1, **seen}


@given(document=everything_documents())
def test_whatever_is_stored_is_masked(document: dict[str, Any]) -> None:
    seen = Presenter(EVERYTHING.masked.fields.values()).present({"_id": 1, **document, "email": "ada@example.org"})

    assert seen["email"] == "a***@example.org"
    for name, value in document.items():
        field = EVERYTHING.masked.fields.get(name)
        if value is not None and field is not None and field.is_masked:
            values = seen[name] if field.is_array and isinstance(value, list) else [seen[name]]
            assert {"***", None}.issuperset(values)


@pytest.mark.parametrize(
    ("pointer", "has_masks"),
    [
        ("", True),
        ("/secret", True),
        ("/secret/deep/code", True),
        ("/secrets/0", True),
        ("/secrets/-", True),
        ("/id", False),
        ("/nothing", False),
        ("/secret~1deep", False),
        ("secret", True),
    ],
)
def test_a_pointer_may_lead_to_masks(pointer: str, has_masks: bool) -> None:  # noqa: FBT001 - a case
    assert THINGS.masked.has_masks_at(pointer) == has_masks
    assert not THINGS.whole.has_masks_at(pointer)


def test_q_looks_in_what_is_seen() -> None:
    def searched(scopes: list[str]) -> set[str]:
        [clause] = read_list_query(USERS.seen_with(scopes), [("q", "x")]).selection.filter["$and"]
        return {path for condition in clause["$or"] for path in condition}

    assert searched(["users:private"]) == set(USERS.search)
    assert searched([]) == set(USERS.search) - {"email"}


def test_where_nothing_is_left_to_search_q_is_refused() -> None:
    hidden = DocumentType(record_class({"email": Annotated[Email, Private()]}, search=["email"]))

    with pytest.raises(PrivateFieldError) as caught:
        read_list_query(hidden.masked, [("q", "x")])

    assert [(fault.parameter, fault.code) for fault in caught.value.faults] == [("q", "private_field")]


def test_all_faults_of_a_query_come_at_once() -> None:
    parameters = [("email", "x"), ("email", "y"), ("nonsense", "1"), ("sort", "profile.phone,nonsense"), ("limit", "x")]

    with pytest.raises(PrivateFieldError) as caught:
        read_list_query(USERS.masked, parameters)

    assert sorted((fault.parameter, fault.code) for fault in caught.value.faults) == [
        ("email", "private_field"),
        ("email", "private_field"),
        ("limit", "invalid_value"),
        ("nonsense", "unknown_parameter"),
        ("sort", "private_field"),
        ("sort", "unknown_field"),
    ]
