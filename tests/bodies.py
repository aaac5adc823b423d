"""Bodies that POST takes, as hypothesis makes them."""

from collections.abc import Generator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from service.documents.registry import DocumentType
from service.imports.decoding import Incoming
from service.imports.source import Source, unpack

Body = dict[str, Any]

texts = (
    st.text(st.characters(codec="utf-8"), max_size=12)
    | st.sampled_from(
        [
            "",
            " ",
            "=1+1",
            "'=1",
            "''",
            "-1",
            "1.0",
            "007",
            "1e5",
            "true",
            "null",
            "[]",
            '{"a": 1}',
            '"',
            '""',
            "a,b;c\t",
        ]
    )
    | st.sampled_from(["\r\n", "\n", "\x00", "_x0041_", "<&>", "2026-11-22", "名前"])
)
names = texts.filter(bool)
tags = st.lists(names, max_size=3)
integers = st.integers(-(2**63), 2**63 - 1) | st.integers(-10, 10)
floats = st.floats(allow_nan=False, allow_infinity=False)
days = st.dates(date(1, 1, 1)).map(date.isoformat)
moments = st.datetimes(datetime(1, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001 - hypothesis adds the zone
    lambda moment: moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
)
ids = st.binary(min_size=12, max_size=12).map(bytes.hex)
prices = st.decimals("0.01", "9999999999.99", places=2).map(str)
decimals = st.builds(
    lambda sign, digits, exponent: str(Decimal((sign, digits, exponent))),
    st.integers(0, 1),
    st.lists(st.integers(0, 9), min_size=1, max_size=34).map(tuple),
    st.integers(-40, 40) | st.integers(-6100, 6000),
)
emails = st.from_regex(r"[a-z0-9]{1,8}@[a-z]{1,8}\.(com|de)", fullmatch=True)
json_values = st.recursive(
    st.none() | st.booleans() | integers | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.from_regex("[a-z_ é]+", fullmatch=True), inner),
    max_leaves=8,
)


def _object(required: Mapping[str, st.SearchStrategy[Any]], **optional: st.SearchStrategy[Any]) -> Any:
    return st.fixed_dictionaries(dict(required), optional=optional)


addresses = _object(
    {"street": texts, "city": texts, "country": st.text("ABCß小", min_size=2, max_size=2)}, zipcode=st.none() | texts
)
profiles = _object(
    {}, bio=st.none() | texts, birthday=st.none() | days, phone=texts, addresses=st.lists(addresses, max_size=3)
)
leaves = _object({}, text=texts, number=st.none() | integers, day=days, moments=st.lists(moments, max_size=2))
branches = _object(
    {"label": texts}, leaf=st.none() | leaves, leaves=st.lists(leaves, max_size=2), days=st.lists(days, max_size=2)
)

BODIES: Mapping[str, st.SearchStrategy[Body]] = {
    "users": _object(
        {"name": names, "email": emails},
        age=st.none() | st.integers(0, 150),
        is_active=st.booleans(),
        tags=tags,
        profile=st.none() | profiles,
    ),
    "items": _object(
        {"sku": names, "title": names, "price": prices},
        description=st.none() | texts,
        currency=st.text("ABC", min_size=3, max_size=3),
        stock=st.integers(0, 10**9),
        tags=tags,
        is_available=st.booleans(),
        released_on=st.none() | days,
        owner_id=st.none() | ids,
    ),
    "everythings": _object(
        {"code": names, "left": st.integers(-9, 9), "right": st.integers(10, 99)},
        text=st.none() | texts,
        email=emails,
        integer=integers,
        float_number=floats,
        decimal_number=decimals,
        boolean=st.booleans(),
        day=days,
        moment=moments,
        reference=ids,
        colour=st.sampled_from([None, "red", "blue"]),
        level=st.sampled_from([None, 1, 2]),
        size=st.sampled_from(["small", "large"]),
        texts=st.lists(texts, max_size=3),
        integers=st.lists(integers, max_size=3),
        days=st.lists(days, max_size=2),
        decimals=st.lists(decimals, max_size=2),
        references=st.lists(ids, max_size=2),
        colours=st.lists(st.sampled_from(["red", "blue"]), unique=True),
        matrix=st.lists(st.lists(floats, max_size=2), max_size=2),
        free=st.dictionaries(st.from_regex("[a-z_]+", fullmatch=True), json_values, max_size=3),
        limit=integers,
        branch=st.none() | branches,
        branches=st.lists(branches, max_size=3),
    ),
}
"""By the name of the type."""


def bodies_of(document_type: DocumentType) -> st.SearchStrategy[Body]:
    """Bodies of a type."""
    return BODIES[document_type.name]


def documents_of(source: Source) -> Generator[list[Incoming]]:
    """The documents of each of its parts."""
    for part in source.parts():
        yield source.decoding.decode(part.ordinal, unpack(part.rows))
