"""A document class as MongoDB's `$jsonSchema`, which is JSON Schema's draft 4 with BSON's types.

It accepts whatever the API stores, and of the rest as little as can be said. Behind code of the class that may change a
value (`AfterValidator`, a wrapping or plain one) only its kind is certain, whatever was checked before.
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from enum import Enum
from typing import Any

from bson import Decimal128
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from service.documents.fields import Field, Kind
from service.documents.introspection import MAX_EMAIL_LENGTH
from service.documents.registry import DocumentType
from service.documents.values import MAX_INTEGER, MIN_INTEGER, to_stored
from service.store.regex import RefusedPatternError, check_pattern

Schema = dict[str, Any]
Node = Mapping[str, Any]
"""A part of what pydantic has made of a class (`pydantic_core.core_schema`): what it does, in its order."""

INTEGERS = ["int", "long"]
BSON_TYPES: Mapping[Kind, list[str]] = {
    Kind.TEXT: ["string"],
    Kind.INTEGER: INTEGERS,
    Kind.FLOAT: ["double", *INTEGERS],  # 3 is a float too, as mongosh and a default of 0 write it
    Kind.DECIMAL: ["decimal"],
    Kind.BOOLEAN: ["bool"],
    Kind.DATE: ["date"],
    Kind.DATETIME: ["date"],
    Kind.OBJECT_ID: ["objectId"],
}
CHANGING = frozenset({"function-after", "function-wrap"})
NODE_KINDS: Mapping[str, Kind] = {
    "str": Kind.TEXT,
    "int": Kind.INTEGER,
    "float": Kind.FLOAT,
    "decimal": Kind.DECIMAL,
    "bool": Kind.BOOLEAN,
    "date": Kind.DATE,
    "datetime": Kind.DATETIME,
}
EMAIL = {"maxLength": MAX_EMAIL_LENGTH, "pattern": "^[^@]+@[^@]+$"}
"""What email-validator, without quoted names, leaves certain."""

CASE_GROWTH = 3
"""So many characters at most become of one in the other case (Unicode, SpecialCasing.txt): three of ΐ."""

MAX_TEXT_LENGTH = 16 * 2**20
LARGEST_DECIMAL = Decimal("9.999999999999999999999999999999999E+6144")

PORTABLE_PATTERN = re.compile(
    r"(?: [^\\\[\](){}*+?|] | \\[^\w\s] | \[\^?(?:[^\W_](?:-[^\W_])?|[\ _.,:;/@%#=!])+-?\] | \( (?:\?:)? | \) | \|"
    r" | (?:[*+?]|\{\d+(?:,\d*)?\})(?!\+) )*",
    re.VERBOSE | re.ASCII,
)
"""Where pydantic's regular expressions, Rust's or Python's, find no more than PCRE's: no \\d, \\w, \\s and \\b."""


def bson_schema_of(document_type: DocumentType) -> Schema:
    """What MongoDB is to accept in the type's collection."""
    return _ObjectReader(document_type.fields).read(document_type.document_class, "")


class _ObjectReader:
    """Knows a type's fields, which are what is stored of its classes."""

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self._fields = fields

    def read(self, model: type[BaseModel], path: str) -> Schema:
        """What is stored of a class at this path."""
        prefix = f"{path}." if path else ""
        own = {
            known.path.removeprefix(prefix): known
            for known in self._fields.values()
            if known.path.startswith(prefix) and "." not in known.path.removeprefix(prefix)
        }
        reader = _ValueReader(self, model)
        properties = {
            "_id" if known.path == "id" else name: (
                {"bsonType": BSON_TYPES[Kind.OBJECT_ID]} if known.path == "id" else reader.field(name, known)
            )
            for name, known in own.items()
        }
        required = [name for name, known in own.items() if known.is_required]
        schema = {"bsonType": ["object"], "properties": properties, "additionalProperties": False}
        return schema | ({"required": required} if required else {})  # which may not be empty


