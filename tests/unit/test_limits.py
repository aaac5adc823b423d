"""The limits of fields, as their classes set them."""

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BeforeValidator, Field, PastDate, WrapValidator, field_validator

from service.documents.base import Part
from service.documents.limits import HAS_MORE, limits_of
from tests.unit.made_up import named, part_class, record_class


def limits(annotation: Any) -> dict[str, Any]:
    """What is known of a field, without what is no limit."""
    found = limits_of(record_class({"mark": annotation}))["mark"]
    return {name: value for name, value in found.items() if name not in {"title", "type", "format"}}


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (str, {}),
        (Annotated[int, Field(ge=1, lt=5)], {"minimum": 1, "exclusiveMaximum": 5}),
        (Annotated[int, Field(multiple_of=5)] | None, {"multipleOf": 5}),
        (Annotated[str, Field(min_length=1, pattern="^a")] | None, {"minLength": 1, "pattern": "^a"}),
        (
            Annotated[Decimal, Field(gt=0, max_digits=5, decimal_places=2)] | None,
            {"exclusiveMinimum": 0, "maxDigits": 5, "decimalPlaces": 2},
        ),
        (Annotated[list[Annotated[int, Field(ge=1)]], Field(max_length=2)], {"maxItems": 2}),
        (PastDate, {HAS_MORE: True}),
        (Annotated[datetime, Field(gt=datetime(2026, 1, 1))], {HAS_MORE: True}),  # noqa: DTZ001 - any moment will do
        (date, {}),
        (Annotated[str, AfterValidator(str)], {HAS_MORE: True}),
        (Annotated[str, BeforeValidator(str)], {HAS_MORE: True}),
        (Annotated[str, WrapValidator(lambda value, check: check(value))], {HAS_MORE: True}),
    ],
    ids=named,
)
def test_a_field_has_the_limits_of_its_class(annotation: Any, expected: dict[str, Any]) -> None:
    assert {name: value for name, value in limits(annotation).items() if name != "items"} == expected


def test_elements_have_limits_of_their_own() -> None:
    assert limits(list[Annotated[int, Field(ge=1)]] | None)["items"]["minimum"] == 1


def test_limits_are_found_at_every_depth() -> None:
    inner = part_class("Inner", text=Annotated[str, Field(max_length=3)])
    outer = part_class("Outer", inner=inner | None, several=list[inner])  # type: ignore[valid-type]

    found = limits_of(record_class({"outer": (outer | None, None)}))

    assert found["outer.inner.text"]["maxLength"] == 3
    assert found["outer.several.text"]["maxLength"] == 3


def test_a_class_that_checks_a_field_by_a_method_has_more_limits() -> None:
    class Checked(Part):
        text: str
        other: str

        @field_validator("text")
        @classmethod
        def _short(cls, text: str) -> str:
            return text

    found = limits_of(Checked)

    assert HAS_MORE in found["text"]
    assert HAS_MORE not in found["other"]
