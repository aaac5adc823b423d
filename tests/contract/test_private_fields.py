"""What nobody sees without the scope: one canary in each private field, and every route, file and parameter."""

import io
import json
from collections.abc import Callable
from typing import Any

import httpx
import pyarrow as pa
from fastapi import FastAPI
from jsonschema import Draft202012Validator
from pyarrow import parquet

from service.documents.fields import parents_of
from service.documents.registry import DocumentType
from service.store.operators import OPERATORS
from tests.canaries import TRACES, assert_masked, every_type, said, traces_in, with_canaries
from tests.conftest import TYPES, CommandRecorder
from tests.contract.test_documents import address, bodies, create, without_server_fields
from tests.contract.test_exports import FORMATS
from tests.contract.test_imports import MEDIA_TYPES
from tests.contract.test_schemas import assert_as_published

JSON_PATCH = {"Content-Type": "application/json-patch+json"}
[USERS] = [known for known in TYPES if known.name == "users"]


# Every route


class Visitor:
    """Asks every route of a type for the one document that there is, and keeps what they answer."""

    def __init__(self, client: httpx.AsyncClient, document_type: DocumentType) -> None:
        self._client = client
        self._type = document_type
        self._path = address(document_type)
        self.answers: list[tuple[str, str, httpx.Response]] = []
        """The route's method and path, and its answer."""

    async def read(self) -> None:
        """All routes that read."""
        fields = self._type.masked.fields
        await self._ask("GET", "/schema")
        for params in ({}, {"q": "canary"}, {"q": "a", "limit": "1"}, *({"fields": path} for path in fields)):
            await self._ask("GET", params=params)
        [document] = self.answers[-1][2].json()["items"]
        await self._ask("GET", "/{document_id}", f"/{document['id']}")
        await self._files()

    async def write(self) -> None:
        """All routes that write; the one that deletes comes last."""
        [document] = (await self._client.get(self._path)).json()["items"]
        await self._imports(document["id"])
        await self._ask("POST", json=without_server_fields(document))
        await self._one(f"/{document['id']}", without_server_fields(document))

    async def _one(self, place: str, body: dict[str, Any]) -> None:
        route, stale = "/{document_id}", {"If-Match": '"77"'}
        for sent in (body, body | {"nonsense": 1}):
            await self._ask("PUT", route, place, json=sent)
        test = json.dumps([{"op": "test", "path": "", "value": 1}])
        await self._ask("PATCH", route, place, content=test, headers=JSON_PATCH)
        for method in ("PUT", "PATCH", "DELETE"):
            options: dict[str, Any] = {} if method == "DELETE" else {"json": body}
            await self._ask(method, route, place, headers=stale, **options)
            await self._ask(method, route, place, **options)

    async def _files(self) -> None:
        fields = self._type.masked.fields
        arrays = [
            path
            for path, field in fields.items()
            if field.is_array
            and not field.is_masked
            and not fields.get(path.rpartition(".")[0], fields["id"]).is_repeated
        ]
        every: list[dict[str, str]] = [{}, {"fields": ",".join(self._type.masked.masks)}]
        for name in FORMATS:
            for params in every + [{"explode": path} for path in arrays]:
                answer = await self._ask("GET", "/export/{format_name}", f"/export/{name}", params=params)
                await self._record("exports", answer.headers["Export-Id"])
        for name in ("csv", "xlsx"):
            await self._ask("GET", "/import/template/{format_name}", f"/import/template/{name}")

    async def _imports(self, document_id: str) -> None:
        lines = [{"id": document_id}, {"id": document_id, "nonsense": 1}]
        for accept, on_error in (("application/json", "abort"), ("text/csv", "skip")):
            answer = await self._ask(
                "POST",
                "/import",
                content="\n".join(map(json.dumps, lines)),
                params={"mode": "upsert", "on_error": on_error},
                headers={"Content-Type": MEDIA_TYPES["ndjson"], "Accept": accept},
            )
            await self._record("imports", answer.headers["Import-Id"])

    async def _record(self, name: str, key: str) -> None:
        self.answers.append(("GET", name, await self._client.get(f"/api/v1/{name}/{key}")))

    async def _ask(self, method: str, route: str = "", place: str = "", **options: Any) -> httpx.Response:
        answer = await self._client.request(method, self._path + (place or route), **options)
        self.answers.append((method, self._path + route, answer))
        return answer


