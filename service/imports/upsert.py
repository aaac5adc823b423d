"""A document that is there gets what the file has; one that is not is created."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import bson
import orjson
from anyio import to_thread

from service.documents.base import SERVER_FIELDS
from service.documents.batches import CODEC
from service.documents.discretion import Discretion, tell_all
from service.documents.fields import Field, Kind
from service.documents.json_text import dump_json
from service.documents.presenter import Presenter
from service.documents.restorer import Present
from service.documents.views import View
from service.errors import Fault, ValidationFailedError
from service.imports.decoding import value_at
from service.imports.report import Fate
from service.imports.step import KeyMaker, Prepared, foresee_new, prepare_new
from service.store.bulk import BulkWriter, Replacement
from service.store.query import stored_path
from service.store.repository import revision_of
from service.store.schemas import validate_values
from service.store.uniqueness import SeenKeys, UniquenessCheck, comparable, duplicates, key_digest

ATTEMPTS = 20
"""How often documents are read again that others have changed in the meantime."""


@dataclass(slots=True)
class _Plan:
    """What is to be done with a document that was looked for."""

    item: Prepared
    stored: Mapping[str, Any]
    """As it will be."""
    revision: int | None = None
    """The one that is replaced; None: nothing is there yet."""
    is_same: bool = False
    faults: Sequence[Fault] = ()


class Upsert:
    """Finds documents by a unique field, and changes what the file says of them."""

    def __init__(
        self,
        view: View,
        writer: BulkWriter,
        keys: KeyMaker,
        key_path: str,
        check: UniquenessCheck | None,
    ) -> None:
        """With a `check` nothing is written, and it says what would be refused; `view` is that of whoever asks."""
        self._type = document_type = view.document_type
        self._view = view
        self._writer = writer
        self._keys = keys
        self._key_path = key_path
        self._check = check
        self._seen = SeenKeys()
        self._presenter = Presenter(document_type.fields.values())
        self._masker = Presenter(view.fields.values())
        self._own_names = [path for path in document_type.fields if "." not in path and path not in SERVER_FIELDS]

    async def apply(self, part: Sequence[Prepared]) -> list[Fate]:
        """Insert and replace; what others change at the same time is read again, and then changed."""
        fates: dict[int, Fate] = {}
        for item in part:
            faults = item.faults or self._seen_before(item)
            if faults:
                fates[item.ordinal] = faults
        waiting = [item for item in part if item.ordinal not in fates]
        uncertain: set[int] = set()
        """Rows whose documents may be as they should be by our doing."""
        for _ in range(ATTEMPTS):
            plans = await self._plans(waiting)
            for plan in plans:
                if plan.faults or plan.is_same:
                    ordinal = plan.item.ordinal
                    fates[ordinal] = plan.faults or ("updated" if ordinal in uncertain else "unchanged")
            new = [plan for plan in plans if not plan.faults and plan.revision is None]
            changed = [plan for plan in plans if not (plan.faults or plan.is_same) and plan.revision is not None]
            if self._check is not None:
                fates |= await self._foresee(new, changed, self._check)
            else:
                fates |= await self._insert(new)
                fates |= await self._replace(changed, uncertain)
            waiting = [item for item in waiting if item.ordinal not in fates]
            if not waiting:
                break
        conflict = Fault("write_conflict", "others were changing this document all the time")
        return [fates.get(item.ordinal, [conflict]) for item in part]

    def close(self) -> None:
        """Forget what came before."""
        self._seen.close()
        if self._check is not None:
            self._check.close()

    def _seen_before(self, item: Prepared) -> list[Fault]:
        """What is wrong with a row that finds the same document as one before."""
        if item.key is None:
            return []
        digest = key_digest([self._key_path], [item.key])
        row = self._seen.row_of(digest)
        if row is not None:
            return duplicates([self._key_path], f"row {row}")
        self._seen.add([digest], item.row)
        return []

    async def _plans(self, waiting: Sequence[Prepared]) -> list[_Plan]:
        keys = [item.key for item in waiting if item.key is not None]
        found = await self._writer.find(self._key_path, keys) if keys else []
        path = stored_path(self._key_path)
        present = {comparable(value_at(stored, path)): stored for stored in found}
        return await to_thread.run_sync(
            lambda: [self._plan(item, present.get(comparable(item.key))) for item in waiting]
        )

    def _plan(self, item: Prepared, present: dict[str, Any] | None) -> _Plan:
        incoming = item.incoming
        assert incoming is not None
        if present is None or item.key is None:
            made = prepare_new(self._view, incoming, item.key if self._has_own_id(item) else self._keys.key(incoming))
            if made.faults:
                return _Plan(item, {}, faults=made.faults)
            return _Plan(replace(item, encoded=made.encoded), made.stored())
        key, revision = present["_id"], revision_of(present)
        before = bson.decode(bson.encode({name: present.get(name) for name in self._own_names}), CODEC)
        is_masked = self._view.is_masked
        seen = self._json(self._masker, deepcopy(present)) if is_masked else None
        now = self._json(self._presenter, present)
        restored = self._view.restorer.restore(incoming.body, Present(now, seen if is_masked else now))
        body = merge(now, restored.body, self._type.fields)
        # Who may not see a private value must not learn either that it is the one that they name.
        may_be_same = not restored.faults and not (is_masked and restored.names_values)
        if may_be_same and _sorted_json(body) == _sorted_json(now):
            return _Plan(item, {"_id": key}, revision, is_same=True)
        tell = Discretion(self._view, restored, incoming.body, now).tell if is_masked else tell_all
        try:
            fields = validate_values(self._type, body, [*incoming.faults, *restored.faults], tell)
        except ValidationFailedError as error:
            return _Plan(item, {"_id": key}, revision, faults=error.faults)
        return _Plan(item, {"_id": key, **fields}, revision, is_same=may_be_same and _is_same(before, fields))

    def _json(self, presenter: Presenter, stored: dict[str, Any]) -> dict[str, Any]:
        """A document's own fields as JSON."""
        shown = orjson.loads(dump_json(presenter.present(stored)))
        return {name: shown[name] for name in self._own_names if name in shown}

    def _has_own_id(self, item: Prepared) -> bool:
        """Whether the row says its document's id, which the row's place in the file gives it else."""
        return self._key_path == "id" and item.key is not None

    async def _insert(self, plans: Sequence[_Plan]) -> dict[int, Fate]:
        """What became of new documents; of those that somebody else has inserted under the same id, nothing yet."""
        if not plans:
            return {}
        inserted = await self._writer.insert([plan.item.encoded for plan in plans])
        fates: dict[int, Fate] = {}
        for position, plan in enumerate(plans):
            ordinal = plan.item.ordinal
            if position not in inserted.present:
                fates[ordinal] = inserted.refusals.get(position) or "created"
            elif not self._has_own_id(plan.item):
                fates[ordinal] = "unchanged"  # an earlier attempt has inserted it
        return fates

    async def _replace(self, plans: Sequence[_Plan], uncertain: set[int]) -> dict[int, Fate]:
        """What became of changed documents; if some were not there any more as they were read, of none of them."""
        changes = [
            (plan, Replacement(plan.stored["_id"], plan.revision, _fields(plan)))
            for plan in plans
            if plan.revision is not None
        ]
        if not changes:
            return {}
        refusals, is_certain = await self._writer.replace([change for _, change in changes])
        ordinals = [plan.item.ordinal for plan, _ in changes]
        refused: dict[int, Fate] = {ordinals[position]: faults for position, faults in refusals.items()}
        if not is_certain:
            uncertain |= set(ordinals)
            return refused
        return {ordinal: refused.get(ordinal, "updated") for ordinal in ordinals}

    async def _foresee(self, new: Sequence[_Plan], changed: Sequence[_Plan], check: UniquenessCheck) -> dict[int, Fate]:
        """What would become of them, in the order in which they would be written."""
        fates: list[Fate] = await foresee_new(self._writer, check, [(plan.item.row, plan.stored) for plan in new])
        faults = await check.faults([(plan.item.row, plan.stored) for plan in changed], are_there=True)
        fates += [found or "updated" for found in faults]
        return {plan.item.ordinal: fate for plan, fate in zip([*new, *changed], fates, strict=True)}


def merge(present: Any, change: Any, fields: Mapping[str, Field], path: str = "") -> Any:
    """What is there with what the file says: members of objects are merged, all else is replaced, by null too.

    Nothing but nulls for an object that is null leaves it so.
    """
    known = fields.get(path)
    is_object = not path or (known is not None and known.kind is Kind.OBJECT and not known.is_array)
    if not is_object or not isinstance(change, Mapping):
        return change
    if present is None and _says_nothing(change):
        return None
    merged = dict(present) if isinstance(present, Mapping) else {}
    for name, value in change.items():
        merged[name] = merge(merged.get(name), value, fields, f"{path}.{name}" if path else name)
    return merged


def _is_same(one: Any, other: Any) -> bool:
    """Whether MongoDB would find no difference: 19.90 is 19.9, which a spreadsheet makes of it."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_is_same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(comparable(one) == comparable(other))


def _sorted_json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _says_nothing(value: Any) -> bool:
    return all(map(_says_nothing, value.values())) if isinstance(value, Mapping) else value in (None, [])


def _fields(plan: _Plan) -> dict[str, Any]:
    return {name: value for name, value in plan.stored.items() if name != "_id"}
