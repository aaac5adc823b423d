"""Rows of cells as the bodies of documents: the way back from a table to what was exported as one.

A table cannot say all that a document can. An optional object of which every column has nothing comes back as null, so
also one whose every field is null. Free JSON of a field that is annotated `Any` comes back as what it looks like: the
text `"1"` as the number, an empty text as null.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.documents.base import SERVER_FIELDS
from service.documents.fields import Field, Kind, parents_of
from service.documents.masks import NO_MASKS, Masks
from service.documents.values import path_of
from service.errors import Fault, InvalidFileError, cut
from service.transfer.cells import CellError, Convert, converter_of, shown
from service.transfer.decoding import MAX_COLUMNS, Cell
from service.transfer.table import ALL_ELEMENTS, Table

MAX_NAME_LENGTH = 200
"""Of what is told of a column's name, in characters."""

REASONS_COLUMN = "_errors"
"""Says in a table of rows that failed why they did; no field is named so. It is ignored when the table comes back."""

Cells = Sequence[Cell]


@dataclass(slots=True)
class _Leaf:
    """A column: where it is, and what becomes of its cells."""

    name: str
    path: str
    index: int
    convert: Convert
    is_nullable: bool
    nothing: Cells
    """The cells that say nothing."""


@dataclass(slots=True)
class _Node:
    """An object, of which some fields have columns."""

    known: Field | None = None
    leaves: list[_Leaf] = field(default_factory=list)
    nodes: "dict[str, _Node]" = field(default_factory=dict)
    is_exploded: bool = False
    """An array instead, with a row for each element."""
    is_whole: bool = True
    """Whether nothing in any of its columns means that there is no object, though others may be there already."""


