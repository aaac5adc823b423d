"""Parquet, read back by pyarrow's reader."""

import io
import random
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import bson
import pyarrow as pa
import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from service.documents.fields import Field, Kind
from service.documents.introspection import fields_of
from service.documents.json_text import dump_json
from service.documents.user import User
from service.transfer.encoding import About, FileSpec, Piece
from service.transfer.parquet_encoder import parquet_encoder
from service.transfer.parquet_file import GROUP_BYTES, GROUP_ROWS, MissingLibraryError, ParquetFile, check_parquet
from tests.everything import Everything

ID = ObjectId("0123456789abcdef01234567")
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678_000)  # noqa: DTZ001 - as BSON has it
FIRST, LAST = datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_000)  # noqa: DTZ001
ABOUT = About("things, name=é", "ada", MOMENT, 3, 1)
USER = FileSpec("parquet", "users", fields_of(User))
EVERYTHING = FileSpec("parquet", "everythings", fields_of(Everything))

STRING = pa.string()
MILLISECONDS = pa.timestamp("ms", tz="UTC")
DECIMALS = pa.decimal128(38, 18)
LEAF = pa.struct([("text", STRING), ("number", pa.int64()), ("day", pa.date32()), ("moments", pa.list_(MILLISECONDS))])
BRANCH = pa.struct([("label", STRING), ("leaf", LEAF), ("leaves", pa.list_(LEAF)), ("days", pa.list_(pa.date32()))])

STORED: dict[str, Any] = {
    "_id": ID,
    "code": "E-1",
    "left": 1,
    "right": Int64(2**62),
    "text": "=1+1, ‘quoted’, 小中 😀\0",
    "email": "every@thing.example.org",
    "integer": Int64(-(2**63)),
    "float_number": 0.1,
    "decimal_number": Decimal128("12345678901234567890.12345"),
    "boolean": True,
    "day": datetime(1899, 12, 31),  # noqa: DTZ001
    "moment": MOMENT,
    "reference": ID,
    "colour": "red",
    "level": 2,
    "size": "large",
    "texts": ["a", "", "c"],
    "integers": [1, Int64(2**40)],
    "days": [datetime(2024, 2, 29)],  # noqa: DTZ001
    "decimals": [Decimal128("1.10"), Decimal128("2")],
    "references": [ID],
    "colours": ["blue"],
    "matrix": [[1.5, 2.0], []],
    "free": {"any": {"thing": [1, None, "x", True, MOMENT]}},
    "limit": 3,
    "branch": {"label": "b", "leaf": {"text": "deep", "number": 1, "day": datetime(2000, 1, 1), "moments": []}},  # noqa: DTZ001
    "branches": [
        {"label": "first", "leaves": [{"text": "", "moments": [MOMENT]}], "days": [datetime(1999, 12, 31)]},  # noqa: DTZ001
        {"label": "second"},
    ],
    "created_at": MOMENT,
    "updated_at": MOMENT,
    "revision": 1,
}


def batch_of(*documents: dict[str, Any]) -> bytes:
    return b"".join(bson.encode({"_id": ID, **document}) for document in documents)


def file_of(spec: FileSpec, pieces: list[Piece]) -> bytes:
    file = ParquetFile(spec)
    return b"".join([file.start(), *map(file.add, pieces), file.end(ABOUT)])


def read(file: bytes) -> pa.Table:
    table = parquet.read_table(io.BytesIO(file))
    table.validate(full=True)
    return table


def written(spec: FileSpec, *documents: dict[str, Any]) -> tuple[pa.Table, int]:
    """What a reader finds in a file of these documents, and how many cells were cut."""
    pieces = parquet_encoder(spec)(batch_of(*documents))
    return read(file_of(spec, pieces)), sum(piece.cut_cells for piece in pieces)


def spec_of(*fields: Field, **options: Any) -> FileSpec:
    return FileSpec("parquet", "things", {field.path: field for field in fields}, **options)


