"""Stored documents as callers see them."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from service.documents.fields import Field, Kind, parents_of
from service.documents.masks import STARS, masked


class Presenter:
    """Turns a stored document into what a caller sees.

    `id` for `_id`, dates where times at midnight are stored, masks in a masked view, and of what somebody wrote by hand
    only declared fields.
    """

    def __init__(self, fields: Iterable[Field]) -> None:
        root: _Shape = {}
        for field in fields:
            *parents, name = field.path.split(".")
            shape = root
            for parent in parents:
                inner = shape[parent]
                assert isinstance(inner, dict)
                shape = inner
            shape[name] = {} if field.kind is Kind.OBJECT else field
        # A projection has chosen the top level already.
        self._members = _members(root)

    def present(self, stored: dict[str, Any]) -> dict[str, Any]:
        """The document as callers see it; `stored` is used up."""
        for name, present in self._members:
            value = stored.get(name)
            if value is not None:
                stored[name] = present(value)
        return {"id": stored.pop("_id"), **stored}


_Shape = dict[str, "Field | _Shape"]
"""What the fields of an object are."""

_Present = Callable[[Any], Any]
"""Shows the value of one field, of one of its elements, or of whatever somebody wrote there by hand."""


def _members(shape: _Shape) -> list[tuple[str, _Present]]:
    """The fields that need a look: most documents' time goes into those that need none."""
    looks = ((name, _look(inner)) for name, inner in shape.items())
    return [(name, look) for name, look in looks if look is not None]


def _look(inner: "Field | _Shape") -> _Present | None:
    if isinstance(inner, dict):
        return _present_object(inner)
    if inner.is_masked:
        return _present_mask(inner)
    return _present_date if inner.kind is Kind.DATE else None


def _present_date(value: Any) -> Any:
    if isinstance(value, list):
        return [_present_date(element) for element in value]
    return value.date() if isinstance(value, datetime) else value


def _present_mask(field: Field) -> _Present:
    assert field.mask is not None
    mask = partial(masked, field.mask)
    is_array = field.is_array

    def present(value: Any) -> Any:
        if is_array and isinstance(value, list):
            return [None if element is None else mask(element) for element in value]
        return mask(value)

    return present


def _present_object(shape: _Shape) -> _Present:
    names = frozenset(shape)
    members = _members(shape)
    hides = _has_masks(shape)

    def present(value: Any) -> Any:
        if isinstance(value, list):
            return [present(element) for element in value]
        if not isinstance(value, dict):
            return STARS if hides and value is not None else value
        if not names.issuperset(value):
            value = {name: inner for name, inner in value.items() if name in names}
        for name, present_member in members:
            inner = value.get(name)
            if inner is not None:
                value[name] = present_member(inner)
        return value

    return present


def _has_masks(shape: _Shape) -> bool:
    """Whether an object has something to hide, so that nothing is shown that somebody wrote in its place by hand."""
    return any(_has_masks(inner) if isinstance(inner, dict) else inner.is_masked for inner in shape.values())


Tree = dict[str, "Tree"]
"""Names that are kept, each with those kept below it; an empty tree keeps all."""


def tree_of(paths: Sequence[str]) -> Tree:
    """The names on the way to each path."""
    root: Tree = {}
    whole = set(paths)
    for path in paths:
        if any(parent in whole for parent in parents_of(path)):
            continue
        tree = root
        for name in path.split("."):
            tree = tree.setdefault(name, {})
    return root


def prune(value: Any, tree: Tree) -> Any:
    """The value with nothing but the tree's names, at every level."""
    if not tree:
        return value
    if isinstance(value, list):
        return [prune(element, tree) for element in value]
    if isinstance(value, dict):
        return {name: prune(value[name], branch) for name, branch in tree.items() if name in value}
    return value
