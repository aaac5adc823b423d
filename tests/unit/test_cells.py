"""What the cells of a file are taken for."""

from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.documents.fields import Field, Kind
from service.documents.values import MAX_INTEGER, MIN_INTEGER
from service.transfer.cells import CellError, converter_of, shown
from service.transfer.decoding import Cell

DAY_ZERO = datetime(1899, 12, 30)  # noqa: DTZ001 - a spreadsheet's times are in no zone
SCALARS = [kind for kind in Kind if kind is not Kind.OBJECT]
cells = st.text(max_size=20) | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)


def converted(kind: Kind, cell: Cell, **options: Any) -> Any:
    """What a cell of such a field holds."""
    return converter_of(Field("a", kind, **options), {"a": Field("a", kind, **options)})(cell)


def refused(kind: Kind, cell: Cell, **options: Any) -> str:
    """The code of the only thing that is wrong with a cell."""
    with pytest.raises(CellError) as caught:
        converted(kind, cell, **options)
    [fault] = caught.value.faults
    assert fault.message
    return fault.code


def days(moment: datetime) -> float:
    """A moment as a spreadsheet counts it."""
    return (moment - DAY_ZERO) / timedelta(days=1)


@pytest.mark.parametrize(
    ("kind", "cell", "value"),
    [
        (Kind.TEXT, "007", "007"),
        (Kind.TEXT, "", ""),
        (Kind.TEXT, " a ", " a "),
        (Kind.INTEGER, "7", 7),
        (Kind.INTEGER, "-007", -7),
        (Kind.INTEGER, "+1", 1),
        (Kind.INTEGER, str(MAX_INTEGER), MAX_INTEGER),
        (Kind.INTEGER, str(MIN_INTEGER), MIN_INTEGER),
        (Kind.FLOAT, "0.1", 0.1),
        (Kind.FLOAT, "1e3", 1000.0),
        (Kind.FLOAT, "-5", -5.0),
        (Kind.FLOAT, "0.10000000000000001", 0.1),
        (Kind.DECIMAL, "19.90", "19.90"),
        (Kind.DECIMAL, "-1E+3", "-1E+3"),
        (Kind.BOOLEAN, True, True),
        (Kind.BOOLEAN, "false", False),
        (Kind.BOOLEAN, "TRUE", True),
        (Kind.DATE, "2026-11-22", "2026-11-22"),
        (Kind.DATE, 0.0, "1899-12-30"),
        (Kind.DATE, 46348.0, "2026-11-22"),
        (Kind.DATETIME, "2026-11-22T09:30:00.123+01:00", "2026-11-22T09:30:00.123+01:00"),
        (Kind.DATETIME, "2026-11-22 09:30", "2026-11-22 09:30"),
        (Kind.DATETIME, "2026-11-22", "2026-11-22T00:00:00Z"),
        (Kind.DATETIME, 46348.5, "2026-11-22T12:00:00.000Z"),
        (Kind.OBJECT_ID, "0123456789abcdefABCDEF00", "0123456789abcdefABCDEF00"),
        (Kind.JSON, '{"a": [1, null]}', {"a": [1, None]}),
        (Kind.JSON, "plain, text", "plain, text"),
        (Kind.JSON, "1.50", 1.5),
        (Kind.JSON, "null", None),
        (Kind.JSON, True, True),
    ],
    ids=repr,
)
def test_each_kind_takes_what_people_and_exports_write(kind: Kind, cell: Cell, value: Any) -> None:
    found = converted(kind, cell)

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "cell", "code"),
    [
        (Kind.TEXT, True, "text_expected"),
        (Kind.TEXT, 46348.0, "text_expected"),
        (Kind.INTEGER, "1.5", "int_parsing"),
        (Kind.INTEGER, "1,000", "int_parsing"),
        (Kind.INTEGER, " 1", "int_parsing"),
        (Kind.INTEGER, "1_0", "int_parsing"),
        (Kind.INTEGER, "١", "int_parsing"),
        (Kind.INTEGER, True, "int_parsing"),
        (Kind.INTEGER, 1.0, "int_parsing"),
        (Kind.INTEGER, str(MAX_INTEGER + 1), "not_storable"),
        (Kind.FLOAT, "1,5", "float_parsing"),
        (Kind.FLOAT, "nan", "float_parsing"),
        (Kind.FLOAT, "1e400", "inexact_number"),
        (Kind.FLOAT, "0.1000000000000000055511151231257827", "inexact_number"),
        (Kind.DECIMAL, "1,5", "decimal_format"),
        (Kind.DECIMAL, "Infinity", "decimal_format"),
        (Kind.DECIMAL, False, "decimal_format"),
        (Kind.BOOLEAN, "yes", "bool_parsing"),
        (Kind.BOOLEAN, "1", "bool_parsing"),
        (Kind.BOOLEAN, 1.0, "bool_parsing"),
        (Kind.DATE, "22.11.2026", "date_format"),
        (Kind.DATE, "2026-11-22T00:00:00Z", "date_format"),
        (Kind.DATE, 46348.5, "date_format"),
        (Kind.DATE, 1e9, "date_format"),
        (Kind.DATETIME, "9:30", "time_format"),
        (Kind.DATETIME, True, "time_format"),
        (Kind.DATETIME, -1e9, "date_format"),
        (Kind.OBJECT_ID, "0123", "object_id_format"),
        (Kind.JSON, '{"a": }', "invalid_json"),
        (Kind.JSON, '["a"', "invalid_json"),
        (Kind.JSON, '{"a": 1, "a": 2}', "invalid_json"),
        (Kind.JSON, "0.1000000000000000055511151231257827", "inexact_number"),
        (Kind.JSON, str(2**63), "not_storable"),
        (Kind.JSON, '{"$ne": null}', "invalid_key"),
        (Kind.OBJECT, "text", "invalid_json"),
    ],
    ids=repr,
)
def test_what_is_nothing_of_the_kind_is_refused(kind: Kind, cell: Cell, code: str) -> None:
    assert refused(kind, cell) == code


