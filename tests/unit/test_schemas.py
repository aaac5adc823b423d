"""What clients send and get, derived from a document class. What needs an instance of it is in tests/store."""

from typing import Annotated, Any, Self

import orjson
import pytest
from jsonschema import Draft202012Validator
from pydantic import AfterValidator, BaseModel, Field, ValidationError, field_validator, model_validator

from service.documents.base import Record
from service.documents.item import Item
from service.documents.registry import DocumentType, registered_types
from service.documents.user import User
from service.errors import ValidationFailedError
from service.store.schemas import (
    _has_rules_of_its_own,
    component_schemas,
    create_model_of,
    read_model_of,
    validate_body,
)
from tests.everything import Everything
from tests.unit.made_up import part_class, record_class

EVERYTHING = DocumentType(Everything)
USERS = DocumentType(User)
ITEMS = DocumentType(Item)
ALL = (*registered_types(), EVERYTHING)
REQUIRED = {"code": "a", "left": 1, "right": 2}


def create(document_type: DocumentType, body: Any) -> BaseModel:
    return create_model_of(document_type).model_validate_json(orjson.dumps(body), strict=True)


def refused(document_type: DocumentType, body: Any) -> list[str]:
    """The dotted places that are wrong."""
    with pytest.raises(ValidationError) as caught:
        create(document_type, body)
    return [".".join(map(str, error["loc"])) for error in caught.value.errors()]


@pytest.mark.parametrize("document_type", ALL, ids=lambda document_type: document_type.name)
def test_the_example_of_a_type_is_a_body(document_type: DocumentType) -> None:
    body = create(document_type, document_type.example)

    assert body.model_fields_set == set(document_type.example)


class Plain(Record):
    """Has fields and nothing else."""

    name: Annotated[str, AfterValidator(str.strip)]
    model_config = {"title": "Anything", "json_schema_extra": {"examples": [{}]}}


class WithFieldValidator(Plain):
    """Looks at one field."""

    @field_validator("name")
    @classmethod
    def _check(cls, name: str) -> str:
        return name


