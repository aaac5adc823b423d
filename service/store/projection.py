"""Which parts of a document leave MongoDB, and which of those the service; pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from service.documents.registry import DocumentType

Tree = dict[str, "Tree"]
"""Names that are kept, each with those kept below it; an empty tree keeps all."""


def projection_of(document_type: DocumentType, paths: Sequence[str] = ()) -> Mapping[str, int]:
    """A MongoDB projection of the declared fields, or of those that hold `paths`.

    Whole top-level fields: MongoDB's plain inclusion is its fast path, and a null stays a null.
    """
    names = {path.partition(".")[0] for path in paths or document_type.fields}
    return {("_id" if name == "id" else name): 1 for name in sorted(names | {"id"})}


def tree_of(paths: Sequence[str]) -> Tree:
    """The names on the way to each path."""
    root: Tree = {}
    whole = set(paths)
    for path in paths:
        names = path.split(".")
        if any(".".join(names[:depth]) in whole for depth in range(1, len(names))):
            continue
        tree = root
        for name in names:
            tree = tree.setdefault(name, {})
    return root


def prune(value: Any, tree: Tree) -> Any:
    """The value with nothing but the tree's names, at every level."""
    if not tree:
        return value
    if isinstance(value, list):
        return [prune(element, tree) for element in value]
    if isinstance(value, dict):
        return {name: prune(value[name], branch) for name, branch in tree.items() if name in value}
    return value
