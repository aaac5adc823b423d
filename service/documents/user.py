"""People."""

from datetime import date
from typing import Annotated

from pydantic import Field

from service.documents.base import Email, Part, Private, Record, index, unique

Tag = Annotated[str, Field(min_length=1, max_length=50)]


class Address(Part):
    """Where somebody can be reached by post."""

    street: Annotated[str, Field(max_length=200), Private()]
    city: Annotated[str, Field(max_length=100)]
    zipcode: Annotated[str, Field(max_length=20)] | None = None
    country: Annotated[str, Field(min_length=2, max_length=2, description="ISO 3166-1 alpha-2, as in `DE`")]


class Profile(Part):
    """What a user says of themselves."""

    bio: Annotated[str, Field(max_length=500)] | None = None
    birthday: Annotated[date, Private()] | None = None
    phone: Annotated[str, Field(max_length=30), Private()] | None = None
    addresses: Annotated[list[Address], Field(max_length=20)] = []


class User(Record):
    """Somebody with an email address and a profile."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    email: Annotated[Email, Private()]
    age: Annotated[int, Field(ge=0, le=150)] | None = None
    is_active: bool = True
    tags: Annotated[list[Tag], Field(max_length=50)] = []
    profile: Profile | None = None

    class Settings(Record.Settings):
        """Where and how users are kept."""

        name = "users"
        indexes = [unique("email"), index("name"), index("profile.addresses.city")]
        search = ["name", "email", "profile.bio", "profile.addresses.city"]

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "name": "Ada Lovelace",
                    "email": "ada@example.org",
                    "age": 36,
                    "tags": ["mathematics"],
                    "profile": {
                        "bio": "Wrote the first program.",
                        "birthday": "1815-12-10",
                        "phone": "+44 20 7946 0000",
                        "addresses": [
                            {"street": "12 St James's Square", "city": "London", "zipcode": "SW1Y 4JH", "country": "GB"}
                        ],
                    },
                }
            ]
        }
    }