class WithModelValidator(Plain):
    """Looks at all of them."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        return self


class WithPostInit(Plain):
    """Does something with what is made."""

    def model_post_init(self, context: Any, /) -> None:
        """Do it."""
        super().model_post_init(context)


class WithOption(Plain):
    """Changes what it is given."""

    model_config = {"str_strip_whitespace": True}


@pytest.mark.parametrize(
    ("document_class", "has_rules"),
    [(Plain, False), (WithFieldValidator, True), (WithModelValidator, True), (WithPostInit, True), (WithOption, True)],
)
def test_documents_are_made_of_a_class_only_where_that_checks_more(
    document_class: type[Record], *, has_rules: bool
) -> None:
    assert _has_rules_of_its_own(DocumentType(document_class)) is has_rules


@pytest.mark.parametrize("document_type", ALL, ids=lambda document_type: document_type.name)
def test_a_body_has_no_field_of_the_server(document_type: DocumentType) -> None:
    assert set(create_model_of(document_type).model_fields) == {
        path for path in document_type.fields if "." not in path
    } - {"id", "created_at", "updated_at", "revision"}


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"nothing": 1}, "nothing"),
        ({"branch": {"label": "x", "nothing": 1}}, "branch.nothing"),
        ({"branches": [{"label": "x", "nothing": 1}]}, "branches.0.nothing"),
        ({"code": 1}, "code"),
        ({"code": None}, "code"),
        ({"code": ""}, "code"),
        ({"code": "x" * 101}, "code"),
        ({"left": "1"}, "left"),
        ({"left": True}, "left"),
        ({"left": 1.5}, "left"),
        ({"boolean": 1}, "boolean"),
        ({"boolean": "true"}, "boolean"),
        ({"float_number": "1"}, "float_number"),
        ({"day": 0}, "day"),
        ({"day": "2026-02-30"}, "day"),
        ({"day": "2026-01-01T01:00:00"}, "day"),
        ({"moment": 0}, "moment"),
        ({"moment": "yesterday"}, "moment"),
        ({"decimal_number": "1,5"}, "decimal_number"),
        ({"decimal_number": "NaN"}, "decimal_number"),
        ({"email": "nobody"}, "email"),
        ({"reference": "xyz"}, "reference"),
        ({"colour": "green"}, "colour"),
        ({"level": 3}, "level"),
        ({"size": "medium"}, "size"),
        ({"texts": "a"}, "texts"),
        ({"texts": [1]}, "texts.0"),
        ({"branch": []}, "branch"),
        ({"free": []}, "free"),
    ],
    ids=str,
)
def test_a_value_of_another_type_is_refused_where_it_stands(change: dict[str, Any], place: str) -> None:
    assert refused(EVERYTHING, REQUIRED | change) == [place]


def test_all_faults_come_together() -> None:
    assert refused(EVERYTHING, {"left": "x", "nothing": 1, "texts": [1, 2]}) == [
        "code",
        "left",
        "right",
        "texts.0",
        "texts.1",
        "nothing",
    ]


@pytest.mark.parametrize("body", [None, 1, "text", [], [{}], True])
def test_a_body_that_is_no_object_is_refused(body: Any) -> None:
    with pytest.raises(ValidationFailedError) as caught:
        validate_body(USERS.whole, body)

    assert [(fault.code, fault.pointer) for fault in caught.value.faults] == [("object_expected", "")]


def test_the_faults_of_a_body_come_with_pointers() -> None:
    body = {"name": "", "profile": {"addresses": [{"city/state~": 1}]}, "id": 1, "revision": "x"}

    with pytest.raises(ValidationFailedError) as caught:
        validate_body(USERS.whole, body)

    assert {fault.pointer: fault.code for fault in caught.value.faults} == {
        "/name": "string_too_short",
        "/email": "missing",
        "/profile/addresses/0/street": "missing",
        "/profile/addresses/0/city": "missing",
        "/profile/addresses/0/country": "missing",
        "/profile/addresses/0/city~1state~0": "unknown_field",
    }


def test_an_answer_has_every_field_always() -> None:
    schema = component_schemas([USERS])["User"]

    assert list(schema["properties"]) == [path for path in USERS.fields if "." not in path]
    assert set(schema["required"]) == set(schema["properties"])
    assert schema["properties"]["id"]["pattern"] == "^[0-9a-f]{24}$"
    assert set(read_model_of(USERS).model_fields) == set(schema["properties"])


def test_an_excluded_field_is_neither_sent_nor_answered() -> None:
    part = part_class("Inner", hidden=(str, Field(default="", exclude=True)), shown=(str, ""))
    cls = record_class(
        {"shown": str, "hidden": (str, Field(default="", exclude=True)), "inner": part}, title="Secretive"
    )
    document_type = DocumentType(cls)

    assert refused(document_type, {"shown": "a", "inner": {}, "hidden": "b"}) == ["hidden"]
    assert "hidden" not in component_schemas([document_type])["Secretive"]["properties"]


def test_each_type_has_its_five_schemas() -> None:
    schemas = component_schemas(ALL)

    for title in ("User", "Item", "Everything"):
        assert {title, f"{title}Create", f"{title}Patch", f"{title}Item", f"{title}Page"} <= set(schemas)
    assert schemas["UserCreate"]["examples"] == [USERS.example]


@pytest.mark.parametrize("document_type", ALL, ids=lambda document_type: document_type.name)
def test_of_an_item_of_a_page_only_the_id_is_required(document_type: DocumentType) -> None:
    schemas, title = component_schemas([document_type]), document_type.title
    whole, item, page = schemas[title], schemas[f"{title}Item"], schemas[f"{title}Page"]

    assert page["properties"]["items"]["items"] == {"$ref": f"#/components/schemas/{title}Item"}
    assert page["required"] == ["items", "next_cursor", "total", "total_relation"]
    assert item["properties"].keys() == whole["properties"].keys()
    assert item["required"] == ["id"]
    assert item["title"] == f"{title}Item"


def test_an_item_requires_nothing_inside_of_it() -> None:
    schemas = component_schemas([USERS, EVERYTHING])

    for name in ("ProfileItem", "AddressItem", "BranchItem", "LeafItem"):
        assert "required" not in schemas[name]
    addresses = schemas["ProfileItem"]["properties"]["addresses"]
    assert addresses["items"] == {"$ref": "#/components/schemas/AddressItem"}


def test_a_patch_requires_nothing_at_any_depth() -> None:
    schemas = component_schemas([USERS, EVERYTHING])

    for name in ("UserPatch", "ProfilePatch", "EverythingPatch", "BranchPatch", "LeafPatch"):
        assert "required" not in schemas[name]
        assert all("default" not in inner for inner in schemas[name]["properties"].values())
    assert set(schemas["UserPatch"]["properties"]) == set(schemas["UserCreate"]["properties"])
    assert schemas["UserCreate"]["required"] == ["name", "email"]


def test_null_removes_what_has_a_default_to_take_its_place() -> None:
    schemas = component_schemas([USERS, EVERYTHING])

    for name, patch_name in (("UserCreate", "UserPatch"), ("Profile-Input", "ProfilePatch")):
        required = schemas[name].get("required", [])
        taken = {field for field, inner in schemas[patch_name]["properties"].items() if takes_null(inner)}
        assert taken == set(schemas[name]["properties"]) - set(required)
    assert not takes_null(schemas["BranchPatch"]["properties"]["label"])
    assert takes_null(schemas["BranchPatch"]["properties"]["leaves"])


def takes_null(schema: dict[str, Any]) -> bool:
    return {"type": "null"} in schema.get("anyOf", [])


def test_an_array_in_a_patch_is_replaced_whole_so_its_elements_stay_as_they_are() -> None:
    schemas = component_schemas([USERS])
    patched, _ = schemas["ProfilePatch"]["properties"]["addresses"]["anyOf"]
    sent = schemas["Profile-Input"]["properties"]["addresses"]

    assert "AddressPatch" not in schemas
    assert patched["items"] == sent["items"]
    assert schemas[sent["items"]["$ref"].rsplit("/", 1)[1]]["required"] == ["street", "city", "country"]


def test_every_reference_leads_somewhere() -> None:
    schemas = component_schemas(ALL)

    assert references(schemas) <= {f"#/components/schemas/{name}" for name in schemas}


def references(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return set().union(*map(references, schema))
    if isinstance(schema, dict):
        own = {schema["$ref"]} if isinstance(schema.get("$ref"), str) else set()
        return own.union(*map(references, schema.values()))
    return set()


def test_a_field_keeps_its_constraints_and_its_words() -> None:
    schema = component_schemas([ITEMS])["ItemCreate"]

    assert schema["properties"]["stock"]["minimum"] == 0
    assert schema["properties"]["currency"]["description"] == "ISO 4217, as in `EUR`"
    assert schema["description"] == "Something that has a price and may have an owner."


@pytest.mark.parametrize(
    ("change", "is_valid"),
    [
        ({"integer": -(2**63), "decimal_number": "+1.5e3", "free": {"a": {"b": 1}}}, True),
        ({"moment": "2026-01-01T00:00:00.123Z"}, True),
        ({"integer": 2**63}, False),
        ({"integers": [-(2**63) - 1]}, False),
        ({"decimals": ["1,5"]}, False),
        ({"moment": "2026-01-01T00:00:00.1234Z"}, False),
        ({"free": {"$set": 1}}, False),
        ({"free": {"": 1}}, False),
        ({"branch": {"label": "a", "leaf": {"nonsense": 1}}}, False),
    ],
    ids=str,
)
def test_a_schema_says_what_the_class_takes_but_the_service_refuses(change: dict[str, Any], *, is_valid: bool) -> None:
    schema = {"$ref": "#/components/schemas/EverythingCreate", "components": {"schemas": component_schemas(ALL)}}

    assert Draft202012Validator(schema).is_valid(REQUIRED | change) is is_valid


def test_the_constraints_of_an_object_inside_hold_too() -> None:
    part = part_class("Inner", text=(Annotated[str, Field(max_length=3)], ""))
    document_type = DocumentType(record_class({"part": part}, title="Holder"))

    assert refused(document_type, {"part": {"text": "long"}, "more": 1}) == ["part.text", "more"]
