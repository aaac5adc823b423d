"""The query parameters that lists and exports take, as OpenAPI shows them."""

from typing import Any

from service.store.query import COUNT_MODES, DEFAULT_LIMIT, MAX_LIMIT, MAX_SKIP, MAX_SORT_FIELDS
from service.store.regex import MAX_PATTERN_LENGTH
from service.transfer.formats import DELIMITERS, FORMATS


def _parameter(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": {"type": "string"} | schema}


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
    {
        "name": "filter",
        "in": "query",
        "description": "Any field by its dotted path, and the value that it must have: `profile.addresses.city=北京`.",
        "schema": {"type": "object", "additionalProperties": {"type": "string"}},
        "style": "form",
        "explode": True,
    },
]

LIST_PARAMETERS = [
    *SELECTION_PARAMETERS,
    _parameter("limit", "Documents on a page.", type="integer", minimum=1, maximum=MAX_LIMIT, default=DEFAULT_LIMIT),
    _parameter("skip", "Documents before the page.", type="integer", minimum=0, maximum=MAX_SKIP, default=0),
    _parameter(
        "count", "`capped` counts to 10,000, `exact` to the end, `none` not.", enum=list(COUNT_MODES), default="capped"
    ),
]

EXPORT_PARAMETERS = [
    {
        "name": "format_name",
        "in": "path",
        "required": True,
        "description": "The kind of file.",
        "schema": {"enum": list(FORMATS)},
    },
    *SELECTION_PARAMETERS,
    _parameter("explode", "An array that gets a row for each of its elements: `profile.addresses`."),
    _parameter("delimiter", "CSV: what stands between cells.", enum=list(DELIMITERS), default="comma"),
    _parameter("bom", "CSV: start with a byte order mark, for Excel.", type="boolean", default=False),
    _parameter(
        "raw", "CSV: leave texts alone that a spreadsheet would run as formulas.", type="boolean", default=False
    ),
]
