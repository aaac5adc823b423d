"""Scopes (RFC 6749 §3.3): which there are, and what an account's patterns allow of them."""

from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Literal

from service.documents.registry import DocumentType

ACTIONS: Mapping[str, str] = {
    "read": "Read and search {}",
    "write": "Create and change {}",
    "delete": "Delete {}",
    "export": "Download {} as files",
    "private": "See the private fields of {}",
}

Role = Literal["viewer", "analyst", "editor", "admin"]
ROLES: Mapping[Role, tuple[str, ...]] = {
    "viewer": ("*:read",),
    "analyst": ("*:read", "*:export"),
    "editor": ("*:read", "*:export", "*:write", "*:delete"),
    "admin": ("*",),
}
"""Named sets of patterns. None but the administrator's sees private fields."""

ACCOUNTS_ADMIN = "accounts:admin"


def known_scopes(document_types: Iterable[DocumentType]) -> dict[str, str]:
    """Every scope that a route may ask for, with what it allows."""
    of_types = {
        f"{document_type.name}:{action}": meaning.format(document_type.name)
        for document_type in document_types
        for action, meaning in ACTIONS.items()
    }
    return of_types | {ACCOUNTS_ADMIN: "Manage accounts; see what all of them did"}


def patterns_of(roles: Collection[str], scopes: Iterable[str]) -> list[str]:
    """All that an account's roles and its own patterns say; a role that somebody wrote by hand says nothing."""
    return [*(pattern for role, patterns in ROLES.items() if role in roles for pattern in patterns), *scopes]


def covers(held: str, pattern: str) -> bool:
    """Whether one pattern allows all that another does, also of scopes that there are not yet."""
    return all(mine in {"*", theirs} for mine, theirs in zip(_parts(held), _parts(pattern), strict=True))


def _parts(pattern: str) -> list[str]:
    return ["*", "*"] if pattern == "*" else pattern.split(":")


def allowed_scopes(patterns: Collection[str], known: Iterable[str]) -> list[str]:
    """The known scopes that any of the patterns allows."""
    return [scope for scope in known if any(fnmatchcase(scope, pattern) for pattern in patterns)]
