"""What every document type is made of: `Record`, `Part` for what is nested in it, and its indexes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

from beanie import Document
from beanie.odm.fields import ExpressionField
from email_validator import SPECIAL_USE_DOMAIN_NAMES
from pydantic import (
    BaseModel,
    ConfigDict,
    EmailStr,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from pymongo import ASCENDING, IndexModel

from service.documents.masks import Mask

PLAIN_EMAIL = re.compile(
    rf"[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*@(?:[a-z0-9]+(?:-[a-z0-9]+)*\.)+(?!(?:{'|'.join(SPECIAL_USE_DOMAIN_NAMES)})$)[a-z]{{2,}}",
    re.ASCII | re.IGNORECASE,
)
"""What email-validator takes as it is, for sure."""

MAX_PLAIN_EMAIL = 63
"""In characters: no part of what is not longer than this can be too long (RFC 5321 §4.5.3.1, RFC 1035 §2.3.4)."""


def _check_email(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """The whole check takes longer than that of all other fields of a document, and few addresses need it."""
    if type(value) is str and len(value) <= MAX_PLAIN_EMAIL and PLAIN_EMAIL.fullmatch(value):
        return value
    return check(value)


Email = Annotated[EmailStr, WrapValidator(_check_email), StringConstraints(to_lower=True)]
"""An email address, stored in lower case, so that a unique index on it means what people expect."""

SERVER_FIELDS = ("id", "created_at", "updated_at", "revision")
"""Set by the server alone; ignored in a body, so that what GET answered can be PUT back."""


@dataclass(frozen=True)
class Reference:
    """Marks a field that holds ids of another type: `Annotated[PydanticObjectId, Reference("users")]`.

    MongoDB does not check it; sample data follows it.
    """

    name: str


@dataclass(frozen=True)
class Hidden:
    """Marks a field of the service's own records that no caller ever sees: it is in none of what is derived."""


@dataclass(frozen=True)
class Private:
    """Marks a field whose values only the scope `<name>:private` shows: `Annotated[Email, Private()]`.

    For all others there is a mask; they may write it, and neither filter, sort, search nor explode by it. Of an object
    all is private that is in it.
    """

    mask: Mask | None = None
    """By default `a***@example.com` of an email address, `***` of all else; of an array that of each element."""

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """What is read may be the mask, and so a text."""
        schema = handler(core_schema)
        if handler.mode != "serialization":
            return schema
        masked: JsonSchemaValue = {"type": "string", "description": "Private: a mask, without the scope to see it."}
        arrays = [one for one in schema.get("anyOf", [schema]) if one.get("type") == "array"]
        if any(array["items"].get("type") != "array" for array in arrays):  # arrays of arrays are masked whole
            masked = {"type": "array", "items": masked | {"type": ["string", "null"]}}
        return {"anyOf": [schema, masked]}


BEANIE_FIELDS = frozenset(Document.model_fields) - {"id"}
"""What Beanie keeps in a document for itself."""


def now() -> datetime:
    """The time in UTC, to the millisecond as BSON keeps it."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def index(*paths: str) -> IndexModel:
    """An index over one or more dotted paths, ascending; ids last, as they break the ties of a sort."""
    return IndexModel([(path, ASCENDING) for path in (*paths, "_id")], name="_".join((*paths, "id")))


def unique(*paths: str) -> IndexModel:
    """A unique index; null is a value too, so make its fields required."""
    return IndexModel([(path, ASCENDING) for path in paths], name="_".join(paths), unique=True)


class Part(BaseModel):
    """Something nested in a document; refuses fields that it does not declare."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, json_schema_serialization_defaults_required=True)


class Record(Document):
    """The base of every document type."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    created_at: datetime = Field(default_factory=now)
    updated_at: datetime = Field(default_factory=now)
    revision: int = 1

    def __init_subclass__(cls, **options: Any) -> None:
        """Let no default come from Beanie, whichever of its parents it has made ready before this class was there.

        It puts a query's field in the place of each attribute, which pydantic would take for the field's default.
        """
        super().__init_subclass__(**options)
        for parent in cls.__mro__[1:]:
            for name in [name for name, value in vars(parent).items() if isinstance(value, ExpressionField)]:
                delattr(parent, name)

    class Settings:
        """Beanie's options, and ours: `search` names the text fields that `q` looks in."""

        name: ClassVar[str]
        indexes: ClassVar[Sequence[IndexModel]] = ()
        search: ClassVar[Sequence[str]] = ()
