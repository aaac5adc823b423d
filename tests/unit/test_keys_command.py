"""`dossier keys` about a key that not everybody has seen yet."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.auth.key_ring import SETTLED_SECONDS, KeyFile, read_key_files
from service.auth.keys import read_pem
from service.cli import keys
from service.cli.terminal import CommandError
from tests.key_files import write_key

MADE_AT = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
SIGNS_AT = MADE_AT.timestamp() + SETTLED_SECONDS


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With `old`, which was always there, and `zz-new`, which has just been made."""
    for kid in ("old", "zz-new"):
        write_key(tmp_path / f"{kid}.pem")

    def read(folder: Path) -> tuple[dict[str, KeyFile], dict[str, str]]:
        found, faults = read_key_files(folder)
        since = {"old": 0.0, "zz-new": MADE_AT.timestamp()}
        return {kid: replace(file, since=since[kid]) for kid, file in found.items()}, faults

    monkeypatch.setattr(keys, "read_key_files", read)
    monkeypatch.setenv("DOSSIER_KEYS_DIR", str(tmp_path))
    return tmp_path


def signs(path: Path) -> bool:
    return read_pem("a", path.read_bytes()).signing is not None


@pytest.mark.parametrize(
    ("now", "old", "new"),
    [(SIGNS_AT - 0.1, "signs", "verifies, signs from 04:05:27"), (SIGNS_AT, "verifies, could sign", "signs")],
    ids=["before", "after"],
)
def test_a_list_says_when_a_new_key_signs(  # noqa: PLR0913, PLR0917 - two fixtures of pytest's among them
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], now: float, old: str, new: str
) -> None:
    monkeypatch.setattr(time, "time", lambda: now)

    keys.list_keys()

    rows = [[cell.strip() for cell in line.split("│")[1:4]] for line in capsys.readouterr().out.splitlines()]
    assert [row for row in rows if row] == [["old", "EdDSA", old], ["zz-new", "EdDSA", new]]


def test_a_key_retires_when_the_next_one_signs_and_not_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "old.pem"
    monkeypatch.setattr(time, "time", lambda: SIGNS_AT - 0.1)

    with pytest.raises(CommandError, match=r"^zz-new signs from 04:05:27 UTC, .* old can retire then.* --now$"):
        keys.retire_key("old", now=False)
    assert signs(path)

    monkeypatch.setattr(time, "time", lambda: SIGNS_AT)
    keys.retire_key("old", now=False)
    assert not signs(path)


def test_a_stolen_key_is_not_kept_until_the_next_one_signs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: SIGNS_AT - 0.1)

    keys.retire_key("old", now=True)

    assert [path.name for path in folder.iterdir()] == ["zz-new.pem"]


def test_a_key_that_does_not_sign_yet_retires_at_any_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: SIGNS_AT - 0.1)

    keys.retire_key("zz-new", now=False)

    assert not signs(folder / "zz-new.pem")
