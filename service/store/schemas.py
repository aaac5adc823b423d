"""Derives from a document class what clients send and get: strict models for bodies, JSON Schemas for OpenAPI."""

import inspect
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import DatetimeSchema, DecimalSchema, DictSchema, IntSchema, ModelSchema

from service.documents.base import SERVER_FIELDS, Record
from service.documents.discretion import Discretion, Tell, tell_all
from service.documents.registry import DocumentType
from service.documents.restorer import NOTHING, Present
from service.documents.storer import Storer
from service.documents.strictness import strict_values
from service.documents.values import MAX_INTEGER, MIN_INTEGER, NUMBER, TIME, pointer_to, to_stored
from service.documents.views import View
from service.errors import Fault, ValidationFailedError

REF_TEMPLATE = "#/components/schemas/{model}"
VALIDATOR_KINDS = ("validators", "field_validators", "root_validators", "model_validators")


def validate_body(view: View, body: Any, present: Present = NOTHING) -> dict[str, Any]:
    """The client's fields of a document, every declared one, as they are stored.

    `body` is JSON as Python values; the server's fields in it are ignored, and masks stand for what is `present`.
    Raises ValidationFailedError.
    """
    if not isinstance(body, dict):
        raise ValidationFailedError([Fault("object_expected", "a JSON object is expected", "")])
    faults: list[Fault] = []
    values = {name: value for name, value in body.items() if name not in SERVER_FIELDS}
    document_type = view.document_type
    sent = to_stored(values, faults)
    restored = view.restorer.restore(sent, present)
    tell = Discretion(view, restored, sent).tell if view.is_masked and restored.filled else tell_all
    found: list[Fault] = []
    strict = strict_values(restored.body, document_type.fields, found)
    return validate_values(document_type, strict, [*faults, *restored.faults, *map(tell, found)], tell)


def validate_values(
    document_type: DocumentType, values: Mapping[str, Any], faults: Sequence[Fault], tell: Tell = tell_all
) -> dict[str, Any]:
    """The same of values that are strictly of their kinds, but for the `faults` that are known; `tell` tells others."""
    later: list[Fault] = []
    stored: dict[str, Any] = {}
    try:
        # As JSON, because pydantic is strict there without refusing dates and decimals written as strings.
        document: BaseModel = create_model_of(document_type).model_validate_json(orjson.dumps(values), strict=True)
        if _has_rules_of_its_own(document_type):
            document = document_type.document_class(**dict(document))
        stored = _storer_of(document_type).store(document, later)
    except ValidationError as error:
        later += [_fault(detail) for detail in error.errors(include_url=False)]
    known = {fault.pointer for fault in faults}
    all_faults = [*faults, *(tell(fault) for fault in later if fault.pointer not in known)]
    if all_faults:
        raise ValidationFailedError(list(dict.fromkeys(all_faults)))
    return {name: stored[name] for name in _own_names(document_type)}


@cache
def _storer_of(document_type: DocumentType) -> Storer:
    return Storer(document_type.fields)


@cache
def _own_names(document_type: DocumentType) -> tuple[str, ...]:
    return tuple(create_model_of(document_type).model_fields)


@cache
def _has_rules_of_its_own(document_type: DocumentType) -> bool:
    """Whether the class checks more than its fields, by validators that see the whole document, or by options."""
    cls = document_type.document_class
    ours, bases = cls.__pydantic_decorators__, Record.__pydantic_decorators__
    return (
        any(getattr(ours, kind).keys() - getattr(bases, kind).keys() for kind in VALIDATOR_KINDS)
        or any(
            _code(getattr(cls, name)) is not _code(getattr(Record, name)) for name in ("__init__", "model_post_init")
        )
        or _options(cls) != _options(Record)
    )


def _code(function: Any) -> Any:
    return inspect.unwrap(function).__code__  # pydantic wraps what a class inherits


def _options(cls: type[Record]) -> dict[str, Any]:
    return {name: value for name, value in cls.model_config.items() if name not in {"json_schema_extra", "title"}}


def _fault(detail: ErrorDetails) -> Fault:
    pointer = ""
    for part in detail["loc"]:
        pointer = pointer_to(pointer, part)
    if detail["type"] == "extra_forbidden":
        return Fault("unknown_field", "there is no such field", pointer)
    return Fault(detail["type"], detail["msg"], pointer)


@cache
def create_model_of(document_type: DocumentType) -> type[BaseModel]:
    """What POST and PUT take: the class without the server's fields."""
    return _derive(document_type, f"{document_type.title}Create", without=SERVER_FIELDS)


@cache
def read_model_of(document_type: DocumentType) -> type[BaseModel]:
    """What is answered: every field, always there."""
    return _derive(document_type, document_type.title, without=())


def _derive(document_type: DocumentType, name: str, *, without: Sequence[str]) -> type[BaseModel]:
    document_class = document_type.document_class
    fields: dict[str, Any] = {}
    for path in document_type.fields:
        if "." not in path and path not in without:
            info = FieldInfo.merge_field_infos(document_class.model_fields[path], alias=None, validation_alias=None)
            fields[path] = (info.annotation, info)
    if "id" in fields:
        fields["id"] = (str, FieldInfo(annotation=str, pattern="^[0-9a-f]{24}$"))
    config = ConfigDict(extra="forbid", allow_inf_nan=False, json_schema_serialization_defaults_required=True)
    derived: type[BaseModel] = create_model(name, __config__=config, __doc__=document_class.__doc__, **fields)
    return derived


