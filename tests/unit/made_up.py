"""What tests make on the spot: document classes to read something off, documents, and files of them."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import bson
from bson import Binary, Code, Decimal128, MaxKey, ObjectId, Regex
from bson.datetime_ms import DatetimeMS
from hypothesis import strategies as st

from service.documents.base import Part, Record
from service.documents.fields import Field
from service.transfer.assembly import Assembly
from service.transfer.encoders import ENCODERS
from service.transfer.encoding import About, FileSpec, FormatName
from service.transfer.formats import FORMATS

EXAMPLE: dict[str, Any] = {"json_schema_extra": {"examples": [{}]}}
STARTED_AT = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 - UTC without saying so


def named(value: object) -> str:
    """A name for a case that is the same in each process: without addresses in memory."""
    return re.sub(" at 0x[0-9a-f]+", "", str(value))


def record_class(
    fields: dict[str, Any] | None = None, *, config: dict[str, Any] = EXAMPLE, title: str = "Thing", **settings: Any
) -> type[Record]:
    """A type with these fields and Settings, as somebody would write it in a file of their own."""
    options = type("Settings", (Record.Settings,), {"name": "things", **settings})
    cls: type[Record] = _class(Record, title, fields, {"model_config": config})
    cls.Settings = options  # type: ignore[assignment,misc]
    return cls


def part_class(title: str, **fields: Any) -> type[Part]:
    """Something to nest in it; a field is an annotation, or one with its default."""
    cls: type[Part] = _class(Part, title, fields, {})
    return cls


def _class(base: type[Any], title: str, fields: dict[str, Any] | None, members: dict[str, Any]) -> Any:
    given = {name: field if isinstance(field, tuple) else (field,) for name, field in (fields or {}).items()}
    annotations = {name: field[0] for name, field in given.items()}
    defaults = {name: field[1] for name, field in given.items() if len(field) > 1}
    namespace = {"__module__": __name__, "__annotations__": annotations, **defaults, **members}
    metaclass: Any = type(base)
    return metaclass(title, (base,), namespace)


def odd_values(*, with_nan: bool = True) -> st.SearchStrategy[Any]:
    """What somebody may have written by hand; NaN, where it is in it, equals nothing."""
    return st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=with_nan)
        | st.text(max_size=5)
        | st.binary(max_size=3)
        | st.datetimes().map(lambda moment: moment.replace(microsecond=0))
        | st.sampled_from(
            [
                ObjectId("0123456789abcdef01234567"),
                Decimal128("NaN"),
                Decimal128("1.5"),
                DatetimeMS(2**60),
                Regex("a"),
                Code("=a"),
                MaxKey(),
                Binary(b"a"),
            ]
        ),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["label", "leaf", "leaves", "day", "days", "moments", "text", "x"]), inner, max_size=3
            )
        ),
    )


def everything_documents() -> st.SearchStrategy[dict[str, Any]]:
    """Documents of the type Everything: fields that are missing, as declared, or of any type somewhere on the way."""
    odd = odd_values(with_nan=False)
    leaf = st.fixed_dictionaries(
        {}, optional={"text": odd, "number": odd, "day": odd, "moments": st.lists(odd, max_size=3), "x": odd}
    )
    branch = st.fixed_dictionaries(
        {},
        optional={
            "label": odd,
            "leaf": leaf | odd,
            "leaves": st.lists(leaf | odd, max_size=3) | odd,
            "days": st.lists(odd, max_size=3) | odd,
        },
    )
    return st.fixed_dictionaries(
        {"_id": st.integers(0, 9)},
        optional={
            "code": odd,
            "day": odd,
            "texts": st.lists(odd, max_size=3) | odd,
            "days": st.lists(odd, max_size=3) | odd,
            "free": odd,
            "branch": branch | odd,
            "branches": st.lists(branch | odd, max_size=3) | odd,
        },
    )


def batch_of(*documents: Mapping[str, Any]) -> bytes:
    """Documents as they come from the driver."""
    return b"".join(bson.encode({"_id": 1, **document}) for document in documents)


def file_spec(fields: Iterable[Field], format_name: FormatName = "csv", **options: Any) -> FileSpec:
    """A file of things that have these fields."""
    return FileSpec(format_name, **{"title": "things", "fields": {field.path: field for field in fields}, **options})


def made_file(spec: FileSpec, *batches: bytes) -> bytes:
    """The whole file of these batches, all in this process."""
    encode = ENCODERS[spec.format_name](spec)
    assembly = Assembly(FORMATS[spec.format_name].file(spec))
    chunks = [assembly.start(), *(assembly.add(encode(batch)) for batch in batches)]
    about = About("things, everything", "tester", STARTED_AT, assembly.rows, assembly.cut_cells)
    return b"".join([*chunks, assembly.end(about)])
