"""The query parameters that lists and exports take, as OpenAPI shows them."""

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import Request

from service.documents.fields import Kind
from service.documents.registry import DocumentType
from service.documents.values import MAX_INTEGER, MIN_INTEGER, NUMBER, OBJECT_ID, TIME
from service.errors import Fault, InvalidQueryError
from service.imports.query import MODES, ON_ERROR, key_fields
from service.store.operators import operators_of
from service.store.query import COUNT_MODES, DEFAULT_LIMIT, MAX_LIMIT, MAX_SKIP, MAX_SORT_FIELDS, PARAMETERS
from service.store.regex import MAX_PATTERN_LENGTH
from service.transfer.encoding import DELIMITERS

MAX_QUERY_BYTES = 65_536
"""More than a thousand ids, escaped."""

BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
ENTITY_TAGS = r'^(\*|(W/)?"[!#-~]*"(, *(W/)?"[!#-~]*")*)$'
"""RFC 9110 §8.8.3 and §13.1.1, as clients write it."""


def read_parameters(request: Request) -> list[tuple[str, str]]:
    """The names and values of a request's query string. Raises InvalidQueryError."""
    return parse_parameters(request.scope["query_string"])


def parse_parameters(query: bytes) -> list[tuple[str, str]]:
    """The query string's names and values, in UTF-8, escaped or not. Raises InvalidQueryError where it is none."""
    if len(query) > MAX_QUERY_BYTES:
        longest = max(query.split(b"&"), key=len).partition(b"=")[0].decode(errors="replace")
        message = f"a query string has at most {MAX_QUERY_BYTES} bytes, and this is the longest of its parts"
        raise InvalidQueryError([Fault("query_too_long", message, parameter=longest)])
    pairs: list[tuple[str, str]] = []
    faults: list[Fault] = []
    for part in query.split(b"&"):
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


def _header_parameter(name: str, description: str) -> dict[str, Any]:
    """A header of entity tags that a route reads, as OpenAPI shows it."""
    return _parameter(name, description, pattern=ENTITY_TAGS) | {"in": "header"}


IF_MATCH = _header_parameter("If-Match", 'Write only if it has this entity tag: `"3"`.')
IF_NONE_MATCH = _header_parameter("If-None-Match", "Answer 304 if it still has this entity tag.")

IDEMPOTENCY_KEY = _parameter(
    "Idempotency-Key",
    "The same request with the same key, within a day, is answered and not done again.",
    minLength=1,
    maxLength=255,
    pattern="^[!-~]+$",
) | {"in": "header"}

SEARCH_PARAMETERS = [
    _parameter(
        "q",
        "Text to look for in the type's search fields, whatever the case.",
        minLength=1,
        maxLength=MAX_PATTERN_LENGTH,
    ),
    _parameter(
        "q_mode", "Whether `q` is the text itself or a regular expression.", enum=["text", "regex"], default="text"
    ),
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
    _parameter(
        "snapshot", "Read all documents as they are at one moment, for up to 5 minutes.", type="boolean", default=False
    ),
    _parameter("delimiter", "CSV: what stands between cells.", enum=list(DELIMITERS), default="comma"),
    _parameter("bom", "CSV: start with a byte order mark, for Excel.", type="boolean", default=False),
    _parameter(
        "raw", "CSV: leave texts alone that a spreadsheet would run as formulas.", type="boolean", default=False
    ),
]

KIND_SCHEMAS: Mapping[Kind, Mapping[str, Any]] = {
    Kind.INTEGER: {"type": "integer", "minimum": MIN_INTEGER, "maximum": MAX_INTEGER},
    Kind.FLOAT: {"type": "number"},
    Kind.DECIMAL: {"pattern": f"^{NUMBER.pattern}$"},
    Kind.BOOLEAN: {"type": "boolean"},
    Kind.DATE: {"format": "date"},
    Kind.DATETIME: {"format": "date-time", "pattern": f"^{TIME.pattern}$"},
    Kind.OBJECT_ID: {"pattern": f"^{OBJECT_ID.pattern}$"},
}


def list_parameters(document_type: DocumentType) -> list[dict[str, Any]]:
    """What a type's list takes."""
    return [*_selection_parameters(document_type), *PAGE_PARAMETERS, *_filter_parameters(document_type)]


