"""Query strings, checked against a type and turned into MongoDB's queries."""

import json
from datetime import datetime
from typing import Any

import pytest
from bson import Decimal128, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from service.documents.registry import DocumentType
from service.errors import Fault, InvalidQueryError
from service.store.query import ListQuery, QueryString, Selection, read_list_query, stored_path
from tests.everything import Everything
from tests.unit.made_up import record_class

TYPE = DocumentType(Everything)
ID = "0123456789abcdef01234567"


def read(*parameters: tuple[str, str]) -> ListQuery:
    return read_list_query(TYPE.whole, parameters)


def faults_of(*parameters: tuple[str, str]) -> tuple[Fault, ...]:
    with pytest.raises(InvalidQueryError) as caught:
        read(*parameters)
    return caught.value.faults


def codes(*parameters: tuple[str, str]) -> list[tuple[str | None, str]]:
    return [(fault.parameter, fault.code) for fault in faults_of(*parameters)]


def test_nothing_asked_for_is_the_first_page_of_all() -> None:
    assert read() == ListQuery(Selection({}, (("_id", 1),), ()), limit=50, skip=0, cursor=None, count="capped")


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("code", "", ""),
        ("code", "北京", "北京"),
        ("left", "-3", -3),
        ("float_number", "1e3", 1000.0),
        ("decimal_number", "1.10", Decimal128("1.10")),
        ("boolean", "true", True),
        ("day", "2024-02-29", datetime(2024, 2, 29)),  # noqa: DTZ001 - as BSON has it
        ("moment", "2026-11-22T10:30:00 01:00", datetime(2026, 11, 22, 9, 30)),  # noqa: DTZ001
        ("created_at", "2026-11-22T10:30:00Z", datetime(2026, 11, 22, 10, 30)),  # noqa: DTZ001
        ("revision", "1", 1),
        ("reference", ID, ObjectId(ID)),
        ("email", "A@B.example", "a@b.example"),
        ("colour", "red", "red"),
        ("level", "2", 2),
        ("size", "large", "large"),
        ("texts", "a", "a"),
        ("colours", "blue", "blue"),
        ("branch.leaf.day", "1900-01-01", datetime(1900, 1, 1)),  # noqa: DTZ001
        ("branches.leaf.number", "7", 7),
    ],
)
@pytest.mark.parametrize("suffix", ["", "__eq"])
def test_a_filter_compares_as_the_type_of_its_field(path: str, text: str, value: Any, suffix: str) -> None:
    query = read((path + suffix, text))

    assert query.selection.filter == {"$and": [{path: {"$eq": value}}]}


def test_a_filter_by_id_is_one_by_the_stored_id() -> None:
    assert read(("id", ID)).selection.filter == {"$and": [{"_id": {"$eq": ObjectId(ID)}}]}
    assert stored_path("id") == "_id"
    assert stored_path("branch.id") == "branch.id"


def test_a_repeated_filter_means_and() -> None:
    query = read(("texts", "a"), ("texts", "b"), ("texts__eq", "c"))

    assert query.selection.filter == {"$and": [{"texts": {"$eq": text}} for text in "abc"]}


def test_a_field_that_is_named_like_a_parameter_is_filtered_with_its_operator() -> None:
    query = read(("limit", "7"), ("limit__eq", "3"))

    assert query.limit == 7
    assert query.selection.filter == {"$and": [{"limit": {"$eq": 3}}]}


@pytest.mark.parametrize(
    "text", ['{"$ne": null}', "$$ROOT", "$gt", '["$gt"]', "{$where: 'sleep(1000)'}", "/.*/", "a,b"]
)
def test_operators_in_values_stay_text(text: str) -> None:
    query = read(("code", text), ("q", text))

    equal, search = query.selection.filter["$and"][1], query.selection.filter["$and"][0]
    assert equal == {"code": {"$eq": text}}
    assert all(list(clause.values())[0].keys() == {"$regex", "$options"} for clause in search["$or"])  # noqa: RUF015


@given(st.lists(st.tuples(st.sampled_from([*TYPE.fields, "q", "sort", "fields", "limit"]) | st.text(), st.text())))
def test_whatever_is_asked_the_query_has_only_operators_of_ours(parameters: list[tuple[str, str]]) -> None:
    try:
        query = read(*parameters)
    except InvalidQueryError as error:
        assert {fault.parameter for fault in error.faults} <= set(dict(parameters))  # noqa: PT017
    else:
        allowed = {"$and", "$or", "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$regex", "$options"}
        assert operators_in(query.selection.filter) <= allowed
        assert dict(query.selection.sort).keys() & {"_id", "code"}


