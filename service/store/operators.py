"""What `field__operator=value` means to MongoDB; pure.

Every condition is built here from typed values: nothing that a caller sends is taken as an operator.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from service.documents.fields import Field, Kind
from service.documents.registry import MAX_SEARCH_LENGTH
from service.documents.values import parse_text
from service.store.regex import MAX_PATTERN_LENGTH, check_pattern, literal_pattern

MAX_VALUES = 1000
"""In one list of values."""

SCALARS = frozenset(Kind) - {Kind.OBJECT, Kind.JSON}
ORDERED = SCALARS - {Kind.BOOLEAN}

NOT_NULL = [
    *("minKey", "int", "long", "double", "decimal", "string", "symbol", "object", "array", "binData", "objectId"),
    *("bool", "date", "timestamp", "regex", "javascript", "javascriptWithScope", "maxKey"),
]
"""All types but null and undefined: where there may be several values, one that is there is enough."""

Condition = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Operator:
    """One comparison: the kinds of fields that take it, and what it makes of a value's text."""

    kinds: frozenset[Kind]
    condition: Callable[[Field, str], Condition]
    """Raises ValueError with a message for the caller."""


def _compare(operator: str) -> Callable[[Field, str], Condition]:
    return lambda field, text: {operator: parse_text(field, text)}


def _is_one_of(operator: str) -> Callable[[Field, str], Condition]:
    def condition(field: Field, text: str) -> Condition:
        texts = text.split(",")
        if len(texts) > MAX_VALUES:
            raise ValueError(f"at most {MAX_VALUES} values are taken")
        return {operator: [parse_text(field, each) for each in texts]}

    return condition


def _literal(prefix: str) -> Callable[[Field, str], Condition]:
    def condition(field: Field, text: str) -> Condition:
        if not 0 < len(text) <= MAX_PATTERN_LENGTH:
            raise ValueError(f"1 to {MAX_PATTERN_LENGTH} characters are expected")
        return {"$regex": prefix + literal_pattern(text.lower() if field.is_lower_case else text)}

    return condition


def _regex(field: Field, text: str) -> Condition:
    if field.max_length is None or field.max_length > MAX_SEARCH_LENGTH:
        raise ValueError(f"only a field of at most {MAX_SEARCH_LENGTH} characters can be searched by a pattern")
    if not 0 < len(text) <= MAX_PATTERN_LENGTH:
        raise ValueError(f"1 to {MAX_PATTERN_LENGTH} characters are expected")
    check_pattern(text, field.max_length)
    return {"$regex": text}


def _exists(field: Field, text: str) -> Condition:
    if text not in {"true", "false"}:
        raise ValueError("true or false is expected")
    if field.is_repeated:
        return {"$type": NOT_NULL} if text == "true" else {"$not": {"$type": NOT_NULL}}
    return {"$ne" if text == "true" else "$eq": None}  # null is what a missing field equals


OPERATORS: Mapping[str, Operator] = {
    "eq": Operator(SCALARS, _compare("$eq")),
    "ne": Operator(SCALARS, _compare("$ne")),
    "gt": Operator(ORDERED, _compare("$gt")),
    "gte": Operator(ORDERED, _compare("$gte")),
    "lt": Operator(ORDERED, _compare("$lt")),
    "lte": Operator(ORDERED, _compare("$lte")),
    "in": Operator(SCALARS, _is_one_of("$in")),
    "nin": Operator(SCALARS, _is_one_of("$nin")),
    "contains": Operator(frozenset({Kind.TEXT}), _literal("")),
    "startswith": Operator(frozenset({Kind.TEXT}), _literal("^")),
    "regex": Operator(frozenset({Kind.TEXT}), _regex),
    "exists": Operator(frozenset(Kind), _exists),
}


def operators_of(field: Field) -> list[str]:
    """The operators that a field takes."""
    return [name for name, operator in OPERATORS.items() if field.kind in operator.kinds]
