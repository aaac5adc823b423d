"""Finds every document type in this package and refuses a bad one at start-up, with all its faults."""

import importlib
import pkgutil
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel
from pymongo import IndexModel

import service.documents
from service.documents.base import BEANIE_FIELDS, SERVER_FIELDS, Record
from service.documents.fields import Field, Kind, parents_of
from service.documents.introspection import describe, fields_of
from service.documents.masks import mask_faults
from service.documents.views import View
from service.errors import StartupError

RESERVED_NAMES = frozenset(
    {
        *("accounts", "audit", "auth", "docs", "exports", "health", "imports", "metrics", "system"),
        *("locks", "migrations_log", "quotas", "revoked_tokens", "sessions"),
    }
)
"""First segments of addresses, and collections, that are taken."""

MAX_SEARCH_LENGTH = 1024
"""In characters: a regular expression's cost grows with the text, and past a limit MongoDB answers "no match"."""

NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")


@dataclass(frozen=True)
class DocumentType:
    """A document class and what is derived from it once."""

    document_class: type[Record]

    @property
    def name(self) -> str:
        """Collection, path, tag and scope stem at once."""
        return self.document_class.Settings.name

    @property
    def title(self) -> str:
        """The class's name, as the API's schemas show it."""
        return self.document_class.__name__

    @property
    def singular(self) -> str:
        """The class's name in the small letters of an operation id: `audit_event`."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", self.title).lower()

    @cached_property
    def fields(self) -> Mapping[str, Field]:
        """Every field by its dotted path, as documents are stored; what a caller may see of them, a view says."""
        return fields_of(self.document_class)

    def seen_with(self, scopes: Collection[str]) -> View:
        """The type as callers with these scopes see it: the one place that decides who sees private fields."""
        return self.whole if self.whole.private_scope in scopes else self.masked

    @cached_property
    def whole(self) -> View:
        """The type as it is, for whoever may see all of it, such as whoever has the database."""
        return View(self, is_masked=False)

    @cached_property
    def masked(self) -> View:
        """The type with its private fields masked; where it has none, as it is."""
        has_private = any(field.mask is not None for field in self.fields.values())
        return View(self, is_masked=True) if has_private else self.whole

    def has_field(self, path: str) -> bool:
        """Whether a document may have something at this dotted path: a field, or a member of free JSON."""
        return path in self.fields or any(
            (field := self.fields.get(parent)) is not None and field.kind is Kind.JSON for parent in parents_of(path)
        )

    @property
    def search(self) -> tuple[str, ...]:
        """Paths that `q` looks in."""
        return tuple(self.document_class.Settings.search)

    @property
    def indexes(self) -> tuple[IndexModel, ...]:
        """The indexes that its queries and its uniqueness need."""
        return tuple(self.document_class.Settings.indexes)

    @property
    def example(self) -> dict[str, Any]:
        """A body that POST takes."""
        example: dict[str, Any] = examples_of(self.document_class)[0]
        return example


def examples_of(document_class: type[Record]) -> list[Any]:
    """The examples in a class's `model_config`."""
    extra = document_class.model_config.get("json_schema_extra")
    examples = extra.get("examples") if isinstance(extra, dict) else None
    return examples if isinstance(examples, list) else []


def registered_types() -> tuple[DocumentType, ...]:
    """Every type in `service/documents/`, by name. Raises StartupError with all the faults of all types."""
    for module in pkgutil.iter_modules(service.documents.__path__, f"{service.documents.__name__}."):
        importlib.import_module(module.name)
    prefix = f"{service.documents.__name__}."
    return check_types(cls for cls in _concrete_subclasses(Record) if cls.__module__.startswith(prefix))


def check_types(document_classes: Iterable[type[Record]]) -> tuple[DocumentType, ...]:
    """The classes as types, by name. Raises StartupError with all the faults of all of them."""
    classes = sorted(document_classes, key=lambda cls: cls.__name__)
    faults = [f"{cls.__name__}: {fault}" for cls in classes for fault in type_faults(cls)]
    names: dict[str, str] = {}
    for cls in classes:
        name = getattr(cls.Settings, "name", None)
        if name in names:
            faults.append(f"{cls.__name__}: Settings.name {name!r} is taken by {names[name]}")
        elif name is not None:
            names[name] = cls.__name__
    if faults:
        raise StartupError("these document types cannot be served:\n  " + "\n  ".join(faults))
    return tuple(sorted((DocumentType(cls) for cls in classes), key=lambda document_type: document_type.name))


