"""MongoDB's own programs for backups, where they are installed: mongodump and mongorestore."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, Literal

from service.cli.terminal import CommandError, printable
from service.settings import Settings

Program = Literal["mongodump", "mongorestore"]

GZIP = b"\x1f\x8b"
"""RFC 1952 §2.3.1."""


def find_program(name: Program) -> str | None:
    """Where it is, if it is."""
    return shutil.which(name)


def dump(settings: Settings, file: BinaryIO, *, whole_set: bool) -> None:
    """Write an archive of the database, or of the whole set as it was at one moment. Raises CommandError."""
    scope = ["--oplog"] if whole_set else [f"--db={settings.mongodb_database}"]
    _run("mongodump", settings, ["--archive", "--gzip", *scope], stdout=file)


def restore(settings: Settings, file: BinaryIO, *, replace: bool, whole_set: bool, bypass_validators: bool) -> None:
    """Put an archive back. Raises CommandError."""
    scope = ["--oplogReplay"] if whole_set else [f"--nsInclude={settings.mongodb_database}.*"]
    more = [*(["--drop"] if replace else []), *(["--bypassDocumentValidation"] if bypass_validators else [])]
    _run("mongorestore", settings, ["--archive", "--gzip", "--stopOnError", *scope, *more], stdin=file)


def _run(
    name: Program,
    settings: Settings,
    arguments: list[str],
    stdin: BinaryIO | int = subprocess.DEVNULL,
    stdout: BinaryIO | int = subprocess.DEVNULL,
) -> None:
    program = find_program(name)
    if program is None:
        raise CommandError(f"{name} is not installed, which this takes; it comes with MongoDB's Database Tools")
    with _address_in_a_file(settings) as config:
        command = [program, f"--config={config}", *arguments]
        done = subprocess.run(command, check=False, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE)  # noqa: S603 - found by its name, as a shell would
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise CommandError(f"{name} ended with {done.returncode}: {printable(last)}")


@contextmanager
def _address_in_a_file(settings: Settings) -> Iterator[Path]:
    """A file with the address, which has a password in it, as arguments are there for everybody to see."""
    assert settings.mongodb_uri is not None
    with TemporaryDirectory(prefix="dossier-") as folder:  # which nobody else may enter
        config = Path(folder, "config.yaml")
        config.touch(mode=0o600)
        config.write_text("uri: " + json.dumps(settings.mongodb_uri.get_secret_value()))
        yield config


def is_dump(path: Path) -> bool:
    """Whether this may be an archive of mongodump's."""
    with path.open("rb") as file:
        return file.read(len(GZIP)) == GZIP


def digest_of(path: Path) -> str:
    """Its SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_file(path: Path) -> Path:
    """Where the digest of an archive is, as `sha256sum --check` reads it: such an archive has none in it."""
    return path.with_name(path.name + ".sha256")


def check_digest(path: Path) -> None:
    """Raise CommandError unless a dump is as it was written."""
    beside = digest_file(path)
    try:
        expected = beside.read_text().split(maxsplit=1)[0]
    except (OSError, UnicodeDecodeError, IndexError) as error:
        raise CommandError(f"{beside} has no digest of {path.name} to hold it against: {error}") from error
    if digest_of(path) != expected:
        raise CommandError(f"{path} is not what was written: its SHA-256 is not that of {beside}")