class PublishedSchema(GenerateJsonSchema):
    """JSON Schemas that also say what is refused though the class allows it, as MongoDB could not keep it."""

    def int_schema(self, schema: IntSchema) -> JsonSchemaValue:
        """64 bits."""
        return {"minimum": MIN_INTEGER, "maximum": MAX_INTEGER} | super().int_schema(schema)

    def get_decimal_pattern(self, schema: DecimalSchema) -> str:  # noqa: ARG002 - pydantic's signature
        """How a decimal is written in a string."""
        return f"^{NUMBER.pattern}$"

    def datetime_schema(self, schema: DatetimeSchema) -> JsonSchemaValue:
        """To the millisecond, whichever way a client writes it."""
        pattern = {"pattern": f"^{TIME.pattern}$"} if self.mode == "validation" else {}
        return super().datetime_schema(schema) | pattern

    def dict_schema(self, schema: DictSchema) -> JsonSchemaValue:
        """Keys that BSON and MongoDB's syntax leave."""
        return super().dict_schema(schema) | {"propertyNames": {"pattern": "^[^$.\\x00]+$"}}

    def model_schema(self, schema: ModelSchema) -> JsonSchemaValue:
        """No unknown fields at any depth, even where a nested class would ignore them."""
        return {"additionalProperties": False} | super().model_schema(schema)


def read_schema(document_type: DocumentType) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of what is read, by itself."""
    schema = read_model_of(document_type).model_json_schema(mode="serialization", schema_generator=PublishedSchema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema


def component_schemas(document_types: Sequence[DocumentType], read_only: Sequence[DocumentType] = ()) -> dict[str, Any]:
    """The OpenAPI schemas of all types: of each its name (as read), …Item and …Page, …Create and …Patch."""
    models: list[tuple[type[BaseModel], Any]] = [
        (read_model_of(document_type), "serialization") for document_type in (*document_types, *read_only)
    ]
    models += [(create_model_of(document_type), "validation") for document_type in document_types]
    _, definitions = models_json_schema(models, ref_template=REF_TEMPLATE, schema_generator=PublishedSchema)
    schemas: dict[str, Any] = definitions.get("$defs", {})
    for document_type in document_types:
        title = document_type.title
        schemas[f"{title}Create"]["examples"] = [document_type.example]
        schemas |= _relaxed(schemas, f"{title}Create", f"{title}Patch", "Patch")
    for document_type in (*document_types, *read_only):
        title = document_type.title
        schemas |= _relaxed(schemas, title, f"{title}Item", "Item")
        schemas[f"{title}Item"]["required"] = ["id"]
        schemas[f"{title}Item"]["description"] = f"{title}, or of it what `fields` asks for."
        schemas[f"{title}Page"] = _page_schema(title)
    return schemas


def _relaxed(schemas: Mapping[str, Any], name: str, target: str, suffix: Literal["Patch", "Item"]) -> dict[str, Any]:
    """A schema and those below it with nothing required, under new names.

    In a patch (RFC 7396) null removes what has a default, and arrays are replaced whole.
    """
    renamed = {name: target}
    relaxed_schemas: dict[str, Any] = {}

    def relax(schema: dict[str, Any], *, is_optional: bool) -> dict[str, Any]:
        relaxed = {key: inner for key, inner in schema.items() if key != "default"}
        if (reference := schema.get("$ref")) is not None:
            relaxed["$ref"] = REF_TEMPLATE.format(model=add(reference.rsplit("/", 1)[1]))
        if "anyOf" in schema:
            relaxed["anyOf"] = [relax(inner, is_optional=False) for inner in schema["anyOf"]]
        if suffix == "Item" and "items" in schema:
            relaxed["items"] = relax(schema["items"], is_optional=False)
        if suffix == "Patch" and is_optional and {"type": "null"} not in schema.get("anyOf", []):
            return {"anyOf": [relaxed, {"type": "null"}]}
        return relaxed

    def add(original: str) -> str:
        if "properties" not in schemas[original]:
            return original
        named = renamed.setdefault(original, f"{original.removesuffix('-Input').removesuffix('-Output')}{suffix}")
        if named not in relaxed_schemas:
            relaxed_schemas[named] = schema = deepcopy(schemas[original])
            required = schema.pop("required", [])
            schema["title"] = named
            schema["properties"] = {
                member: relax(inner, is_optional=member not in required)
                for member, inner in schema["properties"].items()
            }
        return named

    add(name)
    return relaxed_schemas


def _page_schema(title: str) -> dict[str, Any]:
    return {
        "title": f"{title}Page",
        "type": "object",
        "required": ["items", "next_cursor", "total", "total_relation"],
        "properties": {
            "items": {"type": "array", "items": {"$ref": REF_TEMPLATE.format(model=f"{title}Item")}},
            "next_cursor": {"type": ["string", "null"], "description": "For `cursor`; null on the last page."},
            "total": {"type": ["integer", "null"], "description": "Null where it was not counted."},
            "total_relation": {
                "enum": ["eq", "gte", "estimated", None],
                "description": "`gte`: there are at least so many.",
            },
        },
    }
