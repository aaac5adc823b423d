"""Conditional requests: entity tags and what they name."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from fastapi import Request

from service.api.conditions import if_match, is_not_modified
from service.errors import InvalidHeaderError
from service.store.repository import entity_tag


def request(header: str, *values: str) -> Request:
    headers = [(header.encode(), value.encode("latin-1")) for value in values]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers})


def test_the_tag_of_a_document_is_its_revision_in_quotes() -> None:
    assert entity_tag({"revision": 7}) == '"7"'
    assert entity_tag({"revision": 7}, is_masked=True) == '"7-masked"'


def test_a_document_that_somebody_wrote_without_a_revision_has_the_tag_zero() -> None:
    assert entity_tag({}) == '"0"'
    assert is_not_modified(request("if-none-match", '"0"'), {})
    assert if_match(request("if-match", '"0"')) == frozenset({0})


@pytest.mark.parametrize(
    ("values", "revisions"),
    [
        ([], None),
        (["*"], None),
        ([" * "], None),
        (['"3"'], {3}),
        ([' "3" '], {3}),
        (['"3", "4"'], {3, 4}),
        (['"3","4"'], {3, 4}),
        (['"3"', '"4"'], {3, 4}),
        (['"999999999999999999"'], {999_999_999_999_999_999}),
        (['W/"3"'], set()),
        (['W/"3", "4"'], {4}),
        (['"abc"'], set()),
        (['""'], set()),
        (['"03"'], set()),
        (['"-3"'], set()),
        (['"3.0"'], set()),
        (['"9999999999999999999999"'], set()),
        (['"é"'], set()),
        (['"a,b", "3"'], {3}),
        (['"3-masked", "4"'], {3, 4}),
        (['"3-hidden"', '"3-"', '"-masked"', '"3-masked-masked"'], set()),
        (['"3",'], {3}),
        ([', "3" , , "4"'], {3, 4}),
    ],
)
def test_a_write_names_the_revisions_that_it_may_replace(values: list[str], revisions: set[int] | None) -> None:
    found = if_match(request("if-match", *values))

    assert (found if found is None else set(found)) == revisions


@pytest.mark.parametrize(
    "values",
    [[""], ["3"], ['"3'], ['3"'], ['"3" "4"'], ["'3'"], ['w/"3"'], ['"3", *'], ["*", "*"], ['"a b"'], ['W/ "3"']],
)
@pytest.mark.parametrize("header", ["if-match", "if-none-match"])
def test_what_is_no_entity_tag_is_refused_with_the_name_of_the_header(header: str, values: list[str]) -> None:
    read: Callable[[Request], Any] = (
        if_match if header == "if-match" else partial(is_not_modified, document={"revision": 3})
    )

    with pytest.raises(InvalidHeaderError, match=header.title()):
        read(request(header, *values))


@pytest.mark.parametrize(
    ("values", "is_known"),
    [
        ([], False),
        (["*"], True),
        (['"3"'], True),
        (['W/"3"'], True),
        (['"2", W/"3"'], True),
        (['"2"', '"3"'], True),
        (['"2"'], False),
        (['"03"'], False),
        (['"x"'], False),
    ],
)
def test_a_reader_who_has_this_revision_need_not_get_it_again(values: list[str], is_known: bool) -> None:  # noqa: FBT001
    assert is_not_modified(request("if-none-match", *values), {"revision": 3}) is is_known


@pytest.mark.parametrize(
    ("values", "is_masked", "is_known"),
    [
        (['"3-masked"'], True, True),
        (['W/"3-masked"'], True, True),
        (['"3"'], True, False),
        (['"3-masked"'], False, False),
        (['"3", "3-masked"'], True, True),
        (["*"], True, True),
    ],
)
def test_what_was_seen_masked_is_another_answer(values: list[str], is_masked: bool, is_known: bool) -> None:  # noqa: FBT001
    found = is_not_modified(request("if-none-match", *values), {"revision": 3}, is_masked=is_masked)
    assert found is is_known