def cell(field: Field, value: Any) -> tuple[Any, int]:
    """A value, as a reader finds it, and whether it was cut."""
    table, cut_cells = written(spec_of(field), {field.path: value})
    return table[field.path][0].as_py(), cut_cells


def test_each_column_has_its_true_type() -> None:
    schema = read(file_of(EVERYTHING, [])).schema

    assert {field.name: field.type for field in schema} == {
        "id": STRING,
        "code": STRING,
        "left": pa.int64(),
        "right": pa.int64(),
        "text": STRING,
        "email": STRING,
        "integer": pa.int64(),
        "float_number": pa.float64(),
        "decimal_number": DECIMALS,
        "boolean": pa.bool_(),
        "day": pa.date32(),
        "moment": MILLISECONDS,
        "reference": STRING,
        "colour": STRING,
        "level": pa.int64(),
        "size": STRING,
        "texts": pa.list_(STRING),
        "integers": pa.list_(pa.int64()),
        "days": pa.list_(pa.date32()),
        "decimals": pa.list_(DECIMALS),
        "references": pa.list_(STRING),
        "colours": pa.list_(STRING),
        "matrix": STRING,
        "free": STRING,
        "limit": pa.int64(),
        "branch.label": STRING,
        "branch.leaf.text": STRING,
        "branch.leaf.number": pa.int64(),
        "branch.leaf.day": pa.date32(),
        "branch.leaf.moments": pa.list_(MILLISECONDS),
        "branch.leaves": pa.list_(LEAF),
        "branch.days": pa.list_(pa.date32()),
        "branches": pa.list_(BRANCH),
        "created_at": MILLISECONDS,
        "updated_at": MILLISECONDS,
        "revision": pa.int64(),
    }
    assert [field.name for field in schema] == [column.path for column in EVERYTHING.table().columns]
    assert all(field.nullable for field in schema)


def test_everything_is_read_back_equal() -> None:
    table, cut_cells = written(EVERYTHING, STORED)
    moment = MOMENT.replace(tzinfo=UTC)
    no_leaf = {"text": None, "number": None, "day": None, "moments": None}

    assert cut_cells == 0
    assert table.to_pylist() == [
        {
            **{name: value for name, value in STORED.items() if name not in {"_id", "branch"}},
            "id": str(ID),
            "decimal_number": Decimal("12345678901234567890.12345"),
            "day": date(1899, 12, 31),
            "moment": moment,
            "reference": str(ID),
            "days": [date(2024, 2, 29)],
            "decimals": [Decimal("1.1"), Decimal(2)],
            "references": [str(ID)],
            "matrix": "[[1.5,2.0],[]]",
            "free": '{"any":{"thing":[1,null,"x",true,"2026-01-02T03:04:05.678Z"]}}',
            "branch.label": "b",
            "branch.leaf.text": "deep",
            "branch.leaf.number": 1,
            "branch.leaf.day": date(2000, 1, 1),
            "branch.leaf.moments": [],
            "branch.leaves": None,
            "branch.days": None,
            "branches": [
                {
                    "label": "first",
                    "leaf": None,
                    "leaves": [no_leaf | {"text": "", "moments": [moment]}],
                    "days": [date(1999, 12, 31)],
                },
                {"label": "second", "leaf": None, "leaves": None, "days": None},
            ],
            "created_at": moment,
            "updated_at": moment,
        }
    ]


def test_a_user_is_read_back_equal() -> None:
    address = {"street": "12 St James's Square", "city": "London", "zipcode": None, "country": "GB"}
    profile = {"bio": "x", "birthday": datetime(1815, 12, 10), "addresses": [address, {"city": "東京"}]}  # noqa: DTZ001
    users: list[dict[str, Any]] = [
        {"name": "Ada", "email": "ada@example.org", "age": 36, "is_active": True, "tags": ["a"], "profile": profile},
        {"name": "Grace", "tags": [], "profile": None},
    ]

    table, cut_cells = written(USER, *users)

    assert cut_cells == 0
    assert table.num_rows == 2
    assert table["name"].to_pylist() == ["Ada", "Grace"]
    assert table["age"].to_pylist() == [36, None]
    assert table["is_active"].to_pylist() == [True, None]
    assert table["tags"].to_pylist() == [["a"], []]
    assert table["profile.birthday"].to_pylist() == [date(1815, 12, 10), None]
    assert table["profile.addresses"].to_pylist() == [
        [address, {"street": None, "city": "東京", "zipcode": None, "country": None}],
        None,
    ]


