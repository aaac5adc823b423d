"""Validated documents as they are stored: the way back of the Presenter."""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from pydantic import BaseModel

from service.documents.fields import Field, Kind
from service.documents.values import Place, UnstorableError, pointer_of, store_nested, stored_scalar
from service.errors import Fault

Store = Callable[[Any, list[Fault], Place], Any]
"""What becomes of a field's value, which is not null."""

PLAIN_KINDS = frozenset({Kind.TEXT, Kind.BOOLEAN, Kind.FLOAT})
"""What is stored as it is: it came as JSON, which has no text that BSON has not, and its numbers are finite."""


class Storer:
    """Knows which fields of a type need a look, as most documents' time would go into those that need none."""

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self._store = _object(fields, "")

    def store(self, document: BaseModel, faults: list[Fault]) -> dict[str, Any]:
        """All fields that the document has, as BSON keeps them; what cannot be kept is added to `faults`."""
        stored: dict[str, Any] = self._store(document, faults, None)
        return stored


def _object(fields: Mapping[str, Field], path: str) -> Store:
    prefix = f"{path}." if path else ""
    own = {
        known.path.removeprefix(prefix): known
        for known in fields.values()
        if known.path.startswith(prefix) and "." not in known.path.removeprefix(prefix)
    }
    names = frozenset(own)
    looks = [(name, look) for name, known in own.items() if (look := _look(fields, known)) is not None]
    depth = path.count(".") + 2 if path else 1

    def store(value: Any, faults: list[Fault], place: Place) -> Any:
        if not isinstance(value, BaseModel):
            return store_nested(value, faults, place, depth)
        stored = {name: inner for name, inner in value.__dict__.items() if name in names}
        for name, look in looks:
            inner = stored.get(name)
            if inner is not None:
                stored[name] = look(inner, faults, (place, name))
        return stored

    return store


def _look(fields: Mapping[str, Field], known: Field) -> Store | None:
    """What a field's value needs; None: nothing."""
    if known.kind is Kind.OBJECT:
        element: Store | None = _object(fields, known.path)
    elif known.kind is Kind.JSON:
        return lambda value, faults, place: store_nested(value, faults, place, known.path.count(".") + 2)
    elif known.choices:
        element = _choice
    else:
        element = None if known.kind in PLAIN_KINDS else _scalar
    return _array(element) if known.is_array else element


def _array(element: Store | None) -> Store:
    def store(value: Any, faults: list[Fault], place: Place) -> Any:
        values = value if isinstance(value, list) else sorted(value, key=str)
        if element is None:
            return values
        return [
            None if inner is None else element(inner, faults, (place, position))
            for position, inner in enumerate(values)
        ]

    return store


def _choice(value: Any, _faults: list[Fault], _place: Place) -> Any:
    return value.value if isinstance(value, Enum) else value


def _scalar(value: Any, faults: list[Fault], place: Place) -> Any:
    try:
        return stored_scalar(value)
    except UnstorableError as error:
        faults.append(Fault("not_storable", str(error), pointer_of(place)))
        return None
