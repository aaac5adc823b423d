"""Rows as Arrow's columns, of which ParquetFile makes Parquet.

Only what makes Parquet loads pyarrow, which is an extra, and slow to load.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Context, Decimal, InvalidOperation
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple

from bson import Decimal128, Int64, ObjectId

from service.documents.fields import Field, Kind, parents_of
from service.documents.json_text import dump_json
from service.transfer.encoding import Encode, FileSpec, Piece

if TYPE_CHECKING:
    import pyarrow as pa

MAX_DECIMAL_DIGITS, DECIMAL_PLACES = 38, 18
"""20 digits before the point and 18 after it, as Spark has it where nobody says otherwise.

decimal256(76, 38) would hold nearly every Decimal128, but few can read it: DuckDB 2.0 makes it a float (of 0.1
0.09999999999999999), Polars 2.1 refuses the column and Spark 4.3 the whole file. What does not fit here is left out and
counted; CSV and JSON have it.
"""

SMALLEST_DECIMAL = Decimal(1).scaleb(-DECIMAL_PLACES)
DECIMAL_CONTEXT = Context(prec=MAX_DECIMAL_DIGITS, traps=[InvalidOperation])

UNFIT = (ArithmeticError, TypeError, ValueError)
"""What conversions raise, and pyarrow: ArrowInvalid and ArrowTypeError are kinds of these."""

NUMBERS = frozenset({int, Int64, float, Decimal128})
IDS = frozenset({ObjectId, str})


def parquet_encoder(spec: FileSpec) -> Encode:
    """Encodes rows as Arrow record batches, without their schema."""
    table = spec.table()
    arrow = ArrowColumns(spec)

    def encode(batch: bytes) -> list[Piece]:
        rows, columns = table.cells(batch)
        if not rows:
            return []
        record_batch, cut_cells = arrow.record_batch(columns)
        return [Piece(record_batch.serialize().to_pybytes(), rows, cut_cells)]

    return encode


@dataclass(frozen=True, slots=True)
class _Array:
    """Arrays of something."""

    element: "_Shape"


_Shape = Kind | _Array | Mapping[str, "_Shape"]
"""What a column holds: one kind of scalar, arrays, or objects by their fields."""

_Built = tuple["pa.Array", set[int]]
"""Values as Arrow has them, and the places of those that its type cannot hold, or not whole."""


class ArrowColumns:
    """The columns of a file, with Arrow's types.

    A value that its type cannot hold becomes null; in an array or an object, the innermost one that it cannot hold.
    """

    def __init__(self, spec: FileSpec) -> None:
        import pyarrow as pa  # noqa: PLC0415 - see above

        self._arrow = pa
        self._types: Mapping[Kind, pa.DataType] = {
            Kind.TEXT: pa.string(),
            Kind.INTEGER: pa.int64(),
            Kind.FLOAT: pa.float64(),
            Kind.DECIMAL: pa.decimal128(MAX_DECIMAL_DIGITS, DECIMAL_PLACES),
            Kind.BOOLEAN: pa.bool_(),
            Kind.DATE: pa.date32(),
            Kind.DATETIME: pa.timestamp("ms", tz="UTC"),
            Kind.OBJECT_ID: pa.string(),
            Kind.JSON: pa.string(),
        }
        table = spec.table()
        self._shapes = [_column_shape(spec, column.path) for column in table.columns]
        self.schema: pa.Schema = pa.schema(
            [(name, self._type_of(shape)) for name, shape in zip(table.header, self._shapes, strict=True)]
        )

    def record_batch(self, columns: Sequence[Sequence[Any]]) -> tuple["pa.RecordBatch", int]:
        """The values of each column, and how many of these could not be held whole."""
        built = [self._build(shape, values) for shape, values in zip(self._shapes, columns, strict=True)]
        arrays = [array for array, _ in built]
        return self._arrow.record_batch(arrays, schema=self.schema), sum(len(unfit) for _, unfit in built)

    def _type_of(self, shape: _Shape) -> "pa.DataType":
        match shape:
            case Kind():
                return self._types[shape]
            case _Array(element):
                return self._arrow.list_(self._type_of(element))
            case members:
                return self._arrow.struct([(name, self._type_of(member)) for name, member in members.items()])

    def _build(self, shape: _Shape, values: Sequence[Any]) -> _Built:
        match shape:
            case Kind():
                return self._scalars(shape, values)
            case _Array(element):
                return self._lists(element, values)
            case members:
                return self._structs(members, values)

    def _scalars(self, kind: Kind, values: Sequence[Any]) -> _Built:
        taken, convert = CONVERSIONS[kind]
        arrow_type = self._types[kind]
        try:
            if not taken.issuperset(map(type, values)):
                values = [None if value is None else convert(value) for value in values]
            return self._arrow.array(values, arrow_type), set()
        except UNFIT:
            return self._scalars_that_fit(kind, values)

    def _scalars_that_fit(self, kind: Kind, values: Sequence[Any]) -> _Built:
        _, convert = CONVERSIONS[kind]
        arrow_type = self._types[kind]
        scalars, unfit = [], set()
        for place, value in enumerate(values):
            try:
                scalars.append(self._arrow.scalar(None if value is None else convert(value), arrow_type))
            except UNFIT:
                scalars.append(None)
                unfit.add(place)
        return self._arrow.array(scalars, arrow_type), unfit

    def _lists(self, element: _Shape, values: Sequence[Any]) -> _Built:
        offsets: list[int | None] = []
        elements: list[Any] = []
        unfit = set()
        for place, value in enumerate(values):
            if type(value) is list:
                offsets.append(len(elements))
                elements += value
            else:
                offsets.append(None)  # which makes the list null
                if value is not None:
                    unfit.add(place)
        offsets.append(len(elements))
        array, unfit_elements = self._build(element, elements)
        if unfit_elements:
            owners = [place for place, value in enumerate(values) if type(value) is list for _ in value]
            unfit.update(owners[place] for place in unfit_elements)
        return self._arrow.ListArray.from_arrays(self._arrow.array(offsets, self._arrow.int32()), array), unfit

    def _structs(self, members: Mapping[str, _Shape], values: Sequence[Any]) -> _Built:
        is_object = [type(value) is dict for value in values]
        unfit = {place for place, value in enumerate(values) if value is not None and not is_object[place]}
        objects = [value if type(value) is dict else {} for value in values]
        arrays = []
        for name, member in members.items():
            array, unfit_members = self._build(member, [value.get(name) for value in objects])
            arrays.append(array)
            unfit |= unfit_members
        is_null = self._arrow.array([not known for known in is_object], self._arrow.bool_())
        return self._arrow.StructArray.from_arrays(arrays, names=list(members), mask=is_null), unfit


def _column_shape(spec: FileSpec, path: str) -> _Shape:
    """What the cells of a column hold: of a field below arrays, an array for each of them."""
    shape = _element_shape(spec.fields, spec.fields[path])
    for above in (*parents_of(path), path):
        if spec.fields[above].is_array and above != spec.explode:
            shape = _Array(shape)
    return shape


def _element_shape(fields: Mapping[str, Field], field: Field) -> _Shape:
    """What a field holds, or an array's elements."""
    if field.kind is not Kind.OBJECT:
        return field.kind
    members: dict[str, _Shape] = {}
    for path, inner in fields.items():
        name = path.removeprefix(f"{field.path}.")
        if name != path and "." not in name:
            shape = _element_shape(fields, inner)
            members[name] = _Array(shape) if inner.is_array else shape
    return members or Kind.JSON  # Parquet has no objects without fields


