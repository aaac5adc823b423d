"""A document type that only the tests have, with every kind of field that a type may have."""

from datetime import date, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Annotated, Any, Literal

from beanie import PydanticObjectId
from pydantic import BaseModel, Field, model_validator

from service.documents.base import Email, Part, Private, Record, index, unique
from service.documents.masks import FixedMask


class Colour(StrEnum):
    """An enumeration of texts."""

    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    """An enumeration of integers."""

    LOW = 1
    HIGH = 2


class Leaf(BaseModel):
    """The innermost object; plain pydantic, which by itself would ignore unknown fields."""

    text: Annotated[str, Field(max_length=1000), Private()] = ""
    number: int | None = None
    day: date | None = None
    moments: list[datetime] = []


class Branch(Part):
    """An object that holds others."""

    label: Annotated[str, Field(max_length=100)]
    leaf: Leaf | None = None
    leaves: Annotated[list[Leaf], Private()] = []
    days: list[Annotated[date, Private()]] = []


class Everything(Record):
    """Holds one of everything."""

    code: Annotated[str, Field(min_length=1, max_length=100)]
    left: int
    right: int
    text: Annotated[str, Field(max_length=1000)] | None = None
    email: Annotated[Email, Private()] | None = None
    integer: int | None = None
    float_number: Annotated[float, Private()] | None = None
    decimal_number: Annotated[Decimal, Private()] | None = None
    boolean: Annotated[bool, Private()] = False
    day: Annotated[date | None, Private()] = None
    moment: Annotated[datetime, Private()] | None = None
    reference: Annotated[PydanticObjectId | None, Private()] = None
    colour: Colour | None = None
    level: Annotated[Level, Private(FixedMask("hidden"))] | None = None
    size: Literal["small", "large"] = "small"
    texts: list[str] = []
    integers: Annotated[list[int], Private()] = []
    days: list[date] = []
    decimals: list[Decimal] = []
    references: list[PydanticObjectId] = []
    colours: Annotated[set[Colour], Private()] = set()
    matrix: Annotated[list[list[float]], Private()] = []
    free: Annotated[dict[str, Any], Private()] = {}
    limit: int = 0
    branch: Branch | None = None
    branches: list[Branch] = []

    class Settings(Record.Settings):
        """Where and how they are kept."""

        name = "everythings"
        indexes = [unique("code"), unique("left", "right"), index("branch.leaf.day")]
        search = ["code", "text", "branch.leaf.text", "branches.label"]

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "code": "E-1",
                    "left": 1,
                    "right": 2,
                    "text": "=1+1, ‘quoted’, 小中",
                    "email": "Every@Thing.example.org",
                    "integer": -(2**63),
                    "float_number": 0.1,
                    "decimal_number": "12345678901234567890.12345",
                    "boolean": True,
                    "day": "1899-12-31",
                    "moment": "2026-11-22T10:30:00.123+01:00",
                    "reference": "0123456789abcdef01234567",
                    "colour": "red",
                    "level": 2,
                    "size": "large",
                    "texts": ["a", "", "c"],
                    "integers": [1, 2**40],
                    "days": ["2024-02-29"],
                    "decimals": ["1.10", "2"],
                    "references": ["0123456789abcdef01234567"],
                    "colours": ["blue"],
                    "matrix": [[1.5, 2], []],
                    "free": {"any": {"thing": [1, None, "x", True]}},
                    "limit": 3,
                    "branch": {"label": "b", "leaf": {"text": "deep", "number": 1, "day": "2000-01-01"}},
                    "branches": [
                        {"label": "first", "leaves": [{"moments": ["2026-01-01T00:00:00Z"]}], "days": ["1999-12-31"]},
                        {"label": "second"},
                    ],
                }
            ]
        }
    }

    @model_validator(mode="after")
    def _left_is_not_right(self) -> "Everything":
        if self.left == self.right:
            raise ValueError("left and right differ")
        return self
