"""`dossier keys`: the key pairs that sign access tokens, in the folder of DOSSIER_KEYS_DIR."""

import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from service.auth.key_ring import ONLY_OWNER, SETTLED_SECONDS, KeyFile, read_key_files, signing_kid, signing_kids
from service.auth.keys import generate_key, private_pem, public_pem
from service.cli.environment import read_settings
from service.cli.output import draft_of
from service.cli.terminal import CommandError, print_table, printable
from service.settings import KeyAlgorithm

app = typer.Typer(no_args_is_help=True, help="The key pairs that sign access tokens.")


def _folder() -> Path:
    folder = read_settings().keys_dir
    if folder is None:
        raise CommandError("DOSSIER_KEYS_DIR is not set: a secret key signs access tokens")
    return folder


def _read(folder: Path) -> tuple[dict[str, KeyFile], dict[str, str]]:
    try:
        return read_key_files(folder)
    except OSError as error:
        raise CommandError(f"cannot read {folder}: {error.strerror}") from error


@app.command("create")
def create_key(
    algorithm: Annotated[KeyAlgorithm, typer.Option(help="EdDSA, ES256, or RS256 with 3072 bits.")] = "EdDSA",
) -> None:
    """Make a key pair, which signs from now on; running services find it by themselves."""
    folder = _folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"cannot make {folder}: {error.strerror}") from error
    newest = max(signing_kids(_read(folder)[0]), default="")
    kid = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    if kid <= newest:
        raise CommandError(f"{newest} would go on signing, as its name comes after {kid}")
    with draft_of(folder / f"{kid}.pem", ONLY_OWNER) as file:
        file.write(private_pem(generate_key(algorithm)))
    print(f"{kid} signs within {SETTLED_SECONDS} seconds, once everybody has seen it")


@app.command("list")
def list_keys() -> None:
    """Show which key signs, and which ones verify what they have signed before."""
    found, faults = _read(_folder())
    table = Table("kid", "algorithm", "use", "since")
    for kid, file in found.items():
        since = datetime.fromtimestamp(file.since, UTC)
        table.add_row(kid, file.key.algorithm, _use(kid, found), f"{since:%Y-%m-%d %H:%M:%S}")
    for name, fault in faults.items():
        table.add_row(printable(name), "", fault, "")
    print_table(table)


def _use(kid: str, found: Mapping[str, KeyFile]) -> str:
    """What a key is for at this moment."""
    if found[kid].key.signing is None:
        return "verifies"
    now = time.time()
    present = signing_kid(found, now)
    if kid == present:
        return "signs"
    if present is not None and kid > present and found[kid].settled_at > now:
        return f"verifies, signs from {_clock_time(found[kid].settled_at)}"
    return "verifies, could sign"


def _clock_time(seconds: float) -> str:
    """In UTC, as the kids and the list have it."""
    return f"{datetime.fromtimestamp(math.ceil(seconds), UTC):%H:%M:%S}"


@app.command("retire")
def retire_key(
    kid: str,
    *,
    now: Annotated[
        bool, typer.Option("--now", help="Refuse at once what it has signed, as if it were stolen.")
    ] = False,
) -> None:
    """Let a key sign no longer; what it has signed is good until it expires."""
    folder = _folder()
    found, faults = _read(folder)
    fault = faults.get(f"{kid}.pem")
    if kid not in found and fault is None:
        raise CommandError(f"there is no key {printable(kid)!r} in {folder}")
    others = {other: file for other, file in found.items() if other != kid}
    if not signing_kids(others):
        raise CommandError(f"no key would be left that signs: `dossier keys create` makes one before {kid} retires")
    path = folder / f"{kid}.pem"
    if now:
        _remove(path)
        print(f"{kid} is gone, and what it has signed is refused within seconds")
    elif fault is not None:
        raise CommandError(f"{path} {fault}; services go on with what they know of it, until --now removes it")
    elif found[kid].key.signing is None:
        print(f"{kid} has retired already; --now removes it")
    else:
        _check_that_another_signs(kid, others)
        _leave_public_half(path, found[kid])
        print(f"{kid} signs no longer; remove it with --now once what it has signed has expired")


def _check_that_another_signs(kid: str, others: Mapping[str, KeyFile]) -> None:
    """Refuse what would let a key sign that not everybody has seen. Raises CommandError."""
    settled_at, other = min((others[other].settled_at, other) for other in signing_kids(others))
    if settled_at > time.time():
        raise CommandError(
            f"{other} signs from {_clock_time(settled_at)} UTC, once everybody has seen it: {kid} can retire then,"
            " or at once with --now"
        )


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError as error:
        raise CommandError(f"cannot remove {path}: {error.strerror}") from error


def _leave_public_half(path: Path, file: KeyFile) -> None:
    public = file.key.verifying
    assert not isinstance(public, bytes)
    with draft_of(path, ONLY_OWNER) as draft:
        draft.write(public_pem(public))
