"""A query string, checked against a type's fields and turned into a MongoDB query; pure.

The query is built here, operator by operator: nothing that a caller sends is ever taken as an operator.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from service.documents.fields import Field, parents_of
from service.documents.views import View
from service.errors import Fault, InvalidQueryError, PrivateFieldError
from service.store.operators import OPERATORS, operators_of
from service.store.regex import MAX_PATTERN_LENGTH, RefusedPatternError, check_pattern, literal_pattern

MAX_SORT_FIELDS = 3
MAX_LIMIT = 1000
DEFAULT_LIMIT = 50
MAX_SKIP = 10_000

CountMode = Literal["capped", "exact", "estimated", "none"]
COUNT_MODES: tuple[CountMode, ...] = ("capped", "exact", "estimated", "none")
Choice = TypeVar("Choice", bound=str)
SortKey = tuple[str, Literal[1, -1]]

PARAMETERS = frozenset(
    {
        *("q", "q_mode", "sort", "fields"),
        *("limit", "skip", "count", "cursor"),  # a list's
        *("explode", "delimiter", "bom", "raw", "snapshot"),  # a file's
    }
)
"""Names that are never a filter, whatever the route: a field of such a name is written `limit__eq`."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which documents, in which order, and which of their fields."""

    filter: Mapping[str, Any]
    sort: tuple[SortKey, ...]
    """Names stored fields, so `_id`; ends in a unique one."""
    fields: tuple[str, ...]
    """Dotted paths that were asked for; empty: all."""
    patterns: tuple[str, ...] = ()
    """The parameters that hold regular expressions, which MongoDB may still refuse."""


@dataclass(frozen=True, slots=True)
class ListQuery:
    """One page of a list."""

    selection: Selection
    limit: int
    skip: int
    cursor: str | None
    """Where it goes on; `skip` is 0 then."""
    count: CountMode


