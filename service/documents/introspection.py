"""A document class as a flat table of typed fields: the one list of what a caller may see, filter, sort and export."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import MaxLen
from bson import ObjectId
from pydantic import BaseModel, EmailStr, StringConstraints
from pydantic.fields import FieldInfo

from service.documents.base import BEANIE_FIELDS, SERVER_FIELDS, Hidden, Private, Record, Reference
from service.documents.fields import Field, Kind
from service.documents.masks import PLAIN, EmailMask

MAX_EMAIL_LENGTH = 254  # RFC 5321 §4.5.3.1.3, less the angle brackets

SCALARS: Mapping[type, Kind] = {
    bool: Kind.BOOLEAN,  # before int, of which it is a kind
    int: Kind.INTEGER,
    float: Kind.FLOAT,
    Decimal: Kind.DECIMAL,
    datetime: Kind.DATETIME,  # before date, likewise
    date: Kind.DATE,
    ObjectId: Kind.OBJECT_ID,
    str: Kind.TEXT,
    EmailStr: Kind.TEXT,
}
ARRAYS = frozenset({list, set, frozenset})


class UnsupportedFieldError(TypeError):
    """A field's type is none that Dossier can store, filter and show."""


def fields_of(document_class: type[Record]) -> dict[str, Field]:
    """Every field by its dotted path, in the order in which answers and files show them.

    Raises UnsupportedFieldError.
    """
    fields, faults = describe(document_class)
    if faults:
        raise UnsupportedFieldError("; ".join(faults))
    return fields


def describe(document_class: type[Record]) -> tuple[dict[str, Field], list[str]]:
    """The fields that are supported, and a fault for each that is not."""
    faults: list[str] = []
    others = BEANIE_FIELDS.union(SERVER_FIELDS)
    own = {name: info for name, info in document_class.model_fields.items() if name not in others}
    servers = {name: document_class.model_fields[name] for name in SERVER_FIELDS[1:]}
    masks = (known.mask for known in _walk({"id": document_class.model_fields["id"]}, "", (), faults))
    own_id = Field("id", Kind.OBJECT_ID, mask=next(masks, None))
    fields = [own_id, *_walk(own | servers, "", (document_class,), faults)]
    return {field.path: field for field in fields}, faults


def _walk(
    infos: Mapping[str, FieldInfo],
    prefix: str,
    parents: tuple[type, ...],
    faults: list[str],
    *,
    is_repeated: bool = False,
) -> Iterator[Field]:
    for name, info in infos.items():
        if info.exclude or any(isinstance(item, Hidden) for item in info.metadata):
            continue
        path = f"{prefix}{name}"
        try:
            field = _field(path, info.annotation, info.metadata)
        except UnsupportedFieldError as error:
            faults.append(f"field {path!r}: {error}")
            continue
        field = replace(
            field,
            is_repeated=is_repeated or field.is_array,
            is_required=info.is_required(),
            is_nullable=_takes_none(info.annotation),
            description=info.description,
        )
        yield field
        if field.model in parents:
            faults.append(f"field {path!r}: {field.model.__name__} holds itself")
        elif field.model is not None:
            inside = (*parents, field.model)
            yield from _walk(field.model.model_fields, f"{path}.", inside, faults, is_repeated=field.is_repeated)


def _field(path: str, annotation: Any, metadata: Sequence[Any] = ()) -> Field:
    """What the annotation says; a mark of privacy holds for the whole field, wherever it stands."""
    field = _described(path, annotation, metadata)
    if Private in metadata:
        raise UnsupportedFieldError("it is marked by Private(), not by Private")
    marks = [item for item in metadata if isinstance(item, Private)]
    if not marks:
        return field
    outermost = marks[-1]
    default = EmailMask() if field.is_email else PLAIN
    return replace(field, mask=default if outermost.mask is None else outermost.mask)


def _described(path: str, annotation: Any, metadata: Sequence[Any]) -> Field:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        flat = [part for item in more for part in (item.metadata if isinstance(item, FieldInfo) else [item])]
        return _field(path, inner, [*flat, *metadata])
    if origin in {Union, UnionType}:
        members = [member for member in get_args(annotation) if member is not NoneType]
        if len(members) != 1:
            raise UnsupportedFieldError("a field has one type, or that type and None")
        return _field(path, members[0], metadata)
    if origin is Literal:
        return _enumeration(path, get_args(annotation))
    if origin in ARRAYS:
        element = _field(path, get_args(annotation)[0])
        is_set = origin is not list
        return _free(path, element) if element.is_array else replace(element, is_array=True, is_set=is_set)
    if origin is dict:
        return _free(path, _field(path, get_args(annotation)[1]))
    if annotation in {Any, dict}:
        return Field(path, Kind.JSON)
    return _single(path, annotation, metadata)


def _takes_none(annotation: Any) -> bool:
    return annotation is Any or NoneType in get_args(annotation)


def _free(path: str, element: Field) -> Field:
    """JSON that holds such elements, at some depth."""
    if element.mask is not None:
        raise UnsupportedFieldError("of an array of arrays, or a dict, all is private or nothing")
    if element.kind in {Kind.DATE, Kind.OBJECT}:
        raise UnsupportedFieldError(f"an array of arrays, or a dict, holds no {element.kind}s")
    return Field(path, Kind.JSON, inner=element.inner or element.kind)


def _single(path: str, annotation: Any, metadata: Sequence[Any]) -> Field:
    if not isinstance(annotation, type):
        raise UnsupportedFieldError(f"{annotation!r} cannot be stored")
    if issubclass(annotation, Enum):
        return _enumeration(path, [member.value for member in annotation])
    if issubclass(annotation, BaseModel):
        return Field(path, Kind.OBJECT, model=annotation)
    kind = next((kind for scalar, kind in SCALARS.items() if issubclass(annotation, scalar)), None)
    if kind is None:
        raise UnsupportedFieldError(f"{annotation.__name__} cannot be stored")
    is_email = issubclass(annotation, EmailStr)
    lengths = [item.max_length for item in metadata if isinstance(item, MaxLen | StringConstraints)]
    return Field(
        path,
        kind,
        max_length=min(
            (length for length in [*lengths, MAX_EMAIL_LENGTH if is_email else None] if length), default=None
        ),
        is_email=is_email,
        is_lower_case=any(isinstance(item, StringConstraints) and item.to_lower for item in metadata),
        references=next((item.name for item in metadata if isinstance(item, Reference)), None),
    )


def _enumeration(path: str, values: Sequence[Any]) -> Field:
    if all(isinstance(value, str) for value in values):
        return Field(path, Kind.TEXT, max_length=max(map(len, values)), choices=tuple(values))
    if all(type(value) is int for value in values):
        return Field(path, Kind.INTEGER, choices=tuple(values))
    raise UnsupportedFieldError("an enumeration's values are all text or all integers")
