"""Accounts: who there is, and what each may ask for."""

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from beanie import PydanticObjectId
from bson import ObjectId
from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError
from pymongo import ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection

from service.auth.last_admin import is_admin, unless_last_admin
from service.auth.passwords import PasswordHasher
from service.auth.scopes import ROLES, Role, patterns_of
from service.documents.base import Hidden, Record, now, unique
from service.documents.registry import DocumentType
from service.errors import DuplicateValueError, Fault, NotFoundError, ValidationFailedError
from service.settings import DEFAULT_CLIENT, SCOPE_PATTERN, USERNAME_PATTERN
from service.store.elections import find_one
from service.store.failures import operation
from service.store.repository import Presented, at_revision, new_document, revision_of
from service.store.schemas import validate_body

FIXED_FIELDS = ("username", "kind")
"""Never changed, as records and the audit trail name accounts."""

AccountKind = Literal["person", "client"]


def _matches(pattern: str, code: Literal["invalid_username", "invalid_scope"], message: str) -> AfterValidator:
    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise PydanticCustomError(code, message)
        return text

    return AfterValidator(check)


Username = Annotated[
    str,
    _matches(
        USERNAME_PATTERN,
        "invalid_username",
        "a name has up to 64 letters, digits and . _ @ -, and starts with a letter or digit",
    ),
    Field(max_length=64, json_schema_extra={"pattern": USERNAME_PATTERN}),
]
ScopePattern = Annotated[
    str,
    _matches(SCOPE_PATTERN, "invalid_scope", "this is no scope or pattern: users:read, users:*, *:read and * are"),
    Field(max_length=100, json_schema_extra={"pattern": SCOPE_PATTERN}),
]


RoleName = Annotated[str, WithJsonSchema({"type": "string", "enum": list(ROLES)}, mode="validation")]
"""Read whatever it says, as it may be of another release or by hand; given to an account only if it is a Role."""


class Account(Record):
    """Somebody, or some program, that may sign in."""

    username: Username
    kind: AccountKind = "person"
    """A `client` is a program, which signs in by client credentials (RFC 6749 §4.4)."""
    password_hash: Annotated[str, Hidden()]
    roles: Annotated[list[RoleName], Field(max_length=20)] = []
    scopes: Annotated[list[ScopePattern], Field(max_length=100)] = []
    """Patterns, beside those of its roles: `users:read`, `*:read`, `*`."""
    is_active: bool = True
    epoch: Annotated[int, Hidden()] = 0
    """How often all its sign-ins ended, by a new password or as it was disabled; those of an earlier one do not count.

    A number and no moment: clocks of two services differ, and the times in tokens are whole seconds (RFC 7519 §2).
    """
    kept_session: Annotated[PydanticObjectId | None, Hidden()] = None
    """The one session that is good beyond its epoch: its own person changed the password in it."""

    @property
    def patterns(self) -> list[str]:
        """All that its roles and its own patterns say."""
        return patterns_of(self.roles, self.scopes)

    class Settings(Record.Settings):
        """Where and how accounts are kept."""

        name = "accounts"
        indexes = [unique("username")]
        search = ["username"]

    model_config = {
        "json_schema_extra": {"examples": [{"username": "nightly-export", "kind": "client", "roles": ["analyst"]}]}
    }


ACCOUNTS = DocumentType(Account)
"""Accounts as a document type, so that they are listed, filtered and sorted as any; no field of it is a secret."""


