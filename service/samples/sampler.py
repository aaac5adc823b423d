"""Bodies of any type, made from its fields, their limits and its example."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from service.documents.base import SERVER_FIELDS
from service.documents.fields import Field, Kind
from service.documents.limits import HAS_MORE, Limits, limits_of
from service.documents.registry import DocumentType
from service.samples.makers import Draw, Maker, always, can_be_unique, email, one_of, rarely, scalar, unique
from service.samples.words import PLACES

MAX_ELEMENTS = 3
"""Of an array, where its class does not ask for more."""


class Sampler:
    """Makes bodies that POST takes, each like the type's example with other values."""

    def __init__(
        self, document_type: DocumentType, seed: int = 1, ids: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        """`ids` has those of existing documents, by the names of their types, for fields that refer to them."""
        self._fields = document_type.fields
        self._limits = limits_of(document_type.document_class)
        self._unique = frozenset(_unique_paths(document_type))
        self._ids = ids or {}
        self._seed = seed
        self._make = self._object(document_type.example, "")

    def bodies(self, count: int, start: int = 1) -> Iterator[dict[str, Any]]:
        """So many of them, from the one with this number on."""
        draw = Draw()
        for number in range(start, start + count):
            draw.begin(self._seed, number)
            yield self._make(draw)

    def _object(self, example: Mapping[str, Any], prefix: str) -> Maker:
        makers: list[tuple[str, Maker]] = []
        for path, field in self._fields.items():
            name = path.removeprefix(prefix)
            if path == f"{prefix}{name}" and "." not in name and path not in SERVER_FIELDS:
                maker = self._member(field, example, name)
                makers += [(name, maker)] if maker else []

        def make(draw: Draw) -> dict[str, Any]:
            draw.place = draw.random.choice(PLACES)
            return {name: maker(draw) for name, maker in makers}

        return make

    def _member(self, field: Field, example: Mapping[str, Any], name: str) -> Maker | None:
        """What makes a field of an object; None where the example leaves it out and nothing says what it may be."""
        limits = self._limits[field.path]
        if field.path in self._unique and example.get(name) not in (None, []):
            return unique(field, limits, example[name])
        if self._ids.get(field.references or ""):
            value = [None] if field.is_array else None
        elif name in example:
            value = example[name]
        elif not field.is_array and (field.choices or (field.kind is Kind.BOOLEAN and "default" in limits)):
            value = limits.get("default")
        else:
            return None
        maker = self._array(field, value) if field.is_array else self._value(field, limits, value)
        return rarely(None, maker) if field.is_nullable else maker

    def _array(self, field: Field, example: Sequence[Any] | None) -> Maker:
        limits = self._limits[field.path]
        if not example or limits.get(HAS_MORE):
            return always(example)
        makers = [self._value(field, limits["items"], element) for element in example]
        least = limits.get("minItems", 0)
        most = max(1, least, min(MAX_ELEMENTS, limits.get("maxItems", MAX_ELEMENTS)))

        def make(draw: Draw) -> Sequence[Any]:
            elements = [draw.random.choice(makers)(draw) for _ in range(draw.random.randint(max(1, least), most))]
            if not field.is_scalar:
                return elements
            different = list(dict.fromkeys(elements))
            return different if len(different) >= least else example

        return make if least else rarely([], make)

    def _value(self, field: Field, limits: Limits, example: Any) -> Maker:
        """What makes the value of a field, or an element of it."""
        if ids := self._ids.get(field.references or ""):
            return one_of(ids)
        if field.choices:
            return one_of(field.choices)
        if field.is_email:
            return email
        if example is None or (limits.get(HAS_MORE) and field.kind is not Kind.OBJECT_ID):
            return always(example)
        if field.kind is Kind.OBJECT:
            return self._object(example, f"{field.path}.")
        return scalar(field, limits, example)


def _unique_paths(document_type: DocumentType) -> Iterator[str]:
    """The fields that get another value in each document; those that refer to others only if they must."""
    for index in document_type.indexes:
        if index.document.get("unique"):
            fields = [document_type.fields[path] for path in index.document["key"] if path in document_type.fields]
            able = [field for field in fields if can_be_unique(field)]
            yield from [field.path for field in able if not field.references] or [field.path for field in able]
