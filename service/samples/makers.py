"""What makes one value of a sample, and another one each time."""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Context, Decimal, localcontext
from math import ceil, floor, inf
from string import digits
from typing import Any

from service.documents.fields import Field, Kind
from service.documents.limits import Limits
from service.documents.values import MAX_INTEGER, MIN_INTEGER
from service.samples.words import CURRENCIES, PEOPLE, PLACES, SENTENCES, THINGS, WORDS

RARELY, MOSTLY = 0.1, 0.8
"""How often a field is null or empty where it may be, and how often a boolean is what the example has."""

FIRST_DAY, DAYS = date(1966, 1, 1), 60 * 365
FIRST_MOMENT, SECONDS = datetime(2016, 1, 1), 10 * 365 * 86_400  # noqa: DTZ001 - written with a Z
MAX_UNIQUE_LENGTH = 1000
"""In characters: what an index takes in any case."""

EXACT = Context(prec=100)

NUMBERS: Mapping[str, tuple[int, int]] = {"age": (18, 99), "price": (1, 9_999), "stock": (0, 500), "quantity": (0, 500)}
"""What numbers of these names are between; others are of the example's size."""


class Draw:
    """What one document's values are drawn with, and what they have in common."""

    def __init__(self) -> None:
        self.random = random.Random()  # noqa: S311 - nothing secret
        self.number = 0
        self.person = PEOPLE[0]
        self.place = PLACES[0]

    def begin(self, seed: int, number: int) -> None:
        """The next document, which depends on its number and the seed, and not on those before it."""
        self.random.seed((seed << 64) + number)
        self.number = number
        self.person = self.random.choice(PEOPLE)

    def happens(self, share: float) -> bool:
        """True so often, from 0 to 1."""
        return self.random.random() < share


Maker = Callable[[Draw], Any]
"""Makes one value."""


def always(value: Any) -> Maker:
    """Nothing but this."""
    return lambda _: value


def one_of(values: Sequence[Any]) -> Maker:
    """Any of these."""
    return lambda draw: draw.random.choice(values)


def rarely(value: Any, maker: Maker) -> Maker:
    """This now and then, else what the maker makes."""
    return lambda draw: value if draw.happens(RARELY) else maker(draw)


def email(draw: Draw) -> str:
    """An address that no other document has."""
    return f"{draw.person[1]}.{draw.number}@example.org"


def scalar(field: Field, limits: Limits, example: Any) -> Maker:
    """Such values as the example is; where nothing is known of their kind, the example itself."""
    make_maker = _by_kind.get(field.kind)
    return make_maker(field, limits, example) if make_maker else always(example)


def _boolean(_field: Field, _limits: Limits, example: Any) -> Maker:
    return lambda draw: example if draw.happens(MOSTLY) else not example


def _date(_field: Field, _limits: Limits, _example: Any) -> Maker:
    return lambda draw: (FIRST_DAY + timedelta(days=draw.random.randrange(DAYS))).isoformat()


def _datetime(_field: Field, _limits: Limits, _example: Any) -> Maker:
    return lambda draw: f"{(FIRST_MOMENT + timedelta(seconds=draw.random.randrange(SECONDS))).isoformat()}Z"


def _object_id(_field: Field, _limits: Limits, _example: Any) -> Maker:
    return lambda draw: f"{draw.random.getrandbits(96):024x}"


def _text(field: Field, limits: Limits, example: Any) -> Maker:
    """Texts that go with the field's name, or are such as the example; where one does not fit, the example."""
    if "format" in limits:
        return always(example)
    maker = _by_name.get(_name_of(field)) or one_of(_such_as(example))
    least, most = limits.get("minLength", 0), limits.get("maxLength", inf)
    pattern = limits.get("pattern", "")

    def make(draw: Draw) -> str:
        text: str = maker(draw)
        fits = least <= len(text) <= most and (not pattern or re.search(pattern, text))
        return text if fits else str(example)

    return make


def _such_as(example: str) -> Sequence[str]:
    if example.endswith((".", "!", "?", "。")):
        return SENTENCES
    return THINGS if " " in example else WORDS


def _number(field: Field, limits: Limits, example: Any) -> Maker:
    """Numbers that go with the field's name, or are of the example's size, with as many places."""
    write = _written[field.kind]
    with localcontext(EXACT):
        step = _step(field, limits, Decimal(str(example)))
        for low, high in _ranges(field, Decimal(str(example)), step):
            multiples = _multiples(low, high, step, limits)
            if multiples is not None:
                return lambda draw: write(EXACT.multiply(draw.random.randint(*multiples), step))
    return always(example)


def _step(field: Field, limits: Limits, example: Decimal) -> Decimal:
    """What all the numbers are multiples of."""
    if "multipleOf" in limits:
        return Decimal(str(limits["multipleOf"]))
    return Decimal(1).scaleb(-_places(example) - (2 if field.kind is Kind.FLOAT else 0))


def _places(number: Decimal) -> int:
    """After the point."""
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)
    return -exponent