def test_what_is_missing_or_null_is_null_and_no_loss() -> None:
    nulls: dict[str, Any] = dict.fromkeys(STORED)
    table, cut_cells = written(EVERYTHING, {}, {**nulls, "_id": ID}, {"branch": {"leaf": None}, "branches": [None]})

    assert cut_cells == 0
    assert table.num_rows == 3
    for name in table.column_names:
        assert table[name].to_pylist()[:2] == ([str(ID)] * 2 if name == "id" else [None] * 2), name
    assert table["branches"].to_pylist()[2] == [None]


def test_a_file_without_rows_has_all_its_columns() -> None:
    assert parquet_encoder(USER)(b"") == []

    table = read(file_of(USER, []))

    assert table.num_rows == 0
    assert table.column_names == [column.path for column in USER.table().columns]


def test_a_field_below_an_array_is_an_array_of_its_values() -> None:
    paths = ("branches.label", "branches.days", "branches.leaves.text", "branches.leaves.moments", "branches.leaf")
    table, cut_cells = written(FileSpec("parquet", "everythings", EVERYTHING.fields, paths), STORED)

    assert cut_cells == 0
    assert {field.name: field.type for field in table.schema} == {
        "branches[].label": pa.list_(STRING),
        "branches[].days": pa.list_(pa.list_(pa.date32())),
        "branches[].leaves[].text": pa.list_(pa.list_(STRING)),
        "branches[].leaves[].moments": pa.list_(pa.list_(pa.list_(MILLISECONDS))),
        "branches[].leaf.text": pa.list_(STRING),
        "branches[].leaf.number": pa.list_(pa.int64()),
        "branches[].leaf.day": pa.list_(pa.date32()),
        "branches[].leaf.moments": pa.list_(pa.list_(MILLISECONDS)),
    }
    assert table["branches[].label"].to_pylist() == [["first", "second"]]
    assert table["branches[].days"].to_pylist() == [[[date(1999, 12, 31)], None]]
    assert table["branches[].leaves[].text"].to_pylist() == [[[""], None]]
    assert table["branches[].leaves[].moments"].to_pylist() == [[[[MOMENT.replace(tzinfo=UTC)]], None]]
    assert table["branches[].leaf.number"].to_pylist() == [[None, None]]


@pytest.mark.parametrize(
    ("explode", "column", "arrow_type", "values"),
    [
        ("texts", "texts", STRING, ["a", "", "c"]),
        ("days", "days", pa.date32(), [date(2024, 2, 29)]),
        ("branches", "branches.label", STRING, ["first", "second"]),
        ("branches", "branches.days", pa.list_(pa.date32()), [[date(1999, 12, 31)], None]),
        ("branch.leaves", "branch.leaves.text", STRING, [None]),
    ],
)
def test_an_exploded_array_is_no_array(explode: str, column: str, arrow_type: pa.DataType, values: list[Any]) -> None:
    table, cut_cells = written(FileSpec("parquet", "everythings", EVERYTHING.fields, explode=explode), STORED)

    assert cut_cells == 0
    assert table.schema.field(column).type == arrow_type
    assert table[column].to_pylist() == values
    assert table["code"].to_pylist() == ["E-1"] * len(values)


def test_an_object_without_fields_is_json() -> None:
    table, cut_cells = written(spec_of(Field("hollow", Kind.OBJECT, is_array=True)), {"hollow": [{}, {"x": 1}]})

    assert cut_cells == 0
    assert table["hollow"].to_pylist() == [["{}", "{}"]]