class _ValueReader:
    """Reads what one class says of its fields' values."""

    def __init__(self, objects: _ObjectReader, model: type[BaseModel]) -> None:
        self._objects = objects
        self._infos = model.model_fields
        self._changes_case = bool(model.model_config.get("str_to_lower") or model.model_config.get("str_to_upper"))
        self._definitions: dict[str, Node] = {}
        self._nodes = self._fields_of(model.__pydantic_core_schema__)

    def _fields_of(self, node: Node) -> Mapping[str, Node]:
        """The members of a class, below its own validators."""
        self._definitions |= {known["ref"]: known for known in node.get("definitions", ())}
        if node["type"] == "definition-ref":
            return self._fields_of(self._definitions[node["schema_ref"]])
        fields: Mapping[str, Node] = (
            node["fields"] if node["type"] == "model-fields" else self._fields_of(node["schema"])
        )
        return fields

    def field(self, name: str, known: Field) -> Schema:
        """What may be stored of a field; its default is, whether or not the class would take it in a body."""
        schema = self._value(self._nodes[name]["schema"], known, is_certain=True)
        info = self._infos[name]
        if info.is_required() or info.default_factory is not None or _is_checked(info):
            return schema
        if info.default is None:
            return _or_null(schema)
        return {"anyOf": [schema, {"enum": [to_stored(info.default, [])]}]}

    def _value(self, node: Node, known: Field, *, is_certain: bool) -> Schema:
        """What may be at a place; `is_certain` says whether it is still as this node has left it."""
        match node["type"]:
            case "definition-ref":
                return self._value(self._definitions[node["schema_ref"]], known, is_certain=is_certain)
            case "default" | "function-before" | "function-after" | "function-wrap" as wrapper:
                is_certain = is_certain and wrapper not in CHANGING
                return self._value(node["schema"], known, is_certain=is_certain)
            case "chain":
                return self._value(node["steps"][0], known, is_certain=False)
            case "nullable":
                return _or_null(self._value(node["schema"], known, is_certain=is_certain))
            case "list" | "set" | "frozenset":
                return self._array(node, known, is_certain=is_certain)
            case "dict":
                return self._dict(node, known, is_certain=is_certain)
            case "enum" | "literal" if is_certain:
                return _enumeration(node)
        if known.is_array or node["type"] == "function-plain":
            return self._of_kind(known)
        if known.kind is Kind.JSON and node["type"] != "any":  # what free JSON holds at last
            known = replace(known, kind=NODE_KINDS.get(node["type"], known.inner or Kind.JSON))
        return self._single(node, known, is_certain=is_certain)

    def _array(self, node: Node, known: Field, *, is_certain: bool) -> Schema:
        element = replace(known, is_array=False)
        schema: Schema = {"bsonType": ["array"]}
        items = self._value(node["items_schema"], element, is_certain=is_certain) if "items_schema" in node else {}
        if items:
            schema["items"] = items
        if not is_certain:
            return schema
        if node["type"] != "list":
            schema["uniqueItems"] = True
        return schema | _renamed(node, min_length="minItems", max_length="maxItems")

    def _dict(self, node: Node, known: Field, *, is_certain: bool) -> Schema:
        schema: Schema = {"bsonType": ["object"]}
        values = self._value(node["values_schema"], known, is_certain=is_certain) if "values_schema" in node else {}
        if values:
            schema["additionalProperties"] = values
        return schema | (_renamed(node, min_length="minProperties", max_length="maxProperties") if is_certain else {})

    def _of_kind(self, known: Field) -> Schema:
        """What is certain where the class's code alone decides."""
        if known.kind is Kind.JSON:
            return {}
        element = _or_null(self._single({"type": "any"}, replace(known, is_array=False), is_certain=False))
        if not known.is_array:
            return element
        array = {"bsonType": ["array"], "items": element}
        return _or_null(array) if known.is_nullable else array

    def _single(self, node: Node, known: Field, *, is_certain: bool) -> Schema:
        """What is neither an array nor free JSON."""
        if known.kind is Kind.OBJECT:
            assert known.model is not None
            return self._objects.read(known.model, known.path)
        if known.kind is Kind.JSON:
            return {}
        schema: Schema = {"bsonType": BSON_TYPES[known.kind]}
        limits = node if is_certain and NODE_KINDS.get(node["type"]) is known.kind else {}
        match known.kind:
            case Kind.TEXT:
                return schema | (EMAIL if known.is_email else self._text(limits))
            case Kind.INTEGER:
                return schema | _integer(limits)
            case Kind.FLOAT:
                return schema | _range(limits, -sys.float_info.max, sys.float_info.max)
            case Kind.DECIMAL:
                return schema | _decimal(limits)
        return schema

    def _text(self, node: Node) -> Schema:
        schema = _renamed(node, min_length="minLength", max_length="maxLength")
        if self._changes_case or node.get("to_lower") or node.get("to_upper"):  # which is done after the checks
            return schema | {"maxLength": schema["maxLength"] * CASE_GROWTH} if "maxLength" in schema else schema
        pattern = node.get("pattern")
        if isinstance(pattern, str) and _is_portable(pattern, schema.get("maxLength", MAX_TEXT_LENGTH)):
            schema["pattern"] = pattern
        return schema


