"""Accounts as an operator changes them, by their names."""

from typing import Any

from service.api.dependencies import Services
from service.auth.administration import Administrator
from service.store.audit_records import Actor

OPERATOR = Administrator(Actor("operator"), patterns=("*",))


async def change_account(services: Services, username: str, **values: Any) -> None:
    """Give an account these values; `password` is one too."""
    account = await services.accounts.get(username)
    await services.administration.patch(str(account.id), lambda present: {**present, **values}, OPERATOR)


async def set_active(services: Services, username: str, *, is_active: bool) -> None:
    """Disable or enable an account."""
    await change_account(services, username, is_active=is_active)


async def set_password(services: Services, username: str, password: str) -> None:
    """Give an account a new password."""
    await change_account(services, username, password=password)
