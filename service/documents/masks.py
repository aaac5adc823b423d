"""What callers see of private fields: texts that stand for their values."""

import pickle
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from bson import Decimal128, ObjectId

STARS = "***"
UNSAYABLE = re.compile("[\0\ud800-\udfff]")
SAMPLES: Mapping[str, Any] = {
    "a text": "a value",
    "an integer": 7,
    "a float": 0.5,
    "a decimal": Decimal128("0.5"),
    "a truth value": True,
    "a time": datetime(2026, 11, 22, 9, 30),  # noqa: DTZ001 - as it is stored
    "an id": ObjectId("0123456789abcdef01234567"),
    "an object": {"name": "a value"},
    "an array": ["a value"],
    "bytes": b"a value",
}
"""A value of each kind, as BSON has them."""

EMAIL = re.compile(r"([^@\s])[^@\s]*(@[^@\s]+)")
MASKED_EMAIL = re.compile(r"[^@\s]\*\*\*@[^@\s]+")


class Mask(Protocol):
    """What stands for a field's values. Picklable, as processes that make files have it too."""

    def mask(self, value: Any) -> str:
        """What stands for a stored value: of any type but null, as somebody may have written it by hand."""

    def is_mask(self, text: str) -> bool:
        """Whether a text may be what `mask` makes of some value, so that no body can mean it as a value."""


@dataclass(frozen=True, slots=True)
class FixedMask:
    """The same text for every value."""

    text: str = STARS

    def mask(self, value: Any) -> str:  # noqa: ARG002 - Mask's signature
        """The text."""
        return self.text

    def is_mask(self, text: str) -> bool:
        """Whether this is the text."""
        return text == self.text


@dataclass(frozen=True, slots=True)
class EmailMask:
    """An address's first character and its domain: `a***@example.com`; of what is no address nothing."""

    def mask(self, value: Any) -> str:
        """Both, with stars between them."""
        found = EMAIL.fullmatch(value) if isinstance(value, str) else None
        return f"{found[1]}{STARS}{found[2]}" if found else STARS

    def is_mask(self, text: str) -> bool:
        """Whether the stars are where they are in a mask."""
        return STARS in text and (text == STARS or MASKED_EMAIL.fullmatch(text) is not None)


def masked(mask: Mask, value: Any) -> str:
    """What is seen of a value: stars where its mask fails, as one odd value must not break a page or show itself."""
    try:
        text = mask.mask(value)
    except Exception:  # noqa: BLE001 - somebody's class may raise anything
        return STARS
    return text if mask_text_fault(text) is None else STARS


def mask_text_fault(text: Any) -> str | None:
    """What keeps this from being a mask, if anything does."""
    if not isinstance(text, str):
        return "is no text"
    if not text.strip():
        return "is empty, which in a file is no value at all"
    if UNSAYABLE.search(text):
        return "has NUL or half a character in it, which no file can hold"
    return None


def mask_faults(mask: Mask) -> Iterator[str]:
    """What is wrong with a mask, tried with a value of each kind that MongoDB may have under its field."""
    try:
        pickle.dumps(mask)
    except Exception as error:  # noqa: BLE001 - as above
        yield f"cannot be given to another process: {error}"
    found: dict[str, list[str]] = {}
    for kind, value in SAMPLES.items():
        if (fault := _fault_with(mask, value)) is not None:
            found.setdefault(fault, []).append(kind)
    for fault, kinds in found.items():
        yield fault if len(kinds) == len(SAMPLES) else f"{fault} (of {', '.join(kinds)})"


def _fault_with(mask: Mask, value: Any) -> str | None:
    try:
        text = mask.mask(value)
        fault = mask_text_fault(text)
        return fault or (None if mask.is_mask(text) else "is none to its own is_mask")
    except Exception as error:  # noqa: BLE001 - as above
        return f"fails: {error}"


PLAIN = FixedMask()
"""Of whatever has no other mask."""

Masks = Mapping[str, Mask]
"""By the dotted paths of their fields."""

NO_MASKS: Masks = {}
"""Where all is seen."""
