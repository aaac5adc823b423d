"""Nested documents as a table: which columns there are, and what each document has in them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from service.documents.batches import decode_batch
from service.documents.fields import Field, Kind, parents_of
from service.documents.presenter import Presenter


class Table:
    """Columns fixed beforehand, and the cells of whatever documents come."""

    def __init__(self, fields: Mapping[str, Field], paths: Sequence[str] = (), explode: str | None = None) -> None:
        """The columns of all fields, or of those that `paths` name, in that order.

        An object becomes a column for each of its fields; an array is one cell, and with `explode` a row for each
        element instead.
        """
        self._presenter = Presenter(fields.values())
        self._explode = explode.split(".") if explode else []
        named = [column for path in paths or _top_level(fields) for column in _columns(fields, fields[path], explode)]
        self.columns = tuple(dict.fromkeys(named))
        self.header = tuple(_name_of(fields, column.path, explode) for column in self.columns)
        self._read_row = _row_reader([column.path for column in self.columns])

    def documents(self, batch: bytes) -> Iterator[dict[str, Any]]:
        """The documents of a raw BSON batch as callers see them; exploded, one for each element."""
        for stored in decode_batch(batch):
            document = self._presenter.present(stored)
            if self._explode:
                yield from _exploded(document, self._explode)
            else:
                yield document

    def cells(self, batch: bytes) -> tuple[int, list[Sequence[Any]]]:
        """How many rows a raw BSON batch makes, and for each column the values of its cells."""
        rows = [self._read_row(document) for document in self.documents(batch)]
        return len(rows), list(zip(*rows, strict=True)) if rows else [() for _ in self.columns]


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


ALL_ELEMENTS = "[]"
"""Stands in a column's name behind an array of objects that has no row for each element: `contacts[].name`."""


def _name_of(fields: Mapping[str, Field], path: str, explode: str | None) -> str:
    """What a header calls a column: its path, and which arrays its cells hold all elements of."""
    names = path.split(".")
    for depth, parent in enumerate(parents_of(path)):
        if fields[parent].is_array and parent != explode:
            names[depth] += ALL_ELEMENTS
    return ".".join(names)


def _exploded(document: dict[str, Any], path: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The document once for each element of an array, which is in the array's place; once if there is none."""
    name, *rest = path
    inner = document.get(name)
    if rest and isinstance(inner, dict):
        parts: Iterable[Any] = _exploded(inner, rest)
    elif not rest and isinstance(inner, list):
        parts = inner or [None]
    else:
        yield document
        return
    for part in parts:
        yield {**document, name: part}


def _row_reader(paths: Sequence[str]) -> Callable[[Mapping[str, Any]], list[Any]]:
    """What reads the values at these paths out of a document: neighbours in one object are read together."""
    groups = [
        (parents.split(".") if parents else [], [path.rpartition(".")[2] for path in group])
        for parents, group in groupby(paths, lambda path: path.rpartition(".")[0])
    ]
    readers = [(parents, names, _all_of(names)) for parents, names in groups]

    def read(document: Mapping[str, Any]) -> list[Any]:
        row: list[Any] = []
        for parents, names, read_all in readers:
            holder: Any = document
            for parent in parents:
                holder = _member(holder, parent)
            try:
                row += read_all(holder)
            except (LookupError, TypeError):  # something is missing, or there is no object at all
                row += [_member(holder, name) for name in names]
        return row

    return read


def _all_of(names: Sequence[str]) -> Callable[[Any], Sequence[Any]]:
    """What reads all of these out of an object that has them all."""
    if len(names) > 1:
        return itemgetter(*names)
    [name] = names
    return lambda holder: (holder[name],)


def _member(value: Any, name: str) -> Any:
    """What an object has under this name; of an array, the list of what each of its objects has."""
    if isinstance(value, dict):
        return value.get(name)
    return [_member(element, name) for element in value] if isinstance(value, list) else None
