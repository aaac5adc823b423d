"""Managing accounts: what each change has to heed, whoever asks for it, and the record of it."""

import asyncio
import random
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from service.auth.accounts import ACCOUNTS, Accounts
from service.auth.scopes import allowed_scopes, covers, patterns_of
from service.auth.throttle import SignInThrottle, Subject, note_exhausted
from service.documents.json_text import dump_json
from service.documents.values import pointer_to
from service.errors import (
    ExceedsAuthorityError,
    Fault,
    LastAdminError,
    NotFoundError,
    ValidationFailedError,
    WriteConflictError,
)
from service.store.audit_records import Action, Actor, AuditTrail
from service.store.repository import (
    PATCH_ATTEMPTS,
    PAUSE_SECONDS,
    Presented,
    Repository,
    Revisions,
    revision_mismatch,
    revision_of,
)

OWN_PASSWORD = ("current_password", "new_password")
"""What a change of one's own password names."""

SECRET_BYTES = 32
"""Of a client secret that is made here."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Administrator:
    """Who manages accounts, and how much they may hand out: nothing that they have not themselves."""

    actor: Actor
    patterns: Sequence[str]
    """Those of their account."""
    withheld: frozenset[str] = frozenset()
    """Scopes that their token lacks, whatever the account may."""

    def has_all(self, patterns: Sequence[str]) -> bool:
        """Whether they may do all that these patterns allow, today and with types that are yet to come."""
        is_held = all(any(covers(held, pattern) for held in self.patterns) for pattern in patterns)
        return is_held and not allowed_scopes(patterns, self.withheld)


class Administration:
    """All changes of accounts."""

    def __init__(
        self, accounts: Accounts, repository: Repository, audit: AuditTrail, forget: Callable[[str], None]
    ) -> None:
        """`repository` is that of ACCOUNTS; `forget` is told the id of each account that has changed."""
        self._accounts = accounts
        self._repository = repository
        self._forget = forget
        self._audit = audit

    async def create(self, body: Any, by: Administrator) -> tuple[Presented, str | None]:
        """A new account, and its client secret, if that was made here.

        Raises ValidationFailedError, ExceedsAuthorityError and DuplicateValueError.
        """
        secret = None
        if isinstance(body, dict) and body.get("kind") == "client" and "password" not in body:
            secret = secrets.token_urlsafe(SECRET_BYTES)
            body = {**body, "password": secret}
        fields, password = await self._accounts.check(body)
        assert password is not None
        async with self._refusals_noted("account_created", by.actor, fields["username"]):
            _refuse_more(by, fields)
            account = await self._accounts.insert(fields, password)
        await self._note("account_created", by.actor, account)
        return account, secret

    async def patch(
        self,
        account_id: str,
        change: Callable[[Any], Any],
        by: Administrator,
        revisions: Revisions = None,
    ) -> Presented:
        """What `change` makes of the account's JSON, in which `password` is a new one.

        Raises ValidationFailedError, ExceedsAuthorityError, LastAdminError, NotFoundError, RevisionMismatchError and
        WriteConflictError.
        """

        async def write(present: Presented) -> Presented | None:
            fields, password = await self._accounts.check(change(orjson.loads(dump_json(present))), present)
            changed = [name for name in fields if fields[name] != present.get(name)]
            async with self._refusals_noted("account_changed", by.actor, present["username"]):
                _refuse_mightier(by, present)
                _refuse_more(by, fields)
                if not changed and password is None:
                    return present
                account = await self._accounts.update(present, fields, password)
            if account is not None:
                await self._changed(by.actor, account, [*changed, *(["password"] if password else [])])
            return account

        return await self._settle(account_id, revisions, write)

    async def renew_secret(self, account_id: str, by: Administrator) -> tuple[Presented, str]:
        """A new secret for a client, and the client. Raises as `patch`, and ValidationFailedError for a person."""
        secret = secrets.token_urlsafe(SECRET_BYTES)

        def change(present: Any) -> Any:
            if present.get("kind") != "client":
                message = "only a client has a secret; a person has a password"
                raise ValidationFailedError([Fault("client_expected", message, "/kind")])
            return {**present, "password": secret}

        return await self.patch(account_id, change, by), secret

    async def delete(self, account_id: str, by: Administrator, revisions: Revisions = None) -> None:
        """Remove an account.

        Raises ExceedsAuthorityError, LastAdminError, NotFoundError, RevisionMismatchError and WriteConflictError.
        """

        async def write(present: Presented) -> Presented | None:
            async with self._refusals_noted("account_deleted", by.actor, present["username"]):
                _refuse_mightier(by, present)
                return present if await self._accounts.remove(present) else None

        gone = await self._settle(account_id, revisions, write)
        self._forget(str(gone["id"]))
        await self._note("account_deleted", by.actor, gone)

    async def change_own_password(
        self, body: Any, actor: Actor, session_id: str | None, throttle: SignInThrottle
    ) -> None:
        """A new password for the person who asks, and who knows the current one; all other sessions end.

        Raises NotFoundError for whoever has none here, ValidationFailedError, TooManyAttemptsError and
        WriteConflictError.
        """

        async def write(present: Presented) -> Presented | None:
            if present.get("kind", "person") != "person":
                raise NotFoundError("Only a person has a password; a client's secret is renewed by an administrator.")
            faults = [*_member_faults(body), *await self._own_password_faults(body, present, actor, throttle)]
            if faults:
                raise ValidationFailedError(faults)
            return await self._accounts.update(present, {}, body["new_password"], kept_session=session_id)

        if not isinstance(body, dict):
            raise ValidationFailedError([Fault("object_expected", "a JSON object is expected", "")])
        account = await self._settle(actor.account_id or "", None, write)
        await self._changed(actor, account, ["password"])

    async def _own_password_faults(
        self, body: Mapping[str, Any], present: Presented, actor: Actor, throttle: SignInThrottle
    ) -> list[Fault]:
        faults: list[Fault] = []
        username, current = present["username"], body.get("current_password")
        if "new_password" in body:
            faults += await self._accounts.password_faults(body["new_password"], username, "/new_password")
        if type(current) is not str:
            return faults
        exhausted: list[Subject] = []
        known = await throttle.attempt(
            username, actor.address, lambda: self._accounts.authenticate(username, current), exhausted.append
        )
        if known is None:
            await self._note("password_changed", actor, present, outcome="refused", reason="wrong_password")
            await note_exhausted(self._audit, actor, exhausted)
            faults.append(Fault("wrong_password", "this is not the current password", "/current_password"))
        return faults

    async def _settle(
        self, account_id: str, revisions: Revisions, write: Callable[[Presented], Awaitable[Presented | None]]
    ) -> Presented:
        """What `write` makes of the account as it is; when others are faster, of what they left."""
        for attempt in range(PATCH_ATTEMPTS):
            present = await self._repository.get(account_id)
            if revisions is not None and revision_of(present) not in revisions:
                raise revision_mismatch(present)
            written = await write(present)
            if written is not None:
                return written
            await asyncio.sleep(random.uniform(0, attempt * PAUSE_SECONDS))  # noqa: S311 - so that one gets ahead
        raise WriteConflictError("Try again when fewer others are changing it.")

    async def _changed(self, actor: Actor, account: Presented, changed: Sequence[str]) -> None:
        self._forget(str(account["id"]))
        action: Action = "password_changed" if list(changed) == ["password"] else "account_changed"
        await self._note(action, actor, account, changed=list(changed))

    @asynccontextmanager
    async def _refusals_noted(self, action: Action, actor: Actor, username: str) -> AsyncGenerator[None]:
        """Write down who tried what they may not."""
        try:
            yield
        except (ExceedsAuthorityError, LastAdminError) as error:
            await self._note(action, actor, {"username": username}, outcome="refused", reason=error.code)
            raise

    async def _note(self, action: Action, actor: Actor, account: Mapping[str, Any], **values: Any) -> None:
        await self._audit.note(action, actor, type=ACCOUNTS.name, target=account["username"], **values)


def _member_faults(body: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with the members of a change of password, whatever the passwords are."""
    unknown = [name for name in body if name not in OWN_PASSWORD]
    missing = [name for name in OWN_PASSWORD if name not in body]
    is_text = type(body.get("current_password", "")) is str
    return [
        *(Fault("unknown_field", "there is no such field", pointer_to("", name)) for name in unknown),
        *(Fault("missing", "this is needed", pointer_to("", name)) for name in missing),
        *(() if is_text else (Fault("string_type", "a text is expected", "/current_password"),)),
    ]


def _refuse_mightier(by: Administrator, present: Presented) -> None:
    if not by.has_all(patterns_of(present.get("roles", ()), present.get("scopes", ()))):
        raise ExceedsAuthorityError(f"{present['username']} may do more than the caller.")


def _refuse_more(by: Administrator, fields: Mapping[str, Any]) -> None:
    """No roles and scopes that the caller could not use themselves."""
    granted = {
        **{f"/roles/{position}": patterns_of([role], ()) for position, role in enumerate(fields["roles"])},
        **{f"/scopes/{position}": [pattern] for position, pattern in enumerate(fields["scopes"])},
    }
    faults = [
        Fault("exceeds_authority", f"this allows more than the caller may: {' '.join(patterns)}", pointer)
        for pointer, patterns in granted.items()
        if not by.has_all(patterns)
    ]
    if faults:
        raise ExceedsAuthorityError("Nobody hands out more than they have.", faults=faults)