def export_parameters(document_type: DocumentType) -> list[dict[str, Any]]:
    """What a type's export takes."""
    return [
        *_explode_parameter(document_type, "An array that gets a row for each of its elements: `profile.addresses`."),
        *FILE_PARAMETERS,
        *_selection_parameters(document_type),
        *_filter_parameters(document_type),
    ]


def import_parameters(document_type: DocumentType) -> list[dict[str, Any]]:
    """What a type's import takes."""
    keys = key_fields(document_type)
    return [
        _parameter("mode", "`create`: all are new; `upsert`: those that are there are changed.", enum=list(MODES)),
        _parameter(
            "key",
            "`upsert`: the field by which a row finds its document; by default `id`."
            + _scope_note(document_type, keys),
            enum=keys,
        ),
        _parameter(
            "on_error",
            "`abort`: nothing is written unless every row is good; `skip`: the good ones are.",
            enum=list(ON_ERROR),
            default="abort",
        ),
        _parameter("dry_run", "Only report what would become of it.", type="boolean", default=False),
        *_explode_parameter(document_type, "An array that has a row for each of its elements in the file."),
        _parameter("sheet", "XLSX: the name of the sheet; by default the first."),
        _parameter("delimiter", "CSV: what stands between cells; by default found out.", enum=list(DELIMITERS)),
        _parameter(
            "raw",
            "CSV: leave the apostrophe that stands before what looks like a formula.",
            type="boolean",
            default=False,
        ),
        IDEMPOTENCY_KEY,
    ]


def _explode_parameter(document_type: DocumentType, description: str) -> list[dict[str, Any]]:
    fields = document_type.fields
    arrays = [path for path, field in fields.items() if field.is_array and not _is_inside_an_array(document_type, path)]
    return [_parameter("explode", description + _scope_note(document_type, arrays), enum=arrays)] if arrays else []


def _scope_note(document_type: DocumentType, paths: Iterable[str]) -> str:
    """Which of these fields nothing may depend on without a scope."""
    view = document_type.masked
    hidden = [f"`{path}`" for path in paths if view.hides(path)]
    return f" {', '.join(hidden)} take{'' if hidden[1:] else 's'} {view.private_scope}." if hidden else ""


def _is_inside_an_array(document_type: DocumentType, path: str) -> bool:
    parent = path.rpartition(".")[0]
    return bool(parent) and document_type.fields[parent].is_repeated


def _selection_parameters(document_type: DocumentType) -> list[dict[str, Any]]:
    fields = document_type.fields
    sortable = [path for path, field in fields.items() if field.is_sortable]
    return [
        *(SEARCH_PARAMETERS if document_type.search else ()),
        _paths(
            "sort",
            f"Up to {MAX_SORT_FIELDS} fields, - for descending: `-created_at,name`."
            + _scope_note(document_type, sortable),
            [*sortable, *(f"-{path}" for path in sortable)],
            maxItems=MAX_SORT_FIELDS,
        ),
        _paths(
            "fields", "The fields that are wanted, by their dotted paths: `name,profile.addresses.city`.", list(fields)
        ),
    ]


def _paths(name: str, description: str, paths: list[str], **schema: Any) -> dict[str, Any]:
    """Some of these, with commas between."""
    items = {"type": "string", "enum": paths}
    listed = _parameter(name, description, type="array", items=items, minItems=1, uniqueItems=True, **schema)
    return listed | {"style": "form", "explode": False}


def _filter_parameters(document_type: DocumentType) -> list[dict[str, Any]]:
    view = document_type.masked
    return [
        _parameter(
            f"{field.path}__eq" if field.path in PARAMETERS else field.path,
            "Only documents with this value"
            + (" among others; also " if field.is_repeated else "; also ")
            + ", ".join(f"`{field.path}__{operator}`" for operator in operators_of(field)[1:])
            + (f"; takes {view.private_scope}" if view.hides(field.path) else ""),
            **KIND_SCHEMAS.get(field.kind, {}),
            **({"enum": list(field.choices)} if field.choices else {}),
        )
        for field in document_type.fields.values()
        if field.is_scalar
    ]
