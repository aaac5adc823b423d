"""What values a field takes, beyond its kind, in the words of JSON Schema."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import (
    AfterValidatorFunctionSchema,
    BeforeValidatorFunctionSchema,
    DateSchema,
    DatetimeSchema,
    DecimalSchema,
    WrapValidatorFunctionSchema,
)

HAS_MORE = "hasMore"
"""Our own word: the class asks for more than a schema can say, such as what its own code does."""

DECIMAL_WORDS = {"max_digits": "maxDigits", "decimal_places": "decimalPlaces"}
"""Our own words too, for what JSON Schema can only say by a pattern."""

MOMENT_LIMITS = frozenset({"ge", "gt", "le", "lt", "now_op"})

Limits = Mapping[str, Any]
"""Keywords of JSON Schema, null and references left out, and the two kinds of our own."""


def limits_of(model: type[BaseModel]) -> dict[str, Limits]:
    """The limits of each field by its dotted path; `items` has those of an array's elements."""
    schema = model.model_json_schema(schema_generator=_LimitsSchema)
    return dict(_walk(schema, schema.get("$defs", {}), ""))


class _LimitsSchema(GenerateJsonSchema):
    def function_after_schema(self, schema: AfterValidatorFunctionSchema) -> JsonSchemaValue:
        return super().function_after_schema(schema) | {HAS_MORE: True}

    def function_before_schema(self, schema: BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        return super().function_before_schema(schema) | {HAS_MORE: True}

    def function_wrap_schema(self, schema: WrapValidatorFunctionSchema) -> JsonSchemaValue:
        return super().function_wrap_schema(schema) | {HAS_MORE: True}

    def date_schema(self, schema: DateSchema) -> JsonSchemaValue:
        return super().date_schema(schema) | _more_than_a_moment(schema)

    def datetime_schema(self, schema: DatetimeSchema) -> JsonSchemaValue:
        return super().datetime_schema(schema) | _more_than_a_moment(schema)

    def decimal_schema(self, schema: DecimalSchema) -> JsonSchemaValue:
        limits = {word: schema[key] for key, word in DECIMAL_WORDS.items() if key in schema}  # type: ignore[literal-required]
        return super().decimal_schema(schema) | limits


def _more_than_a_moment(schema: DateSchema | DatetimeSchema) -> dict[str, bool]:
    return {HAS_MORE: True} if MOMENT_LIMITS.intersection(schema) else {}


def _walk(schema: Limits, definitions: Mapping[str, Limits], prefix: str) -> Iterator[tuple[str, Limits]]:
    for name, member in schema.get("properties", {}).items():
        limits = _plain(member, definitions)
        yield f"{prefix}{name}", limits
        yield from _walk(limits.get("items", limits), definitions, f"{prefix}{name}.")


def _plain(schema: Limits, definitions: Mapping[str, Limits]) -> dict[str, Any]:
    """The schema with what it refers to in it, and of its alternatives all that are not null."""
    plain = {key: value for key, value in schema.items() if key not in {"$ref", "anyOf"}}
    if "$ref" in schema:
        plain = _plain(definitions[schema["$ref"].rpartition("/")[2]], definitions) | plain
    for alternative in schema.get("anyOf", ()):
        if alternative != {"type": "null"}:
            plain = _plain(alternative, definitions) | plain
    if isinstance(plain.get("items"), dict):
        plain["items"] = _plain(plain["items"], definitions)
    return plain
