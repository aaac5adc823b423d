"""Whether JSON values are those of declared fields, and of their own kinds.

Unknown fields are refused at every depth, whatever a nested class allows. pydantic is strict about JSON's types, but
lenient about what a string says: it takes "0" for a date and " 1_000 " for a decimal, cuts microseconds, and drops the
name from an address. What would not come back as it was sent is a fault here.
"""

from collections.abc import Mapping
from typing import Any

from service.documents.fields import Field, Kind
from service.documents.json_text import ExactNumber, dump_json
from service.documents.masks import NO_MASKS, Masks
from service.documents.values import DATE, NUMBER, TIME, Place, pointer_of
from service.errors import Fault

TEXT_RULES = {
    Kind.DATE: (DATE, "date_format", "a date is written like 2026-11-22"),
    Kind.DATETIME: (TIME, "time_format", "a time is written like 2026-11-22T09:30:00.123Z, to the millisecond"),
    Kind.DECIMAL: (NUMBER, "decimal_format", "a decimal is written like 19.99"),
}


def strict_values(
    value: Any, fields: Mapping[str, Field], faults: list[Fault], path: str = "", masks: Masks = NO_MASKS
) -> Any:
    """The value of a path, with ExactNumbers as plain text or floats; what is not strictly of its kind is a fault.

    What looks like the mask of a field is left for the Restorer.
    """
    return _Walk(fields, faults, masks).value(value, path, None)


class _Walk:
    """Goes through a value, and notes what is wrong."""

    def __init__(self, fields: Mapping[str, Field], faults: list[Fault], masks: Masks) -> None:
        self._fields = fields
        self._faults = faults
        self._masks = masks

    def value(self, value: Any, path: str, place: Place) -> Any:
        """What is at this place, for the field of this path."""
        kind = type(value)
        field = self._fields.get(path)
        if kind is str and field is not None and field.kind is Kind.TEXT and not field.is_email:
            return value  # as most values are
        if self._is_mask(value, path):
            return value
        if kind is list:
            self._refuse_twins(value, field, place)
            return [self.value(inner, path, (place, position)) for position, inner in enumerate(value)]
        if kind is dict:
            is_free = field is not None and field.kind is not Kind.OBJECT  # free JSON, or no object at all
            return self._members(value, path if is_free else None, f"{path}." if path else "", place)
        return self._scalar(value, field, place)

    def _is_mask(self, value: Any, path: str) -> bool:
        mask = self._masks.get(path)
        return mask is not None and isinstance(value, str) and mask.is_mask(value)

    def _members(self, value: Mapping[str, Any], free_path: str | None, prefix: str, place: Place) -> dict[str, Any]:
        members: dict[str, Any] = {}
        for name, inner in value.items():
            path = prefix + name if free_path is None else free_path
            if free_path is not None or path in self._fields:
                members[name] = self.value(inner, path, (place, name))
            else:
                self._note("unknown_field", "there is no such field", (place, name))
        return members

    def _scalar(self, value: Any, field: Field | None, place: Place) -> Any:
        kind = (field.inner or field.kind) if field else Kind.JSON
        fault = _fault(value, kind, is_email=field is not None and field.is_email)
        if fault is not None:
            self._note(*fault, place)
        if isinstance(value, ExactNumber):
            return str(value) if kind is Kind.DECIMAL else float(value)
        return value

    def _refuse_twins(self, elements: list[Any], field: Field | None, place: Place) -> None:
        if field is None or not field.is_set:
            return
        seen: set[bytes] = set()
        for position, element in enumerate(elements):
            if self._is_mask(element, field.path):
                continue
            text = dump_json(element)
            if text in seen:
                self._note("duplicate_element", "this comes twice", (place, position))
            seen.add(text)

    def _note(self, code: str, message: str, place: Place) -> None:
        self._faults.append(Fault(code, message, pointer_of(place)))


def _fault(value: Any, kind: Kind, *, is_email: bool) -> tuple[str, str] | None:
    if isinstance(value, ExactNumber):
        if kind is not Kind.DECIMAL and not _is_written_in_full(value):
            return "inexact_number", "a 64-bit float would round this number"
    elif isinstance(value, str):
        if kind in TEXT_RULES and not TEXT_RULES[kind][0].fullmatch(value):
            return TEXT_RULES[kind][1:]
        if is_email and ("<" in value or value != value.strip()):
            return "email_format", "an address without a name is expected"
    elif kind is Kind.FLOAT and type(value) is int and not _is_float(value):
        return "inexact_number", "a 64-bit float would round this number"
    elif kind is Kind.INTEGER and isinstance(value, bool | float):
        return "int_type", "an integer is expected"
    return None


def _is_written_in_full(text: str) -> bool:
    """Whether these are a float's 17 digits, which some languages write though fewer would name it."""
    return text.lower() in {f"{float(text):.17g}", repr(float(text))}


def _is_float(number: int) -> bool:
    try:
        return int(float(number)) == number
    except OverflowError:
        return False
