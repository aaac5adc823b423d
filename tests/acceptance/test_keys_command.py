"""`dossier keys`, alone and beside running services."""

import stat
from pathlib import Path

import httpx
import jwt
import pytest

from tests.acceptance.process import PASSWORD, Home, Service, until
from tests.key_files import write_key

PUBLIC_URL = "https://dossier.example"


def run(home: Home, folder: Path, *commands: str) -> list[tuple[int, str, str]]:
    """Status, output and errors of each, with the kids in it as the folder has them at that moment."""
    return home.run_in_turn([(["keys", *command.split()], "") for command in commands], keys_dir=folder)


def settled_after(home: Home, seconds: int) -> Home:
    """The same place, where everybody has seen a key so long after it was made."""
    return Home(home.directory, startup=f"import service.auth.key_ring as ring; ring.SETTLED_SECONDS = {seconds}")


def listed(output: str) -> list[list[str]]:
    """The rows of `keys list`, without the times."""
    rows = [line.split("│")[1:4] for line in output.splitlines() if "│" in line]
    return [[cell.strip() for cell in row] for row in rows]


def kids_in(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.pem"))


@pytest.mark.slow  # several commands
def test_a_key_is_made_listed_and_retired(home: Home) -> None:
    folder = home.directory / "deep" / "keys"

    made = run(home, folder, "list", "create", "create --algorithm ES256", "create --algorithm RS256", "list")
    [(status, _, line)] = run(settled_after(home, 3600), folder, f"retire {kids_in(folder)[2]}")

    assert (status, "once everybody has seen it" in line) == (1, True)
    assert [status for status, _, _ in made] == [1, 0, 0, 0, 0]
    assert "No such file" in made[0][2]
    first, second, third = kids_in(folder)
    assert [output.split()[0] for _, output, _ in made[1:4]] == [first, second, third]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert b"PRIVATE KEY" in path.read_bytes()
        assert not any(line in f"{made}" for line in path.read_text().splitlines()), "no key is shown"
    assert listed(made[4][1]) == [
        [first, "EdDSA", "verifies, could sign"],
        [second, "ES256", "verifies, could sign"],
        [third, "RS256", "signs"],
    ]
    (folder / "broken.pem").write_text("nonsense")

    ended = run(
        settled_after(home, 0), folder, f"retire {third}", f"retire {third}", f"retire --now {first}",
        f"retire {second}", "list", f"retire --now {second}", "retire ../../secret",
        f"retire --now {third}", "create --algorithm HS256",
        "retire broken", "retire broken --now",
    )  # fmt: skip

    assert [status for status, _, _ in ended] == [0, 0, 0, 1, 0, 1, 1, 0, 2, 1, 0]
    assert "retired already" in ended[1][1]
    assert "no key would be left" in ended[3][2]
    assert "no key would be left" in ended[5][2]
    assert "no PEM file" in ended[4][1]
    assert "no PEM file" in ended[9][2]
    assert "until --now removes it" in ended[9][2]
    assert kids_in(folder) == [second]


def test_a_key_that_would_never_sign_is_not_made(home: Home) -> None:
    folder = home.directory / "keys"
    folder.mkdir()
    write_key(folder / "zebra.pem")

    [(status, _, line)] = run(home, folder, "create")

    assert status == 1
    assert "zebra would go on signing" in line
    assert kids_in(folder) == ["zebra"]


def test_without_a_folder_there_is_nothing_to_do(home: Home) -> None:
    ended = home.run_in_turn([(["keys", *command], "") for command in (["list"], ["create"], ["retire", "x"])])

    assert [(status, "DOSSIER_KEYS_DIR is not set" in line) for status, _, line in ended] == [(1, True)] * 3


def kid_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def is_taken(service: Service, token: str) -> bool:
    response = service.http.get("/api/v1/auth/me", headers={"Authorization": f"Bearer {token}"})
    assert response.status_code in {200, 401}
    return response.status_code == 200


@pytest.mark.slow
def test_keys_rotate_under_two_services_that_share_them(home: Home) -> None:
    folder = home.directory / "keys"
    run(home, folder, "create")
    (old,) = kids_in(folder)
    one = home.start(keys_dir=folder, public_url=PUBLIC_URL)
    two = home.start(keys_dir=folder, public_url=PUBLIC_URL, mongodb_uri=home.mongodb_uri)
    before = one.token()
    assert kid_of(before) == old
    assert is_taken(one, before)
    assert is_taken(two, before)

    run(home, folder, "create --algorithm ES256")
    (new,) = set(kids_in(folder)) - {old}
    tokens = [before]

    def has_changed_over() -> bool:
        for service, other in ((one, two), (two, one)):
            tokens.append(service.token())
            assert is_taken(service, tokens[-1]), "each takes its own"
            assert is_taken(other, tokens[-1]), "and the other's, at once"
        return all(kid_of(token) == new for token in tokens[-2:])

    until(has_changed_over, "both sign with the new key", seconds=60)
    published = [httpx.get(f"{service.address}/.well-known/jwks.json").json()["keys"] for service in (one, two)]
    assert [[jwk["kid"] for jwk in keys] for keys in published] == [[old, new], [old, new]]

    run(home, folder, f"retire {old}")
    assert all(is_taken(service, token) for token in (before, tokens[-1]) for service in (one, two))
    run(home, folder, f"retire --now {old}")
    until(lambda: not is_taken(one, before) and not is_taken(two, before), "what the old key signed is refused")
    assert all(is_taken(service, tokens[-1]) for service in (one, two))

    (folder / f"{new}.pem").write_text("nonsense")
    until(
        lambda: is_taken(one, tokens[-1]) and "keys that cannot be used" in one.stderr,
        "the broken key is logged, and goes on",
    )
    assert is_taken(one, two.token())
    assert PASSWORD not in one.stderr + two.stderr
    assert "PRIVATE" not in one.stderr + two.stderr + one.stdout + two.stdout
