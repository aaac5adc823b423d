"""Writes, lists and walks in any order, against a dict of documents (`tests/model.py`).

Hypothesis chooses what is done; whatever it was, the service and the model say the same of it.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import httpx
import pytest
from bson import ObjectId
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pymongo.asynchronous.collection import AsyncCollection

from service.api.dependencies import Services
from service.store.repository import Repository
from tests.everything import Everything
from tests.model import KINDS, Condition, Document, Place, Query, Refused, complete, duplicates, merge, operate

ADDRESS = "/api/v1/everythings"
MAX_WALKS = 3
"""At once."""

MERGE_PATCHES = ["application/json", "application/merge-patch+json"]
JSON_PATCH = "application/json-patch+json"

Headers = dict[str, str]

LEAVES = [{"number": 1}, {"number": 2, "day": "1899-12-31", "text": "Ab"}, {"day": "2024-02-29", "text": "é"}]
BRANCHES = [{"label": "a"}, {"label": "b", "leaf": None}, *({"label": "b", "leaf": leaf} for leaf in LEAVES)]
POOLS: Mapping[str, Sequence[Any]] = {
    "text": [None, "", "a", "B", "ab", "a.b", "$a", "é", "小", "ｚ", "😀"],
    "integer": [None, -1, 0, 1, 2**53, 2**53 + 1],
    "float_number": [None, -1.5, 0.0, 0.1, 1.0, 1e300],
    "decimal_number": [None, "-2", "0.1", "1", "1.0", "1.10", "1E+3"],
    "boolean": [False, True],
    "day": [None, "1899-12-31", "2024-02-29", "9999-12-31"],
    "moment": [None, "1969-12-31T23:59:59.999Z", "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:00.001Z"],
    "colour": [None, "red", "blue"],
    "level": [None, 1, 2],
    "size": ["small", "large"],
    "texts": [[], ["a"], ["b", "a"], ["", "ab"], ["a", "a", "é"]],
    "integers": [[], [1], [-1, 2], [0, 0]],
    "limit": [0, 1],
    "branch": [None, *BRANCHES],
    "branches": [[], [BRANCHES[0]], [BRANCHES[1], BRANCHES[3]], [BRANCHES[0], BRANCHES[4]]],
}
"""Few values of each field, so that many documents have the same."""

ODD: Mapping[str, Sequence[Any]] = {
    "text": [7, True],
    "integer": ["odd", True, 1.5],
    "float_number": ["odd", False],
    "decimal_number": [True],
    "boolean": ["odd", 7],
    "day": [7, True],
    "moment": [7],
    "colour": [7, "odd"],
    "texts": [7],
}
"""What only somebody with mongosh can write; of another type, so that the order of types matters."""

MISSING = "nothing"
"""Stands for a field that is not there."""

BY_HAND = [(name, value) for name, values in ODD.items() for value in (MISSING, *values)]

TEXTS: Mapping[str, Sequence[str]] = {
    "code": ["c0", "c1", "c2", "c10", "C", ""],
    "left": ["0", "3", "5"],
    "text": ["", "a", "B", "ab", "a.b", "$a", "é", "小", "ｚ", '{"$ne": null}', "7"],
    "integer": ["-1", "0", "+1", "2", "3", "9007199254740992", "9007199254740993"],
    "float_number": ["-1.5", "-0", "0.1", "1e0", "1e300", "2"],
    "decimal_number": ["-2", "0.10", "1", "1.1", "1e3", "1000", ".5"],
    "boolean": ["true", "false"],
    "day": ["1899-12-31", "2024-02-29", "2024-03-01", "9999-12-31"],
    "moment": ["1969-12-31T23:59:59.999Z", "2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00.001", "2030-01-01T00:00Z"],
    "colour": ["red", "blue"],
    "level": ["1", "2"],
    "size": ["small", "large"],
    "texts": ["", "a", "b", "ab", "é"],
    "integers": ["-1", "0", "1", "2"],
    "limit": ["0", "1"],
    "branch.label": ["a", "b"],
    "branch.leaf.number": ["0", "1", "2"],
    "branch.leaf.day": ["1899-12-31", "2024-02-29"],
    "branches.label": ["a", "b"],
    "revision": ["1", "2", "3"],
}
"""What each field is compared with."""

PARTS = ["a", "b", "B", ".", "$", "é", "小", "ab"]
PATTERNS = ["^a", "b$", "a.b", "[aé]", "^.$", "^$", "a|小", "\\.", "^[^a]*$"]
BY_PATTERN = ["code", "text", "colour", "size", "branch.label", "branch.leaf.text", "branches.label"]
ALONE = [path for path in KINDS if not path.startswith("branches.")]
"""Fields that are there or not: one in an array of objects may be both."""

SORTABLE = [path for path in ALONE if KINDS[path] != "object" and path not in {"texts", "integers"}]
MIXED = [path for path in SORTABLE if path in ODD]
SHOWN = ["id", "text", "decimal_number", "texts", "branch", "branch.leaf.day", "branch.label", "branches.leaf.number"]


def conditions_of(path: str) -> list[Condition]:
    """Everything that is asked of a field."""
    texts = TEXTS.get(path, ())
    operators = ["eq", "ne"] if path == "boolean" else ["eq", "ne", "gt", "gte", "lt", "lte"]
    lists = [*texts[:1], *map(",".join, pairwise(texts)), ",".join(texts)] if texts else []
    asked = [(operator, text) for operator in operators for text in texts]
    asked += [(operator, text) for operator in ("in", "nin") for text in lists]
    if KINDS[path] == "text":
        asked += [(operator, part) for operator in ("contains", "startswith") for part in PARTS]
    if path in BY_PATTERN:
        asked += [("regex", pattern) for pattern in PATTERNS]
    if path in ALONE:
        asked += [("exists", "true"), ("exists", "false")]
    return [Condition(path, operator, text) for operator, text in asked]


@dataclass(frozen=True)
class Page:
    """One page of a list, without a cursor."""

    query: Query
    limit: int | None
    skip: int | None
    count: str | None


CODES = st.integers(0, 60).map("c{}".format)
LEFTS, RIGHTS = st.integers(0, 9), st.integers(8, 19)
"""Which now and then are the same, and so refused."""

VALUES = {name: st.sampled_from(pool) for name, pool in POOLS.items()}
USUAL = {name: VALUES[name] for name in ("text", "integer", "decimal_number", "moment", "texts", "branch")}
OTHERS = {name: values for name, values in VALUES.items() if name not in USUAL}
BODIES = st.fixed_dictionaries({"code": CODES, "left": LEFTS, "right": RIGHTS} | USUAL, optional=OTHERS)
NAMES = st.sampled_from(list(POOLS))
BRANCH_PATCHES = st.sampled_from([{"label": "c"}, {"leaf": None}, {"leaf": {"number": 2}}, {"leaf": {"text": None}}])
CHANGES = st.one_of(
    NAMES.flatmap(lambda name: st.tuples(st.just(name), VALUES[name])),
    st.tuples(st.sampled_from([*POOLS, "code", "right"]), st.none()),
    st.tuples(st.just("branch"), BRANCH_PATCHES),
    st.tuples(st.just("code"), CODES),
    st.tuples(st.just("left"), LEFTS),
)
PATCHES = st.lists(CHANGES, max_size=4).map(dict)
OPERATIONS = st.one_of(
    NAMES.flatmap(
        lambda name: st.fixed_dictionaries(
            {"op": st.sampled_from(["add", "replace", "test"]), "path": st.just(f"/{name}"), "value": VALUES[name]}
        )
    ),
    st.sampled_from([*POOLS, "right"]).map(lambda name: {"op": "remove", "path": f"/{name}"}),
    st.sampled_from(
        [
            {"op": "add", "path": "/texts/-", "value": "b"},
            {"op": "remove", "path": "/texts/0"},
            {"op": "remove", "path": "/integers/0"},
            {"op": "copy", "from": "/integer", "path": "/limit"},
            {"op": "copy", "from": "/size", "path": "/text"},
        ]
    ),
)
CONDITIONS = st.sampled_from([path for path in KINDS if conditions_of(path)]).flatmap(
    lambda path: st.sampled_from(conditions_of(path))
)


def sorts(least: int) -> st.SearchStrategy[tuple[str, ...]]:
    """Up to three fields, each in one direction; more often those that hold several types."""
    return st.lists(st.sampled_from([*SORTABLE, *MIXED, *MIXED]), min_size=least, max_size=3, unique=True).flatmap(
        lambda paths: st.tuples(*(st.sampled_from([path, f"-{path}"]) for path in paths))
    )


ALL_FIELDS: tuple[str, ...] = ()
SOME_FIELDS = st.just(ALL_FIELDS) | st.lists(st.sampled_from(SHOWN), max_size=3, unique=True).map(tuple)
SEARCHES = st.none() | st.none() | st.none() | st.sampled_from([*PARTS, "AB", "É", "c1"])
QUERIES = st.builds(Query, st.lists(CONDITIONS, max_size=2).map(tuple), SEARCHES, sorts(0), SOME_FIELDS)
LONG_QUERIES = st.builds(Query, st.lists(CONDITIONS, max_size=1).map(tuple), st.none(), sorts(1), SOME_FIELDS)
"""Of which most have many pages."""

PAGES = st.builds(
    Page,
    QUERIES,
    limit=st.sampled_from([None, 1, 2, 3, 1000]),
    skip=st.sampled_from([None, None, 0, 1, 3, 10_000]),
    count=st.sampled_from([None, "exact", "capped", "estimated", "none"]),
)
IF_MATCH = st.sampled_from([{}, {"If-Match": "*"}, {"If-Match": '"{}"'}, {"If-Match": '"999", "{}"'}])
METHODS = st.sampled_from(["PUT", "PATCH", "DELETE"])
BODY = {"code": "x", "left": 1, "right": 2}


@dataclass(frozen=True)
class Service:
    """The service as a synchronous machine sees it: each request runs the tests' event loop until it is answered."""

    loop: asyncio.AbstractEventLoop
    client: httpx.AsyncClient
    collection: AsyncCollection[dict[str, Any]]
    repository: Repository

    def ask(self, method: str, address: str, **options: Any) -> httpx.Response:
        """The answer."""
        return self.loop.run_until_complete(self.client.request(method, address, **options))

    def update(self, document_id: str, update: Mapping[str, Any]) -> None:
        """What somebody does with mongosh."""
        self.loop.run_until_complete(
            self.collection.update_one({"_id": ObjectId(document_id)}, update, bypass_document_validation=True)
        )

    def load(self, bodies: Sequence[Document]) -> list[str]:
        """The ids of all that there is now."""
        self.loop.run_until_complete(self.collection.delete_many({}))
        return self.loop.run_until_complete(self.repository.load(bodies))


