"""What the service should do with everythings, in plain Python: no code of the service, no database.

Documents are JSON as callers see it. What the README promises is said here once more, in the simplest words there are.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from functools import cmp_to_key
from typing import Any

Document = dict[str, Any]
Place = tuple[int, Any]
"""Where a value stands among all values: by its type, and within it."""

NULL, NUMBER, TEXT, ID, BOOLEAN, TIME = range(6)
"""In the order in which MongoDB sorts types."""

SERVER_FIELDS = frozenset({"id", "created_at", "updated_at", "revision"})
DEFAULTS: Mapping[str, Any] = {
    "text": None,
    "email": None,
    "integer": None,
    "float_number": None,
    "decimal_number": None,
    "boolean": False,
    "day": None,
    "moment": None,
    "reference": None,
    "colour": None,
    "level": None,
    "size": "small",
    "texts": [],
    "integers": [],
    "days": [],
    "decimals": [],
    "references": [],
    "colours": [],
    "matrix": [],
    "free": {},
    "limit": 0,
    "branch": None,
    "branches": [],
}
BRANCH_DEFAULTS: Mapping[str, Any] = {"leaf": None, "leaves": [], "days": []}
LEAF_DEFAULTS: Mapping[str, Any] = {"text": "", "number": None, "day": None, "moments": []}

KINDS: Mapping[str, str] = {
    "id": "id",
    "code": "text",
    "left": "integer",
    "right": "integer",
    "text": "text",
    "integer": "integer",
    "float_number": "float",
    "decimal_number": "decimal",
    "boolean": "boolean",
    "day": "time",
    "moment": "time",
    "colour": "text",
    "level": "integer",
    "size": "text",
    "texts": "text",
    "integers": "integer",
    "limit": "integer",
    "branch": "object",
    "branch.label": "text",
    "branch.leaf": "object",
    "branch.leaf.text": "text",
    "branch.leaf.number": "integer",
    "branch.leaf.day": "time",
    "branches": "object",
    "branches.label": "text",
    "created_at": "time",
    "updated_at": "time",
    "revision": "integer",
}
SEARCHED = ("code", "text", "branch.leaf.text", "branches.label")


def place(kind: str, value: Any) -> Place:
    """Where a JSON value of a field of this kind stands; by hand it may be of another type."""
    if value is None:
        return NULL, 0
    if isinstance(value, bool):
        return BOOLEAN, value
    if isinstance(value, int | float):
        return NUMBER, Fraction(value)
    match kind:
        case "decimal":
            return NUMBER, Fraction(value)
        case "time":
            moment = datetime.fromisoformat(value)
            return TIME, moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        case "id":
            return ID, value
    return TEXT, value


def asked_place(kind: str, text: str) -> Place:
    """Likewise, for a value as a query string has it."""
    match kind:
        case "integer":
            return place(kind, int(text))
        case "float":
            return place(kind, float(text))
        case "boolean":
            return place(kind, {"true": True, "false": False}[text])
    return place(kind, text)


def at(value: Any, path: str) -> Any:
    """What lies at a dotted path through no array; None where there is nothing."""
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def all_at(value: Any, path: str) -> list[Any]:
    """All values at a dotted path, through arrays too."""
    if isinstance(value, list):
        return [inner for element in value for inner in all_at(element, path)]
    if not path:
        return [value]
    name, _, rest = path.partition(".")
    return all_at(value[name], rest) if isinstance(value, dict) and name in value else []


COMPARISONS: Mapping[str, Callable[[Place, Place], bool]] = {
    "eq": lambda value, wanted: value == wanted,
    "gt": lambda value, wanted: value[0] == wanted[0] and value[1] > wanted[1],
    "gte": lambda value, wanted: value[0] == wanted[0] and value[1] >= wanted[1],
    "lt": lambda value, wanted: value[0] == wanted[0] and value[1] < wanted[1],
    "lte": lambda value, wanted: value[0] == wanted[0] and value[1] <= wanted[1],
}
TEXT_COMPARISONS: Mapping[str, Callable[[str, str], bool]] = {
    "contains": lambda value, wanted: wanted in value,
    "startswith": lambda value, wanted: value.startswith(wanted),
    "regex": lambda value, wanted: re.search(wanted, value) is not None,
}


@dataclass(frozen=True)
class Condition:
    """`path__operator=text`."""

    path: str
    operator: str
    text: str

    def takes(self, document: Document) -> bool:
        """Whether the document meets it; of an array, one element is enough."""
        if self.operator == "exists":
            return (at(document, self.path) is not None) == (self.text == "true")
        values = all_at(document, self.path)
        if self.operator in TEXT_COMPARISONS:
            compare_texts = TEXT_COMPARISONS[self.operator]
            return any(isinstance(value, str) and compare_texts(value, self.text) for value in values)
        kind = KINDS[self.path]
        places = [place(kind, value) for value in values]
        if self.operator in {"in", "nin"}:
            wanted = [asked_place(kind, text) for text in self.text.split(",")]
            return any(value in wanted for value in places) == (self.operator == "in")
        compare = COMPARISONS["eq" if self.operator == "ne" else self.operator]
        is_met = any(compare(value, asked_place(kind, self.text)) for value in places)
        return is_met != (self.operator == "ne")


@dataclass(frozen=True)
class Query:
    """Which documents, in which order, and which of their fields."""

    conditions: tuple[Condition, ...] = ()
    q: str | None = None
    sort: tuple[str, ...] = ()
    """Paths, with a - for descending."""
    fields: tuple[str, ...] = ()

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """The query string's names and values."""
        others = {"q": self.q, "sort": ",".join(self.sort) or None, "fields": ",".join(self.fields) or None}
        return [
            *((f"{condition.path}__{condition.operator}", condition.text) for condition in self.conditions),
            *((name, text) for name, text in others.items() if text is not None),
        ]

    @property
    def is_filtered(self) -> bool:
        """Whether it can leave out any document."""
        return bool(self.conditions) or self.q is not None

    def takes(self, document: Document) -> bool:
        """Whether the document is one of the list, wherever it stands."""
        if not all(condition.takes(document) for condition in self.conditions):
            return False
        searched = (value for path in SEARCHED for value in all_at(document, path))
        return self.q is None or any(isinstance(text, str) and self.q.lower() in text.lower() for text in searched)

    def keys(self, document: Document) -> list[Place]:
        """What the document is sorted by."""
        return [place(KINDS[path], at(document, path)) for path, _ in self._order]

    def compare(self, left: Sequence[Place], right: Sequence[Place]) -> int:
        """Less than 0 where a document with these keys comes before one with those."""
        for one, other, (_, is_descending) in zip(left, right, self._order, strict=True):
            if one != other:
                return 1 if (one > other) != is_descending else -1
        return 0

    def select(self, documents: Iterable[Document], after: Sequence[Place] | None = None) -> list[Document]:
        """The list, or what of it comes after these keys."""
        chosen = [(self.keys(document), document) for document in documents if self.takes(document)]
        in_order = cmp_to_key(self.compare)
        chosen.sort(key=lambda pair: in_order(pair[0]))
        return [document for keys, document in chosen if after is None or self.compare(keys, after) > 0]

    def show(self, document: Document) -> Document:
        """Of a document what was asked for."""
        return _pick(document, [path.split(".") for path in ("id", *self.fields)]) if self.fields else document

    @property
    def _order(self) -> list[tuple[str, bool]]:
        order = [(path.removeprefix("-"), path.startswith("-")) for path in self.sort]
        if "id" not in dict(order):
            order.append(("id", order[-1][1] if order else False))
        return order


