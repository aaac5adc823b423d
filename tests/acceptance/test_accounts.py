"""`dossier accounts` beside a running service."""

import pytest

from tests.acceptance.process import PASSWORD, Home, Service


def run(home: Home, *arguments: str, given: str = "") -> str:
    """What the command says."""
    ended = home.run("accounts", *arguments, given=given)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def refusal(home: Home, *arguments: str, given: str = "") -> str:
    """The one line of a command that fails."""
    ended = home.run("accounts", *arguments, given=given)
    assert ended.returncode == 1, ended.stderr
    (line,) = ended.stderr.splitlines()
    return line


@pytest.fixture(scope="module")
def grace(service: Service, shared_home: Home) -> str:
    """The name of an account that may read users and do everything with items."""
    said = run(shared_home, "create", "grace", "--scope", "users:read", "--scope", "items:*", given=f"{PASSWORD}\n")
    assert "grace" in said
    assert PASSWORD not in said
    return "grace"


def test_a_new_account_signs_in_and_may_what_it_was_given(service: Service, shared_home: Home, grace: str) -> None:
    response = service.sign_in(grace, PASSWORD)
    assert set(response.json()["scope"].split()) >= {"users:read", "items:read", "items:write"}
    headers = {"Authorization": f"Bearer {response.json()['access_token']}"}
    assert service.http.get("/api/v1/users", headers=headers).status_code == 200
    refused = service.http.post("/api/v1/users", json={"name": "Ada", "email": "a@example.org"}, headers=headers)
    assert refused.status_code == 403
    listed = run(shared_home, "list")
    assert grace in listed
    assert "users:read" in listed


def test_a_wrong_password_does_not_sign_in(service: Service, grace: str) -> None:
    response = service.sign_in(grace, PASSWORD + " ")

    assert response.status_code == 400
    assert response.json()["error"] == "invalid_grant"


@pytest.mark.slow
def test_a_disabled_account_may_do_nothing_until_it_is_enabled(service: Service, shared_home: Home) -> None:
    name = "leaver"
    run(shared_home, "create", name, "--scope", "*", given=f"{PASSWORD}\n")
    headers = {"Authorization": f"Bearer {service.token(name)}"}  # not used yet, so that nothing is remembered

    run(shared_home, "disable", name)

    assert service.sign_in(name).json()["error"] == "invalid_grant"
    assert service.http.get("/api/v1/auth/me", headers=headers).status_code == 401
    row = next(line for line in run(shared_home, "list").splitlines() if name in line)
    assert " no " in row
    run(shared_home, "enable", name)
    assert service.sign_in(name).status_code == 200


def test_a_new_password_takes_the_place_of_the_old(service: Service, shared_home: Home) -> None:
    run(shared_home, "create", "changer", "--scope", "*", given=f"{PASSWORD}\n")

    said = run(shared_home, "password", "changer", given="пароль 小中 new\n")

    assert "пароль" not in said
    assert service.sign_in("changer", "пароль 小中 new").status_code == 200
    assert service.sign_in("changer", PASSWORD).status_code == 400


def test_a_list_shows_a_long_name_whole(service: Service, shared_home: Home) -> None:
    name = "a-name-as-long-as-one-may-be." + "x" * 35
    scopes = ["users:read", "users:write", "users:delete", "users:export", "items:read", "items:write", "items:export"]
    options = [word for scope in scopes for word in ("--scope", scope)]

    run(shared_home, "create", name, *options, given=f"{PASSWORD}\n")

    listed = run(shared_home, "list")
    assert name in listed
    assert all(scope in listed for scope in scopes)


@pytest.mark.parametrize(
    ("arguments", "given", "naming"),
    [
        (("create", "short", "--scope", "*"), "1234567\n", "8"),
        (("create", "admin", "--scope", "*"), f"{PASSWORD}\n", "username"),
        (("create", "a name", "--scope", "*"), f"{PASSWORD}\n", "username"),
        (("password", "nobody"), f"{PASSWORD}\n", "nobody"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_is_said_in_a_line(
    service: Service, shared_home: Home, arguments: tuple[str, ...], given: str, naming: str
) -> None:
    line = refusal(shared_home, *arguments, given=given)

    assert naming in line
    assert PASSWORD not in line
