"""A field of a document type: what it holds, and where. Plain data, which is all that a process that encodes needs."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from service.documents.masks import Mask

if TYPE_CHECKING:
    from pydantic import BaseModel


class Kind(StrEnum):
    """What a field holds."""

    TEXT = "text"
    INTEGER = "integer"
    FLOAT = "float"
    DECIMAL = "decimal"
    BOOLEAN = "boolean"
    DATE = "date"
    DATETIME = "datetime"
    OBJECT_ID = "object id"
    OBJECT = "object"
    JSON = "JSON"
    """Any value, as it came: a `dict`, an array of arrays."""


def parents_of(path: str) -> list[str]:
    """The paths of the objects that a field is in, from the outside in."""
    names = path.split(".")
    return [".".join(names[:depth]) for depth in range(1, len(names))]


@dataclass(frozen=True, slots=True)
class Field:
    """One field by its dotted path; of an array, all but `is_array` tells of its elements."""

    path: str
    kind: Kind
    is_array: bool = False
    is_set: bool = False
    """An array in which nothing comes twice."""
    is_repeated: bool = False
    """True where one document may hold several values: an array, or a field of objects in one."""
    inner: Kind | None = None
    """What JSON holds at last, where its class says so: an array of arrays, a `dict`."""
    is_required: bool = False
    """True where whoever writes the object that it is in must name it."""
    is_nullable: bool = False
    description: str | None = None
    model: "type[BaseModel] | None" = None
    """The class of an object."""
    max_length: int | None = None
    """In characters, for text."""
    choices: tuple[str | int, ...] = ()
    """The values of an enumeration."""
    is_email: bool = False
    is_lower_case: bool = False
    references: str | None = None
    """The name of the type whose ids it holds."""
    mask: Mask | None = None
    """What stands for its values where they are private; None: they are not."""
    is_masked: bool = False
    """True where only the mask is seen, which is a text."""

    @property
    def is_scalar(self) -> bool:
        """True where a value can be written as one piece of text."""
        return self.kind not in {Kind.OBJECT, Kind.JSON}

    @property
    def is_sortable(self) -> bool:
        """True where each document has one value of it."""
        return self.is_scalar and not self.is_repeated
