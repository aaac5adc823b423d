"""Masks that come back, and what they stand for; pure."""

import copy
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.documents.json_text import dump_json
from service.documents.presenter import Presenter
from service.documents.registry import check_types, registered_types
from service.documents.restorer import NOTHING, Present
from service.documents.values import to_stored
from service.errors import ValidationFailedError
from service.store.schemas import validate_body
from tests.bodies import bodies_of
from tests.everything import Everything

[EVERYTHING] = check_types([Everything])
[USERS] = [known for known in registered_types() if known.name == "users"]
TYPES = [EVERYTHING, USERS]

HOME = {"street": "A", "city": "Rome"}
WORK = {"street": "B", "city": "Bonn"}


def present_of(stored: Mapping[str, Any], document_type: Any = USERS) -> Present:
    """What is there, as it is and as it is seen."""
    whole, seen = (
        orjson.loads(dump_json(Presenter(view.fields.values()).present(copy.deepcopy({"_id": "x", **stored}))))
        for view in (document_type.whole, document_type.masked)
    )
    return Present(whole, seen)


def living_at(*addresses: Any) -> dict[str, Any]:
    return {"profile": {"addresses": list(addresses)}}


def restored(body: Any, present: Present = NOTHING) -> tuple[Any, list[str | None]]:
    """The body, and the pointers of masks that stand for nothing."""
    result = USERS.masked.restorer.restore(body, present)
    assert {fault.code for fault in result.faults} <= {"masked_value"}
    assert USERS.masked.restorer.finds_masks(body) == bool(USERS.masked.restorer.restore(body).faults)
    return result.body, [fault.pointer for fault in result.faults]


@pytest.mark.parametrize("document_type", TYPES, ids=lambda document_type: document_type.name)
@given(data=st.data())
def test_what_is_seen_comes_back_as_what_it_is(document_type: Any, data: st.DataObject) -> None:
    stored = to_stored(data.draw(bodies_of(document_type)), [])
    present = present_of(stored, document_type)

    result = document_type.masked.restorer.restore(present.seen, present)

    assert (result.body, result.faults, result.names_values) == (present.whole, [], False)
    whole = document_type.whole.restorer.restore(present.whole, Present(present.whole, present.whole))
    assert (whole.body, whole.faults) == (present.whole, [])


@given(data=st.data(), count=st.integers(0, 4))
def test_moved_elements_never_get_anothers_value(data: st.DataObject, count: int) -> None:
    homes = [{"street": f"street {number}", "city": data.draw(st.sampled_from("AB"))} for number in range(count)]
    present = present_of(living_at(*homes))
    sent = data.draw(st.lists(st.sampled_from(present.seen["profile"]["addresses"] or [WORK]), max_size=5))

    body, pointers = restored(living_at(*sent), present)

    if not pointers:
        found = [home for home in body["profile"]["addresses"] if home in homes]
        assert [home["city"] for home in body["profile"]["addresses"]] == [home["city"] for home in sent]
        assert len({home["street"] for home in found}) == len(found)
        assert all(homes.index(home) == body["profile"]["addresses"].index(home) for home in found)


@given(data=st.data(), count=st.integers(1, 4))
def test_whatever_is_done_to_an_array_nobody_gets_anothers_value(data: st.DataObject, count: int) -> None:
    """Homes of different cities, which are moved, taken out, changed, and joined by others."""
    homes = [{"street": f"street {number}", "city": f"city {number}"} for number in range(count)]
    present = present_of(living_at(*homes))
    sent = list(zip([home["street"] for home in homes], present.seen["profile"]["addresses"], strict=True))
    for number in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(sent)))
        if place == len(sent):
            sent.append((f"new {number}", {"street": f"new {number}", "city": "city 0"}))
            continue
        street, home = sent.pop(place)
        action = data.draw(st.sampled_from(["take out", "move", "change"]))
        if action != "take out":
            changed = home | ({"city": f"changed {number}"} if action == "change" else {})
            sent.insert(data.draw(st.integers(0, len(sent))) if action == "move" else place, (street, changed))

    body, pointers = restored(living_at(*(home for _, home in sent)), present)

    if not pointers:
        assert [home["street"] for home in body["profile"]["addresses"]] == [street for street, _ in sent]


MASKED_HOME, MASKED_WORK = HOME | {"street": "***"}, WORK | {"street": "***"}


