"""Accounts: who there is, and what each may ask for."""

import re
import secrets
from collections.abc import Sequence
from typing import Literal

from beanie import PydanticObjectId
from bson import ObjectId

from service.auth.passwords import PasswordHasher
from service.auth.scopes import ROLES, Role, is_pattern
from service.documents.base import Record, now, unique
from service.errors import DuplicateValueError, Fault, NotFoundError, ValidationFailedError
from service.settings import USERNAME_PATTERN
from service.store.failures import operation

AccountKind = Literal["person", "client"]


class Account(Record):
    """Somebody, or some program, that may sign in."""

    username: str
    kind: AccountKind = "person"
    """A `client` is a program, which signs in by client credentials (RFC 6749 §4.4)."""
    password_hash: str
    roles: list[Role] = []
    scopes: list[str]
    """Patterns, beside those of its roles: `users:read`, `*:read`, `*`."""
    is_active: bool = True

    @property
    def patterns(self) -> list[str]:
        """All that its roles and its own patterns say."""
        return [*(pattern for role in self.roles for pattern in ROLES[role]), *self.scopes]

    class Settings(Record.Settings):
        """Where and how accounts are kept."""

        name = "accounts"
        indexes = [unique("username")]


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
            return await Account.find_one({"_id": ObjectId(account_id), "is_active": True})

    async def is_client(self, username: str) -> bool:
        """Whether this is the name of a client's account, which has to prove to be it (RFC 6749 §2.1)."""
        account = await self._find(username)
        return account is not None and account.kind == "client"

    async def create(self, username: str, password: str, scopes: Sequence[str]) -> Account:
        """A new account. Raises ValidationFailedError, WeakPasswordError and DuplicateValueError."""
        wrong = [scope for scope in scopes if not is_pattern(scope)]
        if wrong:
            raise ValidationFailedError(
                [Fault("invalid_scope", f"{scope!r} is no scope", "/scopes") for scope in wrong]
            )
        if not re.fullmatch(USERNAME_PATTERN, username):
            message = "a name has up to 64 letters, digits and . _ @ -, and starts with a letter or digit"
            raise ValidationFailedError([Fault("invalid_username", message, "/username")])
        password_hash = await self._passwords.hash(password)
        account = Account(id=PydanticObjectId(), username=username, password_hash=password_hash, scopes=list(scopes))
        with operation(self._timeout_seconds):
            await account.insert()
        return account

    async def create_first(self, username: str, password: str | None) -> str | None:
        """If there is no account, one that may do everything; its password, if that was made up here."""
        with operation(self._timeout_seconds):
            if await Account.find_one({}) is not None:
                return None
        chosen = password or secrets.token_urlsafe(15)
        try:
            await self.create(username, chosen, ["*"])
        except DuplicateValueError:
            return None  # another service, starting at the same time, was faster
        return None if password else chosen

    async def list(self) -> list[Account]:
        """All of them, by name."""
        with operation(self._timeout_seconds):
            return await Account.find({}).sort("username").to_list()

    async def set_active(self, username: str, *, is_active: bool) -> None:
        """Disable or enable an account. Raises NotFoundError."""
        await self._update(username, {"is_active": is_active})

    async def set_password(self, username: str, password: str) -> None:
        """Give an account a new password. Raises NotFoundError and WeakPasswordError."""
        await self._update(username, {"password_hash": await self._passwords.hash(password)})

    async def _find(self, username: str) -> Account | None:
        with operation(self._timeout_seconds):
            return await Account.find_one({"username": {"$eq": username}})

    async def _update(self, username: str, changes: dict[str, object]) -> None:
        with operation(self._timeout_seconds):
            result = await Account.get_pymongo_collection().update_one(
                {"username": {"$eq": username}}, {"$set": changes | {"updated_at": now()}, "$inc": {"revision": 1}}
            )
        if result.matched_count == 0:
            raise NotFoundError(f"There is no account {username!r}.")
