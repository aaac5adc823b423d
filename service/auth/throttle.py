"""The throttle of sign-ins: after too many that have failed, an account or an address has to wait."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from time import monotonic
from typing import Literal, TypeVar
from weakref import WeakValueDictionary

from service.auth.accounts import ACCOUNTS
from service.errors import TooManyAttemptsError
from service.store.audit_records import Actor, AuditTrail
from service.store.quotas import Claim, Quota, Quotas

TURNS = 4
"""Attempts of one account, or from one address, that one process has under way: more would only wait for a password's
check, and meanwhile be held against the others."""

PATIENCE_SECONDS = 5.0
"""How long an attempt waits for others that are under way in other processes."""

PAUSE_SECONDS = 0.1
IPV6_PREFIX = 64
"""Bits of an address: the rest of it, everybody chooses freely."""

T = TypeVar("T")
Subject = Literal["account", "address"]
"""What has to wait."""


@dataclass(slots=True)
class _Attempt:
    """One that is under way, and does not count until it is said to have failed."""

    has_failed: bool = False
    was_last: bool = False
    """Whether it used its quota up: true of one in a window."""


class SignInThrottle:
    """Counts failed attempts to sign in, for all processes together.

    Each attempt is held against its quotas before it is checked, so that no number of guesses at once gets past them,
    and counts only if it has failed.
    """

    def __init__(self, quotas: Quotas, *, per_account: int, per_address: int, window_seconds: int) -> None:
        self._quotas = quotas
        self._per_account = Quota(per_account, window_seconds)
        self._per_address = Quota(per_address, window_seconds)
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def attempt(
        self,
        account: str,
        address: str | None,
        check: Callable[[], Awaitable[T | None]],
        when_exhausted: Callable[[Subject], None] = lambda _subject: None,
    ) -> T | None:
        """What `check` finds; None is a failure. `account` is whatever name was given, whether or not there is one.

        `when_exhausted` is told what has to wait from now on, once a window.
        Raises TooManyAttemptsError, and DatabaseUnavailableError where nothing can be counted.
        """
        # The account first: an attempt that is refused for its account takes nothing from others at its address.
        quotas: dict[Subject, tuple[str, Quota]] = {"account": (account_key(account), self._per_account)}
        if address is not None:
            quotas["address"] = (address_key(address), self._per_address)
        async with AsyncExitStack() as stack:
            attempts = {
                subject: await stack.enter_async_context(self._attempt(*place)) for subject, place in quotas.items()
            }
            found = await check()
            for attempt in attempts.values():
                attempt.has_failed = found is None
        for subject, attempt in attempts.items():
            if attempt.was_last:
                when_exhausted(subject)
        return found

    @asynccontextmanager
    async def _attempt(self, key: str, quota: Quota) -> AsyncGenerator[_Attempt]:
        """An attempt that is held against one quota as long as it lasts."""
        turn = self._turns.setdefault(key, asyncio.Semaphore(TURNS))
        async with turn:
            await self._hold(key, quota)
            attempt = _Attempt()
            try:
                yield attempt
            finally:
                used = await self._quotas.release(key, counts=attempt.has_failed)
                attempt.was_last = attempt.has_failed and used == quota.limit

    async def _hold(self, key: str, quota: Quota) -> None:
        deadline = monotonic() + PATIENCE_SECONDS
        while not (claim := await self._quotas.hold(key, quota)).is_granted:
            if claim.is_exhausted or monotonic() > deadline:
                raise TooManyAttemptsError(_retry_after(claim))
            await asyncio.sleep(PAUSE_SECONDS)


async def note_exhausted(audit: AuditTrail, actor: Actor, subjects: Iterable[Subject]) -> None:
    """Write down who has to wait from now on; those that are refused then are not written down one by one."""
    for subject in subjects:
        place = (ACCOUNTS.name, actor.account) if subject == "account" else ("addresses", actor.address)
        reason = TooManyAttemptsError.code
        await audit.note("sign_in", actor, "refused", reason=reason, type=place[0], target=place[1])


def _retry_after(claim: Claim) -> int:
    """In seconds; those that are under way will not take as long as the window."""
    return claim.reset_seconds if claim.is_exhausted else 1


def account_key(account: str) -> str:
    """Of an account's quota: a hash, as somebody may have typed a password for a name."""
    return f"sign-in account {hashlib.sha256(account.encode(errors='surrogatepass')).hexdigest()}"


def address_key(address: str) -> str:
    """Of an address's quota: the network that one caller has."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:  # a proxy's word for it
        return f"sign-in address {hashlib.sha256(address.encode()).hexdigest()}"
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is None:
            return f"sign-in address {ip_network((parsed, IPV6_PREFIX), strict=False)}"
        parsed = parsed.ipv4_mapped
    return f"sign-in address {parsed}"
