"""Which parts of a document leave MongoDB, and which the service."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from service.documents.presenter import Tree, prune, tree_of
from service.documents.registry import DocumentType
from service.documents.user import User
from service.store.projection import projection_of
from tests.unit.made_up import record_class

USERS = DocumentType(User)


def test_all_declared_fields_and_no_others_are_read() -> None:
    assert projection_of(USERS) == dict.fromkeys(
        ["_id", "age", "created_at", "email", "is_active", "name", "profile", "revision", "tags", "updated_at"], 1
    )


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["name"], ["_id", "name"]),
        (["id"], ["_id"]),
        (["profile.addresses.city", "profile.bio"], ["_id", "profile"]),
        (["profile", "profile.bio", "age"], ["_id", "age", "profile"]),
    ],
)
def test_whole_fields_that_hold_what_is_asked_for_are_read(paths: list[str], names: list[str]) -> None:
    assert projection_of(USERS, paths) == dict.fromkeys(names, 1)


def test_an_excluded_field_is_never_read() -> None:
    document_type = DocumentType(record_class({"shown": str, "hidden": (str, Field(default="", exclude=True))}))

    assert "hidden" not in projection_of(document_type)


@pytest.mark.parametrize(
    ("paths", "tree"),
    [
        ([], {}),
        (["a"], {"a": {}}),
        (["a.b.c"], {"a": {"b": {"c": {}}}}),
        (["a.b", "a.c"], {"a": {"b": {}, "c": {}}}),
        (["a", "a.b"], {"a": {}}),
        (["a.b", "a"], {"a": {}}),
        (["a.b.c", "a.b", "d"], {"a": {"b": {}}, "d": {}}),
        (["a.b", "ab.c"], {"a": {"b": {}}, "ab": {"c": {}}}),
    ],
)
def test_a_path_keeps_what_is_on_the_way_to_it(paths: list[str], tree: Tree) -> None:
    assert tree_of(paths) == tree


@pytest.mark.parametrize(
    ("value", "paths", "pruned"),
    [
        ({"a": 1, "b": 2}, ["a"], {"a": 1}),
        ({"a": {"b": 1, "c": 2}}, ["a"], {"a": {"b": 1, "c": 2}}),
        ({"a": {"b": 1, "c": 2}}, ["a.b"], {"a": {"b": 1}}),
        ({"a": [{"b": 1, "c": 2}, {"c": 3}]}, ["a.b"], {"a": [{"b": 1}, {}]}),
        ({"a": [[{"b": 1, "c": 2}]]}, ["a.b"], {"a": [[{"b": 1}]]}),
        ({"a": None}, ["a.b"], {"a": None}),
        ({"a": None}, ["a"], {"a": None}),
        ({"a": 1}, ["b"], {}),
        ({"a": {}}, ["a.b"], {"a": {}}),
        ({"a": []}, ["a.b"], {"a": []}),
        ({"b": 1, "a": 2}, ["a", "b"], {"a": 2, "b": 1}),
    ],
)
def test_nothing_but_what_was_asked_for_is_kept(value: Any, paths: list[str], pruned: Any) -> None:
    assert prune(value, tree_of(paths)) == pruned


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    ),
    st.lists(st.sampled_from(["a", "b", "a.b", "a.b.c", "b.c", "c.c.c"]), min_size=1),
)
def test_pruning_again_changes_nothing(value: Any, paths: list[str]) -> None:
    once = prune(value, tree_of(paths))

    assert prune(once, tree_of(paths)) == once
