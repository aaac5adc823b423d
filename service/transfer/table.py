"""Nested documents as a table: which columns there are, and each document's rows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from service.documents.fields import Field, Kind
from service.documents.presenter import Presenter, decode_batch


class Table:
    """Columns fixed beforehand, and the rows of whatever documents come."""

    def __init__(self, fields: Mapping[str, Field], paths: Sequence[str] = (), explode: str | None = None) -> None:
        """The columns of all fields, or of those that `paths` name, in that order.

        An object becomes a column for each of its fields; an array is one cell, and with `explode` a row for each
        element instead.
        """
        self._presenter = Presenter(fields.values())
        self._explode = explode.split(".") if explode else []
        named = [column for path in paths or _top_level(fields) for column in _columns(fields, fields[path], explode)]
        self.columns = tuple(dict.fromkeys(named))
        self._getters = [(column.path.split("."), self._is_below(column.path)) for column in self.columns]

    def _is_below(self, path: str) -> int:
        """How many names of the path lead to the exploded array; 0 where they do not."""
        names = path.split(".")
        depth = len(self._explode)
        return depth if depth and names[:depth] == self._explode else 0

    def rows(self, batch: bytes) -> Iterator[list[Any]]:
        """The cells, as presented values, of each row of a raw BSON batch."""
        for stored in decode_batch(batch):
            document = self._presenter.present(stored)
            exploded = _value_at(document, self._explode) if self._explode else None
            for element in (exploded or [None]) if isinstance(exploded, list) else [exploded]:
                yield [
                    _value_at(element, names[below:]) if below else _value_at(document, names)
                    for names, below in self._getters
                ]


def _top_level(fields: Mapping[str, Field]) -> list[str]:
    return [path for path in fields if "." not in path]


def _columns(fields: Mapping[str, Field], field: Field, explode: str | None) -> Iterator[Field]:
    is_opened = field.kind is Kind.OBJECT and (not field.is_array or field.path == explode)
    if not is_opened:
        yield field
        return
    prefix = f"{field.path}."
    for path, inner in fields.items():
        if path.startswith(prefix) and "." not in path.removeprefix(prefix):
            yield from _columns(fields, inner, explode)


def _value_at(value: Any, names: Sequence[str]) -> Any:
    """What lies at the end of a path; inside of an array, the list of what lies there in each element."""
    for position, name in enumerate(names):
        if isinstance(value, list):
            return [_value_at(element, names[position:]) for element in value]
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value