@pytest.mark.parametrize(
    ("sent", "kept", "pointers"),
    [
        ([MASKED_HOME, MASKED_WORK], [HOME, WORK], []),
        ([MASKED_HOME | {"city": "Pisa"}, MASKED_WORK], [HOME | {"city": "Pisa"}, WORK], []),
        ([MASKED_HOME, MASKED_WORK, WORK], [HOME, WORK, WORK], []),
        ([MASKED_HOME], [HOME], []),
        ([WORK, HOME], [WORK, HOME], []),
        ([], [], []),
        ([MASKED_WORK], None, ["0"]),
        ([MASKED_WORK, MASKED_HOME], None, ["0", "1"]),
        ([MASKED_WORK | {"city": "Pisa"}], None, ["0"]),
        ([MASKED_WORK | {"city": "Pisa"}, MASKED_HOME | {"city": "Lyon"}], None, ["0", "1"]),
        ([MASKED_WORK | {"city": "Pisa"}, HOME], None, ["0"]),
        ([MASKED_HOME, MASKED_WORK | {"city": "Pisa"}, WORK], [HOME, WORK | {"city": "Pisa"}, WORK], []),
        ([WORK, MASKED_HOME, MASKED_WORK], None, ["1", "2"]),
        ([MASKED_HOME, MASKED_WORK, MASKED_WORK], None, ["2"]),
        ([HOME | {"street": "****"}, 7, None, ["***"]], [HOME | {"street": "****"}, 7, None, ["***"]], []),
    ],
    ids=[
        *("as they were", "one changed", "one more", "the last left out", "others", "none"),
        *(
            "the first left out",
            "swapped",
            "left out and changed",
            "swapped and changed",
            "left out, changed and added",
        ),
        *("one changed and one added", "put before", "twice", "no objects"),
    ],
)
def test_an_element_is_the_one_at_its_index_or_none(sent: Any, kept: Any, pointers: list[str]) -> None:
    body, found = restored(living_at(*sent), present_of(living_at(HOME, WORK)))

    assert found == [f"/profile/addresses/{index}/street" for index in pointers]
    if kept is not None:
        assert body == living_at(*kept)


def test_one_of_two_that_look_alike_is_not_taken_for_the_other() -> None:
    present = present_of(living_at(HOME, HOME | {"street": "C"}))

    assert restored(living_at(MASKED_HOME), present)[1] == ["/profile/addresses/0/street"]
    assert restored(living_at(MASKED_HOME, WORK), present)[1] == ["/profile/addresses/0/street"]
    assert restored(present.seen, present) == (present.whole, [])


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"email": "a***@example.org"}, []),
        ({"email": "b***@example.org"}, ["/email"]),
        ({"email": "***"}, ["/email"]),
        ({"email": "b@example.org", "name": "***", "profile": None}, []),
        ({"name": "a***@example.org", "profile": {"phone": "***"}}, ["/profile/phone"]),
        ({"profile": {"birthday": "***"}, "email": None}, []),
        ({"profile": "***"}, []),
        ([{"email": "***"}], ["/0/email"]),
    ],
    ids=str,
)
def test_a_mask_stands_only_for_what_it_masks(body: Any, pointers: list[str]) -> None:
    present = present_of({"email": "ada@example.org", "profile": {"birthday": "1815-12-10", "phone": None}})
    assert restored(body, present)[1] == pointers


@pytest.mark.parametrize(
    ("body", "names_values"),
    [
        ({"email": "ada@example.org"}, True),
        ({"email": "a***@example.org"}, False),
        ({"email": None, "name": "x", "profile": {"bio": "y", "phone": None}}, False),
        (living_at(HOME), True),
        (living_at(MASKED_HOME), False),
    ],
    ids=str,
)
def test_it_is_told_whether_private_values_are_named(body: Any, names_values: bool) -> None:  # noqa: FBT001 - a case
    present = present_of({"email": "ada@example.org", **living_at(HOME)})
    assert USERS.masked.restorer.restore(body, present).names_values == names_values


@pytest.mark.parametrize(
    ("sent", "kept", "pointers"),
    [
        (["***", "***"], ["blue", "red"], []),
        (["red", "blue"], ["red", "blue"], []),
        (["red", "red"], ["red", "red"], []),
        ([], [], []),
        (["***"], None, ["/colours/0"]),
        (["***"] * 3, None, ["/colours/0", "/colours/1", "/colours/2"]),
        (["***", "red"], None, ["/colours/0"]),
        (["blue", "***"], None, ["/colours/1"]),
        (["***", "***", "red"], None, ["/colours/0", "/colours/1"]),
    ],
    ids=str,
)
def test_of_a_private_set_there_are_masks_or_values(sent: Any, kept: Any, pointers: list[str]) -> None:
    present = present_of({"colours": ["blue", "red"]}, EVERYTHING)

    result = EVERYTHING.masked.restorer.restore({"colours": sent}, present)

    assert [(fault.pointer, fault.code) for fault in result.faults] == [(one, "masked_value") for one in pointers]
    if kept is not None:
        assert result.body == {"colours": kept}


def test_a_body_is_left_as_it_came() -> None:
    present = present_of({"email": "ada@example.org", **living_at(HOME)})
    body = copy.deepcopy(present.seen)

    restored(body, present)

    assert body == present.seen


names = st.sampled_from(["email", "profile", "addresses", "street", "phone", "birthday", "name"])
odd_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(["***", "a***@b.c", "\ud800"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
)


@given(body=st.dictionaries(names, odd_json), stored=st.dictionaries(names, odd_json))
def test_any_body_is_restored_or_refused(body: Any, stored: Any) -> None:
    present = present_of(to_stored(stored, []))

    assert not is_sound(body, present) or {"email", "name"} <= body.keys()


def is_sound(body: Any, present: Present) -> bool:
    """Whether a body is taken; what is not is refused, and nothing else happens."""
    try:
        validate_body(USERS.masked, body, present)
    except ValidationFailedError:
        return False
    return True


@pytest.mark.parametrize("path", ["email", "profile", "name"])
def test_a_deep_body_is_refused(path: str) -> None:
    body: Any = []
    for _ in range(500):
        body = [body]

    restored({path: body})
    with pytest.raises(ValidationFailedError) as caught:
        validate_body(USERS.masked, {path: body}, present_of(living_at(HOME)))

    assert "too_deep" in {fault.code for fault in caught.value.faults}
