"""Scopes (RFC 6749 §3.3): which there are, and what an account's patterns allow of them."""

import re
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Literal

from service.documents.registry import DocumentType
from service.settings import SCOPE_PATTERN

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


def is_pattern(pattern: str) -> bool:
    """Whether this is `*`, or two parts like `users:read`, of which either may be `*`."""
    return re.fullmatch(SCOPE_PATTERN, pattern) is not None


def allowed_scopes(patterns: Collection[str], known: Iterable[str]) -> list[str]:
    """The known scopes that any of the patterns allows."""
    return [scope for scope in known if any(fnmatchcase(scope, pattern) for pattern in patterns)]
