"""Passwords, as argon2id hashes (RFC 9106): made and checked in threads, few at once."""

from anyio import CapacityLimiter, to_thread
from pwdlib import PasswordHash
from pwdlib.exceptions import UnknownHashError
from pwdlib.hashers.argon2 import Argon2Hasher

from service.settings import MAX_PASSWORD_LENGTH, MIN_PASSWORD_LENGTH

MEMORY_KIB = 19 * 1024  # OWASP's smallest: 19 MiB, 2 passes, 1 lane
AT_ONCE = 2
"""Checks that run together: each takes its memory and a core."""


class WeakPasswordError(ValueError):
    """A password that is too short or too long."""


class PasswordHasher:
    """Makes and checks hashes."""

    def __init__(self) -> None:
        self._hash = PasswordHash((Argon2Hasher(memory_cost=MEMORY_KIB, time_cost=2, parallelism=1),))
        self._limiter = CapacityLimiter(AT_ONCE)
        self._nobodys = self._hash.hash("a password that nobody has")

    async def hash(self, password: str) -> str:
        """The hash of a new password. Raises WeakPasswordError."""
        if not MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
            raise WeakPasswordError(f"a password has {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters")
        return await to_thread.run_sync(self._hash.hash, password, limiter=self._limiter)

    async def verify(self, password: str, password_hash: str | None) -> bool:
        """Whether it is the password; the same work where there is no hash, so that time tells nothing."""
        if len(password) > MAX_PASSWORD_LENGTH:
            return False
        is_right = await to_thread.run_sync(
            self._verify, password, password_hash or self._nobodys, limiter=self._limiter
        )
        return is_right and password_hash is not None

    def _verify(self, password: str, password_hash: str) -> bool:
        try:
            return self._hash.verify(password, password_hash)
        except UnknownHashError:
            return False
