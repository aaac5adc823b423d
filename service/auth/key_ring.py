"""The service's own keys: which one signs, and which ones verify."""

import os
import re
import shlex
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from service.auth.keys import Key, UnusableKeyError, read_pem
from service.errors import StartupError

LOOK_SECONDS = 3
"""How often the folder is looked at."""

UNKNOWN_KID_LOOK_SECONDS = 1
"""How often at most because of a token that names a key which is not known."""

PUBLISHED_SECONDS = 15
"""How long others may keep the list of public keys."""

SETTLED_SECONDS = PUBLISHED_SECONDS + 2 * LOOK_SECONDS
"""How old a key is before it signs: by then every process, and whoever keeps the public keys, has seen it."""

ONLY_OWNER = 0o600
"""What a key's file may be used for."""

MAX_KEY_BYTES = 65_536
KID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

log = structlog.get_logger()


class KeyRing(Protocol):
    """Keys under their `kid`."""

    @property
    def signing_key(self) -> Key:
        """The one that signs."""

    @property
    def public_keys(self) -> list[Key]:
        """Those that others may verify our tokens with."""

    def find(self, kid: str | None) -> Key | None:
        """The key that a token names; None if there is none, or no longer."""


class SecretKeyRing:
    """One secret key, which has no `kid` and which nobody else may have."""

    public_keys: list[Key] = []

    def __init__(self, secret_key: str) -> None:
        self.signing_key = Key(None, "HS256", secret_key.encode(), secret_key.encode())

    def find(self, kid: str | None) -> Key | None:
        """The one key, if none is named."""
        return self.signing_key if kid is None else None


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key as it was read from its file."""

    key: Key
    since: float
    """When it came there, in seconds of the epoch."""
    stamp: tuple[int, ...]
    """What is another once the file is."""

    @property
    def settled_at(self) -> float:
        """When everybody will have seen it, in seconds of the epoch."""
        return self.since + SETTLED_SECONDS


def signing_kids(files: Mapping[str, KeyFile]) -> list[str]:
    """Those of the keys that have their private half."""
    return sorted(kid for kid, file in files.items() if file.key.signing is not None)


def signing_kid(files: Mapping[str, KeyFile], now: float) -> str | None:
    """The key that signs: the newest by its name of those that everybody has seen; none has, then the newest."""
    kids = signing_kids(files)
    settled = [kid for kid in kids if files[kid].settled_at <= now]
    return max(settled or kids, default=None)


def read_key_files(
    folder: Path, known: Mapping[str, KeyFile] | None = None
) -> tuple[dict[str, KeyFile], dict[str, str]]:
    """The keys of a folder by `kid`, and what is wrong with other files; known ones are read only if they changed.

    Raises OSError where there is no folder to read.
    """
    found, faults = {}, {}
    for path in sorted(path for path in folder.iterdir() if path.suffix == ".pem" and not path.name.startswith(".")):
        kid = path.name.removesuffix(".pem")
        try:
            found[kid] = _read_key_file(path, kid, (known or {}).get(kid))
        except UnusableKeyError as error:
            faults[path.name] = str(error)
        except OSError as error:
            faults[path.name] = f"cannot be read: {error.strerror}"
    return found, faults


def _read_key_file(path: Path, kid: str, known: KeyFile | None) -> KeyFile:
    if not KID.fullmatch(kid):
        raise UnusableKeyError("has a name with other characters than letters, digits and . _ -")
    status = path.stat()
    stamp = (status.st_ino, status.st_size, status.st_ctime_ns)
    if known is not None and known.stamp == stamp:
        return known
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_KEY_BYTES:
        raise UnusableKeyError(f"is no file of at most {MAX_KEY_BYTES} bytes")
    key = read_pem(kid, path.read_bytes())
    _check_access(path, status, is_private=key.signing is not None)
    return KeyFile(key, status.st_ctime, stamp)


def _check_access(path: Path, status: os.stat_result, *, is_private: bool) -> None:
    """Refuse a key that others may change, and a private one of our own that others may read. Raises UnusableKeyError.

    As ssh has it: a file of another owner, such as a mounted secret of root's, must let others read it to be of use.
    """
    command = f"`chmod {ONLY_OWNER:o} {shlex.quote(str(path))}`"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UnusableKeyError(f"can be changed by others than its owner: {command}")
    if is_private and status.st_uid == os.geteuid() and status.st_mode & (stat.S_IRGRP | stat.S_IROTH):
        raise UnusableKeyError(f"can be read by others than its owner: {command}")


class KeyFolder:
    """A folder of PEM files, `KID.pem`, which is looked at again every few seconds.

    What breaks there later is logged, and a key that was good goes on until its file is gone: a file that is being
    written, or a folder that is not there for a moment, stops nobody.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        """Read it. Raises StartupError with all that is wrong."""
        self._folder = folder
        self._clock = clock
        self._looked_at = clock()
        self._files: dict[str, KeyFile] = {}
        self._files, self._faults = self._read()
        if self._faults:
            told = "; ".join(f"{name} {fault}" for name, fault in self._faults.items())
            raise StartupError(f"DOSSIER_KEYS_DIR={folder}: {told}")

    @property
    def signing_key(self) -> Key:
        """The newest by its name of those that all others know by now."""
        self._look_after(LOOK_SECONDS)
        kid = signing_kid(self._files, self._clock())
        assert kid is not None  # without one that signs, the folder was not taken
        return self._files[kid].key

    @property
    def public_keys(self) -> list[Key]:
        """All of them, a new one before it signs."""
        self._look_after(LOOK_SECONDS)
        return [file.key for _, file in sorted(self._files.items())]

    def find(self, kid: str | None) -> Key | None:
        """The key that a token names, even one that another process has just begun to sign with."""
        self._look_after(LOOK_SECONDS)
        if kid is None:
            return None
        if kid not in self._files:
            self._look_after(UNKNOWN_KID_LOOK_SECONDS)
        file = self._files.get(kid)
        return None if file is None else file.key

    def _look_after(self, seconds: float) -> None:
        if not 0 <= self._clock() - self._looked_at < seconds:  # a clock that was set back is no reason to wait
            self._look()

    def _look(self) -> None:
        self._looked_at = self._clock()
        self._files, faults = self._read()
        if faults and faults != self._faults:
            log.error("keys that cannot be used", folder=str(self._folder), faults=faults)
        self._faults = faults

    def _read(self) -> tuple[dict[str, KeyFile], dict[str, str]]:
        """The keys there are by now, those that have broken as they were, and what is wrong."""
        try:
            found, faults = read_key_files(self._folder, self._files)
        except OSError as error:
            return self._files, {"the folder": f"cannot be read: {error.strerror}"}
        kept = {kid: file for kid, file in self._files.items() if f"{kid}.pem" in faults}
        if not any(file.key.signing for file in (kept | found).values()):
            return self._files, faults | {"the folder": "has no key that signs: `dossier keys create` makes one"}
        return kept | found, faults


def open_key_ring(folder: Path | None, secret_key: str) -> KeyRing:
    """The key pairs of the folder if there is one, else the secret key. Raises StartupError."""
    return SecretKeyRing(secret_key) if folder is None else KeyFolder(folder)
