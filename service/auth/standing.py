"""Good standing: whether a token that is genuine still counts, and for what, now that its account may have changed."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import ClassVar, NamedTuple

from beanie import Document
from pymongo import ASCENDING, IndexModel

from service.auth.accounts import Account, Accounts
from service.auth.scopes import allowed_scopes
from service.auth.sessions import Session, Sessions
from service.auth.tokens import LEEWAY_SECONDS, Caller, invalid_token
from service.store.elections import find_one
from service.store.failures import operation

RECHECK_SECONDS = 15
"""How long a process may go on serving what was disabled or revoked by another."""

MAX_REMEMBERED = 10_000
"""Sessions whose standing is remembered, of less than a kilobyte each."""


class RevokedToken(Document):
    """An access token without a session that was revoked, by its `jti`."""

    id: str  # type: ignore[assignment]
    """Beanie's own would be an ObjectId."""
    expires_at: datetime

    class Settings:
        """Where and how they are kept; MongoDB removes them by itself."""

        name = "revoked_tokens"
        indexes: ClassVar[Sequence[IndexModel]] = [
            IndexModel([("expires_at", ASCENDING)], name="expires_at", expireAfterSeconds=0)
        ]


class _Remembered(NamedTuple):
    """What was found of a session, or of a token without one."""

    account_ids: frozenset[str]
    """Of the account, and of the client that acts for it."""
    allowed: frozenset[str]
    """The scopes that its account may have."""
    good_until: float
    """By the clock."""


class Standing:
    """Says of callers whose tokens have been verified what they may do now. It is the one place that does."""

    def __init__(
        self,
        accounts: Accounts,
        sessions: Sessions,
        known: Collection[str],
        timeout_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`known` are the scopes that there are, `timeout_seconds` is how long MongoDB may take to answer."""
        self._accounts = accounts
        self._sessions = sessions
        self._known = known
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._remembered: dict[str, _Remembered] = {}

    async def check(self, caller: Caller) -> Caller:
        """The caller, with those scopes that the account may still have; asked of the database every 15 s.

        Raises AuthenticationError for an account that is disabled or deleted, a session or a token that was revoked.
        """
        if caller.issuer is not None:
            return caller  # who has no account here, and nothing that could be revoked
        key = _key_of(caller)
        known = self._remembered.get(key)
        if known is None or known.good_until <= self._clock():
            self._remembered.pop(key, None)
            good_until = self._clock() + RECHECK_SECONDS
            with operation(self._timeout_seconds):
                known = _Remembered(*await self._ask(caller), good_until)
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = known
        return caller if caller.scopes <= known.allowed else replace(caller, scopes=caller.scopes & known.allowed)

    async def account_behind(self, session: Session) -> Account | None:
        """Who signed in; None if that counts no longer, as all sign-ins of theirs or of the client have ended since."""
        account = await self._accounts.find_active(session.account_id)
        if account is None or (session.epoch != account.epoch and session.id != account.kept_session):
            return None
        if session.client_account_id is not None:
            client = await self._accounts.find_active(session.client_account_id)
            if client is None or session.client_epoch != client.epoch:
                return None
        return account

    async def revoke_token(self, token_id: str, expires_at: int) -> bool:
        """Refuse a token that has no session until it expires, in seconds since 1970; whether that was news."""
        self.forget(token_id)
        forgotten_at = datetime.fromtimestamp(expires_at + LEEWAY_SECONDS, UTC)
        with operation(self._timeout_seconds):
            result = await RevokedToken.get_pymongo_collection().update_one(
                {"_id": token_id}, {"$set": {"expires_at": forgotten_at}}, upsert=True
            )
        return result.upserted_id is not None

    def forget(self, key: str) -> None:
        """Ask the database again of the session, or of the token without one, that has this id."""
        self._remembered.pop(key, None)

    def forget_account(self, account_id: str) -> None:
        """Ask the database again of all that goes back to this account."""
        for key in [key for key, known in self._remembered.items() if account_id in known.account_ids]:
            self.forget(key)

    async def _ask(self, caller: Caller) -> tuple[frozenset[str], frozenset[str]]:
        """The accounts that the caller goes back to, and the scopes that are allowed."""
        ids = {caller.account_id}
        if caller.session_id is None:
            account = await self._account_of_token(caller)
        else:
            session = await self._sessions.find(caller.session_id)
            account = None if session is None else await self.account_behind(session)
            if session is not None and session.client_account_id is not None:
                ids.add(session.client_account_id)
        if account is None:
            raise invalid_token("The sign-in has ended, or the account is disabled.")
        return frozenset(ids), frozenset(allowed_scopes(account.patterns, self._known))

    async def _account_of_token(self, caller: Caller) -> Account | None:
        """Of a token without a session."""
        account = await self._accounts.find_active(caller.account_id)
        if account is None or caller.epoch != account.epoch:
            return None
        with operation(self._timeout_seconds):
            is_revoked = await find_one(RevokedToken, {"_id": caller.token_id}) is not None
        return None if is_revoked else account


def _key_of(caller: Caller) -> str:
    """All tokens of a session stand and fall together."""
    return caller.session_id or caller.token_id