def assert_all_masked(document_type: DocumentType, answer: httpx.Response) -> None:
    """Whatever documents there are in an answer of JSON."""
    if answer.headers.get("content-type", "").endswith("json"):
        values = map(json.loads, answer.text.splitlines() if "/ndjson" in answer.url.path else [answer.text])
        for shown in values:
            found = shown if isinstance(shown, list) else [shown, *shown.get("items", []), shown.get("current", {})]
            for document in found:
                assert_masked(document_type, document)


@every_type
async def test_no_route_shows_a_private_value(
    app: FastAPI,
    client: httpx.AsyncClient,
    document_type: DocumentType,
    unprivileged: Callable[[], None],
    privileged: Callable[[], None],
) -> None:
    body = with_canaries(document_type)
    collection = document_type.document_class.get_pymongo_collection()
    await create(client, document_type, body)
    [stored] = await collection.find().to_list()
    unprivileged()
    masked = Visitor(client, document_type)
    await masked.read()
    await masked.write()

    assert [(method, str(answer.url)) for method, _, answer in masked.answers if traces_in(answer)] == []
    assert [answer.json() for _, _, answer in masked.answers if answer.status_code in {401, 403, 500}] == []
    for _, route, answer in masked.answers:
        if not route.endswith("/schema"):
            assert_all_masked(document_type, answer)
    routes = {
        (method.upper(), path)
        for path, operations in app.openapi()["paths"].items()
        for method in operations
        if path.startswith(f"{address(document_type)}")
    }
    assert routes == {(method, route) for method, route, _ in masked.answers if route.startswith("/")}

    await collection.insert_one(stored, bypass_document_validation=True)
    privileged()
    whole = Visitor(client, document_type)
    await whole.read()
    everything = {trace for trace in TRACES if trace in json.dumps(body)}
    for route in ("", "/{document_id}"):
        answers = [answer for _, found, answer in whole.answers if found == address(document_type) + route]
        assert set().union(*map(traces_in, answers)) == everything, route
    for name in FORMATS:
        files = [answer for *_, answer in whole.answers if answer.url.path.endswith(f"/export/{name}")]
        assert set().union(*map(traces_in, files)) == everything, name


@every_type
async def test_what_is_masked_is_as_published(
    app: FastAPI, client: httpx.AsyncClient, document_type: DocumentType, unprivileged: Callable[[], None]
) -> None:
    document = await create(client, document_type, with_canaries(document_type))
    unprivileged()
    many, one = address(document_type), address(document_type, "{document_id}")
    place = address(document_type, document["id"])

    seen = await client.get(place)
    assert_as_published(app, one, seen)
    assert_as_published(app, many, await client.get(many))
    for path in document_type.masked.fields:
        assert_as_published(app, many, await client.get(many, params={"fields": path}))
    assert_as_published(app, many, await client.get(many, params={"sort": next(iter(document_type.masked.masks))}))
    assert_as_published(app, one, await client.put(place, json=seen.json()))
    assert_as_published(app, one, await client.put(place, json=seen.json(), headers={"If-Match": '"1"'}))
    assert_as_published(app, one, await client.patch(place, json={}))
    schema = (await client.get(address(document_type, "schema"))).json()
    assert [fault.message for fault in Draft202012Validator(schema).iter_errors(seen.json())] == []


@every_type
async def test_what_is_masked_has_a_tag_of_its_own(
    client: httpx.AsyncClient, document_type: DocumentType, unprivileged: Callable[[], None]
) -> None:
    created = await client.post(address(document_type), json=next(bodies(document_type, 1)))
    place = address(document_type, created.json()["id"])
    whole = created.headers["etag"]
    unprivileged()

    masked = await client.get(place, headers={"If-None-Match": whole})

    assert (masked.status_code, whole, masked.headers["etag"]) == (200, '"1"', '"1-masked"')
    again = await client.get(place, headers={"If-None-Match": f'{whole}, "1-masked"'})
    assert (again.status_code, again.headers["etag"]) == (304, '"1-masked"')
    for number, tag in enumerate(('"1"', '"2-masked"'), start=2):
        answer = await client.put(place, json=masked.json(), headers={"If-Match": tag})
        assert (answer.status_code, answer.headers["etag"]) == (200, f'"{number}-masked"')
    stale = await client.patch(place, json={}, headers={"If-Match": '"1-masked"'})
    assert (stale.status_code, stale.headers["etag"]) == (412, '"3-masked"')


