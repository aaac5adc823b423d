"""Commands to MongoDB that took long, in the log: what they look like, without a value."""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from service.observability.logs import log

VALUE = "?"
CONNECTIVES = frozenset({"$and", "$or", "$nor"})
FILTERS = ("filter", "query", "q")
ORDERS = ("sort", "projection", "hint", "fields")
MAX_PARTS = 20
"""Of a list in a shape; the rest looks the same."""

Shape = dict[str, Any]

_started: ContextVar[Mapping[str, Any]] = ContextVar("started")
"""The command that waits for its answer: a task waits for one at a time, and is told of its end itself."""


class SlowCommandLog(CommandListener):
    """Logs commands that take longer than this."""

    def __init__(self, seconds: float) -> None:
        self._micros = seconds * 1e6

    def started(self, event: CommandStartedEvent) -> None:
        """Keep it."""
        _started.set(event.command)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Look at its time."""
        if event.duration_micros > self._micros:
            self._write(event)

    def failed(self, event: CommandFailedEvent) -> None:
        """Look at its time; why it failed is told to whoever sent it."""
        if event.duration_micros > self._micros:
            self._write(event)

    def _write(self, event: CommandSucceededEvent | CommandFailedEvent) -> None:
        command = _started.get()
        collection = command.get("collection" if event.command_name == "getMore" else event.command_name)
        log.warning(
            "slow command",
            command=event.command_name,
            collection=collection if isinstance(collection, str) else None,
            shape=shape_of(command),
            has_failed=isinstance(event, CommandFailedEvent),
            duration_ms=round(event.duration_micros / 1000, 1),
        )


def shape_of(command: Mapping[str, Any]) -> Shape:
    """What a command looks for, by which fields and operators; neither values nor documents.

    Field names come from a type's class, as the names in a free JSON value are its caller's, and count as values.
    """
    shape: Shape = {name: _filter(command[name]) for name in FILTERS if name in command}
    shape |= {name: _order(command[name]) for name in ORDERS if command.get(name)}
    if "pipeline" in command:
        shape["pipeline"] = _parts([_stage(stage) for stage in command["pipeline"]])
    for name in ("updates", "deletes"):
        if name in command:
            shape[name] = _parts([_filter(write["q"]) for write in command[name]])
    return shape


def _filter(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return VALUE
    return {
        name: _parts([_filter(one) for one in part]) if name in CONNECTIVES else _condition(part)
        for name, part in value.items()
    }


def _condition(value: Any) -> Any:
    """What is asked of one field: its operators."""
    if not isinstance(value, Mapping) or not value or not all(name.startswith("$") for name in value):
        return VALUE
    return {name: _element(part) if name in {"$elemMatch", "$not"} else VALUE for name, part in value.items()}


def _element(value: Any) -> Any:
    """What is asked of an element of an array, which may be a value or have fields."""
    is_condition = isinstance(value, Mapping) and all(name.startswith("$") for name in value)
    return _condition(value) if is_condition else _filter(value)


def _order(value: Any) -> Any:
    """Of fields, with 1 and -1 as they are."""
    if not isinstance(value, Mapping):
        return VALUE
    return {name: part if isinstance(part, int) else VALUE for name, part in value.items()}


def _stage(stage: Mapping[str, Any]) -> Shape:
    """Of a pipeline."""
    [(name, body)] = stage.items()
    if name == "$match":
        return {name: _filter(body)}
    return {name: _order(body) if name in {"$sort", "$project"} else VALUE}


def _parts(shapes: Sequence[Any]) -> list[Any]:
    """Each shape once."""
    return [shape for place, shape in enumerate(shapes[:MAX_PARTS]) if shape not in shapes[:place]]