class Accounts:
    """The accounts in the database."""

    def __init__(self, timeout_seconds: float) -> None:
        """`timeout_seconds` is how long MongoDB may take to answer."""
        self._timeout_seconds = timeout_seconds
        self._passwords = PasswordHasher()

    async def authenticate(self, username: str, password: str, kind: AccountKind = "person") -> Account | None:
        """The active account of this kind, name and password; as slow, and as silent, whatever is wrong."""
        account = await self._find(username)
        is_right = await self._passwords.verify(password, account.password_hash if account else None)
        return account if account and is_right and account.is_active and account.kind == kind else None

    async def find_active(self, account_id: str) -> Account | None:
        """The account, unless it is disabled or deleted."""
        with operation(self._timeout_seconds):
            return await find_one(Account, {"_id": ObjectId(account_id), "is_active": True})

    async def any(self) -> bool:
        """Whether there are accounts at all."""
        with operation(self._timeout_seconds):
            return await find_one(Account, {}) is not None

    async def has(self, username: str) -> bool:
        """Whether there is an account of this name, active or not."""
        return await self._find(username) is not None

    async def is_client(self, username: str) -> bool:
        """Whether this is the name of a client's account, which has to prove to be it (RFC 6749 §2.1)."""
        account = await self._find(username)
        return account is not None and account.kind == "client"

    async def get(self, username: str) -> Account:
        """The account of this name. Raises NotFoundError."""
        account = await self._find(username)
        if account is None:
            raise NotFoundError(f"There is no account {username!r}.")
        return account

    async def patterns_of(self, account_id: str) -> list[str]:
        """What this account may; nothing, if there is none or it is disabled."""
        if not ObjectId.is_valid(account_id):
            return []
        account = await self.find_active(account_id)
        return account.patterns if account else []

    async def create(
        self,
        username: str,
        password: str,
        scopes: Sequence[str] = (),
        *,
        roles: Sequence[Role] = (),
        kind: AccountKind = "person",
    ) -> Account:
        """A new account. Raises ValidationFailedError and DuplicateValueError."""
        names = {"username": username, "kind": kind, "roles": list(roles), "scopes": list(scopes)}
        fields, _ = await self.check({**names, "password": password})
        await self.insert(fields, password)
        return await self.get(username)

    async def create_first(self, username: str, password: str | None) -> str | None:
        """If there is no account, one that may do everything; its password, which by default is made up here."""
        if await self.any():
            return None
        chosen = password or secrets.token_urlsafe(15)
        try:
            await self.create(username, chosen, roles=["admin"])
        except DuplicateValueError:
            return None  # another service, starting at the same time, was faster
        return chosen

    async def check(self, body: Any, present: Presented | None = None) -> tuple[dict[str, Any], str | None]:
        """The fields that a body gives an account, as they are stored, and its password, if one is named.

        `present` is the account that it is to change. Raises ValidationFailedError with all faults.
        """
        if not isinstance(body, dict):
            raise ValidationFailedError([Fault("object_expected", "a JSON object is expected", "")])
        faults: list[Fault] = []
        fields: dict[str, Any] = {}
        try:
            fields = validate_body(ACCOUNTS.whole, {name: value for name, value in body.items() if name != "password"})
        except ValidationFailedError as error:
            faults += error.faults
        faults += _role_faults(body.get("roles"), present)
        if present is None and body.get("username") == DEFAULT_CLIENT:
            faults.append(Fault("reserved_username", "this name stands for clients that have none", "/username"))
        if "password" in body:
            faults += await self.password_faults(body["password"], str(body.get("username")), "/password")
        elif present is None:
            faults.append(Fault("missing", "a password is needed", "/password"))
        faults += [
            Fault("fixed_field", "this stays as it was when the account was made", f"/{name}")
            for name in FIXED_FIELDS
            if present and name in fields and fields[name] != present.get(name, fields[name])
        ]
        if faults:
            raise ValidationFailedError(faults)
        return fields, body.get("password")

    async def password_faults(self, password: Any, username: str, pointer: str) -> list[Fault]:
        """What keeps this from being the password of an account; never says what it was."""
        if type(password) is not str:
            return [Fault("string_type", "a text is expected", pointer)]
        weakness = await self._passwords.weakness(password, username)
        return [Fault("weak_password", weakness, pointer)] if weakness else []

    async def insert(self, fields: Mapping[str, Any], password: str) -> Presented:
        """A new account of fields that were checked. Raises DuplicateValueError."""
        stored = new_document(ObjectId(), {**fields, "password_hash": await self._passwords.hash(password)})
        with operation(self._timeout_seconds):
            await self._collection.insert_one(stored)
        return _presented(stored)

    async def update(
        self,
        present: Presented,
        fields: Mapping[str, Any],
        password: str | None = None,
        *,
        kept_session: str | None = None,
    ) -> Presented | None:
        """The account with these fields, and this password; None if it is no longer what `present` says.

        A new password, or that it is disabled, ends by the same write all its sign-ins but `kept_session`.
        Raises LastAdminError.
        """
        values = {**fields, "updated_at": now()}
        counts = {"revision": 1}
        if password is not None:
            values["password_hash"] = await self._passwords.hash(password)
        if password is not None or not fields.get("is_active", True):
            values["kept_session"] = ObjectId(kept_session) if kept_session else None
            counts["epoch"] = 1
        place = at_revision(present["id"], frozenset({revision_of(present)}))

        async def write(session: AsyncClientSession | None = None) -> dict[str, Any] | None:
            return await self._collection.find_one_and_update(
                place,
                {"$set": values, "$inc": counts},
                return_document=ReturnDocument.AFTER,
                session=session,
            )

        with operation(self._timeout_seconds):
            if is_admin(present) and not is_admin({**present, **fields}):
                stored = await unless_last_admin(self._collection, present["id"], write)
            else:
                stored = await write()
        return _presented(stored) if stored else None

    async def remove(self, present: Presented) -> bool:
        """Whether the account was still what `present` says; then it is gone. Raises LastAdminError."""
        place = at_revision(present["id"], frozenset({revision_of(present)}))

        async def write(session: AsyncClientSession | None = None) -> bool:
            return (await self._collection.delete_one(place, session=session)).deleted_count == 1

        with operation(self._timeout_seconds):
            if is_admin(present):
                return await unless_last_admin(self._collection, present["id"], write)
            return await write()

    async def list(self) -> list[Account]:
        """All of them, by name."""
        with operation(self._timeout_seconds):
            return await Account.find({}).sort("username").to_list()

    @property
    def _collection(self) -> AsyncCollection[dict[str, Any]]:
        return Account.get_pymongo_collection()

    async def _find(self, username: str) -> Account | None:
        with operation(self._timeout_seconds):
            return await find_one(Account, {"username": {"$eq": username}})


def _role_faults(roles: Any, present: Presented | None) -> list[Fault]:
    """Roles that there are not, unless they are just those that the account has."""
    if not isinstance(roles, list) or (present is not None and roles == present.get("roles")):
        return []
    *most, last = map(repr, ROLES)
    message = f"Input should be {', '.join(most)} or {last}"  # as pydantic says it of other fields
    return [
        Fault("literal_error", message, f"/roles/{position}")
        for position, role in enumerate(roles)
        if isinstance(role, str) and role not in ROLES
    ]


def _presented(stored: Mapping[str, Any]) -> Presented:
    """The fields that callers may see."""
    return {"id": stored["_id"], **{name: stored[name] for name in ACCOUNTS.fields if name in stored}}
