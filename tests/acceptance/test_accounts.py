"""`dossier accounts` beside a running service."""

import re
from typing import Any

import pytest
from pymongo import MongoClient

from tests.acceptance.process import PASSWORD, Home, Service


def run(home: Home, *arguments: str, given: str = "") -> str:
    """What the command says."""
    ended = home.run("accounts", *arguments, given=given)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


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
    run(shared_home, "create", "changer", "--scope", "*", given=PASSWORD)  # and no end of line

    said = run(shared_home, "password", "changer", given="пароль 小中 new\r\n")

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


def test_what_cannot_be_done_is_said_in_a_line(service: Service, shared_home: Home) -> None:
    cases: list[tuple[tuple[str, ...], str, str]] = [
        (("create", "short", "--scope", "*"), "1234567\n", "8"),
        (("create", "common", "--scope", "*"), "Password2026\n", "everybody tries first"),
        (("password", "admin"), "Admin2026\n", "not the name"),
        (("create", "typo", "--scope", "users"), f"{PASSWORD}\n", "/scopes/0: this is no scope"),
        (("show", "nobody"), "", "nobody"),
        (("delete", "nobody"), "", "nobody"),
        (("secret", "admin"), "", "/kind: only a client has a secret"),
        (
            ("change", "admin", "--role", "king"),
            "",
            "/roles/0: Input should be 'viewer', 'analyst', 'editor' or 'admin'",
        ),
        (("change", "admin"), "", "say what to change"),
        (("change", "admin", "--role", "viewer", "--add", "--remove"), "", "either --add or --remove"),
        (("change", "admin", "--role", "viewer", "--no-roles"), "", "--no-roles"),
        (("change", "admin", "--no-roles", "--remove"), "", "leave nothing"),
        (("change", "admin", "--no-roles", "--scope", "*", "--add"), "", "leave nothing"),
        (("change", "admin", "--no-scopes", "--add"), "", "leave nothing"),
        (("create", "admin", "--scope", "*"), f"{PASSWORD}\n", "username"),
        (("create", "a name", "--scope", "*"), f"{PASSWORD}\n", "username"),
        (("password", "nobody"), f"{PASSWORD}\n", "nobody"),
    ]

    ended = shared_home.run_in_turn([(("accounts", *arguments), given) for arguments, given, _ in cases])

    for (arguments, given, naming), (status, output, errors) in zip(cases, ended, strict=True):
        assert (status, output, errors.count("\n")) == (1, "", 1), arguments
        assert naming in errors
        assert not given or given.strip() not in errors


def test_the_command_manages_accounts_from_the_first_to_the_last(service: Service, shared_home: Home) -> None:
    database = "accounts-by-command"  # in which there is nobody yet
    steps: list[tuple[tuple[str, ...], str]] = [
        (("create", "root", "--role", "admin"), f"{PASSWORD}\n"),
        (("create", "robot", "--kind", "client", "--role", "viewer"), ""),
        (("change", "robot", "--scope", "items:*", "--scope", "users:read"), ""),
        (("change", "robot", "--scope", "users:read", "--remove"), ""),
        (("change", "robot", "--role", "analyst", "--role", "viewer", "--add"), ""),
        (("show", "robot"), ""),
        (("change", "robot", "--no-roles"), ""),
        (("secret", "robot"), ""),
        (("disable", "root"), ""),
        (("delete", "root"), ""),
        (("change", "root", "--role", "editor"), ""),
        (("disable", "robot"), ""),
        (("disable", "robot"), ""),  # which it is
        (("create", "heir", "--scope", "accounts:*"), f"{PASSWORD}\n"),
        (("delete", "root"), ""),
        (("password", "heir"), f"{PASSWORD} new\n"),
        (("list",), ""),
    ]

    ended = shared_home.run_in_turn(
        [(("accounts", *arguments), given) for arguments, given in steps], mongodb_database=database
    )

    said = {number: output for number, (_, output, _) in enumerate(ended)}
    refused = {number: errors for number, (status, _, errors) in enumerate(ended) if status != 0}
    assert refused.keys() == {8, 9, 10}
    line = "dossier: Nobody would be left to manage accounts: "
    assert all(errors.startswith(line) and errors.count("\n") == 1 for errors in refused.values())
    secrets = [
        match for output in said.values() for match in re.findall(r"shown only now: (\S{43})$", output, re.MULTILINE)
    ]
    assert len(set(secrets)) == len(secrets) == 2
    assert re.search(r"^roles +viewer analyst *\nscopes +items:\* *$", said[5], re.MULTILINE)
    listed = said[16]
    assert "root" not in listed
    assert re.search(r"robot .* client .* no .* items:\*", listed)
    assert re.search(r"heir .* person .* yes .* accounts:\*", listed)
    with MongoClient[dict[str, Any]](shared_home.mongodb_uri) as client:
        events = list(client[database]["audit"].find({}).sort("_id"))
        robot = client[database]["accounts"].find_one({"username": "robot"})
    assert robot is not None
    assert robot["password_hash"].startswith("$argon2id$")
    assert {event["account"] for event in events} == {"command line"}
    assert [(event["action"], event["target"], event["outcome"], event["changed"]) for event in events] == [
        ("account_created", "root", "done", []),
        ("account_created", "robot", "done", []),
        ("account_changed", "robot", "done", ["scopes"]),
        ("account_changed", "robot", "done", ["scopes"]),
        ("account_changed", "robot", "done", ["roles"]),
        ("account_changed", "robot", "done", ["roles"]),
        ("password_changed", "robot", "done", ["password"]),
        ("account_changed", "root", "refused", []),
        ("account_deleted", "root", "refused", []),
        ("account_changed", "root", "refused", []),
        ("account_changed", "robot", "done", ["is_active"]),
        ("account_created", "heir", "done", []),
        ("account_deleted", "root", "done", []),
        ("password_changed", "heir", "done", ["password"]),
    ]
    assert all(secret not in str(events) for secret in (PASSWORD, *secrets))


def test_the_first_account_is_an_admin_and_on_record(service: Service, shared_home: Home) -> None:
    with MongoClient[dict[str, Any]](shared_home.mongodb_uri) as client:
        admin = client["dossier"]["accounts"].find_one({"username": "admin"})
        created = client["dossier"]["audit"].find_one({"action": "account_created", "target": "admin"})

    assert admin is not None
    assert admin["roles"] == ["admin"]
    assert created is not None
    assert created["account"] == "command line"


def test_a_first_password_that_everybody_tries_stops_the_start(home: Home) -> None:
    service = home.launch(admin_password="Password1")

    assert service.wait() == 1
    assert "DOSSIER_ADMIN_PASSWORD cannot be used: this is one of the passwords that everybody" in service.stderr
    assert "Password1" not in service.stderr + service.stdout