@dataclass
class Walk:
    """A list that is read page by page, while others write."""

    query: Query
    limit: int
    pace: int
    """In how many steps of the machine it takes a page."""
    by_link: bool
    """Whether it follows the header, or takes the cursor from the body."""
    steady: set[str]
    """Documents that have been there, as they are, all along."""
    position: Sequence[Place] | None = None
    """The keys of the last document that was seen, as they were then."""
    cursor: str | None = None
    link: str = ""
    seen: list[str] = field(default_factory=list)


class Documents(RuleBasedStateMachine):
    """What may happen to a collection."""

    known: Bundle[str] = Bundle("known")
    """Ids of documents that are there."""
    gone: Bundle[str] = Bundle("gone")

    def __init__(self, service: Service) -> None:
        super().__init__()
        self.service = service
        self.documents: dict[str, Document] = {}
        self.walks: list[Walk] = []
        self.time = 0

    # Writes

    @initialize(
        target=known,
        values=st.lists(BODIES, min_size=6, max_size=16),
        odd=st.lists(st.sampled_from(BY_HAND), max_size=6),
    )
    def begin(self, values: list[Document], odd: list[tuple[str, Any]]) -> MultipleResults[str]:
        """With some documents, loaded at once; of an empty collection there is little to say."""
        bodies = [body | {"code": f"c{n}", "left": n % 5, "right": 10 + n // 5} for n, body in enumerate(values)]
        ids = self.service.load(bodies)
        items = self.service.ask("GET", ADDRESS, params={"sort": "id"}).json()["items"]
        for document_id, body, item in zip(ids, bodies, items, strict=True):
            times = {name: item[name] for name in ("created_at", "updated_at")}
            check_same(item, complete(body) | times | {"id": document_id, "revision": 1})
            self.documents[document_id] = item
        for document_id, change in zip(ids, odd, strict=False):
            self._write_by_hand(document_id, *change)
        return multiple(*ids)

    @rule(target=known, body=BODIES)
    def create(self, body: Document) -> MultipleResults[str]:
        """POST."""
        response = self.service.ask("POST", ADDRESS, json=body)
        try:
            expected = complete(body)
        except Refused as refusal:
            check_refused(response, refusal)
            return multiple()
        if self._is_duplicate(response, expected, self.documents.values()):
            return multiple()
        assert response.status_code == 201, response.text
        document = response.json()
        document_id: str = document["id"]
        assert document_id not in self.documents
        assert response.headers["location"] == f"{ADDRESS}/{document_id}"
        assert document["created_at"] == document["updated_at"]
        self._keep(response, expected | {"id": document_id, "created_at": document["created_at"], "revision": 1})
        return multiple(document_id)

    @rule(document_id=known, body=BODIES, headers=IF_MATCH)
    def replace(self, document_id: str, body: Document, headers: Headers) -> None:
        """PUT."""
        response = self._ask("PUT", document_id, headers, json=body)
        self._check_change(response, document_id, lambda _: body)

    @rule(document_id=known, patch=PATCHES, headers=IF_MATCH, media_type=st.sampled_from(MERGE_PATCHES))
    def merge(self, document_id: str, patch: Document, headers: Headers, media_type: str) -> None:
        """PATCH of RFC 7396."""
        response = self._ask("PATCH", document_id, headers | {"Content-Type": media_type}, content=json.dumps(patch))
        self._check_change(response, document_id, lambda present: merge(present, patch))

    @rule(document_id=known, operations=st.lists(OPERATIONS, min_size=1, max_size=3), headers=IF_MATCH)
    def operate(self, document_id: str, operations: list[Document], headers: Headers) -> None:
        """PATCH of RFC 6902."""
        revision = {"op": "test", "path": "/revision", "value": self.documents[document_id]["revision"]}
        content = json.dumps([revision, *operations])
        response = self._ask("PATCH", document_id, headers | {"Content-Type": JSON_PATCH}, content=content)
        self._check_change(response, document_id, lambda present: operate(present, [revision, *operations]))

    @rule(document_id=known, change=st.sampled_from(BY_HAND))
    def write_by_hand(self, document_id: str, change: tuple[str, Any]) -> None:
        """What nobody can do but with mongosh: leave a field out, or put another type there."""
        self._write_by_hand(document_id, *change)

    def _write_by_hand(self, document_id: str, name: str, value: Any) -> None:
        document = {key: kept for key, kept in self.documents[document_id].items() if key != name}
        self.service.update(document_id, {"$unset": {name: ""}} if value == MISSING else {"$set": {name: value}})
        self.documents[document_id] = document if value == MISSING else document | {name: value}
        self._disturb(document_id)

    @rule(target=gone, document_id=consumes(known), headers=IF_MATCH)
    def delete(self, document_id: str, headers: Headers) -> str:
        """DELETE."""
        response = self._ask("DELETE", document_id, headers)
        assert (response.status_code, response.content) == (204, b"")
        del self.documents[document_id]
        self._disturb(document_id)
        return document_id

    @rule(document_id=known, method=METHODS, tag=st.sampled_from(['"0"', '"999"', 'W/"1"']))
    def write_to_another_revision(self, document_id: str, method: str, tag: str) -> None:
        """Which changes nothing."""
        response = self._ask(method, document_id, {"If-Match": tag}, json=None if method == "DELETE" else BODY)
        assert response.status_code == 412, response.text
        check_same(response.json()["current"], self.documents[document_id])

    def _ask(self, method: str, document_id: str, headers: Headers, **options: Any) -> httpx.Response:
        """One document's answer; in headers, {} stands for its revision."""
        revision = str(self.documents[document_id]["revision"])
        filled = {name: value.replace("{}", revision) for name, value in headers.items()}
        return self.service.ask(method, f"{ADDRESS}/{document_id}", headers=filled, **options)

    def _check_change(self, response: httpx.Response, document_id: str, change: Callable[[Document], Document]) -> None:
        before = self.documents[document_id]
        try:
            expected = complete(change(before))
        except Refused as refusal:
            check_refused(response, refusal)
            return
        others = [document for document in self.documents.values() if document is not before]
        if self._is_duplicate(response, expected, others):
            return
        assert response.status_code == 200, response.text
        assert response.json()["updated_at"] >= before["updated_at"]
        kept = {"id": document_id, "created_at": before["created_at"], "revision": before["revision"] + 1}
        self._keep(response, expected | kept)

    def _is_duplicate(self, response: httpx.Response, document: Document, others: Iterable[Document]) -> bool:
        """Whether a unique index refuses it; which of several, is MongoDB's choice."""
        conflicts = duplicates(document, others)
        if conflicts:
            assert response.status_code == 409, response.text
            assert response.json()["code"] == "duplicate_value"
            assert {fault["pointer"] for fault in response.json()["errors"]} in conflicts
        return bool(conflicts)

    def _keep(self, response: httpx.Response, expected: Document) -> None:
        """What was written, if that is what is answered."""
        document = response.json()
        check_same(document, expected | {"updated_at": document["updated_at"]})
        assert response.headers["etag"] == f'"{expected["revision"]}"'
        self.documents[document["id"]] = document
        self._disturb(document["id"])

    def _disturb(self, document_id: str) -> None:
        for walk in self.walks:
            walk.steady.discard(document_id)

    # Reads

    @rule(document_id=known, tag=st.sampled_from([None, '"{}"', 'W/"{}"', "*", '"0"']))
    def get(self, document_id: str, tag: str | None) -> None:
        """GET of one."""
        response = self._ask("GET", document_id, {} if tag is None else {"If-None-Match": tag})
        assert response.headers["etag"] == f'"{self.documents[document_id]["revision"]}"'
        if tag in {None, '"0"'}:
            assert response.status_code == 200
            check_same(response.json(), self.documents[document_id])
        else:
            assert (response.status_code, response.content) == (304, b"")

    @rule(document_id=gone, method=st.sampled_from(["GET", "PUT", "PATCH", "DELETE"]))
    def ask_for_what_is_gone(self, document_id: str, method: str) -> None:
        """Whatever is asked of it."""
        body = BODY if method in {"PUT", "PATCH"} else None
        response = self.service.ask(method, f"{ADDRESS}/{document_id}", json=body)
        assert (response.status_code, response.json()["code"]) == (404, "not_found")

    @rule(pages=st.lists(PAGES, min_size=2, max_size=8))
    def ask_for_pages(self, pages: list[Page]) -> None:
        """GET of several lists, as most requests are."""
        for page in pages:
            self._list(page)

    @rule(conditions=st.lists(CONDITIONS, min_size=3, max_size=12))
    def filter_by_each(self, conditions: list[Condition]) -> None:
        """GET of several lists by one condition each."""
        for condition in conditions:
            self._list(Page(Query((condition,), fields=("id",)), limit=None, skip=None, count="none"))

    def _list(self, asked: Page) -> None:
        others = {"limit": asked.limit, "skip": asked.skip, "count": asked.count}
        parameters = [(name, value) for name, value in others.items() if value is not None]
        response = self.service.ask("GET", ADDRESS, params=[*asked.query.parameters, *parameters])
        selected = asked.query.select(self.documents.values())
        page = check_page(response, asked.query, selected[asked.skip or 0 :], asked.limit or 50)
        estimate = "eq" if asked.query.is_filtered else "estimated"
        relation = {"none": None, "estimated": estimate}.get(asked.count or "capped", "eq")
        assert (page["total"], page["total_relation"]) == (len(selected) if relation else None, relation)

    @precondition(lambda self: len(self.walks) < MAX_WALKS)
    @rule(query=LONG_QUERIES, limit=st.integers(1, 3), pace=st.integers(1, 3), by_link=st.booleans())
    def set_out(self, query: Query, limit: int, pace: int, by_link: bool) -> None:  # noqa: FBT001
        """The first page of a walk."""
        response = self.service.ask("GET", ADDRESS, params=[*query.parameters, ("limit", limit), ("count", "exact")])
        selected = query.select(self.documents.values())
        walk = Walk(query, limit, pace, by_link, {document["id"] for document in selected})
        page = self._check_step(walk, response, selected)
        assert (page["total"], page["total_relation"]) == (len(selected), "eq")
        self.walks += [walk] if walk.cursor else []

    @invariant()
    def go_on(self) -> None:
        """The next page of each walk whose turn it is, whatever was done since the last."""
        self.time += 1
        for walk in [walk for walk in self.walks if self.time % walk.pace == 0]:
            parameters = [*walk.query.parameters, ("limit", walk.limit), ("cursor", walk.cursor)]
            options: dict[str, Any] = {} if walk.by_link else {"params": parameters}
            response = self.service.ask("GET", walk.link if walk.by_link else ADDRESS, **options)
            rest = walk.query.select(self.documents.values(), walk.position)
            page = self._check_step(walk, response, rest)
            assert (page["total"], page["total_relation"]) == (None, None)
            if not walk.cursor:
                self.walks.remove(walk)

    def _check_step(self, walk: Walk, response: httpx.Response, rest: Sequence[Document]) -> dict[str, Any]:
        """A page is what comes now after what was seen last, wherever that has gone since."""
        page = check_page(response, walk.query, rest, walk.limit)
        walk.seen += [item["id"] for item in page["items"]]
        walk.cursor = page["next_cursor"]
        if walk.cursor:
            walk.link = response.links["next"]["url"]
            walk.position = walk.query.keys(rest[walk.limit - 1])
            return page
        times = Counter(walk.seen)
        assert all(times[document_id] == 1 for document_id in walk.steady)
        return page


def check_same(answered: Any, expected: Any) -> None:
    """Equal, and not only in what Python takes for equal: 1, 1.0 and true."""
    assert answered == expected
    assert json.dumps(answered, sort_keys=True) == json.dumps(expected, sort_keys=True)


def check_refused(response: httpx.Response, refusal: Refused) -> None:
    assert response.status_code == refusal.status, response.text
    assert {fault["pointer"] for fault in response.json().get("errors", [])} == refusal.pointers


def check_page(response: httpx.Response, query: Query, rest: Sequence[Document], limit: int) -> dict[str, Any]:
    """A page has the first of the rest, and goes on if there are more."""
    assert response.status_code == 200, response.text
    page: dict[str, Any] = response.json()
    check_same(page["items"], [query.show(document) for document in rest[:limit]])
    assert (page["next_cursor"] is not None) == (len(rest) > limit)
    assert ("next" in response.links) == (len(rest) > limit)
    return page


@pytest.fixture
async def service(client: httpx.AsyncClient, services: Services) -> Service:
    """The service, on the loop that its database client belongs to; nothing else runs it during the test."""
    collection = Everything.get_pymongo_collection()
    return Service(asyncio.get_running_loop(), client, collection, services.repositories["everythings"])


@pytest.mark.slow
def test_each_field_is_compared_and_sorted_as_the_model_says(service: Service) -> None:
    machine = Documents(service)
    # An odd number: pages of two, in both directions, then end after each of them.
    machine.begin([{name: pool[n % len(pool)] for name, pool in POOLS.items()} for n in range(35)], BY_HAND)

    for path in KINDS:
        machine.filter_by_each(conditions_of(path))
    for sort in (f"{direction}{path}" for path in SORTABLE for direction in ("", "-")):
        machine.set_out(Query(sort=(sort,)), limit=2, pace=1, by_link=False)
        while machine.walks:
            machine.go_on()


BRIEFLY = (Phase.generate,)
AT_LENGTH = (Phase.generate, Phase.shrink)
"""Once something is wrong, to say it in few steps takes minutes."""


@pytest.mark.parametrize(
    ("examples", "steps", "phases"),
    [
        pytest.param(40, 30, BRIEFLY, id="briefly"),
        pytest.param(200, 50, AT_LENGTH, id="at length", marks=pytest.mark.slow),
    ],
)
def test_whatever_is_done_the_service_says_what_the_model_says(
    service: Service, examples: int, steps: int, phases: tuple[Phase, ...]
) -> None:
    run_state_machine_as_test(
        lambda: Documents(service),  # type: ignore[arg-type]  # it calls this, says its documentation
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            phases=phases,
            report_multiple_bugs=False,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