def _pick(value: Any, paths: list[list[str]]) -> Any:
    if isinstance(value, list):
        return [_pick(element, paths) for element in value]
    if not isinstance(value, dict) or [] in paths:
        return value
    inner = {name: [path[1:] for path in paths if path[0] == name] for name in value}
    return {name: _pick(value[name], rest) for name, rest in inner.items() if rest}


# Writes


class Refused(Exception):  # noqa: N818 - the service refuses, nothing is in error
    """What comes in a write's stead: a status, and pointers to what is wrong."""

    def __init__(self, status: int, *pointers: str) -> None:
        super().__init__(status, pointers)
        self.status = status
        self.pointers = set(pointers)


def complete(body: Document) -> Document:
    """A body with all its fields. Raises Refused, with every fault."""
    own = {name: value for name, value in body.items() if name not in SERVER_FIELDS}
    document: Document = deepcopy({**DEFAULTS, **own})
    faults = [f"/{name}" for name in ("code", "left", "right") if name not in document]
    faults += [f"/{name}" for name, value in document.items() if not _is_valid(name, value)]
    for pointer, branch in _branches(document):
        faults += [] if "label" in branch else [f"{pointer}/label"]
        branch |= {name: deepcopy(value) for name, value in BRANCH_DEFAULTS.items() if name not in branch}
        if branch["leaf"] is not None:
            branch["leaf"] = deepcopy(dict(LEAF_DEFAULTS)) | branch["leaf"]
    if not faults and document["left"] == document["right"]:
        faults = [""]
    if faults:
        raise Refused(422, *faults)
    return document


