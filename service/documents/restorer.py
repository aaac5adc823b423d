"""Masks in bodies: one that comes back stands for the value that it was shown for, and none is ever stored.

In an array it stands for the element at its index. An element that may have been another one before is refused rather
than given somebody else's value. Who sees the values sends masks too, as in a file that somebody else has exported.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from service.documents.fields import Field
from service.documents.masks import Masks
from service.documents.values import Place, pointer_of
from service.errors import Fault


@dataclass(frozen=True, slots=True)
class Present:
    """What is there already, as JSON; two Nones: nothing."""

    whole: Any = None
    seen: Any = None
    """The same as the caller sees it."""

    def member(self, name: str) -> "Present":
        """What an object has under this name."""
        if isinstance(self.whole, Mapping) and isinstance(self.seen, Mapping):
            return Present(self.whole.get(name), self.seen.get(name))
        return NOTHING


NOTHING = Present()


@dataclass(slots=True)
class Restored:
    """A body in which no mask is left, and what there is to say of it."""

    body: Any = None
    faults: list[Fault] = field(default_factory=list)
    """Masks that stand for nothing."""
    filled: list[Place] = field(default_factory=list)
    """Where there is a value now that the caller has not said."""
    names_values: bool = False
    """Whether a caller who does not see them gives any private field a value."""


class Restorer:
    """Knows where a type's masks are, and what they look like."""

    def __init__(self, fields: Mapping[str, Field], masks: Masks) -> None:
        self._root: _Node = {}
        for path in masks:
            *parents, name = path.split(".")
            node = self._root
            for parent in parents:
                inner = node.setdefault(parent, {})
                assert isinstance(inner, dict)
                node = inner
            node[name] = fields[path]

    def restore(self, body: Any, present: Present = NOTHING) -> Restored:
        """The body, JSON that can be stored, with values in the place of masks."""
        if present.seen is present.whole and not self.finds_masks(body):  # as nearly all bodies of who sees all
            return Restored(body)
        walk = _Walk(Restored())
        walk.restored.body = walk.value(self._root, body, present, None)
        return walk.restored

    def finds_masks(self, body: Any) -> bool:
        """Whether there are masks in a body."""
        return bool(self._root) and _finds_masks(self._root, body)


_Node = dict[str, "Field | _Node"]
"""Of an object's fields those that are private, or have such below them."""


def _finds_masks(node: "Field | _Node", value: Any, *, is_element: bool = False) -> bool:
    if isinstance(value, list) and not is_element and (isinstance(node, dict) or node.is_array):
        return any(_finds_masks(node, element, is_element=True) for element in value)
    if isinstance(node, dict):
        return isinstance(value, dict) and any(
            _finds_masks(inner, value[name]) for name, inner in node.items() if name in value
        )
    assert node.mask is not None
    return isinstance(value, str) and node.mask.is_mask(value)


class _Walk:
    """Goes through a body, and notes what it finds."""

    def __init__(self, restored: Restored) -> None:
        self.restored = restored

    def value(self, node: Field | _Node, value: Any, present: Present, place: Place) -> Any:
        """What is meant by what is at this place."""
        is_array = isinstance(node, dict) or node.is_array
        if is_array and isinstance(value, list) and not (place and isinstance(place[1], int)):  # no array holds arrays
            return self._elements(node, value, present, place)
        if isinstance(node, Field):
            return self._private(node, value, present, place)
        if isinstance(value, Mapping):
            members = {
                name: self.value(inner, value[name], present.member(name), (place, name))
                for name, inner in node.items()
                if name in value
            }
            return {**value, **members}
        return self._fill(present, place) if isinstance(value, str) and value == present.seen else value

    def _fill(self, present: Present, place: Place) -> Any:
        self.restored.filled.append(place)
        return present.whole

    def _elements(self, node: Field | _Node, values: list[Any], present: Present, place: Place) -> list[Any]:
        if isinstance(node, Field) and node.is_set:
            return self._set(node, values, present, place)
        own = _own_elements(values, present)
        return [self.value(node, value, own[position], (place, position)) for position, value in enumerate(values)]

    def _set(self, known: Field, values: list[Any], present: Present, place: Place) -> list[Any]:
        """Of a set the values or the masks: that nothing comes twice in it would tell which values the masks hide."""
        if values == present.seen:
            return list(self._fill(present, place))
        return [self._private(known, value, NOTHING, (place, position)) for position, value in enumerate(values)]

    def _private(self, known: Field, value: Any, present: Present, place: Place) -> Any:
        assert known.mask is not None
        if isinstance(value, str):
            if value == present.seen:
                return self._fill(present, place)
            if known.mask.is_mask(value):
                message = (
                    "this is a mask, and not that of a value which is here: leave it where it was, or say the value"
                )
                self.restored.faults.append(Fault("masked_value", message, pointer_of(place)))
                return None
        self.restored.names_values |= value is not None
        return value


def _own_elements(values: list[Any], present: Present) -> list[Present]:
    """For each element of an array what it was before, or nothing where that is not certain.

    It is for one that is as it was, with all that look like it; and for the only one that has changed, where it looks
    like none that was there, and none was taken away.
    """
    if not (isinstance(present.whole, list) and isinstance(present.seen, list)):
        return [NOTHING] * len(values)
    now, before = list(map(_text, values)), list(map(_text, present.seen))
    alike = Counter(before)
    kept = Counter(new for new, old in zip(now, before, strict=False) if new == old)
    changed = sum(new != old for new, old in zip(now, before, strict=False))
    is_one_changed = changed <= 1 and len(now) >= len(before)
    own = [
        Present(whole, seen)
        if (kept[new] == alike[new] if new == old else new not in alike and is_one_changed)
        else NOTHING
        for new, old, whole, seen in zip(now, before, present.whole, present.seen, strict=False)
    ]
    return own + [NOTHING] * (len(values) - len(own))


def _text(element: Any) -> bytes:
    return orjson.dumps(element, option=orjson.OPT_SORT_KEYS)