def operators_in(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(operators_in, value))
    if isinstance(value, dict):
        return {key for key in value if key.startswith("$")}.union(*map(operators_in, value.values()))
    return set()


@pytest.mark.parametrize(
    "name",
    [
        "nothing",
        "_id",
        "_id__eq",
        "Code",
        "code.",
        "code.x",
        "branch.nothing",
        "branches.0.label",
        "code[$ne]",
        "$where",
        "$or",
        "",
        "__eq",
        "password_hash",
    ],
)
def test_an_unknown_parameter_is_refused(name: str) -> None:
    assert codes((name, "x")) == [(name, "unknown_parameter")]


@pytest.mark.parametrize("name", ["code__near", "code__$ne", "code__eq__eq", "code__EQ", "code__"])
def test_an_unknown_operator_is_refused(name: str) -> None:
    assert codes((name, "x")) == [(name, "unknown_operator")]


@pytest.mark.parametrize("name", ["branch", "branches", "free", "matrix", "branch.leaf"])
def test_what_holds_values_is_not_filtered_itself(name: str) -> None:
    assert codes((name, "x")) == [(name, "not_filterable")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("left", "1.0"),
        ("left", "9223372036854775808"),
        ("float_number", "nan"),
        ("decimal_number", "1" * 35),
        ("boolean", "yes"),
        ("day", "2026-02-30"),
        ("moment", "yesterday"),
        ("id", "1"),
        ("reference", '{"$ne": ""}'),
        ("colour", "green"),
        ("level", "3"),
        ("integers", "a"),
        ("branch.leaf.number", "x"),
        ("created_at", "2026-01-01T00:00:00.0001Z"),
    ],
)
def test_a_value_of_another_type_is_refused_with_a_reason(name: str, text: str) -> None:
    (fault,) = faults_of((name, text))

    assert (fault.parameter, fault.code) == (name, "invalid_value")
    assert fault.message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("limit", "0"),
        ("limit", "1001"),
        ("limit", "-1"),
        ("limit", ""),
        ("limit", "ten"),
        ("limit", "1.0"),
        ("limit", "+1"),
        ("limit", "١"),
        ("limit", "²"),
        ("limit", "9" * 5000),
        ("skip", "-1"),
        ("skip", "10001"),
        ("count", "all"),
        ("count", ""),
        ("q_mode", "glob"),
        ("q", ""),
        ("q", "x" * 129),
    ],
)
def test_a_parameter_out_of_its_bounds_is_refused(name: str, text: str) -> None:
    assert codes((name, text)) == [(name, "invalid_value")]


@pytest.mark.parametrize(("limit", "skip"), [("1", "0"), ("1000", "10000")])
def test_the_bounds_themselves_are_taken(limit: str, skip: str) -> None:
    query = read(("limit", limit), ("skip", skip))

    assert (query.limit, query.skip) == (int(limit), int(skip))


@pytest.mark.parametrize("mode", ["capped", "exact", "none"])
def test_a_total_may_be_counted_in_these_ways(mode: str) -> None:
    assert read(("count", mode)).count == mode


@pytest.mark.parametrize("name", ["limit", "skip", "count", "sort", "fields", "q", "q_mode"])
def test_a_parameter_comes_at_most_once(name: str) -> None:
    text = {"limit": "1", "skip": "1", "count": "none", "sort": "code", "fields": "code", "q": "x", "q_mode": "text"}[
        name
    ]

    assert codes((name, text), (name, text)) == [(name, "repeated_parameter")]


def test_all_faults_come_together_each_with_its_parameter() -> None:
    found = codes(
        ("limit", "0"),
        ("skip", "x"),
        ("count", "all"),
        ("sort", "nothing,texts"),
        ("fields", "nowhere"),
        ("q", "(a"),
        ("q_mode", "regex"),
        ("nothing", "1"),
        ("left", "x"),
        ("code__near", "x"),
        ("branch", "x"),
    )

    assert sorted(found, key=str) == sorted(
        [
            ("limit", "invalid_value"),
            ("skip", "invalid_value"),
            ("count", "invalid_value"),
            ("sort", "unknown_field"),
            ("sort", "not_sortable"),
            ("fields", "unknown_field"),
            ("q", "refused_pattern"),
            ("nothing", "unknown_parameter"),
            ("left", "invalid_value"),
            ("code__near", "unknown_operator"),
            ("branch", "not_filterable"),
        ],
        key=str,
    )


