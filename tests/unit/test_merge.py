"""What an upsert makes of a document and of what a file says."""

from typing import Any

import pytest
from hypothesis import given

from service.documents.introspection import fields_of
from service.imports.upsert import merge
from tests.bodies import BODIES, Body
from tests.everything import Everything

FIELDS = fields_of(Everything)
LEAF = {"text": "t", "number": 1, "day": None, "moments": []}
BRANCH: Body = {"label": "b", "leaf": LEAF, "leaves": [LEAF], "days": []}


@pytest.mark.parametrize(
    ("change", "merged"),
    [
        ({}, {"text": "a", "branch": BRANCH, "free": {"x": 1}}),
        ({"text": "b"}, {"text": "b", "branch": BRANCH, "free": {"x": 1}}),
        ({"text": None}, {"text": None, "branch": BRANCH, "free": {"x": 1}}),
        ({"day": "2026-11-22"}, {"text": "a", "branch": BRANCH, "free": {"x": 1}, "day": "2026-11-22"}),
        ({"branch": None}, {"text": "a", "branch": None, "free": {"x": 1}}),
        ({"branch": {"label": "c"}}, {"text": "a", "branch": {**BRANCH, "label": "c"}, "free": {"x": 1}}),
        (
            {"branch": {"leaf": {"number": None}}},
            {"text": "a", "branch": {**BRANCH, "leaf": {**LEAF, "number": None}}, "free": {"x": 1}},
        ),
        ({"branch": {"leaf": None}}, {"text": "a", "branch": {**BRANCH, "leaf": None}, "free": {"x": 1}}),
    ],
)
def test_what_the_file_says_of_an_object_changes_its_members(change: Body, merged: Body) -> None:
    assert merge({"text": "a", "branch": BRANCH, "free": {"x": 1}}, change, FIELDS) == merged


@pytest.mark.parametrize(
    ("change", "merged"),
    [
        ({"branch": {"leaves": []}}, {"branch": {**BRANCH, "leaves": []}}),
        ({"branch": {"leaves": [{"text": "u"}]}}, {"branch": {**BRANCH, "leaves": [{"text": "u"}]}}),
        ({"free": {"y": 2}}, {"branch": BRANCH, "free": {"y": 2}}),
        ({"branches": [{"label": "c"}]}, {"branch": BRANCH, "branches": [{"label": "c"}]}),
    ],
)
def test_an_array_and_free_json_are_replaced_whole(change: Body, merged: Body) -> None:
    assert merge({"branch": BRANCH}, change, FIELDS) == merged


@pytest.mark.parametrize("present", [{"branch": None}, {}])
def test_an_object_that_is_not_there_comes_into_being_only_of_something(present: Body) -> None:
    nothing = {"branch": {"leaf": {"number": None, "moments": []}, "days": []}}
    something = {"branch": {"leaf": {"number": 0}}}

    assert merge(present, nothing, FIELDS) == {"branch": None}
    assert merge(present, something, FIELDS) == something


def test_what_was_there_is_left_as_it_was() -> None:
    present = {"branch": {"label": "a", "leaf": {"number": 1}}}

    merge(present, {"branch": {"leaf": {"number": 2}}}, FIELDS)

    assert present == {"branch": {"label": "a", "leaf": {"number": 1}}}


@given(BODIES["everythings"], BODIES["everythings"])
def test_the_same_again_changes_nothing(present: Any, change: Any) -> None:
    once = merge(present, change, FIELDS)

    assert merge(once, change, FIELDS) == once
    assert merge(present, {}, FIELDS) == present
    assert merge(present, present, FIELDS) == present
    assert once.keys() == present.keys() | change.keys()
    assert all(once[name] == change[name] for name in change if name != "branch")
