"""The folder of keys: which one signs, and that nothing which happens there later stops the service."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from service.auth.key_ring import (
    LOOK_SECONDS,
    SETTLED_SECONDS,
    UNKNOWN_KID_LOOK_SECONDS,
    KeyFile,
    KeyFolder,
    SecretKeyRing,
    open_key_ring,
)
from service.auth.keys import generate_key, private_pem, public_pem
from service.auth.tokens import OwnAuthority, TokenSigner, TokenVerifier
from service.errors import AuthenticationError, StartupError
from tests.key_files import write_key
from tests.unit.test_tokens import ACCOUNT, ISSUER, result_of


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        """In seconds of the epoch."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Later than all that the test makes, and settled."""
    return Clock()


@pytest.fixture
def add(tmp_path: Path) -> Callable[..., Path]:
    """Puts a key pair into the folder."""

    def add(kid: str, content: bytes | None = None) -> Path:
        path = tmp_path / f"{kid}.pem"
        draft = tmp_path / f".{kid}.part"
        write_key(draft)
        if content is not None:
            draft.write_bytes(content)
        return draft.replace(path)

    return add


def public_half(path: Path) -> bytes:
    key = KeyFolder(path.parent).find(path.stem)
    assert key is not None
    assert not isinstance(key.verifying, bytes)
    return public_pem(key.verifying)


def open_folder(path: Path, clock: Clock) -> KeyFolder:
    """The folder as a service has it that started some time after the keys were made."""
    clock.now = time.time() + SETTLED_SECONDS + 1
    return KeyFolder(path, clock)


def test_the_newest_by_name_signs_and_all_verify(tmp_path: Path, clock: Clock, add: Callable[..., Path]) -> None:
    for kid in ("20260101", "20270101", "20250101"):
        add(kid)
    add("20280101", public_half(tmp_path / "20250101.pem"))
    (tmp_path / ".20290101.pem").touch()
    (tmp_path / "README").touch()

    folder = open_folder(tmp_path, clock)

    assert folder.signing_key.kid == "20270101"
    assert [key.kid for key in folder.public_keys] == ["20250101", "20260101", "20270101", "20280101"]
    assert folder.find("20280101") is not None
    assert folder.find("README") is folder.find(None) is folder.find("") is None