class QueryString:
    """One request's parameters. Each is read once; `finish` refuses the rest, with all faults together."""

    def __init__(self, view: View, parameters: Sequence[tuple[str, str]]) -> None:
        self._view = view
        self._parameters = list(parameters)
        self._faults: list[Fault] = []
        self._patterns: list[str] = []

    def text(self, name: str) -> str | None:
        """The value of a parameter that comes at most once."""
        values = [value for key, value in self._parameters if key == name]
        self._parameters = [(key, value) for key, value in self._parameters if key != name]
        if len(values) > 1:
            self.refuse(name, "repeated_parameter", "this parameter comes at most once")
        return values[0] if values else None

    def integer(self, name: str, least: int, most: int, default: int) -> int:
        """A number within its bounds."""
        text = self.text(name)
        if text is None:
            return default
        if text.isascii() and text.isdigit() and len(text) <= len(str(most)) and least <= int(text) <= most:
            return int(text)
        self.refuse(name, "invalid_value", f"an integer from {least} to {most} is expected")
        return default

    def choice(self, name: str, choices: Iterable[Choice], default: Choice) -> Choice:
        """One of some words."""
        text = self.text(name)
        if text is None:
            return default
        for choice in choices:
            if text == choice:
                return choice
        self.refuse(name, "invalid_value", f"one of {', '.join(choices)} is expected")
        return default

    def boolean(self, name: str) -> bool:
        """`true` or `false`, which it is by default."""
        return self.choice(name, ("false", "true"), "false") == "true"

    def field(self, parameter: str, path: str) -> Field | None:
        """The field of this path as it is seen; None, and a fault, where there is none."""
        field = self._view.fields.get(path)
        if field is None and not self.is_hidden(parameter, path):
            self.refuse(parameter, "unknown_field", f"there is no field {path!r}")
        return field

    def is_hidden(self, parameter: str, path: str) -> bool:
        """Whether nothing may depend on this field, which is a fault then."""
        is_hidden = self._view.hides(path)
        if is_hidden:
            self.refuse(parameter, PrivateFieldError.code, f"{path!r} is private: it takes {self._view.private_scope}")
        return is_hidden

    def array(self, name: str) -> str | None:
        """The path of an array that is not inside of another."""
        path = self.text(name)
        if path is None or self.is_hidden(name, path) or self.field(name, path) is None:
            return None
        fields = self._view.fields
        if not fields[path].is_array or any(fields[parent].is_array for parent in parents_of(path)):
            self.refuse(name, "not_an_array", f"{path!r} is no array, or one inside of another")
        return path

    def refuse(self, parameter: str, code: str, message: str) -> None:
        """Note a fault."""
        self._faults.append(Fault(code, message, parameter=parameter))

    def selection(self) -> Selection:
        """Filters, search, sort and fields; what is no other parameter is a filter."""
        sort = self._sort()
        fields = self._fields()
        clauses = [*self._search(), *self._filters()]
        return Selection({"$and": clauses} if clauses else {}, sort, fields, tuple(self._patterns))

    def refuse_others(self) -> None:
        """Note a fault for each parameter that nobody has read."""
        for name in dict.fromkeys(name for name, _ in self._parameters):
            self.refuse(name, "unknown_parameter", f"there is no parameter {name!r}")

    def finish(self) -> None:
        """Raise InvalidQueryError if there was any fault; PrivateFieldError if it was to ask for what is hidden."""
        is_forbidden = any(fault.code == PrivateFieldError.code for fault in self._faults)
        if self._faults:
            raise (PrivateFieldError if is_forbidden else InvalidQueryError)(self._faults)

    def _sort(self) -> tuple[SortKey, ...]:
        text = self.text("sort")
        keys: dict[str, Literal[1, -1]] = {}
        for name in text.split(",") if text is not None else ():
            path = name.removeprefix("-")
            field = None if self.is_hidden("sort", path) else self.field("sort", path)
            if field is None:
                continue
            if not field.is_sortable:
                self.refuse("sort", "not_sortable", f"{path!r} is no single value, so nothing can be sorted by it")
            if path in keys:
                self.refuse("sort", "repeated_field", f"{path!r} comes twice")
            keys[path] = -1 if name.startswith("-") else 1
        if len(keys) > MAX_SORT_FIELDS:
            self.refuse("sort", "too_many_fields", f"at most {MAX_SORT_FIELDS} fields can be sorted by")
        if not keys.keys() & self._unique_paths():
            # In the direction of the key before it, so that one index, read forwards or backwards, has the whole order.
            keys.setdefault("id", next(reversed(keys.values()), 1))
        return tuple((stored_path(path), direction) for path, direction in keys.items())

    def _unique_paths(self) -> set[str]:
        """Fields of which no two documents have the same value, so that nothing is left to break ties by."""
        keys = [
            list(index.document["key"]) for index in self._view.document_type.indexes if index.document.get("unique")
        ]
        return {"id", *(paths[0] for paths in keys if len(paths) == 1)}

    def _fields(self) -> tuple[str, ...]:
        text = self.text("fields")
        if text is None:
            return ()
        paths = text.split(",")
        for path in paths:
            self.field("fields", path)
        if len(set(paths)) < len(paths):
            self.refuse("fields", "repeated_field", "a field comes twice")
        return tuple(paths)

    def _search(self) -> list[dict[str, Any]]:
        mode = self.choice("q_mode", ("text", "regex"), "text")
        text = self.text("q")
        if text is None:
            return []
        fields = [self._view.fields[path] for path in self._view.search]
        if not fields:
            if not any(self.is_hidden("q", path) for path in self._view.document_type.search):
                self.refuse("q", "no_search", "this type has no fields to search in")
            return []
        if not 0 < len(text) <= MAX_PATTERN_LENGTH:
            self.refuse("q", "invalid_value", f"1 to {MAX_PATTERN_LENGTH} characters are expected")
        elif mode == "regex":
            self._patterns.append("q")
            try:
                check_pattern(text, max(field.max_length or 0 for field in fields))
            except RefusedPatternError as error:
                self.refuse("q", "refused_pattern", str(error))
        pattern = literal_pattern(text) if mode == "text" else text
        return [{"$or": [{field.path: {"$regex": pattern, "$options": "i"}} for field in fields]}]

    def _filters(self) -> list[dict[str, Any]]:
        clauses = []
        for name, text in self._parameters:
            path, divider, name_of_operator = name.partition("__")
            if name in PARAMETERS or not self._view.knows(path):
                self.refuse(name, "unknown_parameter", f"there is no parameter and no field {path!r}")
                continue
            if self.is_hidden(name, path):
                continue
            field = self._view.fields[path]
            operator = OPERATORS.get(name_of_operator if divider else "eq")
            if operator is None:
                self.refuse(name, "unknown_operator", f"one of {', '.join(OPERATORS)} is expected after __")
                continue
            if field.kind not in operator.kinds:
                self.refuse(name, "not_filterable", f"{path!r} takes {', '.join(operators_of(field))}")
                continue
            if name_of_operator == "regex":
                self._patterns.append(name)
            try:
                clauses.append({stored_path(path): operator.condition(field, text)})
            except ValueError as error:
                self.refuse(name, "invalid_value", str(error))
        self._parameters = []
        return clauses


def stored_path(path: str) -> str:
    """The path under which MongoDB knows a field."""
    return "_id" if path == "id" else path


def read_list_query(view: View, parameters: Sequence[tuple[str, str]]) -> ListQuery:
    """The query of a list. Raises InvalidQueryError or PrivateFieldError, with all its faults."""
    query = QueryString(view, parameters)
    limit = query.integer("limit", 1, MAX_LIMIT, DEFAULT_LIMIT)
    skip = query.integer("skip", 0, MAX_SKIP, 0)
    cursor = query.text("cursor")
    if cursor is not None and skip:
        query.refuse("cursor", "cursor_and_skip", "a page is found by cursor or by skip, not by both")
    count = query.choice("count", COUNT_MODES, "capped")
    selection = query.selection()
    query.finish()
    return ListQuery(selection, limit, skip, cursor, count)
