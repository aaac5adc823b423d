"""A document type as its callers see it: whole, or with its private fields masked."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from service.documents.fields import Field, Kind, parents_of
from service.documents.masks import Masks
from service.documents.restorer import Restorer
from service.documents.values import path_of

if TYPE_CHECKING:
    from service.documents.registry import DocumentType


@dataclass(frozen=True)
class View:
    """What some callers see of a type; `DocumentType.seen_with` says who sees which.

    Bodies are checked and documents stored by the type's own fields, whoever sends them.
    """

    document_type: "DocumentType"
    is_masked: bool

    @property
    def private_scope(self) -> str:
        """With which the type is seen whole."""
        return f"{self.document_type.name}:private"

    @cached_property
    def fields(self) -> Mapping[str, Field]:
        """Every field by its dotted path, the masked ones as texts: the one list of what is answered and exported."""
        fields = self.document_type.fields
        if not self.is_masked:
            return fields
        return {
            path: field if field.mask is None else _masked(field)
            for path, field in fields.items()
            if not any(fields[parent].mask is not None for parent in parents_of(path))
        }

    @cached_property
    def masks(self) -> Masks:
        """What is seen in the place of values, by the paths of their fields; nothing, where all is seen."""
        return {path: field.mask for path, field in self.fields.items() if field.is_masked and field.mask is not None}

    @property
    def search(self) -> tuple[str, ...]:
        """Paths that `q` looks in."""
        return tuple(path for path in self.document_type.search if not self.hides(path))

    def knows(self, path: str) -> bool:
        """Whether there is such a field, hidden or not."""
        return path in self.document_type.fields

    def hides(self, path: str) -> bool:
        """Whether there is a field whose values are not seen, so that nothing may depend on them."""
        field = self.fields.get(path)
        return self.knows(path) if field is None else field.is_masked

    def has_masks_at(self, pointer: str) -> bool:
        """Whether what is at this RFC 6901 pointer is masked, is in something masked, or has something masked in it."""
        path = path_of(pointer)
        return self.hides(path) or any(not path or masked.startswith(f"{path}.") for masked in self.masks)

    @cached_property
    def restorer(self) -> Restorer:
        """Puts values back in the place of masks, which whoever sees all may send too."""
        return Restorer(self.document_type.fields, self.document_type.masked.masks)


def _masked(field: Field) -> Field:
    return Field(
        field.path,
        Kind.TEXT,
        is_array=field.is_array,
        is_repeated=field.is_repeated,
        is_required=field.is_required,
        is_nullable=field.is_nullable,
        description=field.description,
        mask=field.mask,
        is_masked=True,
    )