def test_objects_of_any_shape_are_json() -> None:
    table, _ = written(spec_of(Field("free", Kind.JSON, is_array=True)), {"free": [{"a": [1]}, "x", None, 1.5, True]})

    assert table["free"].to_pylist() == [['{"a":[1]}', '"x"', None, "1.5", "true"]]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (Kind.TEXT, "", ""),
        (Kind.TEXT, "a\0\r\n😀", "a\0\r\n😀"),
        (Kind.INTEGER, -(2**63), -(2**63)),
        (Kind.INTEGER, Int64(2**63 - 1), 2**63 - 1),
        (Kind.INTEGER, 5.0, 5),
        (Kind.INTEGER, Decimal128("5.00"), 5),
        (Kind.FLOAT, 5, 5.0),
        (Kind.FLOAT, Int64(2**60), 2.0**60),
        (Kind.FLOAT, Decimal128("0.5"), 0.5),
        (Kind.FLOAT, float("inf"), float("inf")),
        (Kind.FLOAT, -5e-324, -5e-324),
        (Kind.BOOLEAN, False, False),
        (Kind.DATE, FIRST, date(1, 1, 1)),
        (Kind.DATE, LAST, date(9999, 12, 31)),
        (Kind.DATETIME, FIRST, FIRST.replace(tzinfo=UTC)),
        (Kind.DATETIME, LAST, LAST.replace(tzinfo=UTC)),
        (Kind.DATETIME, datetime(1969, 12, 31, 23, 59, 59, 999_000), datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC)),  # noqa: DTZ001
        (Kind.OBJECT_ID, ID, str(ID)),
        (Kind.OBJECT_ID, "written by hand", "written by hand"),
        (Kind.DECIMAL, Decimal128("1.10"), Decimal("1.1")),
        (Kind.DECIMAL, Decimal128("-0"), Decimal(0)),
        (Kind.DECIMAL, Decimal128("1E+19"), Decimal(10**19)),
        (Kind.DECIMAL, Decimal128("1E-18"), Decimal("1E-18")),
        (Kind.DECIMAL, Decimal128("9" * 16 + "." + "9" * 18), Decimal("9" * 16 + "." + "9" * 18)),
        (Kind.DECIMAL, Decimal128("-" + "9" * 20 + "." + "9" * 14), Decimal("-" + "9" * 20 + "." + "9" * 14)),
        (Kind.DECIMAL, Decimal128("1.000000000000000000000000000000000"), Decimal(1)),
        (Kind.DECIMAL, 5, Decimal(5)),
        (Kind.DECIMAL, 2.5, Decimal("2.5")),
    ],
    ids=repr,
)  # fmt: skip
def test_what_a_type_can_hold_it_holds_exactly(kind: Kind, value: Any, expected: Any) -> None:
    found, cut_cells = cell(Field("a", kind), value)

    assert (found, type(found), cut_cells) == (expected, type(expected), 0)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Kind.TEXT, 5),
        (Kind.TEXT, ID),
        (Kind.TEXT, b"bytes"),
        (Kind.TEXT, Code("x")),
        (Kind.TEXT, ["a"]),
        (Kind.INTEGER, True),
        (Kind.INTEGER, 1.5),
        (Kind.INTEGER, 2.0**63),
        (Kind.INTEGER, "5"),
        (Kind.INTEGER, float("nan")),
        (Kind.INTEGER, Decimal128("1E+6144")),
        (Kind.FLOAT, True),
        (Kind.FLOAT, "0.1"),
        (Kind.FLOAT, 2**53 + 1),
        (Kind.FLOAT, Decimal128("0.1")),
        (Kind.FLOAT, Decimal128("sNaN")),
        (Kind.BOOLEAN, 1),
        (Kind.BOOLEAN, "true"),
        (Kind.DATE, 5),
        (Kind.DATE, "2026-01-01"),
        (Kind.DATE, DatetimeMS(2**60)),
        (Kind.DATETIME, 5),
        (Kind.DATETIME, DatetimeMS(-(2**63))),
        (Kind.DATETIME, Timestamp(1, 1)),
        (Kind.OBJECT_ID, 5),
        (Kind.OBJECT_ID, {"a": 1}),
        (Kind.DECIMAL, Decimal128("NaN")),
        (Kind.DECIMAL, Decimal128("sNaN")),
        (Kind.DECIMAL, Decimal128("-Infinity")),
        (Kind.DECIMAL, Decimal128("9" * 34)),
        (Kind.DECIMAL, Decimal128("-1E+20")),
        (Kind.DECIMAL, Decimal128("1.0000000000000000001")),
        (Kind.DECIMAL, Decimal128("1E+6144")),
        (Kind.DECIMAL, Decimal128("1E-6176")),
        (Kind.DECIMAL, 0.1),
        (Kind.DECIMAL, "1"),
        (Kind.DECIMAL, True),
    ],
    ids=repr,
)
def test_what_a_type_cannot_hold_is_null_and_counted(kind: Kind, value: Any) -> None:
    assert cell(Field("a", kind), value) == (None, 1)


