"""What every document type's list promises."""

import operator
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest
from bson import DatetimeMS, Regex
from fastapi import FastAPI

from service.documents.fields import Field, Kind
from service.documents.registry import DocumentType
from service.store.operators import operators_of
from tests.conftest import TYPES
from tests.contract.test_documents import address, bodies, create

pytestmark = pytest.mark.parametrize("document_type", TYPES, ids=lambda document_type: document_type.name)


async def load(client: httpx.AsyncClient, document_type: DocumentType, count: int) -> list[dict[str, Any]]:
    return [await create(client, document_type, body) for body in bodies(document_type, count)]


def values_at(value: Any, path: str) -> list[Any]:
    """All that lies at a dotted path, through arrays too."""
    if isinstance(value, list):
        return [inner for element in value for inner in values_at(element, path)]
    if not path:
        return [value]
    name, _, rest = path.partition(".")
    return values_at(value.get(name), rest) if isinstance(value, dict) else []


def as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


async def test_an_empty_list_has_nothing(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    response = await client.get(address(document_type))

    assert response.json() == {"items": [], "next_cursor": None, "total": 0, "total_relation": "eq"}
    assert "next" not in response.links


async def test_a_walk_over_pages_sees_each_document_once(
    client: httpx.AsyncClient, document_type: DocumentType
) -> None:
    documents = await load(client, document_type, 23)
    seen: list[str] = []
    following: str | None = address(document_type) + "?limit=5"
    totals: list[int | None] = []
    while following:
        page = await client.get(following)
        assert page.status_code == 200
        totals.append(page.json()["total"])
        seen += [item["id"] for item in page.json()["items"]]
        following = page.links["next"]["url"] if "next" in page.links else None
        assert (following is None) == (page.json()["next_cursor"] is None)
        assert page.links["first"]["url"] == address(document_type) + "?limit=5"

    assert seen == [document["id"] for document in documents]
    assert totals == [23, None, None, None, None]


async def test_a_walk_in_any_order_is_the_whole_list(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    await load(client, document_type, 11)
    for field in document_type.fields.values():
        if not field.is_sortable:
            continue
        for sort in (field.path, f"-{field.path}", f"-{field.path},created_at"):
            if sort == "-created_at,created_at":
                continue
            whole = (await client.get(address(document_type), params={"sort": sort})).json()["items"]
            walked: list[dict[str, Any]] = []
            params: dict[str, str] | None = {"sort": sort, "limit": "4", "count": "none", "fields": "id"}
            while params:
                page = (await client.get(address(document_type), params=params)).json()
                walked += page["items"]
                params = params | {"cursor": page["next_cursor"]} if page["next_cursor"] else None
            assert walked == [{"id": item["id"]} for item in whole], sort


@pytest.mark.parametrize(
    "change", [{"sort": "-id"}, {"id__gt": "0" * 24}, {"cursor": "x"}, {"cursor": ""}, {"skip": "1"}]
)
async def test_a_cursor_goes_with_its_query_only(
    client: httpx.AsyncClient, document_type: DocumentType, change: dict[str, str]
) -> None:
    await load(client, document_type, 3)
    cursor = (await client.get(address(document_type), params={"limit": 1})).json()["next_cursor"]

    response = await client.get(address(document_type), params={"limit": "1", "cursor": cursor} | change)

    assert response.status_code == 400
    assert [fault["parameter"] for fault in response.json()["errors"]] == ["cursor"]


async def test_the_link_keeps_what_was_asked(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    await load(client, document_type, 3)

    page = await client.get(address(document_type), params={"limit": "1", "skip": "1", "sort": "-id", "count": "none"})

    asked = f"{address(document_type)}?limit=1&sort=-id&count=none"
    assert page.links["first"]["url"] == asked
    assert page.links["next"]["url"] == f"{asked}&cursor={page.json()['next_cursor']}"


@pytest.mark.parametrize(
    ("mode", "total", "relation"),
    [("exact", 3, "eq"), ("capped", 3, "eq"), ("estimated", 3, "estimated"), ("none", None, None)],
)
async def test_the_total_is_counted_as_asked(
    client: httpx.AsyncClient, document_type: DocumentType, mode: str, total: int | None, relation: str | None
) -> None:
    await load(client, document_type, 3)

    page = (await client.get(address(document_type), params={"count": mode, "limit": 2})).json()

    assert (page["total"], page["total_relation"], len(page["items"])) == (total, relation, 2)


async def test_every_field_finds_by_its_values(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    documents = await load(client, document_type, 6)
    for field in document_type.fields.values():
        if not field.is_scalar:
            continue
        for value in {as_text(value) for document in documents for value in values_at(document, field.path)}:
            if value == "None":
                continue
            for name in (field.path, f"{field.path}__eq"):
                if name == "limit":  # a parameter of its own
                    continue
                response = await client.get(address(document_type), params={name: value})
                assert response.status_code == 200, (name, value, response.text)
                found = [item["id"] for item in response.json()["items"]]
                expected = [
                    document["id"]
                    for document in documents
                    if value in {as_text(inner) for inner in values_at(document, field.path)}
                ]
                assert found == expected, (name, value)


def typed(field: Field, value: Any) -> Any:
    """A value out of an answer, so that Python compares it as MongoDB does."""
    if field.kind is Kind.DECIMAL:
        return Decimal(value)
    return value


ORACLES: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "contains": lambda value, wanted: wanted in value,
    "startswith": lambda value, wanted: value.startswith(wanted),
    "regex": lambda value, wanted: re.search(wanted, value) is not None,
}


async def test_every_operator_finds_what_python_finds(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    documents = await load(client, document_type, 5)
    # And one with as little as a document may have.
    info = document_type.document_class.model_fields
    [sparse] = [body for number, body in enumerate(bodies(document_type, 6)) if number == 5]
    documents.append(
        await create(client, document_type, {name: value for name, value in sparse.items() if info[name].is_required()})
    )
    for field in document_type.fields.values():
        present = {
            document["id"]: [value for value in values_at(document, field.path) if value is not None]
            for document in documents
        }
        samples = sorted({as_text(value): value for values in present.values() for value in values}.items())[:4]
        for name in ORACLES.keys() & set(operators_of(field)):
            for text, sample in samples:
                given, wanted = question(name, field, text, sample)
                if not given or (name == "regex" and field.max_length is None):
                    continue
                response = await client.get(address(document_type), params={f"{field.path}__{name}": given})
                assert response.status_code == 200, (field.path, name, given, response.text)
                expected = {
                    key
                    for key, values in present.items()
                    if any(ORACLES[name](typed(field, value), wanted) for value in values)
                }
                assert {item["id"] for item in response.json()["items"]} == expected, (field.path, name, given)


def question(name: str, field: Field, text: str, sample: Any) -> tuple[str, Any]:
    """What to send, and what the oracle compares with."""
    if name == "regex":
        pattern = "[.]".join(re.split(r"[^\w-]", text[:12]))
        return pattern, pattern
    if name in {"contains", "startswith"}:
        return text[:40], text[:40]
    return text, typed(field, sample)


async def test_ne_and_nin_find_what_eq_and_in_do_not(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    documents = await load(client, document_type, 5)
    for field in document_type.fields.values():
        texts = [as_text(value) for document in documents for value in values_at(document, field.path)]
        texts = sorted({text for text in texts if text not in {"", "None"} and "," not in text})[:3]
        if not field.is_scalar or not texts:
            continue
        for found_by, others_by, value in [("eq", "ne", texts[0]), ("in", "nin", ",".join(texts))]:
            found = (await client.get(address(document_type), params={f"{field.path}__{found_by}": value})).json()
            others = (await client.get(address(document_type), params={f"{field.path}__{others_by}": value})).json()
            assert found["total"] > 0, (field.path, value)
            ids = [item["id"] for item in (*found["items"], *others["items"])]
            assert sorted(ids) == [document["id"] for document in documents], field.path


async def test_exists_tells_null_and_missing_from_the_rest(
    client: httpx.AsyncClient, document_type: DocumentType
) -> None:
    collection = document_type.document_class.get_pymongo_collection()
    await create(client, document_type)
    for name in [path for path in document_type.fields if "." not in path and path != "id"]:
        changes: list[tuple[dict[str, Any], bool]] = [
            ({"$set": {name: None}}, False),
            ({"$unset": {name: ""}}, False),
            ({"$set": {name: "something"}}, True),
        ]
        for change, exists in changes:
            await collection.update_one({}, change, bypass_document_validation=True)
            for value in (True, False):
                page = await client.get(address(document_type), params={f"{name}__exists": as_text(value)})
                assert page.json()["total"] == int(exists is value), (name, exists, value)


@pytest.mark.parametrize(
    ("kind", "operators"),
    [
        (Kind.BOOLEAN, ["gt", "contains", "regex"]),
        (Kind.INTEGER, ["contains", "startswith", "regex"]),
        (Kind.OBJECT, ["eq", "ne", "gt", "in", "contains"]),
        (Kind.JSON, ["eq", "lt", "nin", "regex"]),
        (Kind.TEXT, ["near", "", "$gt"]),
    ],
)
async def test_an_operator_that_a_field_does_not_take_is_refused(
    client: httpx.AsyncClient, document_type: DocumentType, kind: Kind, operators: list[str]
) -> None:
    for field in document_type.fields.values():
        if field.kind is not kind:
            continue
        for name in operators:
            response = await client.get(address(document_type), params={f"{field.path}__{name}": "1"})
            assert response.status_code == 400, (field.path, name)
            assert [fault["parameter"] for fault in response.json()["errors"]] == [f"{field.path}__{name}"]


def wrong_texts(field: Field) -> list[str]:
    if field.kind == "text" and not field.choices:
        return []
    return ["nonsense", "", '{"$ne": null}', "1e", "\x00", "9" * 30]


async def test_a_value_of_the_wrong_kind_is_refused_by_name(
    client: httpx.AsyncClient, document_type: DocumentType
) -> None:
    for field in document_type.fields.values():
        for text in wrong_texts(field):
            if field.kind in {"float", "decimal"} and text == "9" * 30:
                continue
            response = await client.get(address(document_type), params={f"{field.path}__eq": text})
            assert response.status_code == 400, (field.path, text)
            assert response.json()["code"] == "invalid_query"
            assert [fault["parameter"] for fault in response.json()["errors"]] == [f"{field.path}__eq"]


async def test_every_single_value_sorts_both_ways(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    await load(client, document_type, 8)
    for field in document_type.fields.values():
        up = await client.get(address(document_type), params={"sort": field.path})
        if not field.is_sortable:
            assert up.status_code == 400, field.path
            assert up.json()["errors"][0]["parameter"] == "sort"
            continue
        assert up.status_code == 200, field.path
        down = await client.get(
            address(document_type), params={"sort": "-id" if field.path == "id" else f"-{field.path},-id"}
        )
        assert [item["id"] for item in down.json()["items"]] == [item["id"] for item in up.json()["items"]][::-1]


async def test_every_field_can_be_asked_for_alone(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    document = await create(client, document_type)
    for field in document_type.fields.values():
        [item] = (await client.get(address(document_type), params={"fields": field.path})).json()["items"]

        assert set(item) == {"id", field.path.partition(".")[0]}
        assert values_at(item, field.path) == values_at(document, field.path)
        for other in document_type.fields:
            is_related = other == "id" or field.path.startswith(f"{other}.") or f"{other}.".startswith(f"{field.path}.")
            if not is_related:
                assert not any(values_at(item, other)), (field.path, other)


async def test_search_finds_in_each_of_its_fields(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    documents = await load(client, document_type, 6)
    for path in document_type.search:
        for document in documents:
            for value in values_at(document, path):
                if not value:
                    continue
                part = value[1:20].upper()
                response = await client.get(address(document_type), params={"q": part})
                assert response.status_code == 200, response.text
                assert document["id"] in [item["id"] for item in response.json()["items"]], (path, part)


async def test_unknown_parameters_and_fields_are_refused_by_name(
    client: httpx.AsyncClient, document_type: DocumentType
) -> None:
    params = {"nonsense": "1", "id__near": "1", "$where": "1", "sort": "nonsense", "fields": "nonsense", "explode": "x"}

    response = await client.get(address(document_type), params=params)

    assert response.status_code == 400
    assert {fault["parameter"] for fault in response.json()["errors"]} == set(params)


async def test_every_parameter_is_described(app: FastAPI, document_type: DocumentType) -> None:
    described = {parameter["name"] for parameter in app.openapi()["paths"][address(document_type)]["get"]["parameters"]}
    named = {"q", "q_mode", "sort", "fields", "limit", "cursor", "skip", "count"}
    filters = {field.path for field in document_type.fields.values() if field.is_scalar}
    assert described == named | {f"{path}__eq" if path in named else path for path in filters}


async def test_one_odd_document_does_not_fail_the_page(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    collection = document_type.document_class.get_pymongo_collection()
    names = [name for name in document_type.fields if "." not in name and name != "id"]
    oddities = [{"a": [1]}, [[1], {"b": None}], 3.5, None, "text", b"bytes", DatetimeMS(10**15), Regex("x"), True]
    # Of a compound index only one field may be an array, even by hand.
    plain = {path: 1 for model in document_type.indexes for path in list(model.document["key"])[1:] if path != "_id"}
    odd_documents = [dict.fromkeys(names, odd) | plain for odd in oddities]
    await collection.insert_many(odd_documents, bypass_document_validation=True)
    document = await create(client, document_type)

    page = await client.get(address(document_type))

    assert page.status_code == 200
    assert document in page.json()["items"]
    assert len(page.json()["items"]) == len(oddities) + 1
    for item in page.json()["items"]:
        assert (await client.get(address(document_type, item["id"]))).json() == item
    for file_format in ("csv", "xlsx"):
        assert (await client.get(f"{address(document_type)}/export/{file_format}")).status_code == 200


async def hide_canaries(document_type: DocumentType) -> None:
    """Add to the one document that there is, in each of its objects, something that no class declares."""
    free = {path for path, field in document_type.fields.items() if field.kind is Kind.JSON}

    def with_canary(value: Any, path: str = "") -> Any:
        if isinstance(value, list):
            return [with_canary(element, path) for element in value]
        if not isinstance(value, dict) or path in free:
            return value
        inner = {name: with_canary(member, f"{path}.{name}" if path else name) for name, member in value.items()}
        return inner | {"canary": "canary"}

    collection = document_type.document_class.get_pymongo_collection()
    [stored] = await collection.find().to_list()
    await collection.replace_one({}, with_canary(stored), bypass_document_validation=True)


async def test_what_no_class_declares_is_never_shown(client: httpx.AsyncClient, document_type: DocumentType) -> None:
    document = await create(client, document_type)
    await hide_canaries(document_type)
    objects = [field.path for field in document_type.fields.values() if field.kind is Kind.OBJECT]

    answers = [
        await client.get(address(document_type, document["id"])),
        await client.get(address(document_type)),
        await client.get(address(document_type), params={"fields": ",".join(objects) or "id"}),
        await client.get(f"{address(document_type)}/export/csv"),
    ]

    assert all("canary" not in answer.text for answer in answers)