@pytest.mark.parametrize(
    ("sort", "keys"),
    [
        ("code", (("code", 1),)),  # which is unique, so that no ties are left
        ("-created_at,code", (("created_at", -1), ("code", 1))),
        ("-created_at", (("created_at", -1), ("_id", -1))),
        ("branch.leaf.day", (("branch.leaf.day", 1), ("_id", 1))),
        ("id", (("_id", 1),)),
        ("-id", (("_id", -1),)),
        ("left,right,-id", (("left", 1), ("right", 1), ("_id", -1))),
        ("left,right,code", (("left", 1), ("right", 1), ("code", 1))),
    ],
)
def test_the_id_always_breaks_ties(sort: str, keys: tuple[tuple[str, int], ...]) -> None:
    assert read(("sort", sort)).selection.sort == keys


@pytest.mark.parametrize(
    ("sort", "code"),
    [
        ("", "unknown_field"),
        ("-", "unknown_field"),
        ("code,", "unknown_field"),
        ("--code", "unknown_field"),
        ("+code", "unknown_field"),
        ("_id", "unknown_field"),
        ("$natural", "unknown_field"),
        ("texts", "not_sortable"),
        ("branches.label", "not_sortable"),
        ("branch", "not_sortable"),
        ("free", "not_sortable"),
        ("code,-code", "repeated_field"),
        ("code,left,right,integer", "too_many_fields"),
    ],
)
def test_a_sort_that_cannot_be_done_is_refused(sort: str, code: str) -> None:
    assert codes(("sort", sort)) == [("sort", code)]


def test_fields_are_kept_in_the_order_asked_for() -> None:
    assert read(("fields", "text,branch.leaf.day,id")).selection.fields == ("text", "branch.leaf.day", "id")


@pytest.mark.parametrize(
    ("fields", "code"),
    [("", "unknown_field"), ("code,", "unknown_field"), ("_id", "unknown_field"), ("code,code", "repeated_field")],
)
def test_fields_that_are_not_there_are_refused(fields: str, code: str) -> None:
    assert codes(("fields", fields)) == [("fields", code)]


def test_a_search_looks_in_every_search_field() -> None:
    (search,) = read(("q", "a.b")).selection.filter["$and"]

    assert search == {"$or": [{path: {"$regex": r"a\.b", "$options": "i"}} for path in TYPE.search]}


def test_a_search_by_pattern_sends_the_pattern() -> None:
    (search,) = read(("q", "^a.b"), ("q_mode", "regex")).selection.filter["$and"]

    assert search["$or"][0] == {"code": {"$regex": "^a.b", "$options": "i"}}


def test_a_pattern_is_checked_for_the_longest_text_of_the_search_fields() -> None:
    assert codes(("q", "a.*b.*c"), ("q_mode", "regex")) == [("q", "refused_pattern")]  # `text` has 1000 characters
    assert read(("q", "a.*b"), ("q_mode", "regex")).selection.filter


def test_what_is_no_pattern_is_found_as_text() -> None:
    assert read(("q", "(a")).selection.filter


def test_a_type_without_search_fields_refuses_a_search() -> None:
    document_type = DocumentType(record_class({"code": str}))

    with pytest.raises(InvalidQueryError) as caught:
        read_list_query(document_type.whole, [("q", "a")])

    assert [(fault.parameter, fault.code) for fault in caught.value.faults] == [("q", "no_search")]


def test_the_answer_names_the_parameters() -> None:
    with pytest.raises(InvalidQueryError) as caught:
        read(("limit", "0"), ("nothing", "1"))

    body = json.loads(bytes(caught.value.response().body))
    assert (body["status"], body["code"]) == (400, "invalid_query")
    assert [error["parameter"] for error in body["errors"]] == ["limit", "nothing"]


@pytest.mark.parametrize(
    ("text", "value", "code"),
    [("true", True, None), ("false", False, None), (None, False, None), ("1", False, "invalid_value")],
)
def test_a_switch_is_true_or_false(text: str | None, value: bool, code: str | None) -> None:  # noqa: FBT001
    query = QueryString(TYPE.whole, [("bom", text)] if text is not None else [])

    assert query.boolean("bom") is value
    assert finish(query) == ([code] if code else [])


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("texts", None),
        ("branches", None),
        ("branch.leaf.moments", None),
        ("branches.days", "not_an_array"),
        ("branches.leaf.moments", "not_an_array"),
        ("branch", "not_an_array"),
        ("code", "not_an_array"),
        ("nothing", "unknown_field"),
        ("", "unknown_field"),
    ],
)
def test_an_array_is_exploded_unless_it_is_inside_of_another(path: str, code: str | None) -> None:
    query = QueryString(TYPE.whole, [("explode", path)])

    query.array("explode")

    assert finish(query) == ([code] if code else [])


def finish(query: QueryString) -> list[str]:
    try:
        query.finish()
    except InvalidQueryError as error:
        return [fault.code for fault in error.faults]
    return []