def test_nan_is_a_float_and_no_null_even_beside_what_is_no_float() -> None:
    table, cut_cells = written(spec_of(Field("a", Kind.FLOAT)), {"a": float("nan")}, {"a": "x"}, {"a": Decimal128("1")})

    assert str(table["a"].to_pylist()) == "[nan, None, 1.0]"
    assert cut_cells == 1


@pytest.mark.parametrize(
    "branch",
    [
        {"label": 5},
        {"leaf": 5},
        {"leaf": {"number": "5"}},
        {"leaf": {"moments": [MOMENT, 5]}},
        {"leaves": {}},
        {"leaves": [{}, {"day": 5}]},
        {"days": [None, "2026-01-01"]},
    ],
    ids=repr,
)
def test_what_does_not_fit_is_counted_however_deep_it_is(branch: dict[str, Any]) -> None:
    table, cut_cells = written(EVERYTHING, STORED, {"branches": [{"label": "kept"}, branch]})

    assert cut_cells == 1
    assert table["branches"][1][0]["label"].as_py() == "kept"


def test_a_cell_is_cut_once_and_only_where_it_must_be() -> None:
    branches = [
        {"label": 5, "leaf": "x", "days": [FIRST, 7], "leaves": [{"number": 1.5, "text": "kept"}, 8]},
        9,
        {"label": "second"},
    ]

    table, cut_cells = written(EVERYTHING, {}, {"branches": branches}, {"branches": {"label": "no array"}}, STORED)

    assert cut_cells == 2
    no_leaf = dict.fromkeys(("text", "number", "day", "moments"))
    assert table["branches"].to_pylist()[:3] == [
        None,
        [
            {
                "label": None,
                "leaf": None,
                "days": [date(1, 1, 1), None],
                "leaves": [no_leaf | {"text": "kept"}, None],
            },
            None,
            {"label": "second", "leaf": None, "days": None, "leaves": None},
        ],
        None,
    ]
    assert table["branches"].to_pylist()[3][0]["label"] == "first"