@every_type
async def test_a_masked_column_of_parquet_is_text(
    client: httpx.AsyncClient, document_type: DocumentType, unprivileged: Callable[[], None]
) -> None:
    await create(client, document_type, with_canaries(document_type))
    unprivileged()
    masks = document_type.masked.masks
    response = await client.get(f"{address(document_type)}/export/parquet", params={"fields": ",".join(masks)})

    table = parquet.read_table(io.BytesIO(response.content))

    for (path, mask), column in zip(masks.items(), table.schema, strict=True):
        texts: Any = pa.string()
        for _ in [above for above in (*parents_of(path), path) if document_type.fields[above].is_array]:
            texts = pa.list_(texts)
        [value] = table[column.name].to_pylist()
        assert (column.name.replace("[]", ""), column.type) == (path, texts)
        assert value is None or all(mask.is_mask(text) for text in said(value).split() if text != "None")


# Every parameter


@every_type
async def test_nothing_depends_on_a_private_value(
    client: httpx.AsyncClient, document_type: DocumentType, unprivileged: Callable[[], None], recorder: CommandRecorder
) -> None:
    unprivileged()
    await client.get(address(document_type))  # so that the account is known
    recorder.commands.clear()
    hidden = [path for path in document_type.fields if document_type.masked.hides(path)]
    asked = [
        *((f"{path}__{operator}", "x") for path in hidden for operator in OPERATORS),
        *((path, "") for path in hidden if path != "limit"),
        *(("sort", f"{direction}{path}") for path in hidden for direction in ("", "-")),
    ]
    exploded = [("explode", path) for path in hidden]
    below = [("fields", path) for path in hidden if path not in document_type.masked.fields]

    for route, parameters in {
        "": [*asked, *below],
        "/export/csv": [*asked, *below, *exploded],
        "/import": [*(("key", path) for path in hidden), *exploded],
    }.items():
        for name, value in parameters:
            method = "POST" if route == "/import" else "GET"
            response = await client.request(method, address(document_type) + route, params={name: value})
            assert (response.status_code, response.json()["code"]) == (403, "private_field"), (route, name, value)
            assert [fault["parameter"] for fault in response.json()["errors"]] == [name]
    assert recorder.names == []


async def test_a_cursor_of_whoever_sees_all_is_no_way_in(
    client: httpx.AsyncClient, unprivileged: Callable[[], None]
) -> None:
    for body in bodies(USERS, 3):
        await create(client, USERS, body)
    by_email = {"sort": "email", "limit": "1"}
    of_search = {"q": "e", "limit": "1"}
    cursors = [
        (await client.get(address(USERS), params=params)).json()["next_cursor"] for params in (by_email, of_search)
    ]
    unprivileged()

    first = await client.get(address(USERS), params=by_email | {"cursor": cursors[0]})
    second = await client.get(address(USERS), params=of_search | {"cursor": cursors[1]})

    assert (first.status_code, first.json()["code"]) == (403, "private_field")
    assert (second.status_code, second.json()["code"]) == (400, "invalid_query")


async def test_a_search_finds_nobody_by_a_private_value(
    client: httpx.AsyncClient, unprivileged: Callable[[], None]
) -> None:
    await create(client, USERS, {"name": "Ada", "email": "ada@canary.org"})
    assert (await client.get(address(USERS), params={"q": "canary"})).json()["total"] == 1
    unprivileged()

    assert (await client.get(address(USERS), params={"q": "canary"})).json()["total"] == 0
    assert (await client.get(address(USERS), params={"q": "ADA"})).json()["total"] == 1
