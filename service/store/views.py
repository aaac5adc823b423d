"""Views in the database that show a type without its private fields, for MongoDB's own tools; pure."""

from typing import Any

from service.documents.registry import DocumentType

NAMESPACE = "analyst."
"""What their names begin with; no type has a dot in its name."""


def view_of(document_type: DocumentType) -> dict[str, Any]:
    """The view's name, the collection it looks at, and its pipeline.

    It names what is seen, so that whatever else lies in a document stays unseen; of an object its parts, so that one
    which is null is missing.
    """
    seen = document_type.masked.fields.values()
    parents = {path.rpartition(".")[0] for path in document_type.fields}
    paths = [field.path for field in seen if not field.is_masked and field.path not in parents]
    projection = {"_id" if path == "id" else path: 1 for path in paths}
    return {
        "view": f"{NAMESPACE}{document_type.name}",
        "viewOn": document_type.name,
        "pipeline": [{"$project": projection}],
    }