@pytest.mark.parametrize(
    ("kind", "code"), [(Kind.TEXT, "formula_error"), (Kind.JSON, "formula_error"), (Kind.INTEGER, "int_parsing")]
)
def test_what_a_formula_could_not_compute_is_no_value(kind: Kind, code: str) -> None:
    assert refused(kind, b"#N/A") == code
    assert shown(b"#N/A") == "#N/A"


def test_an_array_is_one_cell_of_json() -> None:
    assert converted(Kind.TEXT, '["a", "b"]', is_array=True) == ["a", "b"]
    assert converted(Kind.INTEGER, "[1]", is_array=True) == [1]
    assert refused(Kind.TEXT, "a, b", is_array=True) == "invalid_json"
    assert refused(Kind.INTEGER, "[1.5]", is_array=True) == "int_type"
    assert refused(Kind.TEXT, '["a", "a"]', is_array=True, is_set=True) == "duplicate_element"


def test_all_that_is_wrong_in_a_cell_of_json_is_told() -> None:
    with pytest.raises(CellError) as caught:
        converted(Kind.DATE, '["1", "2026-11-22", "2"]', is_array=True)

    assert [fault.code for fault in caught.value.faults] == ["date_format", "date_format"]


@given(st.datetimes())
def test_a_spreadsheets_moment_is_one_to_the_millisecond(moment: datetime) -> None:
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    assert datetime.fromisoformat(converted(Kind.DATETIME, days(moment))) == moment.replace(tzinfo=UTC)


@given(st.dates())
def test_a_spreadsheets_day_is_a_date(day: date) -> None:
    assert converted(Kind.DATE, days(datetime.combine(day, datetime.min.time()))) == day.isoformat()


@pytest.mark.parametrize("is_array", [False, True])
@pytest.mark.parametrize("kind", SCALARS, ids=str)
@given(cell=cells)
def test_any_cell_is_a_value_that_bson_has_or_is_refused(kind: Kind, is_array: bool, cell: Cell) -> None:  # noqa: FBT001
    field = Field("a", kind, is_array=is_array)
    with suppress(CellError):
        bson.encode({"a": converter_of(field, {"a": field})(cell)})


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, None),
        ("a", "a"),
        ("", ""),
        (True, "true"),
        (False, "false"),
        (46348.0, "2026-11-22"),
        (46348.5, "2026-11-22T12:00:00.000Z"),
        (1e9, "1000000000.0"),
        (-1e300, "-1e+300"),
    ],
    ids=repr,
)
def test_a_cell_is_shown_as_csv_has_it(cell: Cell, text: str | None) -> None:
    assert shown(cell) == text


@pytest.mark.parametrize("kind", [Kind.BOOLEAN, Kind.DATE, Kind.DATETIME], ids=str)
@given(cell=st.booleans() | st.datetimes().map(days))
def test_what_is_shown_of_a_good_cell_is_as_good_as_it(kind: Kind, cell: bool | float) -> None:  # noqa: FBT001
    try:
        value = converted(kind, cell)
    except CellError:
        return
    again = converted(kind, shown(cell))

    assert again == value or again.replace("Z", ".000Z") == value
