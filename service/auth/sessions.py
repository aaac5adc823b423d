"""Sessions: each is one sign-in and the family of refresh tokens that goes back to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from beanie import Document, PydanticObjectId
from bson import ObjectId
from pydantic import ConfigDict
from pymongo import ASCENDING, IndexModel, ReturnDocument

from service.auth.accounts import Account
from service.auth.refresh_tokens import RefreshToken, RefreshTokenMaker
from service.documents.base import index, now
from service.settings import DEFAULT_CLIENT
from service.store.elections import find_one
from service.store.failures import operation

GRACE_SECONDS = 10
"""How long the token used last may come again, as the answer to its use may have been lost."""


class Session(Document):
    """One sign-in of an account by a client, until it is revoked or not refreshed for some days."""

    model_config = ConfigDict(extra="forbid")

    account_id: str
    account: str
    """The account's name when it signed in."""
    client_id: str
    epoch: int = 0
    """Of the account, when it proved to be itself."""
    client_account_id: str | None = None
    """Of a confidential client its account: it has to prove again to be it."""
    client_epoch: int | None = None
    """Of that account."""
    scopes: list[str]
    """What the sign-in got; a refresh gets no more."""
    token_hash: str
    """Of the refresh token whose turn it is."""
    previous_hash: str | None = None
    """Of the one used last."""
    rotated_at: datetime | None = None
    """When that was. By the server's clock, as all services on one database have to agree on it."""
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None

    class Settings:
        """Where and how sessions are kept; MongoDB removes them by itself."""

        name = "sessions"
        indexes: ClassVar[Sequence[IndexModel]] = [
            index("account_id"),
            index("client_account_id"),
            IndexModel([("expires_at", ASCENDING)], name="expires_at", expireAfterSeconds=0),
        ]


@dataclass(frozen=True, slots=True)
class Client:
    """The program that asks (RFC 6749 §2.1): a confidential one has proved its account, any other only says a name."""

    client_id: str | None = None
    """None where it has not said."""
    account: Account | None = None

    @property
    def name(self) -> str:
        """What it is called in tokens."""
        return self.client_id or DEFAULT_CLIENT

    @property
    def account_id(self) -> str | None:
        """Of its own account."""
        return str(self.account.id) if self.account else None

    def owns(self, session: Session) -> bool:
        """Whether the session's tokens were issued to it. Who does not say who they are may be any public client."""
        is_named = self.client_id in {None, session.client_id}
        return is_named and self.account_id == session.client_account_id

    def has_yet_to_prove(self, session: Session) -> bool:
        """Whether it says to be the confidential client of this session, and has not shown its secret."""
        is_named = self.client_id == session.client_id
        return is_named and self.account is None and session.client_account_id is not None


class Sessions:
    """The sessions in the database."""

    def __init__(self, secret_key: str, keep_days: float, timeout_seconds: float) -> None:
        """`keep_days` is how long a refresh token is good for, `timeout_seconds` how long MongoDB may take."""
        self._tokens = RefreshTokenMaker(secret_key)
        self._keep = timedelta(days=keep_days)
        self._timeout_seconds = timeout_seconds

    async def start(self, account: Account, client: Client, scopes: Sequence[str]) -> RefreshToken:
        """A new session's first refresh token."""
        session_id = PydanticObjectId()
        token = self._tokens.make(session_id, 0)
        started_at = now()
        session = Session(
            id=session_id,
            account_id=str(account.id),
            account=account.username,
            client_id=client.name,
            epoch=account.epoch,
            client_account_id=client.account_id,
            client_epoch=client.account.epoch if client.account else None,
            scopes=list(scopes),
            token_hash=token.hash,
            created_at=started_at,
            expires_at=started_at + self._keep,
        )
        with operation(self._timeout_seconds):
            await session.insert()
        return token

    def read(self, text: str) -> RefreshToken | None:
        """The refresh token of which this is the text, be it good or not; None if it is none of ours."""
        return self._tokens.read(text)

    async def find(self, session_id: str | ObjectId) -> Session | None:
        """A session that is neither revoked nor over."""
        with operation(self._timeout_seconds):
            return await find_one(Session, {"_id": ObjectId(session_id), **_is_open()})

    async def find_usable(self, token: RefreshToken) -> Session | None:
        """The open session in which it is this token's turn, or was just now."""
        with operation(self._timeout_seconds):
            return await find_one(Session, {"_id": token.session_id, **_is_open(), **_is_usable(token)})

    async def rotate(self, token: RefreshToken) -> RefreshToken | None:
        """Use a token: what takes its place, the same whenever it is asked for again within the grace.

        One atomic update, so that of many that use it at once one rotates it. None if it is not usable any more.
        """
        successor = self._tokens.next(token)
        is_current = {"$eq": ["$token_hash", token.hash]}

        def if_current(value: Any, otherwise: str) -> dict[str, Any]:
            return {"$cond": [is_current, value, otherwise]}

        # One stage, in which all that is read is as it was before.
        rotation = {
            "token_hash": successor.hash,
            "previous_hash": token.hash,
            "rotated_at": if_current("$$NOW", "$rotated_at"),
            "expires_at": if_current({"$add": ["$$NOW", _milliseconds(self._keep)]}, "$expires_at"),
        }
        with operation(self._timeout_seconds):
            found = await Session.get_pymongo_collection().find_one_and_update(
                {"_id": token.session_id, **_is_open(), **_is_usable(token)},
                [{"$set": rotation}],
                projection={"_id": True},
                return_document=ReturnDocument.AFTER,
            )
        return successor if found else None

    async def revoke_reused(self, token: RefreshToken) -> Session | None:
        """Revoke the open session in which this token was used before: two have it, and one of them stole it."""
        return await self._revoke_one({"_id": token.session_id, **_is_open(), "$nor": [_is_usable(token)]})

    async def revoke(self, session_id: str | ObjectId) -> Session | None:
        """End a session, if it was still open."""
        return await self._revoke_one({"_id": ObjectId(session_id), **_is_open()})

    async def _revoke_one(self, condition: Mapping[str, Any]) -> Session | None:
        with operation(self._timeout_seconds):
            found = await Session.get_pymongo_collection().find_one_and_update(condition, REVOCATION)
        return Session.model_validate(found) if found else None


REVOCATION: Sequence[Mapping[str, Any]] = [{"$set": {"revoked_at": "$$NOW"}}]


def _is_open() -> dict[str, Any]:
    return {"revoked_at": None, "$expr": {"$gt": ["$expires_at", "$$NOW"]}}


def _is_usable(token: RefreshToken) -> dict[str, Any]:
    since = {"$subtract": ["$$NOW", GRACE_SECONDS * 1000]}
    was_just_used = {"previous_hash": token.hash, "$expr": {"$gt": ["$rotated_at", since]}}
    return {"$or": [{"token_hash": token.hash}, was_just_used]}


def _milliseconds(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)
