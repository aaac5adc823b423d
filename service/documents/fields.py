"""A document class as a flat table of typed fields: the one list of what a caller may see, filter, sort and export."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import MaxLen
from bson import ObjectId
from pydantic import BaseModel, EmailStr, StringConstraints
from pydantic.fields import FieldInfo

from service.documents.base import SERVER_FIELDS, Record

MAX_EMAIL_LENGTH = 254  # RFC 5321 §4.5.3.1.3, less the angle brackets


class Kind(StrEnum):
    """What a field holds."""

    TEXT = "text"
    INTEGER = "integer"
    FLOAT = "float"
    DECIMAL = "decimal"
    BOOLEAN = "boolean"
    DATE = "date"
    DATETIME = "datetime"
    OBJECT_ID = "object id"
    OBJECT = "object"
    JSON = "JSON"
    """Any value, as it came: a `dict`, an array of arrays."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field by its dotted path; of an array, `kind` is what its elements are."""

    path: str
    kind: Kind
    is_array: bool = False
    is_repeated: bool = False
    """True where one document may hold several values: an array, or a field of objects in one."""
    max_length: int | None = None
    """In characters, for text."""
    choices: tuple[str | int, ...] = ()
    """The values of an enumeration."""
    is_lower_case: bool = False

    @property
    def is_scalar(self) -> bool:
        """True where a value can be written as one piece of text."""
        return self.kind not in {Kind.OBJECT, Kind.JSON}

    @property
    def is_sortable(self) -> bool:
        """True where each document has one value of it."""
        return self.is_scalar and not self.is_repeated


type_kinds: Mapping[type, Kind] = {
    bool: Kind.BOOLEAN,  # before int, of which it is a kind
    int: Kind.INTEGER,
    float: Kind.FLOAT,
    Decimal: Kind.DECIMAL,
    datetime: Kind.DATETIME,  # before date, likewise
    date: Kind.DATE,
    ObjectId: Kind.OBJECT_ID,
    str: Kind.TEXT,
    EmailStr: Kind.TEXT,
    dict: Kind.JSON,
}
ARRAY_TYPES = (list, tuple, set, frozenset)


class UnsupportedFieldError(TypeError):
    """A field's type is none that Dossier can store, filter and show."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """A type annotation, taken apart."""

    kind: Kind
    is_array: bool = False
    model: type[BaseModel] | None = None
    max_length: int | None = None
    choices: tuple[str | int, ...] = ()
    is_lower_case: bool = False


def fields_of(document_class: type[Record]) -> dict[str, Field]:
    """Every field by its dotted path, in the order in which answers and files show them.

    Raises UnsupportedFieldError.
    """
    own = {name: info for name, info in document_class.model_fields.items() if not info.exclude}
    ordered = ["id", *(name for name in own if name not in SERVER_FIELDS), *SERVER_FIELDS[1:]]
    fields = {"id": Field("id", Kind.OBJECT_ID)}
    for name in ordered[1:]:
        for field in _walk(name, own[name], is_repeated=False, seen=(document_class,)):
            fields[field.path] = field
    return fields


def _walk(path: str, info: FieldInfo, *, is_repeated: bool, seen: tuple[type, ...]) -> Iterator[Field]:
    try:
        shape = _shape(info.annotation, tuple(info.metadata))
    except UnsupportedFieldError as error:
        raise UnsupportedFieldError(f"field {path!r}: {error}") from None
    is_repeated = is_repeated or shape.is_array
    yield Field(
        path,
        shape.kind,
        shape.is_array,
        is_repeated,
        shape.max_length,
        shape.choices,
        is_lower_case=shape.is_lower_case,
    )
    if shape.model is None:
        return
    if shape.model in seen:
        raise UnsupportedFieldError(f"field {path!r}: {shape.model.__name__} holds itself")
    for name, inner in shape.model.model_fields.items():
        yield from _walk(f"{path}.{name}", inner, is_repeated=is_repeated, seen=(*seen, shape.model))


def _shape(annotation: Any, metadata: tuple[Any, ...] = ()) -> _Shape:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        flat = [part for item in more for part in (item.metadata if isinstance(item, FieldInfo) else [item])]
        return _shape(inner, (*flat, *metadata))
    if origin in {Union, UnionType}:
        members = [member for member in get_args(annotation) if member is not NoneType]
        if len(members) != 1:
            raise UnsupportedFieldError("a field has one type, or that type and None")
        return _shape(members[0], metadata)
    if origin is Literal:
        return _choices(get_args(annotation))
    if origin in ARRAY_TYPES:
        element = _shape(get_args(annotation)[0])
        if element.is_array:
            return _Shape(Kind.JSON)
        return replace(element, is_array=True)
    if annotation is Any or origin is dict:
        return _Shape(Kind.JSON)
    return _scalar(annotation, metadata)


def _scalar(annotation: Any, metadata: tuple[Any, ...]) -> _Shape:
    if not isinstance(annotation, type):
        raise UnsupportedFieldError(f"{annotation!r} cannot be stored")
    if issubclass(annotation, Enum):
        return _choices(tuple(member.value for member in annotation))
    if issubclass(annotation, BaseModel):
        return _Shape(Kind.OBJECT, model=annotation)
    for supported, kind in type_kinds.items():
        if issubclass(annotation, supported):
            return _Shape(
                kind,
                max_length=_max_length(annotation, metadata),
                is_lower_case=any(isinstance(item, StringConstraints) and item.to_lower for item in metadata),
            )
    raise UnsupportedFieldError(f"{annotation.__name__} cannot be stored")


def _choices(values: tuple[Any, ...]) -> _Shape:
    if all(isinstance(value, str) for value in values):
        return _Shape(Kind.TEXT, max_length=max(map(len, values)), choices=values)
    if all(type(value) is int for value in values):
        return _Shape(Kind.INTEGER, choices=values)
    raise UnsupportedFieldError("an enumeration's values are all text or all integers")


def _max_length(annotation: type, metadata: tuple[Any, ...]) -> int | None:
    lengths = [MAX_EMAIL_LENGTH] if issubclass(annotation, EmailStr) else []
    limits = [item.max_length for item in metadata if isinstance(item, MaxLen | StringConstraints)]
    lengths += [limit for limit in limits if limit is not None]
    return min(lengths, default=None)


def models_of(document_class: type[BaseModel]) -> set[type[BaseModel]]:
    """Every model nested in this one, at any depth."""
    found: set[type[BaseModel]] = set()
    waiting: list[type[BaseModel]] = [document_class]
    while waiting:
        for info in waiting.pop().model_fields.values():
            if info.exclude:
                continue
            model = _shape(info.annotation, tuple(info.metadata)).model
            if model is not None and model not in found:
                found.add(model)
                waiting.append(model)
    return found