class _Conversion(NamedTuple):
    """How values become what pyarrow takes."""

    taken: frozenset[type]
    """Of these it takes whole columns as they are, and holds each exactly or refuses it."""
    convert: Callable[[Any], Any]
    """Any other value, exactly; raises one of UNFIT, as pyarrow may afterwards."""


def _only(expected: type) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        if type(value) is not expected:
            raise TypeError
        return value

    return convert


def _equal_number(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """To MongoDB the numbers 5, 5.0 and NumberDecimal("5") are equal, so people write whichever comes to hand."""

    def convert(value: Any) -> Any:
        if type(value) is make:
            return value
        if type(value) not in NUMBERS:
            raise TypeError
        number = value.to_decimal() if isinstance(value, Decimal128) else value
        made = make(number)
        if made != number:
            raise ValueError
        return made

    return convert


def _decimal(value: Any) -> Decimal:
    """A decimal with just the places that the column has; pyarrow makes 0 of some that have more (1.…7E-24)."""
    number: Decimal = _as_decimal(value)
    fitting = number.quantize(SMALLEST_DECIMAL, context=DECIMAL_CONTEXT)
    if fitting != number:
        raise ValueError
    return fitting


def _hex(value: Any) -> str:
    """An id as text, which somebody may have written as it is."""
    if type(value) not in IDS:
        raise TypeError
    return str(value)


_as_decimal = _equal_number(Decimal)

CONVERSIONS: Mapping[Kind, _Conversion] = {
    Kind.TEXT: _Conversion(frozenset({str, NoneType}), _only(str)),
    Kind.INTEGER: _Conversion(frozenset({int, Int64, NoneType}), _equal_number(int)),
    Kind.FLOAT: _Conversion(frozenset({float, int, Int64, NoneType}), _equal_number(float)),
    Kind.DECIMAL: _Conversion(frozenset({NoneType}), _decimal),
    Kind.BOOLEAN: _Conversion(frozenset({bool, NoneType}), _only(bool)),
    Kind.DATE: _Conversion(frozenset({date, NoneType}), _only(date)),
    Kind.DATETIME: _Conversion(frozenset({datetime, NoneType}), _only(datetime)),
    Kind.OBJECT_ID: _Conversion(frozenset({NoneType}), _hex),
    Kind.JSON: _Conversion(frozenset({NoneType}), dump_json),
}
