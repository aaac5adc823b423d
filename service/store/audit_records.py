"""The audit trail: who did what, when and from where; kept for some days, and never changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal

import structlog
from beanie import PydanticObjectId
from pymongo import ASCENDING, IndexModel

from service.documents.base import Record, index, now
from service.documents.registry import DocumentType
from service.errors import ServiceError
from service.observability.metrics import AUDIT_EVENTS
from service.store.failures import operation

Action = Literal[
    "sign_in",
    "sign_out",
    "account_created",
    "account_changed",
    "account_deleted",
    "password_changed",
    "export",
    "import",
    "document_deleted",
    "backup",
    "restore",
]
Outcome = Literal["done", "refused"]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something, and from where."""

    account: str
    """The account's name; of a sign-in that was refused, the name that was given."""
    account_id: str | None = None
    client_id: str | None = None
    address: str | None = None
    """Of the client, as an IP address."""
    request_id: str | None = None


class AuditEvent(Record):
    """One thing that somebody did, or was refused. `created_at` says when."""

    action: Action
    outcome: Outcome = "done"
    account: str
    account_id: str | None = None
    client_id: str | None = None
    address: str | None = None
    request_id: str | None = None
    type: str | None = None
    """The name of what it was done to: `users`, `accounts`; `addresses`, of one that has to wait."""
    target: str | None = None
    """Its id, of an account its name, of a backup its file's, or an address."""
    reason: str | None = None
    """Why it was refused, as a code."""
    changed: list[str] = []
    """The fields that were changed; not their values."""
    expires_at: datetime

    class Settings(Record.Settings):
        """Where and how events are kept; MongoDB removes them by itself."""

        name = "audit"
        indexes: ClassVar[Sequence[IndexModel]] = [
            index("created_at"),
            index("account"),
            index("target"),
            IndexModel([("expires_at", ASCENDING)], name="expires_at", expireAfterSeconds=0),
        ]


AUDIT = DocumentType(AuditEvent)
"""The events as a document type, so that they are listed, filtered and sorted as any."""


class AuditTrail:
    """Writes events."""

    def __init__(self, keep_days: float, timeout_seconds: float) -> None:
        """`timeout_seconds` is how long a write may take, elections included."""
        self._keep = timedelta(days=keep_days)
        self._timeout_seconds = timeout_seconds

    async def note(self, action: Action, actor: Actor, outcome: Outcome = "done", **values: Any) -> bool:
        """Write down what was done, and say whether that is kept. `values` are other members of AuditEvent.

        What cannot be written is logged whole instead: it has been done, and its caller should hear of that.
        """
        AUDIT_EVENTS.labels(action, outcome, values.get("reason") or "").inc()
        moment = now()
        event = AuditEvent(
            id=PydanticObjectId(),
            created_at=moment,
            updated_at=moment,
            action=action,
            outcome=outcome,
            account=actor.account,
            account_id=actor.account_id,
            client_id=actor.client_id,
            address=actor.address,
            request_id=actor.request_id,
            expires_at=moment + self._keep,
            **values,
        )
        try:
            with operation(self._timeout_seconds):
                await event.insert()
        except ServiceError:
            log.exception("an audit event could not be written", audit=event.model_dump(mode="json"))
            return False
        return True
