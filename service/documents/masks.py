"""What callers see of private fields: texts that stand for their values."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

STARS = "***"
EMAIL = re.compile(r"([^@\s])[^@\s]*(@[^@\s]+)")
MASKED_EMAIL = re.compile(r"[^@\s]\*\*\*@[^@\s]+")


class Mask(Protocol):
    """What stands for a field's values. Picklable, as processes that make files have it too."""

    def mask(self, value: Any) -> str:
        """What stands for a stored value, of whatever type it is; it is never null."""

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


PLAIN = FixedMask()
"""Of whatever has no other mask."""

Masks = Mapping[str, Mask]
"""By the dotted paths of their fields."""

NO_MASKS: Masks = {}
"""Where all is seen."""
