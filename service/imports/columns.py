"""The columns of a file in plain words, for whoever fills it in."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from service.documents.fields import Field, Kind, parents_of
from service.documents.limits import Limits, limits_of
from service.documents.registry import DocumentType

KINDS: Mapping[Kind, tuple[str, str]] = {
    Kind.TEXT: ("text", "texts"),
    Kind.INTEGER: ("whole number", "whole numbers"),
    Kind.FLOAT: ("number", "numbers"),
    Kind.DECIMAL: ("decimal number, like 19.99", "decimal numbers as texts"),
    Kind.BOOLEAN: ("true or false", "true and false"),
    Kind.DATE: ("date, like 2026-11-22", "dates, like 2026-11-22"),
    Kind.DATETIME: ("time, like 2026-11-22T09:30:00.123Z", "times, like 2026-11-22T09:30:00.123Z"),
    Kind.OBJECT_ID: ("id, 24 hexadecimal digits", "ids, 24 hexadecimal digits each"),
    Kind.OBJECT: ("JSON object", "objects"),
    Kind.JSON: ("JSON", "any JSON"),
}
"""What a value of each kind is called, and several of them."""

SPANS = (
    ("minimum", "maximum", ""),
    ("minLength", "maxLength", "character"),
    ("minItems", "maxItems", "element"),
    ("", "maxDigits", "digit"),
    ("", "decimalPlaces", "decimal place"),
)
"""The limits that are the least and the most of something, and of what."""

OTHER_LIMITS = {
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "pattern": "matches {}",
}


def explained(document_type: DocumentType, columns: Sequence[Field]) -> Iterator[tuple[str, str, str, str, str]]:
    """Of each column: its path, what is in it, whether it is required, what is allowed, and what it means."""
    limits = limits_of(document_type.document_class)
    for field in columns:
        allowed = "; ".join([*_allowed(field, limits[field.path]), *_uniqueness(document_type, field)])
        yield (
            field.path,
            _kind(field, document_type.fields),
            _required(field, document_type.fields),
            allowed,
            field.description or "",
        )


def _kind(field: Field, fields: Mapping[str, Field]) -> str:
    one, several = ("email address", "email addresses") if field.is_email else KINDS[field.kind]
    of_others = f", of {field.references}" if field.references else ""
    if not field.is_array:
        return f"{one}{of_others}"
    inside = f" with {', '.join(_members(field, fields))}" if field.kind is Kind.OBJECT else ""
    once = ", each only once" if field.is_set else ""
    return f"JSON array of {several}{inside}{of_others}{once}"


def _members(field: Field, fields: Mapping[str, Field]) -> list[str]:
    prefix = f"{field.path}."
    return [name for path in fields if path.startswith(prefix) and "." not in (name := path.removeprefix(prefix))]


def _required(field: Field, fields: Mapping[str, Field]) -> str:
    """A field is required where its object is given, and so only as far as that is."""
    if not field.is_required:
        return "no"
    optional = next((path for path in reversed(parents_of(field.path)) if not fields[path].is_required), None)
    return f"if {optional} is given" if optional else "yes"


def _allowed(field: Field, limits: Limits) -> list[str]:
    if field.choices:
        return [", ".join(map(str, field.choices))]
    if field.kind is Kind.OBJECT_ID:
        return []
    each = [f"each {words}" for words in _in_words(limits["items"])] if field.is_array else []
    return [*_in_words(limits), *each]


def _in_words(limits: Limits) -> Iterator[str]:
    for least, most, unit in SPANS:
        if least in limits or most in limits:
            yield _span(limits.get(least), limits.get(most), unit)
    for name, words in OTHER_LIMITS.items():
        if name in limits:
            yield words.format(_plain(limits[name]))


def _span(least: Any, most: Any, unit: str) -> str:
    last = least if most is None else most
    units = f" {unit}{'' if last == 1 else 's'}" if unit else ""
    if least is None or most is None:
        return f"at {'most' if least is None else 'least'} {_plain(last)}{units}"
    return f"exactly {_plain(last)}{units}" if least == most else f"from {_plain(least)} to {_plain(most)}{units}"


def _plain(value: Any) -> str:
    return str(value).removesuffix(".0")


def _uniqueness(document_type: DocumentType, field: Field) -> Iterator[str]:
    for index in document_type.indexes:
        paths = list(index.document["key"])
        if index.document.get("unique") and field.path in paths:
            others = " and ".join(path for path in paths if path != field.path)
            yield f"unique together with {others}" if others else "unique"