def _ranges(field: Field, example: Decimal, step: Decimal) -> list[tuple[Decimal, Decimal]]:
    """What the numbers may be between; the first that has any is good."""
    low, high = sorted((example / 2, example + example / 2))
    around = (low, max(high, low + 10 * step))
    known = NUMBERS.get(_name_of(field))
    return [(Decimal(known[0]), Decimal(known[1])), around] if known else [around]


def _multiples(low: Decimal, high: Decimal, step: Decimal, limits: Limits) -> tuple[int, int] | None:
    """The least and the greatest multiple of the step that is in this range and within the limits."""
    bounds = {word: Decimal(str(limits[word])) for word in _BOUNDS if word in limits}
    if limits.get("type") == "integer":
        bounds = {"minimum": Decimal(MIN_INTEGER), "maximum": Decimal(MAX_INTEGER), **bounds}
    if "maxDigits" in limits:
        whole_digits = limits["maxDigits"] - limits.get("decimalPlaces", max(0, _places(step)))
        high = min(high, Decimal(1).scaleb(whole_digits) - step)
        low = max(low, -high)
    least, most = ceil(low / step), floor(high / step)
    for word, bound in bounds.items():
        is_lower, round_bound = _BOUNDS[word]
        nearest = round_bound(bound / step)
        least, most = (max(least, nearest), most) if is_lower else (least, min(most, nearest))
    return (least, most) if least <= most else None


_BOUNDS: Mapping[str, tuple[bool, Callable[[Decimal], int]]] = {
    "minimum": (True, ceil),
    "exclusiveMinimum": (True, lambda ratio: floor(ratio) + 1),
    "maximum": (False, floor),
    "exclusiveMaximum": (False, lambda ratio: ceil(ratio) - 1),
}
"""Whether it is a lower bound, and which multiple is the nearest that it allows."""


def _name_of(field: Field) -> str:
    return field.path.rpartition(".")[2]


_by_kind: Mapping[Kind, Callable[[Field, Limits, Any], Maker]] = {
    Kind.TEXT: _text,
    Kind.INTEGER: _number,
    Kind.FLOAT: _number,
    Kind.DECIMAL: _number,
    Kind.BOOLEAN: _boolean,
    Kind.DATE: _date,
    Kind.DATETIME: _datetime,
    Kind.OBJECT_ID: _object_id,
}
_written: Mapping[Kind, Callable[[Decimal], Any]] = {Kind.INTEGER: int, Kind.FLOAT: float, Kind.DECIMAL: str}


def _person(draw: Draw) -> str:
    return draw.person[0]


_by_name: Mapping[str, Maker] = {
    "name": _person,
    "full_name": _person,
    "author": _person,
    "contact": _person,
    "title": lambda draw: f"{draw.random.choice(THINGS)} No. {draw.random.randint(1, 99)}",
    "bio": lambda draw: " ".join(draw.random.choices(SENTENCES, k=draw.random.randint(1, 4))),
    "description": one_of(SENTENCES),
    "phone": lambda draw: f"+{draw.random.randint(10, 99)} {draw.random.randint(10**8, 10**9 - 1)}",
    "street": lambda draw: draw.place["street"].format(draw.random.randint(1, 199)),
    "city": lambda draw: draw.place["city"],
    "zipcode": lambda draw: draw.place["zipcode"],
    "country": lambda draw: draw.place["country"],
    "currency": one_of(CURRENCIES),
    "tags": one_of(WORDS),
}
"""What texts of these names say."""


# Values that no other document has


def can_be_unique(field: Field) -> bool:
    """Whether there are as many values of its kind as documents."""
    return (field.kind is Kind.TEXT or field.kind in _after) and not field.choices


def unique(field: Field, limits: Limits, example: Any) -> Maker:
    """As many after the example as is the document's number."""
    if field.is_array:
        element = unique(replace(field, is_array=False), limits["items"], example[0])
        return lambda draw: [element(draw)]
    if field.is_email:
        return email
    if field.kind is Kind.TEXT:
        return _numbered(example, limits.get("maxLength", MAX_UNIQUE_LENGTH))
    after = _after[field.kind]
    return lambda draw: after(example, draw.number)


def _numbered(example: str, max_length: int) -> Maker:
    """Texts that count on from the number at the example's end, and lose of their start what is too long."""
    stem = example.rstrip(digits)
    last_number = example.removeprefix(stem)
    if not last_number:
        stem += "-"

    def make(draw: Draw) -> str:
        number = str(int(last_number or 0) + draw.number).zfill(len(last_number))
        too_much = len(stem) + len(number) - max_length
        return f"{stem[max(0, too_much) :]}{number}"

    return make


_after: Mapping[Kind, Callable[[Any, int], Any]] = {
    Kind.INTEGER: lambda example, number: example + number,
    Kind.FLOAT: lambda example, number: example + number,
    Kind.DECIMAL: lambda example, number: str(EXACT.add(Decimal(example), number)),
    Kind.DATE: lambda example, number: (date.fromisoformat(example) + timedelta(days=number)).isoformat(),
    Kind.DATETIME: lambda example, number: (datetime.fromisoformat(example) + timedelta(seconds=number)).isoformat(),
    Kind.OBJECT_ID: lambda example, number: f"{(int(example, 16) + number) % 2**96:024x}",
}
