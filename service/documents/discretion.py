"""Faults as they are told to whoever does not see all the values that they are about."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from service.documents.restorer import Restored
from service.documents.values import parts_of, path_of, pointer_of, pointer_to
from service.documents.views import View
from service.errors import Fault

Tell = Callable[[Fault], Fault]

STRUCTURAL = frozenset(
    {
        *("missing", "too_long", "too_short"),
        *("list_type", "set_type", "frozen_set_type", "model_type", "model_attributes_type"),
    }
)
"""Codes that pydantic has for an object or an array whatever the values in it are; all others may be a validator's."""

ABSENT = object()
"""What a body has at a place of which it says nothing."""


def tell_all(fault: Fault) -> Fault:
    """The fault, to whoever sees all, or has sent all that it is about."""
    return fault


class Discretion:
    """Tells of a body's faults no more than its sender knows: messages, and places below, are about hidden values."""

    def __init__(self, view: View, restored: Restored, sent: Any, kept: Any = None) -> None:
        """`kept` is what was there, where the body is merged into that."""
        self._view = view
        self._restored = restored
        self._sent = sent
        self._kept = kept

    def tell(self, fault: Fault) -> Fault:
        """The fault, or as much as may be told of it."""
        pointer = fault.pointer or ""
        hidden = self._hidden_place(pointer)
        if hidden is not None:
            return Fault("invalid_private_value", "what is stored here is not valid; say another value", hidden)
        is_about_others = not self._view.hides(path_of(pointer)) and self._view.has_masks_at(pointer)
        if is_about_others and fault.code not in STRUCTURAL:
            message = "this is not valid as a whole, and why may depend on private values"
            return Fault("invalid_whole", message, pointer)
        return fault

    def _hidden_place(self, pointer: str) -> str | None:
        """The place at or above this one that has a value which the sender has neither seen nor said."""
        for place in map(pointer_of, self._restored.filled):
            if f"{pointer}/".startswith(f"{place}/"):
                return place
        private = next((place for place in _on_the_way(pointer) if self._view.hides(path_of(place))), None)
        if private is None or _at(self._kept, parts_of(private)) is ABSENT:
            return None
        said = _at(self._sent, parts_of(pointer))
        return private if said is ABSENT or isinstance(said, Mapping) else None  # which has what was kept in it too


def _on_the_way(pointer: str) -> Iterable[str]:
    place = ""
    for part in parts_of(pointer):
        place = pointer_to(place, part)
        yield place


def _at(body: Any, parts: Iterable[str]) -> Any:
    """What a body has at a place; an array is all or nothing, and stands for what is in it."""
    if body is None:
        return ABSENT
    for part in parts:
        if not isinstance(body, Mapping):
            return body
        if part not in body:
            return ABSENT
        body = body[part]
    return body