moments = st.datetimes(FIRST, LAST).map(lambda moment: moment - timedelta(microseconds=moment.microsecond % 1000))
integers = st.integers(-(2**63), 2**63 - 1)
decimals = st.binary(min_size=16, max_size=16).map(Decimal128.from_bid) | st.decimals(
    -(10**19), 10**19, places=14, allow_nan=False
).map(Decimal128)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    integers,
    integers.map(Int64),
    st.floats(),
    st.integers(-100, 100).map(float),
    decimals,
    st.text(max_size=5),
    moments,
    st.builds(ObjectId, st.binary(min_size=12, max_size=12)),
    st.builds(DatetimeMS, integers),
    st.binary(max_size=3),
    st.sampled_from(
        [Binary(b"x", 128), Code("f"), Code("f", {"x": 1}), DBRef("a", ID), MinKey(), Regex("a"), Timestamp(1, 2)]
    ),
)
NAMES = sorted({path.rpartition(".")[2] for path in EVERYTHING.fields} - {"id"})
odd_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*NAMES, "other"]), inner, max_size=4),
    max_leaves=12,
)
odd_leaves = scalars | st.fixed_dictionaries(
    {}, optional={"text": odd_values, "number": scalars, "day": scalars, "moments": st.lists(scalars, max_size=3)}
)
odd_branches = st.lists(
    scalars
    | st.fixed_dictionaries(
        {"label": scalars},
        optional={
            "leaf": odd_leaves,
            "leaves": st.lists(odd_leaves, max_size=3),
            "days": st.lists(scalars, max_size=3),
        },
    ),
    max_size=3,
)
NATURAL: dict[Kind, type] = {
    Kind.TEXT: str,
    Kind.FLOAT: float,
    Kind.BOOLEAN: bool,
    Kind.DATE: date,
    Kind.DATETIME: datetime,
    Kind.OBJECT_ID: ObjectId,
}


def is_equal(value: Any, found: Any) -> bool:
    """Whether a scalar is what was written."""
    if isinstance(value, bool) or isinstance(found, bool):
        return value is found
    if isinstance(value, Decimal128):
        value = value.to_decimal()
    if isinstance(value, datetime):
        value = value.replace(tzinfo=UTC)
    if isinstance(value, ObjectId):
        value = str(value)
    return bool(value == found) or (value != value and found != found)  # noqa: PLR0124 - NaN


def is_cut(value: Any, found: Any) -> bool:
    """Whether some of a value is null where it is found; all else must be equal."""
    if value is None or found is None:
        assert found is None
        return value is not None
    if isinstance(found, list):
        assert isinstance(value, list)
        return sum(is_cut(*pair) for pair in zip(value, found, strict=True)) > 0
    if isinstance(found, dict):
        assert isinstance(value, dict)
        return sum(is_cut(value.get(name), inner) for name, inner in found.items()) > 0
    assert is_equal(value, found)
    return False


@settings(max_examples=150)
@given(
    st.sampled_from([kind for kind in Kind if kind not in {Kind.OBJECT, Kind.JSON}]), st.lists(odd_values, max_size=6)
)
@example(Kind.INTEGER, [True, 1, 1.0])
@example(Kind.FLOAT, [2**53 + 1, float("nan"), "x"])
def test_a_cell_is_equal_or_null_and_counted(kind: Kind, values: list[Any]) -> None:
    spec = spec_of(Field("a", kind))
    batch = batch_of(*({"a": value} for value in values))
    [presented] = spec.table().cells(batch)[1] if values else [()]

    table, cut_cells = written(spec, *({"a": value} for value in values))

    found = table["a"].to_pylist()
    assert sum(is_cut(*pair) for pair in zip(presented, found, strict=True)) == cut_cells
    assert not any(
        pair_found is None
        for value, pair_found in zip(presented, found, strict=True)
        if type(value) is NATURAL.get(kind)
    )


@given(st.lists(odd_values, max_size=4))
def test_json_holds_anything(values: list[Any]) -> None:
    table, cut_cells = written(spec_of(Field("a", Kind.JSON)), *({"a": value} for value in values))

    assert cut_cells == 0
    assert [text is None for text in table["a"].to_pylist()] == [value is None for value in values]