def _branches(document: Document) -> list[tuple[str, Document]]:
    single = [("/branch", document["branch"])] if document["branch"] is not None else []
    return single + [(f"/branches/{position}", branch) for position, branch in enumerate(document["branches"])]


def _is_valid(name: str, value: Any) -> bool:
    if value is None:
        return name in DEFAULTS and DEFAULTS[name] is None
    match name:
        case "colour":
            return value in ("red", "blue")
        case "size":
            return value in ("small", "large")
        case "boolean":
            return isinstance(value, bool)
        case "integer" | "left" | "right" | "limit" | "level":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float_number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "code" | "text" | "decimal_number" | "day" | "moment":
            return isinstance(value, str)
    return isinstance(value, dict if DEFAULTS[name] is None else type(DEFAULTS[name]))


def merge(target: Any, patch: Any) -> Any:
    """RFC 7396, in its own words."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is not None:
            result[name] = merge(result.get(name), value)
        elif name in result:
            del result[name]
    return result


def operate(document: Document, operations: Sequence[Mapping[str, Any]]) -> Document:
    """RFC 6902, as far as it is tried: whole fields, and the ends of arrays. Raises Refused."""
    result = deepcopy(document)
    for position, operation in enumerate(operations):
        _, name, *rest = operation["path"].split("/")
        source = operation.get("from", operation["path"]).split("/")[1]
        is_there = source in result if operation["op"] != "add" or rest else True
        if not is_there or (rest and not isinstance(result[name], list)) or (rest == ["0"] and not result[name]):
            raise Refused(422, f"/{position}")
        match operation["op"], rest:
            case "test", _:
                if not _is_same(result[name], operation["value"]):
                    raise Refused(409)
            case "add", ["-"]:
                result[name].append(operation["value"])
            case (("add" | "replace"), _):
                result[name] = deepcopy(operation["value"])
            case "remove", ["0"]:
                del result[name][0]
            case "remove", _:
                del result[name]
            case "copy", _:
                result[name] = deepcopy(result[source])
    return result


def _is_same(left: Any, right: Any) -> bool:
    """As JSON, in which 1 is 1.0 but not true."""
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def duplicates(document: Document, others: Iterable[Document]) -> list[set[str]]:
    """Pointers to what each unique index would refuse."""
    indexes = [("code",), ("left", "right")]
    others = list(others)
    return [
        {f"/{name}" for name in names}
        for names in indexes
        if any(all(other[name] == document[name] for name in names) for other in others)
    ]
