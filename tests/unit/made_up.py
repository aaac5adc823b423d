"""Document classes made on the spot, for tests of what is read off a class."""

from typing import Any

from service.documents.base import Part, Record

EXAMPLE: dict[str, Any] = {"json_schema_extra": {"examples": [{}]}}


def record_class(
    fields: dict[str, Any] | None = None, *, config: dict[str, Any] = EXAMPLE, title: str = "Thing", **settings: Any
) -> type[Record]:
    """A type with these fields and Settings, as somebody would write it in a file of their own."""
    options = type("Settings", (Record.Settings,), {"name": "things", **settings})
    cls: type[Record] = _class(Record, title, fields, {"model_config": config})
    cls.Settings = options  # type: ignore[assignment,misc]
    return cls


def part_class(title: str, **fields: Any) -> type[Part]:
    """Something to nest in it; a field is an annotation, or one with its default."""
    cls: type[Part] = _class(Part, title, fields, {})
    return cls


def _class(base: type[Any], title: str, fields: dict[str, Any] | None, members: dict[str, Any]) -> Any:
    given = {name: field if isinstance(field, tuple) else (field,) for name, field in (fields or {}).items()}
    annotations = {name: field[0] for name, field in given.items()}
    defaults = {name: field[1] for name, field in given.items() if len(field) > 1}
    namespace = {"__module__": __name__, "__annotations__": annotations, **defaults, **members}
    metaclass: Any = type(base)
    return metaclass(title, (base,), namespace)
