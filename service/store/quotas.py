"""Quotas: how often something may be done in a window of time, counted by MongoDB and so for all processes together."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Literal

from beanie import Document
from pymongo import ASCENDING, IndexModel, ReturnDocument, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection

from service.store.failures import operation


@dataclass(frozen=True, slots=True)
class Quota:
    """So often in a window, which begins with the first time."""

    limit: int
    window_seconds: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What MongoDB has said to one more."""

    is_granted: bool
    remaining: int
    is_exhausted: bool
    """Whether the quota is used up; if not, what was refused was in the way of others that are under way."""
    reset_seconds: int
    """Until the window ends; at least 1."""


class QuotaCounter(Document):
    """How much of one quota is gone. Written by the updates below alone, with the server's clock."""

    id: str  # type: ignore[assignment]
    used: int
    held: int
    """Taken by what is under way, of which nobody knows yet whether it counts."""
    is_granted: bool
    """Whether the last one that asked got it."""
    asked_at: datetime
    expires_at: datetime
    """The window's end, after which MongoDB removes it by itself."""

    class Settings:
        """Where and how they are kept."""

        name = "quotas"
        indexes: ClassVar[Sequence[IndexModel]] = [
            IndexModel([("expires_at", ASCENDING)], name="expires_at", expireAfterSeconds=0)
        ]


class Quotas:
    """Counts, each time by one atomic update.

    All of it raises DatabaseUnavailableError: what cannot be counted is not granted.
    """

    def __init__(self, timeout_seconds: float) -> None:
        """`timeout_seconds` is how long a count may take, elections included."""
        self._timeout_seconds = timeout_seconds

    @property
    def _counters(self) -> AsyncCollection[Mapping[str, Any]]:
        # A majority is not worth waiting for: an election loses a few counts at most.
        return QuotaCounter.get_pymongo_collection().with_options(write_concern=WriteConcern(w=1))

    async def take(self, key: str, quota: Quota) -> Claim:
        """One more, if there is one left."""
        return await self._claim(key, quota, "used")

    async def hold(self, key: str, quota: Quota) -> Claim:
        """One more that may not count in the end: see `release`. What nobody releases counts until the window ends."""
        return await self._claim(key, quota, "held")

    async def release(self, key: str, *, counts: bool) -> int:
        """What was held is over, and counts or does not; how many of the window's have counted now."""
        held = {"$max": [0, {"$subtract": ["$held", 1]}]}  # a new window may have begun without it
        with operation(self._timeout_seconds):
            counter = await self._counters.find_one_and_update(
                {"_id": key},
                [{"$set": {"held": held, "used": {"$add": ["$used", int(counts)]}}}],
                return_document=ReturnDocument.AFTER,
            )
        return counter["used"] if counter else 0

    async def _claim(self, key: str, quota: Quota, field: Literal["used", "held"]) -> Claim:
        with operation(self._timeout_seconds):
            counter = await self._counters.find_one_and_update(
                {"_id": key}, _claiming(quota, field), upsert=True, return_document=ReturnDocument.AFTER
            )
        assert counter is not None
        left = (counter["expires_at"] - counter["asked_at"]).total_seconds()
        return Claim(
            is_granted=counter["is_granted"],
            remaining=max(0, quota.limit - counter["used"] - counter["held"]),
            is_exhausted=counter["used"] >= quota.limit,
            reset_seconds=max(1, math.ceil(left)),
        )


def _claiming(quota: Quota, field: str) -> list[dict[str, Any]]:
    """The update that begins a window where none runs, then claims one of what is left of it."""
    is_running = {"$gt": ["$expires_at", "$$NOW"]}
    window = {
        "asked_at": "$$NOW",
        "used": {"$cond": [is_running, "$used", 0]},
        "held": {"$cond": [is_running, "$held", 0]},
        "expires_at": {"$cond": [is_running, "$expires_at", {"$add": ["$$NOW", quota.window_seconds * 1000]}]},
    }
    is_granted = {"$lt": [{"$add": ["$used", "$held"]}, quota.limit]}
    claimed = {"$add": [f"${field}", {"$toInt": "$is_granted"}]}
    return [{"$set": window}, {"$set": {"is_granted": is_granted}}, {"$set": {field: claimed}}]
