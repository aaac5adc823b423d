"""The last active account that may manage accounts stays: nobody could make another one."""

from collections.abc import Awaitable, Callable, Mapping
from itertools import product
from typing import Any, TypeVar

from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.read_concern import ReadConcern

from service.auth.scopes import ACCOUNTS_ADMIN, ROLES, allowed_scopes
from service.errors import LastAdminError
from service.store.leases import LOCKS

T = TypeVar("T")

ADMIN_ROLES = [role for role, patterns in ROLES.items() if allowed_scopes(patterns, [ACCOUNTS_ADMIN])]
ADMIN_PATTERNS = ["*", *map(":".join, product(*((part, "*") for part in ACCOUNTS_ADMIN.split(":"))))]
ADMINS = {"is_active": True, "$or": [{"roles": {"$in": ADMIN_ROLES}}, {"scopes": {"$in": ADMIN_PATTERNS}}]}
"""What MongoDB finds the accounts by that may manage accounts."""


def is_admin(account: Mapping[str, Any]) -> bool:
    """Whether an account is one of those; the same in Python."""
    may = not {*ADMIN_ROLES, *ADMIN_PATTERNS}.isdisjoint([*account.get("roles", ()), *account.get("scopes", ())])
    return may and account.get("is_active") is True


async def unless_last_admin(
    accounts: AsyncCollection[dict[str, Any]], key: ObjectId, write: Callable[[AsyncClientSession], Awaitable[T]]
) -> T:
    """What `write` answers, by which this account stops being an admin. Raises LastAdminError.

    Two that do this at the same time both write the lock, so MongoDB lets one of them begin again, after the other.
    """

    async def decide(session: AsyncClientSession) -> T:
        locks = accounts.database[LOCKS]
        await locks.update_one({"_id": "last_admin"}, {"$inc": {"taken": 1}}, upsert=True, session=session)
        if await accounts.find_one({**ADMINS, "_id": {"$ne": key}}, {"_id": 1}, session=session) is None:
            raise LastAdminError
        return await write(session)

    async with accounts.database.client.start_session() as session:
        return await session.with_transaction(decide, read_concern=ReadConcern("snapshot"))