def _concrete_subclasses(parent: type[Record]) -> Iterator[type[Record]]:
    for cls in parent.__subclasses__():
        if not cls.__subclasses__() or hasattr(cls.Settings, "name"):
            yield cls
        yield from _concrete_subclasses(cls)


def type_faults(cls: type[Record]) -> list[str]:
    """All that keeps one class from being served; each fault one line, without the class's name."""
    if not issubclass(cls.Settings, Record.Settings):
        return ["its Settings must inherit: class Settings(Record.Settings)"]
    fields, faults = describe(cls)
    faults += [*_name_faults(cls), *_member_faults(cls), *_example_faults(cls)]
    for model in dict.fromkeys(field.model for field in fields.values() if field.model is not None):
        faults += _member_faults(model)
    faults += _mask_faults(fields)
    return [*faults, *_search_faults(cls, fields), *_index_faults(cls, fields)]


def _name_faults(cls: type[Record]) -> Iterator[str]:
    name = getattr(cls.Settings, "name", None)
    if name is None:
        yield "Settings.name is missing"
    elif not NAME.fullmatch(name):
        yield f"Settings.name {name!r} must be lower-case letters, digits, - and _, and start with a letter"
    elif name in RESERVED_NAMES:
        yield f"Settings.name {name!r} is taken by a route of the service"


def _member_faults(model: type[BaseModel]) -> Iterator[str]:
    for name, info in model.model_fields.items():
        if info.exclude or name in BEANIE_FIELDS.union(SERVER_FIELDS):
            continue
        if "__" in name:
            yield f"field {name!r}: __ divides a field from an operator in a query"
        if info.alias not in {None, name}:
            yield f"field {name!r}: fields are stored and shown under their own names, so no alias"
    for name in model.__private_attributes__.keys() - Record.__private_attributes__.keys():
        yield f"field {name!r}: a leading _ makes it private, so it would not be stored"


def _example_faults(cls: type[Record]) -> Iterator[str]:
    if not examples_of(cls):
        yield 'no example: set model_config = {"json_schema_extra": {"examples": [{…}]}}'


def _mask_faults(fields: Mapping[str, Field]) -> Iterator[str]:
    for path, field in fields.items():
        if field.mask is not None and path in SERVER_FIELDS:
            yield f"field {path!r}: the server's own fields are never private"
        elif field.mask is not None and _is_in_set(fields, path):
            yield f"field {path!r}: of a set of objects, all is private or nothing"
        elif field.mask is not None:
            yield from (f"field {path!r}: its mask {fault}" for fault in mask_faults(field.mask))


def _is_in_set(fields: Mapping[str, Field], path: str) -> bool:
    """Whether it is private by itself in a set, where what comes twice would tell its values."""
    above = [fields[parent] for parent in parents_of(path)]
    return any(field.is_set for field in above) and all(field.mask is None for field in above)


def _search_faults(cls: type[Record], fields: Mapping[str, Field]) -> Iterator[str]:
    for path in cls.Settings.search:
        field = fields.get(path)
        if field is None:
            yield f"search: there is no field {path!r}"
        elif field.kind is not Kind.TEXT:
            yield f"search: {path!r} is no text"
        elif field.max_length is None or field.max_length > MAX_SEARCH_LENGTH:
            yield f"search: {path!r} needs a max_length of at most {MAX_SEARCH_LENGTH}"


def _index_faults(cls: type[Record], fields: Mapping[str, Field]) -> Iterator[str]:
    for model in cls.Settings.indexes:
        paths = [path for path in model.document["key"] if path != "_id"]
        yield from (f"indexes: there is no field {path!r}" for path in paths if path not in fields)
        arrays = {
            next(array for array in fields.values() if array.is_array and f"{path}.".startswith(f"{array.path}.")).path
            for path in paths
            if path in fields and fields[path].is_repeated
        }
        if len(arrays) > 1:
            yield f"indexes: MongoDB cannot index {' and '.join(sorted(arrays))} together, as both are arrays"
