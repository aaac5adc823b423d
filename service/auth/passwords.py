"""Passwords: which are taken, and their argon2id hashes (RFC 9106), made and checked in threads, few at once."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import util
from pathlib import Path
from typing import TypeVar

from pwdlib import PasswordHash
from pwdlib.exceptions import UnknownHashError
from pwdlib.hashers.argon2 import Argon2Hasher

from service.documents.values import LONE_SURROGATE
from service.settings import MAX_PASSWORD_LENGTH, MIN_PASSWORD_LENGTH, normalised_password

T = TypeVar("T")

MEMORY_KIB = 19 * 1024  # OWASP's smallest: 19 MiB, 2 passes, 1 lane
AT_ONCE = 2
"""Checks that run together: each takes its memory and a core."""

SERVICE_NAME = "dossier"
MAX_TRIVIAL_DIGITS = 4
"""Of a year, or a counter: behind a word that everybody tries, they are tried too."""


class PasswordHasher:
    """Makes and checks hashes."""

    def __init__(self, memory_kib: int = MEMORY_KIB) -> None:
        self._hash = PasswordHash((Argon2Hasher(memory_cost=memory_kib, time_cost=2, parallelism=1),))
        # Threads of their own, as the C library keeps the memory of a hash for each thread that has ever made one.
        self._threads = ThreadPoolExecutor(AT_ONCE, "passwords")
        self._nobodys = self._hash.hash("a password that nobody has")

    async def weakness(self, password: str, username: str) -> str | None:
        """Why this is no password for this account; None: it is one."""
        return await self._in_thread(weakness_of, password, username)

    async def hash(self, password: str) -> str:
        """The hash of a new password."""
        return await self._in_thread(self._hash.hash, normalised_password(password))

    async def verify(self, password: str, password_hash: str | None) -> bool:
        """Whether it is the password; the same work where there is no hash, so that time tells nothing."""
        normalised = normalised_password(password)
        if len(normalised) > MAX_PASSWORD_LENGTH:
            return False
        is_right = await self._in_thread(self._verify, normalised, password_hash or self._nobodys)
        return is_right and password_hash is not None

    async def _in_thread(self, work: Callable[..., T], *arguments: str) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def _verify(self, password: str, password_hash: str) -> bool:
        try:
            return self._hash.verify(password, password_hash)
        except (UnknownHashError, UnicodeEncodeError):  # of no hash, or no text
            return False


def weakness_of(password: str, username: str) -> str | None:
    """Why this is no password for this account; None: it is one.

    Length and common passwords count, classes of characters do not (NIST SP 800-63B §3.1.1.2).
    """
    text = normalised_password(password)
    if not MIN_PASSWORD_LENGTH <= len(text) <= MAX_PASSWORD_LENGTH:
        return f"a password has {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters"
    if LONE_SURROGATE.search(text):
        return "a password is text, and a lone surrogate is no character"
    if len(set(text)) == 1 or not any(character.isprintable() and character != " " for character in text):
        return "a password is not one character again and again, or blank"
    stems = _stems(text.lower())
    if not stems.isdisjoint({username.lower(), SERVICE_NAME}):
        return "a password is not the name of the account or of the service, with or without digits behind it"
    if not stems.isdisjoint(common_passwords()):
        return "this is one of the passwords that everybody tries first, with or without digits behind it"
    return None


def _stems(password: str) -> set[str]:
    """The password, and what is left without some of the digits at its end."""
    digits = min(len(password) - len(password.rstrip("0123456789")), MAX_TRIVIAL_DIGITS)
    return {password[: len(password) - count] for count in range(digits + 1)}


def common_passwords() -> list[str]:
    """30,000 of them in lower case, the most common first.

    Read each time, in about 10 ms, and not kept: importing zxcvbn itself would take 14 MB for good.
    """
    package = util.find_spec("zxcvbn")
    assert package is not None
    assert package.origin is not None
    spec = util.spec_from_file_location("frequency_lists", Path(package.origin).with_name("frequency_lists.py"))
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    passwords: list[str] = module.FREQUENCY_LISTS["passwords"]
    return passwords
