"""The query parameters that lists and exports take, as OpenAPI shows them."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import Request

from service.documents.fields import Kind
from service.documents.registry import DocumentType
from service.documents.values import OBJECT_ID
from service.errors import Fault, InvalidQueryError
from service.store.operators import operators_of
from service.store.query import COUNT_MODES, DEFAULT_LIMIT, MAX_LIMIT, MAX_SKIP, MAX_SORT_FIELDS
from service.store.regex import MAX_PATTERN_LENGTH
from service.transfer.formats import DELIMITERS

BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")


def read_parameters(request: Request) -> list[tuple[str, str]]:
    """The query string's names and values, in UTF-8, escaped or not. Raises InvalidQueryError where it is none."""
    pairs: list[tuple[str, str]] = []
    faults: list[Fault] = []
    for part in request.scope["query_string"].split(b"&"):
        name, _, value = part.decode(errors="surrogateescape").replace("+", " ").partition("=")
        try:
            pair = tuple(unquote_to_bytes(text.encode(errors="surrogateescape")).decode() for text in (name, value))
        except UnicodeDecodeError:
            pair = None
        if pair is None or BAD_ESCAPE.search(name + value):
            shown = name.encode(errors="replace").decode()
            faults.append(
                Fault("invalid_encoding", "UTF-8, with %XX where it is escaped, is expected", parameter=shown)
            )
        elif part:
            pairs.append((pair[0], pair[1]))
    if faults:
        raise InvalidQueryError(faults)
    return pairs


def _parameter(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": {"type": "string"} | schema}


def header_parameter(name: str, description: str) -> dict[str, Any]:
    """A header that a route reads, as OpenAPI shows it."""
    return _parameter(name, description) | {"in": "header"}


SELECTION_PARAMETERS = [
    _parameter(
        "q",
        "Text to look for in the type's search fields, whatever the case.",
        minLength=1,
        maxLength=MAX_PATTERN_LENGTH,
    ),
    _parameter(
        "q_mode", "Whether `q` is the text itself or a regular expression.", enum=["text", "regex"], default="text"
    ),
    _parameter("sort", f"Up to {MAX_SORT_FIELDS} fields, - for descending: `-created_at,name`."),
    _parameter("fields", "The fields that are wanted, by their dotted paths: `name,profile.addresses.city`."),
]

PAGE_PARAMETERS = [
    _parameter("limit", "Documents on a page.", type="integer", minimum=1, maximum=MAX_LIMIT, default=DEFAULT_LIMIT),
    _parameter("cursor", "Where to go on: `next_cursor` of the page before, with everything else the same."),
    _parameter(
        "skip",
        "Documents before the page, instead of a cursor.",
        type="integer",
        minimum=0,
        maximum=MAX_SKIP,
        default=0,
    ),
    _parameter(
        "count",
        "`capped` counts to 10,000, `exact` to the end, `estimated` all without a filter.",
        enum=list(COUNT_MODES),
        default="capped",
    ),
]

FILE_PARAMETERS = [
    _parameter("explode", "An array that gets a row for each of its elements: `profile.addresses`."),
    _parameter("delimiter", "CSV: what stands between cells.", enum=list(DELIMITERS), default="comma"),
    _parameter("bom", "CSV: start with a byte order mark, for Excel.", type="boolean", default=False),
    _parameter(
        "raw", "CSV: leave texts alone that a spreadsheet would run as formulas.", type="boolean", default=False
    ),
]

KIND_SCHEMAS: Mapping[Kind, Mapping[str, Any]] = {
    Kind.INTEGER: {"type": "integer"},
    Kind.FLOAT: {"type": "number"},
    Kind.BOOLEAN: {"type": "boolean"},
    Kind.DATE: {"format": "date"},
    Kind.DATETIME: {"format": "date-time"},
    Kind.OBJECT_ID: {"pattern": OBJECT_ID.pattern},
}


def list_parameters(document_type: DocumentType) -> list[dict[str, Any]]:
    """What a type's list takes."""
    return _with_filters(document_type, [*SELECTION_PARAMETERS, *PAGE_PARAMETERS])


def export_parameters(document_type: DocumentType) -> list[dict[str, Any]]:
    """What a type's export takes."""
    return _with_filters(document_type, [*FILE_PARAMETERS, *SELECTION_PARAMETERS])


def _with_filters(document_type: DocumentType, parameters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    taken = {parameter["name"] for parameter in parameters}
    filters = [
        _parameter(
            f"{field.path}__eq" if field.path in taken else field.path,
            "Only documents with this value"
            + (" among others; also " if field.is_repeated else "; also ")
            + ", ".join(f"`{field.path}__{operator}`" for operator in operators_of(field)[1:]),
            **KIND_SCHEMAS.get(field.kind, {}),
            **({"enum": list(field.choices)} if field.choices else {}),
        )
        for field in document_type.fields.values()
        if field.is_scalar
    ]
    return [*parameters, *filters]
