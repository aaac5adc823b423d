"""Believable documents of any type, for trying things out and for measuring; the same ones for the same seed."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from service.documents.fields import Field, Kind
from service.documents.registry import DocumentType

PEOPLE = (
    ("Ada Lovelace", "ada.lovelace"),
    ("Grace Hopper", "grace.hopper"),
    ("José Núñez", "jose.nunez"),
    ("Zoë Müller", "zoe.mueller"),
    ("Łukasz Żak", "lukasz.zak"),
    ("Анна Петрова", "anna.petrova"),
    ("Дмитро Шевченко", "dmytro.shevchenko"),
    ("Ελένη Παπαδοπούλου", "eleni.papadopoulou"),
    ("小中 健一", "kenichi.konaka"),
    ("さくら 山田", "sakura.yamada"),
    ("王小明", "wang.xiaoming"),
    ("李娜", "li.na"),
    ("김민준", "kim.minjun"),
    ("محمد علي", "mohammed.ali"),
    ("נועה כהן", "noa.cohen"),
    ("प्रिया शर्मा", "priya.sharma"),
    ("สมชาย ใจดี", "somchai.jaidee"),
    ("Nguyễn Thị Hoa", "nguyen.thi.hoa"),
)
PLACES = (
    {"street": "12 St James's Square", "city": "London", "zipcode": "SW1Y 4JH", "country": "GB"},
    {"street": "Unter den Linden 6", "city": "Berlin", "zipcode": "10117", "country": "DE"},
    {"street": "Rúa do Franco 3", "city": "Santiago de Compostela", "zipcode": "15705", "country": "ES"},
    {"street": "ул. Льва Толстого, 16", "city": "Алматы", "zipcode": "050010", "country": "KZ"},
    {"street": "长安街1号", "city": "北京", "zipcode": "100006", "country": "CN"},
    {"street": "丸の内1-9-1", "city": "東京", "zipcode": "100-0005", "country": "JP"},
    {"street": "세종대로 110", "city": "서울", "zipcode": "04524", "country": "KR"},
    {"street": "شارع التحرير 7", "city": "القاهرة", "zipcode": "11511", "country": "EG"},
    {"street": "1 Market St", "city": "San Francisco", "zipcode": "94105", "country": "US"},
)
THINGS = ("Analytical Engine", "Theodolite", "Sextant", "Astrolabe", "Orrery", "Barometer", "Slide rule", "Chronometer")
SENTENCES = (
    "Reads more than is good for the eyes.",
    "Collects maps of places that no longer exist.",
    "Écrit tous les jours, même le dimanche.",
    "Любит долгие прогулки вдоль реки.",
    "喜欢喝茶和下棋。",
    "In good order, with all its parts.",
)
WORDS = ("blue", "early", "quiet", "brass", "north", "vip", "new", "rare", "数学", "музыка")
CURRENCIES = ("EUR", "USD", "GBP", "JPY")

Maker = Callable[["Sampler"], Any]


class Sampler:
    """Makes bodies that POST takes, each like the type's example with other values."""

    def __init__(
        self, document_type: DocumentType, seed: int = 1, ids: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        """`ids` has those of existing documents, by the names of their types, for fields that refer to them."""
        self._type = document_type
        self._references = {
            field.path: (ids or {}).get(field.references or "", [])
            for field in document_type.fields.values()
            if "." not in field.path
        }
        self._unique = {
            path for index in document_type.indexes if index.document.get("unique") for path in index.document["key"]
        }
        self.random = random.Random(seed)  # noqa: S311 - nothing secret
        self.number = 0
        self.person = PEOPLE[0]
        self.place = PLACES[0]

    def bodies(self, count: int) -> Iterator[dict[str, Any]]:
        """So many of them."""
        for self.number in range(1, count + 1):
            self.person = self.random.choice(PEOPLE)
            yield self._members(self._type.example, "")

    def _members(self, example: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        self.place = self.random.choice(PLACES)
        return {name: self._value(value, f"{prefix}{name}") for name, value in example.items()} | {
            path: [self.random.choice(ids)] if self._type.fields[path].is_array else self.random.choice(ids)
            for path, ids in self._references.items()
            if not prefix and ids
        }

    def _value(self, example: Any, path: str) -> Any:
        if isinstance(example, dict):
            return self._members(example, f"{path}.")
        if isinstance(example, list) and example and isinstance(example[0], dict):
            return [self._members(example[0], f"{path}.") for _ in range(self.random.randint(1, 3))]
        field = self._type.fields.get(path)
        if field is None:
            return example
        if path in self._unique:
            return self._unique_value(example, field)
        maker = _makers.get(path.rpartition(".")[2])
        if maker is None and not field.is_array:
            maker = _kind_makers.get(field.kind)
        return maker(self) if maker else example

    def _unique_value(self, example: Any, field: Field) -> Any:
        if field.kind in {Kind.INTEGER, Kind.FLOAT}:
            return example + self.number
        if field.kind is Kind.DECIMAL:
            return str(Decimal(example) + self.number)
        if field.kind is Kind.DATE:
            return (date.fromisoformat(example) + timedelta(days=self.number)).isoformat()
        if field.kind is Kind.DATETIME:
            return (datetime.fromisoformat(example) + timedelta(seconds=self.number)).isoformat()
        if field.kind is Kind.OBJECT_ID:
            return f"{(int(example, 16) + self.number) % 2**96:024x}"
        if "@" in str(example):
            return f"{self.person[1]}.{self.number}@example.org"
        return f"{example}-{self.number:07}"[-(field.max_length or 100) :]

    def day(self) -> str:
        """Some day of the last sixty years."""
        return (date(2026, 1, 1) - timedelta(days=self.random.randint(0, 60 * 365))).isoformat()


_makers: Mapping[str, Maker] = {
    "name": lambda sampler: sampler.person[0],
    "bio": lambda sampler: " ".join(sampler.random.choices(SENTENCES, k=sampler.random.randint(1, 4))),
    "description": lambda sampler: sampler.random.choice(SENTENCES),
    "title": lambda sampler: f"{sampler.random.choice(THINGS)} No. {sampler.random.randint(1, 99)}",
    "phone": lambda sampler: f"+{sampler.random.randint(10, 99)} {sampler.random.randint(10**8, 10**9 - 1)}",
    "street": lambda sampler: sampler.place["street"],
    "city": lambda sampler: sampler.place["city"],
    "zipcode": lambda sampler: sampler.place["zipcode"],
    "country": lambda sampler: sampler.place["country"],
    "tags": lambda sampler: sampler.random.sample(WORDS, sampler.random.randint(0, 4)),
    "age": lambda sampler: sampler.random.randint(18, 99),
    "price": lambda sampler: f"{sampler.random.randint(100, 999_999) / 100:.2f}",
    "currency": lambda sampler: sampler.random.choice(CURRENCIES),
    "stock": lambda sampler: sampler.random.randint(0, 500),
}
"""What fields of these names hold; other fields keep the example's value, or take one of their kind."""

_kind_makers: Mapping[Kind, Maker] = {
    Kind.DATE: Sampler.day,
    Kind.BOOLEAN: lambda sampler: sampler.random.randrange(5) > 0,
}
