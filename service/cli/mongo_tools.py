"""MongoDB's own programs for backups, where they are installed: mongodump and mongorestore."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import BinaryIO, Literal

from service.cli.output import draft_of
from service.cli.terminal import CommandError, printable, uninterrupted
from service.settings import Settings
from service.store.failures import said_in_short

Program = Literal["mongodump", "mongorestore"]

GZIP = b"\x1f\x8b"
"""RFC 1952 §2.3.1."""


DATABASE = "# database "
"""What a line beside a digest starts with: `sha256sum --check` takes it for a comment."""

CHUNK_BYTES = 1_048_576


def find_program(name: Program) -> str | None:
    """Where it is, if it is."""
    return shutil.which(name)


def dump(settings: Settings, path: Path, *, whole_set: bool) -> str:
    """Write an archive of the database, or of the whole set as it was at one moment, and its digest beside it.

    Returns the digest. Raises CommandError.
    """
    scope = ["--oplog"] if whole_set else [f"--db={settings.mongodb_database}"]
    origin = "" if whole_set else f"{DATABASE}{settings.mongodb_database}\n"
    with ExitStack() as drafts:
        archive = drafts.enter_context(draft_of(path, mode=0o600))
        sha256 = hashlib.sha256()
        with _running("mongodump", settings, ["--archive", "--gzip", *scope], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            while chunk := process.stdout.read(CHUNK_BYTES):
                sha256.update(chunk)
                archive.write(chunk)
        beside = drafts.enter_context(draft_of(digest_file(path)))
        beside.write(f"{origin}{sha256.hexdigest()}  {path.name}\n".encode())
        archive.flush()
        os.fsync(archive.fileno())  # which takes its time, and what is left then none
        with uninterrupted():
            drafts.close()  # the digest first: without its archive it does no harm
    return sha256.hexdigest()


def restore(  # noqa: PLR0913 - all that mongorestore is told
    settings: Settings, file: BinaryIO, *, origin: str | None, replace: bool, whole_set: bool, bypass_validators: bool
) -> None:
    """Put an archive back, which is of the database `origin` if that is known. Raises CommandError."""
    name = settings.mongodb_database
    scope = ["--oplogReplay"] if whole_set else [f"--nsInclude={origin or name}.*"]
    if not whole_set and origin not in {None, name}:
        scope += [f"--nsFrom={origin}.*", f"--nsTo={name}.*"]
    more = [*(["--drop"] if replace else []), *(["--bypassDocumentValidation"] if bypass_validators else [])]
    with _running("mongorestore", settings, ["--archive", "--gzip", "--stopOnError", *scope, *more], stdin=file):
        pass


@contextmanager
def _running(
    name: Program,
    settings: Settings,
    arguments: list[str],
    stdin: BinaryIO | int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """The program, which has ended well at the end. Raises CommandError."""
    program = find_program(name)
    if program is None:
        raise CommandError(f"{name} is not installed, which this takes; it comes with MongoDB's Database Tools")
    with _address_in_a_file(settings) as config, TemporaryFile() as said:
        command = [program, f"--config={config}", *arguments]
        with subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=said) as process:  # noqa: S603 - found by its name, as a shell would
            try:
                yield process
                process.wait()
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            said.seek(0)
            last = said.read().decode(errors="replace").strip().rpartition("\n")[2]
            raise CommandError(f"{name} ended with {process.returncode}: {printable(said_in_short(last))}")


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


def check_digest(path: Path) -> str | None:
    """The database that a dump is of, if that is known. Raises CommandError unless it is as it was written."""
    beside = digest_file(path)
    try:
        lines = beside.read_text().splitlines()
        expected, *_ = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
    except (OSError, ValueError) as error:
        raise CommandError(f"{beside} has no digest of {path.name} to hold it against: {error}") from error
    if digest_of(path) != expected:
        raise CommandError(f"{path} is not what was written: its SHA-256 is not that of {beside}")
    return next((line.removeprefix(DATABASE) for line in lines if line.startswith(DATABASE)), None)
