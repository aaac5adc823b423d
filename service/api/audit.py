"""The audit trail over HTTP, for those who manage accounts."""

from service.api.records import record_router
from service.auth.scopes import ACCOUNTS_ADMIN
from service.store.audit_records import AUDIT

router = record_router(AUDIT, scope=ACCOUNTS_ADMIN)