def _is_checked(info: FieldInfo) -> bool:
    """Whether a default is what its own field would make of it."""
    if info.validate_default:
        return True
    try:
        checked = TypeAdapter(info.rebuild_annotation()).validate_python(info.default)
    except ValidationError:
        return False
    return type(checked) is type(info.default)


def _or_null(schema: Schema) -> Schema:
    if not schema:
        return schema  # anything
    nullable = schema | {"bsonType": list(dict.fromkeys([*schema["bsonType"], "null"]))}
    return nullable | ({"enum": [*schema["enum"], None]} if "enum" in schema else {})


def _renamed(node: Node, **names: str) -> Schema:
    return {word: node[name] for name, word in names.items() if node.get(name) is not None}


def _enumeration(node: Node) -> Schema:
    members = node["members"] if node["type"] == "enum" else node["expected"]
    values = [member.value if isinstance(member, Enum) else member for member in members]
    kind = Kind.TEXT if isinstance(values[0], str) else Kind.INTEGER
    return {"bsonType": BSON_TYPES[kind], "enum": values}


def _is_portable(pattern: str, max_length: int) -> bool:
    """Whether MongoDB finds a pattern in all texts of this length in which pydantic does."""
    try:
        check_pattern(pattern, max(max_length, 1))
    except RefusedPatternError:
        return False
    return PORTABLE_PATTERN.fullmatch(pattern) is not None


def _integer(node: Node) -> Schema:
    schema = _range(node, MIN_INTEGER, MAX_INTEGER)
    whole = {word: bound for word, bound in schema.items() if bound not in {MIN_INTEGER, MAX_INTEGER}}
    multiple = node.get("multiple_of", 0)
    return whole | ({"multipleOf": multiple} if 0 < multiple <= MAX_INTEGER else {})


def _decimal(node: Node) -> Schema:
    bounds = {name: Decimal(str(node[name])) for name in ("ge", "gt", "le", "lt") if node.get(name) is not None}
    largest, least = LARGEST_DECIMAL, LARGEST_DECIMAL.copy_negate()  # as a minus sign would round
    if "max_digits" in node:
        whole_digits = node["max_digits"] - node.get("decimal_places", 0)
        bounds["lt"] = min(bounds.get("lt", largest), Decimal(10) ** whole_digits)
        bounds["gt"] = max(bounds.get("gt", least), -(Decimal(10) ** whole_digits))
    schema = _range(bounds, least, largest)
    if node.get("multiple_of") is not None:
        schema["multipleOf"] = Decimal(str(node["multiple_of"]))
    elif "decimal_places" in node:
        schema["multipleOf"] = Decimal(1).scaleb(-node["decimal_places"])
    return {word: Decimal128(value) if isinstance(value, Decimal) else value for word, value in schema.items()}


def _range(node: Node, least: Any, most: Any) -> Schema:
    """The bounds, exclusive ones in draft 4's words; `least` and `most` keep out what is not finite."""
    bounds = {name: node[name] for name in ("ge", "gt", "le", "lt") if node.get(name) is not None}
    low = max([least, *(bounds[name] for name in ("ge", "gt") if name in bounds)])
    high = min([most, *(bounds[name] for name in ("le", "lt") if name in bounds)])
    schema: Schema = {"minimum": low, "maximum": high}
    if low == bounds.get("gt"):
        schema["exclusiveMinimum"] = True
    if high == bounds.get("lt"):
        schema["exclusiveMaximum"] = True
    return schema
