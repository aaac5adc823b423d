"""The indexes that types want, and those that the database has."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pymongo.asynchronous.database import AsyncDatabase

from service.documents.registry import DocumentType
from service.store.failures import operation

State = Literal["present", "missing", "different", "unknown"]


@dataclass(frozen=True, slots=True)
class IndexState:
    """One index of one type, by its name."""

    type_name: str
    index_name: str
    keys: Mapping[str, Any]
    state: State
    """`different`: one of this name is there, but for other keys; `unknown`: no class wants it."""


async def compare_indexes(
    database: AsyncDatabase[dict[str, Any]], document_type: DocumentType, timeout_seconds: float
) -> list[IndexState]:
    """Each index that the class wants or the collection has."""
    with operation(timeout_seconds):
        found = await database[document_type.name].index_information()
    states: list[IndexState] = []
    for model in document_type.indexes:
        name, keys = model.document["name"], dict(model.document["key"])
        present = found.pop(name, None)
        is_same = (
            present is not None
            and dict(present["key"]) == keys
            and bool(present.get("unique")) == bool(model.document.get("unique"))
        )
        state: State = "missing" if present is None else "present" if is_same else "different"
        states.append(IndexState(document_type.name, name, keys, state))
    found.pop("_id_", None)
    return [
        *states,
        *(IndexState(document_type.name, name, dict(index["key"]), "unknown") for name, index in found.items()),
    ]


async def create_missing(
    database: AsyncDatabase[dict[str, Any]], document_type: DocumentType, missing: set[str]
) -> None:
    """Create those of the class's indexes that have these names; nothing is ever dropped."""
    with operation(CREATE_SECONDS):
        for model in document_type.indexes:
            if model.document["name"] in missing:
                await database[document_type.name].create_indexes([model])


CREATE_SECONDS = 3600.0
"""An index over many documents takes its time."""
