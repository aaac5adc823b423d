"""Which parts of a document leave MongoDB; pure."""

from collections.abc import Mapping, Sequence

from service.documents.registry import DocumentType


def projection_of(document_type: DocumentType, paths: Sequence[str] = ()) -> Mapping[str, int]:
    """A MongoDB projection of the declared fields, or of those that hold `paths`.

    Whole top-level fields: MongoDB's plain inclusion is its fast path, and a null stays a null.
    """
    names = {path.partition(".")[0] for path in paths or document_type.fields}
    return {("_id" if name == "id" else name): 1 for name in sorted(names | {"id"})}