@settings(max_examples=60)
@given(
    st.lists(
        st.dictionaries(st.sampled_from([*NAMES, "_id"]), odd_values, max_size=5)
        | st.builds(lambda odd, name: {**STORED, name: odd}, odd_values, st.sampled_from(NAMES))
        | st.builds(lambda odd: {**STORED, "branches": odd}, odd_branches),
        max_size=5,
    ),
    st.sampled_from([None, "texts", "branches", "branch.leaves"]),
    st.sampled_from([(), ("branches.leaves.moments", "branches.leaf", "branch", "texts")]),
)
def test_a_document_written_by_hand_never_stops_a_file(
    documents: list[dict[str, Any]], explode: str | None, paths: tuple[str, ...]
) -> None:
    spec = FileSpec("parquet", "everythings", EVERYTHING.fields, paths, explode)
    rows, columns = spec.table().cells(batch_of(*documents))

    table, cut_cells = written(spec, *documents)

    expected = 0
    assert table.num_rows == rows
    for column, name, presented in zip(spec.table().columns, spec.table().header, columns, strict=True):
        found = table[name].to_pylist()
        if column.kind is Kind.JSON:
            assert found == [None if value is None else dump_json(value).decode() for value in presented]
        else:
            expected += sum(is_cut(*pair) for pair in zip(presented, found, strict=True))
    assert cut_cells == expected


def test_rows_keep_their_order_over_pieces_and_row_groups() -> None:
    spec = spec_of(Field("number", Kind.INTEGER))
    encode = parquet_encoder(spec)
    batches = [
        batch_of(*({"number": number} for number in range(start, start + 3000))) for start in range(0, 45_000, 3000)
    ]

    file = file_of(spec, [piece for batch in batches for piece in encode(batch)])

    assert read(file)["number"].to_pylist() == list(range(45_000))
    metadata = parquet.read_metadata(io.BytesIO(file))
    sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    assert sizes == [21_000, 21_000, 3000]
    assert GROUP_ROWS == 20_000


def test_long_rows_make_smaller_row_groups() -> None:
    spec = spec_of(Field("text", Kind.TEXT))
    piece = parquet_encoder(spec)(batch_of({"text": "x" * (GROUP_BYTES // 2)}))[0]

    metadata = parquet.read_metadata(io.BytesIO(file_of(spec, [piece] * 5)))

    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [2, 2, 1]


def test_bytes_flow_and_none_are_held() -> None:
    spec = spec_of(Field("text", Kind.TEXT))
    texts = random.Random(1)  # which cannot be compressed
    piece = parquet_encoder(spec)(batch_of(*({"text": f"{texts.getrandbits(800):x}"} for _ in range(2000))))[0]
    before = pa.total_allocated_bytes()
    file = ParquetFile(spec)

    assert file.start() == b"PAR1"
    chunks = []
    for _ in range(100):
        chunks.append(len(file.add(piece)))
        assert file._sink.getbuffer().nbytes == 0
        assert pa.total_allocated_bytes() - before < 2 * GROUP_ROWS / piece.rows * len(piece.data)
    assert sum(map(bool, chunks)) == 100 * piece.rows // GROUP_ROWS
    assert sum(chunks) > 2_000_000
    assert file.end(ABOUT).endswith(b"PAR1")


def test_a_file_tells_about_itself() -> None:
    metadata = parquet.read_metadata(io.BytesIO(file_of(USER, []))).metadata

    assert {key.decode(): value.decode() for key, value in metadata.items() if key.startswith(b"dossier.")} == {
        "dossier.asked_for": "things, name=é",
        "dossier.by": "ada",
        "dossier.started_utc": "2026-01-02T03:04:05.678Z",
        "dossier.rows": "3",
        "dossier.cells_cut": "1",
        "dossier.complete": "yes",
    }


def test_a_file_that_was_not_ended_cannot_be_read() -> None:
    file = ParquetFile(USER)
    start = file.start() + file.add(parquet_encoder(USER)(batch_of({"name": "Ada"}))[0])

    with pytest.raises(pa.ArrowInvalid):
        read(start)


def test_where_pyarrow_is_missing_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check_parquet()
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(MissingLibraryError, match="run `scripts/install parquet`"):
        check_parquet()


def test_other_formats_do_not_need_it() -> None:
    program = "import sys; sys.modules['pyarrow'] = None; import service.transfer.worker, service.transfer.formats"

    subprocess.run([sys.executable, "-c", program], check=True)
