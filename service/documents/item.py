"""Things."""

from datetime import date
from decimal import Decimal
from typing import Annotated

from beanie import PydanticObjectId
from pydantic import Field

from service.documents.base import Record, Reference, index, unique
from service.documents.user import Tag


class Item(Record):
    """Something that has a price and may have an owner."""

    sku: Annotated[str, Field(min_length=1, max_length=64)]
    title: Annotated[str, Field(min_length=1, max_length=200)]
    description: Annotated[str, Field(max_length=500)] | None = None
    price: Annotated[Decimal, Field(gt=0, max_digits=12, decimal_places=2)]
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$", max_length=3, description="ISO 4217, as in `EUR`")] = "EUR"
    stock: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    tags: Annotated[list[Tag], Field(max_length=50)] = []
    is_available: bool = True
    released_on: date | None = None
    owner_id: Annotated[PydanticObjectId, Reference("users")] | None = None

    class Settings(Record.Settings):
        """Where and how items are kept."""

        name = "items"
        indexes = [unique("sku"), index("owner_id"), index("price")]
        search = ["sku", "title", "description"]

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "sku": "AE-1843",
                    "title": "Analytical Engine",
                    "description": "A mill, a store and a printer.",
                    "price": "19999.99",
                    "currency": "GBP",
                    "stock": 1,
                    "tags": ["brass"],
                    "released_on": "1843-09-01",
                }
            ]
        }
    }
