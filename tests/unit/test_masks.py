"""What stands for private values, and how start-up refuses what cannot."""

import pickle
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

import pytest
from hypothesis import given
from pydantic import Field as Info

from service.documents.base import Email, Private
from service.documents.introspection import fields_of
from service.documents.masks import PLAIN, EmailMask, FixedMask, Mask
from service.documents.presenter import Presenter
from service.documents.registry import DocumentType, type_faults
from tests.bodies import emails
from tests.unit.made_up import named, odd_values, part_class, record_class

WRONG: list[Any] = [EmailMask, lambda: "***"]
"""No masks at all."""

MASKS: list[Mask] = [PLAIN, EmailMask(), FixedMask("hidden")]


@dataclass(frozen=True)
class Forgetful:
    """Does not know its own masks."""

    def mask(self, value: Any) -> str:
        """A text."""
        return f"<{value}>"

    def is_mask(self, text: str) -> bool:
        """Never."""
        return not text


class Empty(FixedMask):
    """Is false, as an empty container is."""

    def __len__(self) -> int:
        """Nothing."""
        return 0


class Initial(FixedMask):
    """Fits texts only."""

    def mask(self, value: Any) -> str:
        """The first character."""
        first: str = value[0]
        return first

    def is_mask(self, text: str) -> bool:
        """One character."""
        return len(text) == 1


class Number(FixedMask):
    """No text at all."""

    def mask(self, value: Any) -> Any:  # noqa: ARG002 - Mask's signature
        """Seven."""
        return 7


class Broken(Forgetful):
    """Takes nothing."""

    def mask(self, value: Any) -> str:
        """Fails."""
        raise ValueError(f"{value}!")


@pytest.mark.parametrize(
    ("value", "masked"),
    [
        ("ada@example.com", "a***@example.com"),
        ("a@b.c", "a***@b.c"),
        ("小@例え.jp", "小***@例え.jp"),
        ("nobody", "***"),
        ("", "***"),
        ("my secret @ home", "***"),
        ("a@b@c", "***"),
        ("@b.c", "***"),
        ("a@", "***"),
        (7, "***"),
        (["ada@example.com"], "***"),
    ],
)
def test_of_an_email_its_first_character_and_its_domain_are_seen(value: Any, masked: str) -> None:
    assert EmailMask().mask(value) == masked
    assert not EmailMask().is_mask("ada@example.com")


@pytest.mark.parametrize("mask", MASKS, ids=str)
@given(value=odd_values().filter(lambda value: value is not None) | emails)
def test_a_mask_is_known_again_and_masks_itself(mask: Mask, value: Any) -> None:
    text = mask.mask(value)
    assert mask.is_mask(text)
    assert mask.mask(text) == text
    assert pickle.loads(pickle.dumps(mask)) == mask


@pytest.mark.parametrize(
    ("annotation", "mask"),
    [
        (Annotated[str, Private()], PLAIN),
        (Annotated[str, Info(max_length=3), Private()], PLAIN),
        (Annotated[str, Private(), Info(max_length=3)] | None, PLAIN),
        (Annotated[date | None, Private()], PLAIN),
        (Annotated[Email, Private()], EmailMask()),
        (Annotated[Email, Private()] | None, EmailMask()),
        (Annotated[list[Email], Private()], EmailMask()),
        (list[Annotated[Email, Private()]], EmailMask()),
        (Annotated[Email, Private(PLAIN)], PLAIN),
        (Annotated[Annotated[Email, Private()], Private(PLAIN)] | None, PLAIN),
        (Annotated[dict[str, Any], Private()], PLAIN),
        (Annotated[list[list[int]], Private(FixedMask("?"))], FixedMask("?")),
        (Annotated[Any, Private()], PLAIN),
        (Email, None),
    ],
    ids=named,
)
def test_a_field_is_marked_wherever_the_mark_stands(annotation: Any, mask: Mask | None) -> None:
    assert fields_of(record_class({"field": annotation}))["field"].mask == mask


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"field": Annotated[str, Private]}, "field 'field': it is marked by Private(), not by Private"),
        ({"field": dict[str, Annotated[str, Private()]]}, "field 'field': of an array of arrays, or a dict, all is"),
        ({"field": list[list[Annotated[str, Private()]]]}, "field 'field': of an array of arrays, or a dict, all is"),
        ({"revision": (Annotated[int, Private()], 1)}, "field 'revision': the server's own fields are never private"),
        ({"id": Annotated[Any, Private()]}, "field 'id': the server's own fields are never private"),
        ({"field": Annotated[str, Private(Broken())]}, "field 'field': its mask fails: a value! (of a text)"),
        (
            {"field": Annotated[str, Private(Initial())]},
            "field 'field': its mask fails: 'int' object is not subscriptable (of an integer)",
        ),
        ({"field": Annotated[str, Private(Number())]}, "field 'field': its mask is no text"),
        (
            {"field": Annotated[str, Private(FixedMask("\ud800"))]},
            "field 'field': its mask has NUL or half a character",
        ),
        ({"field": Annotated[str, Private(FixedMask("a\0"))]}, "field 'field': its mask has NUL or half a character"),
        ({"field": Annotated[str, Private("")]}, "field 'field': its mask fails: 'str' object has no attribute 'mask'"),  # type: ignore[arg-type]
        ({"field": Annotated[str, Private(Forgetful())]}, "field 'field': its mask is none to its own is_mask"),
        ({"field": Annotated[str, Private(WRONG[0])]}, "field 'field': its mask fails: "),
        ({"field": Annotated[str, Private(WRONG[1])]}, "field 'field': its mask cannot be given to another process: "),
        ({"field": Annotated[str, Private(FixedMask(" "))]}, "field 'field': its mask is empty"),
        ({"parts": set[part_class("P", field=Annotated[str, Private()])]}, "field 'parts.field': of a set of objects"),  # type: ignore[misc]
        ({"part": part_class("P", field=Annotated[str, Private(Broken())])}, "field 'part.field': its mask fails"),
    ],
    ids=[
        *("class", "dict", "arrays", "revision", "id", "broken", "of texts", "number", "half a character", "NUL"),
        "no default",
        *("forgetful", "mask class", "no mask", "empty", "set", "nested"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], fault: str) -> None:
    found = type_faults(record_class(fields))
    assert found[0].startswith(fault)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("mask", "value", "seen"),
    [
        (Initial(), "Ada", "A"),
        (Initial(), 7, "***"),
        (Initial(), "", "***"),
        (Number(), "Ada", "***"),
        (FixedMask("\ud800"), "Ada", "***"),
        (FixedMask(" "), "Ada", "***"),
        (Empty("empty"), "Ada", "empty"),
    ],
    ids=str,
)
def test_a_mask_that_fails_shows_stars(mask: Mask, value: Any, seen: str) -> None:
    known = DocumentType(record_class({"field": Annotated[str, Private(mask)]}))

    shown = Presenter(known.masked.fields.values()).present({"_id": 1, "field": value})

    assert shown == {"id": 1, "field": seen}