class RowDecoder:
    """Makes bodies, as POST takes them, out of the rows below one header."""

    def __init__(
        self,
        fields: Mapping[str, Field],
        header: Cells,
        *,
        explode: str | None = None,
        is_partial: bool = False,
        masks: Masks = NO_MASKS,
    ) -> None:
        """`is_partial`: rows may be parts of documents that exist, so that no column is required.

        Columns below an array of objects explode it: a row for each element; `explode` names an array of scalars that
        is exploded. Raises InvalidFileError with all columns that are unknown, twice there, or missing.
        """
        self._fields = fields
        self._masks = masks
        self._is_partial = is_partial
        self.columns = [shown(cell) or "" for cell in header]
        faults = [*self._header_faults()]
        if faults:
            raise InvalidFileError(faults)
        self.exploded = self._exploded(explode)
        if is_partial and self.exploded is not None and (faults := [*self._missing_of(self.exploded)]):
            raise InvalidFileError(faults)
        self._element_columns = [
            index
            for index, path in enumerate(self.columns)
            if self.exploded and (path == self.exploded or path.startswith(f"{self.exploded}."))
        ]
        self._root = self._tree()

    def index_of(self, path: str) -> int | None:
        """Where the column of this name is."""
        return self.columns.index(path) if path in self.columns else None

    def body(self, rows: Sequence[Cells]) -> tuple[dict[str, Any], list[Fault]]:
        """The document of these rows, one but where an array is exploded, and what is wrong with its cells.

        What is not named in it has nothing in its cell, and is not null either.
        """
        faults: list[Fault] = []
        for cells in rows:
            if len(cells) != len(self.columns):
                message = f"this row has {len(cells)} cells, the header has {len(self.columns)}"
                return {}, [Fault("row_length", message)]
        for cells in rows[1:]:
            faults += self._differences(rows[0], cells)
        body, _ = self._object(self._root, "", rows, faults)
        return body, faults

    def column_of(self, pointer: str | None) -> str | None:
        """The column that the value at this pointer (RFC 6901) came from; its path, if there is none."""
        path = path_of(pointer or "")
        return next((above for above in (path, *reversed(parents_of(path))) if above in self.columns), path or None)

    def position_of(self, pointer: str | None) -> int:
        """Which of the rows of one document the value at this pointer came from."""
        prefix = f"/{self.exploded.replace('.', '/')}/" if self.exploded else None
        if prefix is None or pointer is None or not pointer.startswith(prefix):
            return 0
        return int(pointer.removeprefix(prefix).partition("/")[0])

    def _header_faults(self) -> Iterator[Fault]:
        if len(self.columns) > MAX_COLUMNS:
            yield Fault("too_many_columns", f"at most {MAX_COLUMNS} columns are taken")
            return
        seen: set[str] = set()
        for position, name in enumerate(self.columns, start=1):
            if not name:
                yield Fault("unnamed_column", f"column {position} has no name")
            elif name in seen:
                yield Fault("duplicate_column", "this column is there twice", column=cut(name, MAX_NAME_LENGTH))
            elif ALL_ELEMENTS in name and (path := name.replace(ALL_ELEMENTS, "")) in self._fields:
                yield Fault("not_exploded", self._whole_elements(path), column=name)
            elif name not in self._fields and name != REASONS_COLUMN:
                yield Fault("unknown_column", "there is no such field", column=cut(name, MAX_NAME_LENGTH))
            elif any(name.startswith(f"{other}.") for other in self.columns):
                yield Fault("duplicate_column", "this is in another column too", column=name)
            seen.add(name)
        if not self._is_partial:
            yield from self._missing(seen)

    def _missing(self, seen: set[str]) -> Iterator[Fault]:
        for path, known in self._fields.items():
            parent = path.rpartition(".")[0]
            is_wanted = known.is_required and (not parent or any(name.startswith(f"{parent}.") for name in seen))
            if is_wanted and not any(name == path or name.startswith(f"{path}.") for name in seen):
                yield Fault("missing_column", "this column is required", column=path)

    def _whole_elements(self, path: str) -> str:
        """What can be done about a column that has one field of all elements of an array."""
        array = next(parent for parent in parents_of(path) if self._fields[parent].is_array)
        return (
            f"elements are replaced whole, and this is a part of each: export {array} itself, or with explode={array}"
        )

    def _missing_of(self, exploded: str) -> Iterator[Fault]:
        """Elements are replaced whole, so that a field of theirs that has no column would be lost."""
        for known in Table(self._fields, [exploded], exploded).columns:
            if not {known.path, *parents_of(known.path)}.intersection(self.columns):
                yield Fault("missing_column", f"elements of {exploded} are replaced whole", column=known.path)

    def _exploded(self, explode: str | None) -> str | None:
        found = dict.fromkeys(
            parent
            for path in self.columns
            for parent in parents_of(path)
            if self._fields[parent].is_array and self._fields[parent].kind is Kind.OBJECT
        )
        if explode is not None:
            if not any(path == explode or path.startswith(f"{explode}.") for path in self.columns):
                raise InvalidFileError([Fault("missing_column", "this is to be exploded", column=explode)])
            found[explode] = None
        if len(found) > 1:
            message = "only one array can have a row for each element"
            raise InvalidFileError([Fault("exploded_twice", message, column=path) for path in found])
        return next(iter(found), None)

    def _tree(self) -> _Node:
        root = _Node(is_whole=False)
        for index, path in enumerate(self.columns):
            if path in SERVER_FIELDS or path == REASONS_COLUMN:
                continue
            node, known = root, self._fields[path]
            for parent in parents_of(path):
                name = parent.rpartition(".")[2]
                node = node.nodes.setdefault(name, _Node(self._fields[parent], is_exploded=parent == self.exploded))
            name = path.rpartition(".")[2]
            is_element = path == self.exploded
            convert = converter_of(known, self._fields, is_element=is_element, masks=self._masks)
            nothing = _nothing(known, is_element=is_element)
            if is_element:
                element = node.nodes.setdefault(name, _Node(known, is_exploded=True))
                element.leaves.append(_Leaf("", path, index, convert, is_nullable=True, nothing=nothing))
            else:
                node.leaves.append(_Leaf(name, path, index, convert, known.is_nullable, nothing))
        for node in _below(root):
            assert node.known is not None
            prefix = f"{node.known.path}."
            columns = [path for path in self.columns if path.startswith(prefix)]
            is_in_element = self.exploded is not None and prefix.startswith(f"{self.exploded}.")
            has_all_columns = all(
                any(column == path or column.startswith(f"{path}.") for column in columns)
                for path in self._fields
                if path.startswith(prefix) and "." not in path.removeprefix(prefix)
            )
            node.is_whole = is_in_element or (has_all_columns and self.exploded is None)
        return root

    def _object(
        self, node: _Node, pointer: str, rows: Sequence[Cells], faults: list[Fault]
    ) -> tuple[dict[str, Any], bool]:
        """The members of the object at this pointer, and whether there is nothing in any of its columns."""
        cells = rows[0]
        members: dict[str, Any] = {}
        is_empty = True
        for leaf in node.leaves:
            cell = cells[leaf.index]
            if cell in leaf.nothing:
                if leaf.is_nullable:
                    members[leaf.name] = None
                continue
            is_empty = False
            try:
                members[leaf.name] = leaf.convert(cell)
            except CellError as error:
                place = f"{pointer}/{leaf.name}" if leaf.name else pointer
                faults += [Fault(fault.code, fault.message, place, column=leaf.path) for fault in error.faults]
        for name, inner in node.nodes.items():
            value, has_nothing = self._member(inner, f"{pointer}/{name}", rows, faults)
            is_empty = is_empty and has_nothing
            if value is not _ABSENT:
                members[name] = value
        return members, is_empty

    def _member(self, node: _Node, pointer: str, rows: Sequence[Cells], faults: list[Fault]) -> tuple[Any, bool]:
        assert node.known is not None
        if node.is_exploded:
            return self._elements(node, node.known, pointer, rows, faults)
        members, is_empty = self._object(node, pointer, rows, faults)
        if is_empty and node.known.is_nullable and (not self._is_partial or node.is_whole):
            return None, True
        if is_empty and not members and not node.known.is_required:
            return _ABSENT, True
        return members, is_empty

    def _elements(
        self, node: _Node, known: Field, pointer: str, rows: Sequence[Cells], faults: list[Fault]
    ) -> tuple[Any, bool]:
        found = [self._object(node, f"{pointer}/{position}", [cells], faults) for position, cells in enumerate(rows)]
        if len(found) == 1 and found[0][1]:
            return (None if known.is_nullable else []), True
        if known.kind is Kind.OBJECT:
            return [members for members, _ in found], False
        return [members.get("") for members, _ in found], False

    def _differences(self, first: Cells, other: Cells) -> Iterator[Fault]:
        for index, path in enumerate(self.columns):
            if index not in self._element_columns and first[index] != other[index] and path not in SERVER_FIELDS:
                message = "the rows of one document have different values here"
                yield Fault("differs_in_document", message, column=path)


_ABSENT = object()
"""Nothing is said of a member."""


def _nothing(known: Field, *, is_element: bool) -> Cells:
    """An empty text too, but where it can be a value: tools that quote every cell write nothing so."""
    is_text = known.kind is Kind.TEXT and (is_element or not known.is_array)
    return (None,) if is_text else (None, "")


def _below(node: _Node) -> Iterator[_Node]:
    for inner in node.nodes.values():
        yield inner
        yield from _below(inner)
