"""RFC 7396, by its own examples and by its own rule."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import PatchTestFailedError, ValidationFailedError
from service.store.patching import json_patch, merge_patch

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_the_examples_of_the_rfc_come_out_as_it_says(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result


@given(values, values)
def test_neither_side_is_changed(target: Any, patch: Any) -> None:
    before = deepcopy((target, patch))

    merge_patch(target, patch)

    assert (target, patch) == before


@given(values, values)
def test_a_patch_made_twice_is_a_patch_made_once(target: Any, patch: Any) -> None:
    once = merge_patch(target, patch)

    assert merge_patch(once, patch) == once


def test_null_for_what_is_no_field_stays_to_be_refused() -> None:
    patch = {"nothing": None, "part": {"nothing": None, "name": None}, "name": None}

    merged = merge_patch({"name": 1, "part": {"name": 2}}, patch, {"name", "part", "part.name"}.__contains__)

    assert merged == {"nothing": None, "part": {"nothing": None}}


@given(values)
def test_an_empty_patch_changes_no_object(target: Any) -> None:
    assert merge_patch(target, {}) == (target if isinstance(target, dict) else {})


@pytest.mark.parametrize(
    ("target", "operations", "patched"),
    [  # RFC 6902, appendix A
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"foo": "bar", "baz": "qux"}),
        ({"foo": ["a", "c"]}, [{"op": "add", "path": "/foo/1", "value": "b"}], {"foo": ["a", "b", "c"]}),
        ({"foo": 1, "baz": 2}, [{"op": "remove", "path": "/baz"}], {"foo": 1}),
        ({"foo": ["a", "b"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["a"]}),
        ({"foo": 1}, [{"op": "replace", "path": "/foo", "value": None}], {"foo": None}),
        ({"a": {"x": 1}, "b": {}}, [{"op": "move", "from": "/a/x", "path": "/b/y"}], {"a": {}, "b": {"y": 1}}),
        ({"foo": [1, 2, 3]}, [{"op": "move", "from": "/foo/0", "path": "/foo/2"}], {"foo": [2, 3, 1]}),
        ({"a": [1]}, [{"op": "copy", "from": "/a", "path": "/b"}], {"a": [1], "b": [1]}),
        ({"foo": "bar"}, [{"op": "add", "path": "/child", "value": {"x": {}}}], {"foo": "bar", "child": {"x": {}}}),
        ({"foo": ["bar"]}, [{"op": "add", "path": "/foo/-", "value": ["a"]}], {"foo": ["bar", ["a"]]}),
        ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
        ({"a": 1.0}, [{"op": "test", "path": "/a", "value": 1}, {"op": "remove", "path": "/a"}], {}),
        ({"foo": 1}, [], {"foo": 1}),
    ],
)
def test_a_json_patch_does_its_operations(target: Any, operations: Any, patched: Any) -> None:
    before = deepcopy(target)

    assert json_patch(target, operations) == patched
    assert target == before


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "add", "path": "/baz/bat", "value": 1},
        {"op": "add", "path": "/list/3", "value": 1},
        {"op": "add", "path": "/list/01", "value": 1},
        {"op": "add", "path": "/x"},
        {"op": "add", "path": 5, "value": 1},
        {"op": "remove", "path": "/nothing"},
        {"op": "replace", "path": "/nothing", "value": 1},
        {"op": "move", "from": "/nothing", "path": "/x"},
        {"op": "move", "from": "/object", "path": "/object/inside"},
        {"op": "copy", "path": "/x"},
        {"op": "test", "path": "/nothing", "value": None},
        {"op": "test", "path": "/foo"},
        {"op": "explode", "path": "/foo"},
        {"op": ["add"], "path": "/foo", "value": 1},
        {"path": "/foo"},
        {},
        "remove",
        None,
    ],
)
def test_an_operation_that_cannot_be_applied_is_named_by_its_place(operation: Any) -> None:
    target = {"foo": 1, "list": [1], "object": {}}
    before = deepcopy(target)

    with pytest.raises(ValidationFailedError) as caught:
        json_patch(target, [{"op": "remove", "path": "/foo"}, {"op": "add", "path": "/foo", "value": 1}, operation])

    assert [(fault.code, fault.pointer) for fault in caught.value.faults] == [("patch_not_applicable", "/2")]
    assert target == before


@pytest.mark.parametrize("operations", [{}, None, "x", [{"op": "remove", "path": "/x"}] * 1001])
def test_a_json_patch_is_an_array_of_operations(operations: Any) -> None:
    with pytest.raises(ValidationFailedError) as caught:
        json_patch({}, operations)

    assert caught.value.faults[0].code == "operations_expected"


@pytest.mark.parametrize(
    ("present", "wanted"), [(1, 2), (1, True), (0, False), ("1", 1), ([1], [1, 2]), ({}, []), (None, 0)]
)
def test_a_test_that_fails_says_where(present: Any, wanted: Any) -> None:
    with pytest.raises(PatchTestFailedError, match="/a"):
        json_patch({"a": present}, [{"op": "test", "path": "/a", "value": wanted}])


def test_copies_of_copies_come_to_an_end() -> None:
    bomb = [{"op": "copy", "from": "/a", "path": f"/a/{number}"} for number in range(100)]

    with pytest.raises(ValidationFailedError):
        json_patch({"a": {"x": "y" * 1000}}, bomb)