def test_a_new_key_verifies_at_once_and_signs_when_everybody_has_seen_it(
    tmp_path: Path, clock: Clock, add: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    add("1")
    folder = open_folder(tmp_path, clock)
    monkeypatch.setitem(folder._files, "1", replace(folder._files["1"], since=0.0))
    added_at = clock.now = add("2").stat().st_ctime

    for after in (LOOK_SECONDS, SETTLED_SECONDS - 0.1):
        clock.now = added_at + after
        assert [key.kid for key in folder.public_keys] == ["1", "2"]
        assert folder.signing_key.kid == "1"
    clock.now = added_at + SETTLED_SECONDS
    assert folder.signing_key.kid == "2"


def test_the_only_key_signs_however_new_it_is(tmp_path: Path, clock: Clock, add: Callable[..., Path]) -> None:
    add("1")

    assert KeyFolder(tmp_path, clock).signing_key.kid == "1"


def test_a_key_that_another_process_signs_with_already_is_found(
    tmp_path: Path, clock: Clock, add: Callable[..., Path]
) -> None:
    add("1")
    folder = open_folder(tmp_path, clock)
    add("2")

    assert folder.find("2") is None, "it was looked at a moment ago"
    clock.now += UNKNOWN_KID_LOOK_SECONDS
    assert folder.find("2") is not None


def test_unknown_names_cost_a_look_a_second_at_most(
    tmp_path: Path, clock: Clock, add: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    add("1")
    folder = open_folder(tmp_path, clock)
    looks: list[float] = []

    def read(self: KeyFolder) -> tuple[dict[str, KeyFile], dict[str, str]]:
        looks.append(clock.now)
        return self._files, {}

    monkeypatch.setattr(KeyFolder, "_read", read)

    for _ in range(100):
        clock.now += 0.1
        folder.find("nobody's")
        folder.find("1")

    assert 9 <= len(looks) <= 10


def test_a_clock_that_was_set_back_does_not_stop_the_looks(
    tmp_path: Path, clock: Clock, add: Callable[..., Path]
) -> None:
    add("1")
    folder = open_folder(tmp_path, clock)
    add("2")
    clock.now -= 86_400

    assert folder.find("2") is not None


def test_what_a_key_has_signed_is_good_until_the_key_is_gone(
    tmp_path: Path, clock: Clock, add: Callable[..., Path]
) -> None:
    first = add("1")
    folder = open_folder(tmp_path, clock)
    verifier = TokenVerifier([OwnAuthority(folder, ISSUER)])
    token = TokenSigner(folder, ISSUER, 600).issue(ACCOUNT, "ada", "tests", [])
    remembered = result_of(verifier.verify(token))
    assert result_of(verifier.verify(token)) is remembered

    add("2")
    clock.now = time.time() + 2 * SETTLED_SECONDS
    assert folder.signing_key.kid == "2"
    assert result_of(verifier.verify(token)) is remembered, "another key was made"
    add("1", public_half(first))
    clock.now += LOOK_SECONDS
    assert result_of(verifier.verify(token)) == remembered, "its key has retired"
    assert folder.signing_key.kid == "2"
    first.unlink()
    clock.now += LOOK_SECONDS
    with pytest.raises(AuthenticationError):
        result_of(verifier.verify(token))


def test_another_key_under_the_same_name_refuses_what_the_first_has_signed(
    tmp_path: Path, clock: Clock, add: Callable[..., Path]
) -> None:
    add("1")
    folder = open_folder(tmp_path, clock)
    verifier = TokenVerifier([OwnAuthority(folder, ISSUER)])
    token = TokenSigner(folder, ISSUER, 600).issue(ACCOUNT, "ada", "tests", [])
    result_of(verifier.verify(token))

    add("1")

    clock.now += LOOK_SECONDS
    with pytest.raises(AuthenticationError):
        result_of(verifier.verify(token))


def break_file(folder: Path) -> None:
    (folder / "1.pem").write_bytes(b"")


def cut_file(folder: Path) -> None:
    path = folder / "1.pem"
    path.write_bytes(path.read_bytes()[:50])


def make_a_loop(folder: Path) -> None:
    (folder / "1.pem").unlink()
    (folder / "1.pem").symlink_to("1.pem")


def make_it_a_folder(folder: Path) -> None:
    (folder / "1.pem").unlink()
    (folder / "1.pem").mkdir()


def make_it_a_pipe(folder: Path) -> None:
    (folder / "1.pem").unlink()
    os.mkfifo(folder / "1.pem")


def make_it_huge(folder: Path) -> None:
    os.truncate(folder / "1.pem", 10**9)


def empty_the_folder(folder: Path) -> None:
    (folder / "1.pem").unlink()


def let_others_read_it(folder: Path) -> None:
    (folder / "1.pem").chmod(0o644)


def let_the_group_change_it(folder: Path) -> None:
    (folder / "1.pem").chmod(0o620)


def remove_the_folder(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def replace_the_folder(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.touch()


@pytest.mark.parametrize(
    "mischief",
    [
        break_file,
        cut_file,
        make_a_loop,
        make_it_a_folder,
        make_it_a_pipe,
        make_it_huge,
        empty_the_folder,
        let_others_read_it,
        let_the_group_change_it,
        remove_the_folder,
        replace_the_folder,
    ],
    ids=lambda function: str(function.__name__),
)
def test_what_breaks_later_is_logged_once_and_what_was_known_goes_on(
    tmp_path: Path, clock: Clock, mischief: Callable[[Path], Any]
) -> None:
    place = tmp_path / "keys"
    place.mkdir()
    write_key(place / "1.pem")
    folder = open_folder(place, clock)
    known = folder.signing_key

    mischief(place)

    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            clock.now += LOOK_SECONDS
            assert folder.signing_key is folder.find("1") is known
    [line] = lines
    assert line["log_level"] == "error"
    assert line["faults"]


def test_a_file_that_is_being_written_is_a_key_once_it_is_whole(
    tmp_path: Path, clock: Clock, add: Callable[..., Path]
) -> None:
    add("1")
    folder = open_folder(tmp_path, clock)
    content = private_pem(generate_key("ES256"))
    path = tmp_path / "2.pem"
    path.touch(0o600)

    for length in (0, 1, len(content) // 2, len(content) - 30):
        path.write_bytes(content[:length])
        clock.now += LOOK_SECONDS
        assert folder.find("2") is None
        assert folder.signing_key.kid == "1"
    path.write_bytes(content)
    clock.now += LOOK_SECONDS
    key = folder.find("2")
    assert key is not None
    assert key.algorithm == "ES256"


def test_a_start_is_refused_with_all_that_is_wrong(tmp_path: Path, add: Callable[..., Path]) -> None:
    for place in (tmp_path, tmp_path / "nothing", add("1", b"nonsense")):
        with pytest.raises(StartupError, match="DOSSIER_KEYS_DIR"):
            open_key_ring(place, "")
    add("2")
    add("a b")
    (tmp_path / "3.pem").symlink_to("4")

    with pytest.raises(StartupError) as caught:
        open_key_ring(tmp_path, "")

    (line,) = str(caught.value).splitlines()
    assert all(name in line for name in ("1.pem", "3.pem", "a b.pem"))
    assert "2.pem" not in line


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700], ids=oct)
def test_a_key_that_is_its_owner_s_alone_is_taken(add: Callable[..., Path], mode: int) -> None:
    path = add("1")
    path.chmod(mode)

    assert KeyFolder(path.parent).signing_key.kid == "1"


@pytest.mark.parametrize(
    ("mode", "fault"),
    [(0o640, "can be read"), (0o604, "can be read"), (0o660, "can be changed"), (0o602, "can be changed")],
    ids=["group reads", "all read", "group writes", "all write"],
)
def test_a_key_that_others_get_at_stops_the_start_with_the_way_to_mend_it(
    add: Callable[..., Path], mode: int, fault: str
) -> None:
    path = add("1")
    path.chmod(mode)

    with pytest.raises(StartupError, match=rf"1\.pem {fault} by others than its owner: `chmod 600 {path}`"):
        KeyFolder(path.parent)


def test_a_mounted_secret_of_another_owner_is_taken_unless_others_can_change_it(
    add: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = add("1")
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)

    path.chmod(0o444)
    assert KeyFolder(path.parent).signing_key.kid == "1"
    path.chmod(0o664)
    with pytest.raises(StartupError, match="can be changed"):
        KeyFolder(path.parent)


def test_everybody_may_read_a_public_half_but_nobody_put_another_in_its_place(
    tmp_path: Path, add: Callable[..., Path]
) -> None:
    path = add("2", public_half(add("1")))

    path.chmod(0o644)
    assert KeyFolder(tmp_path).find("2") is not None
    path.chmod(0o646)
    with pytest.raises(StartupError, match=r"2\.pem can be changed"):
        KeyFolder(tmp_path)


def test_public_halves_alone_sign_nothing(tmp_path: Path, add: Callable[..., Path]) -> None:
    add("1", public_half(add("1")))

    with pytest.raises(StartupError, match="dossier keys create"):
        open_key_ring(tmp_path, "")


def test_without_a_folder_the_secret_key_signs_and_is_shown_to_nobody() -> None:
    ring = open_key_ring(None, "canary" * 6)

    assert isinstance(ring, SecretKeyRing)
    assert ring.public_keys == []
    assert ring.find(None) is ring.signing_key
    assert ring.find("canary") is None
    assert "canary" not in repr(ring.signing_key)
