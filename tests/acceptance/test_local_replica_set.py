"""`scripts/replica-set`: three nodes with key file and users, made by the scripts that make them in production."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from tests.acceptance.mongosh import ROOT, rows, run_scripts
from tests.acceptance.process import Home, until

pytestmark = pytest.mark.slow  # three nodes, elections

USERS = ("admin", "service", "analyst", "backup")


class Script:
    """`scripts/replica-set` on a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "set"
        self.home = folder / "home"
        self.home.mkdir()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One of its commands."""
        return subprocess.run(
            [sys.executable, ROOT / "scripts" / "replica_set.py", "--folder", self.folder, *arguments],
            check=False,
            capture_output=True,
            text=True,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), "PYTHONPATH": str(ROOT)},
            timeout=180,
        )

    def say(self, *arguments: str) -> str:
        """What it says when all goes well."""
        done = self.run(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    def states(self) -> dict[str, str]:
        """Each node's state, by its number."""
        lines = [line.strip("│ ").split("│") for line in self.say("status").splitlines() if line.startswith("│")]
        return {cells[0].strip(): cells[3].strip() for cells in lines}

    def password(self, user: str) -> str:
        """Of one of its users."""
        return (self.folder / f"{user}_password").read_text()

    def uri(self, user: str) -> str:
        """All nodes' address for one of its users."""
        hosts = self.say("start").partition("@")[2]
        return f"mongodb://{user}:{self.password(user)}@{hosts}"

    def parameters(self) -> dict[str, object]:
        """What `create-users.js` asks for."""
        files = {f"{user.upper()}_PASSWORD_FILE": self.folder / f"{user}_password" for user in USERS}
        return {"VIEWS_FILE": self.folder / "views.json", **files}


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Script]:
    """A set that was started once."""
    script = Script(tmp_path_factory.mktemp("local"))
    try:
        script.say("start")
        yield script
    finally:
        script.run("stop")


@pytest.fixture(scope="module")
def uri(script: Script) -> str:
    """What `start` prints."""
    return script.say("start")


@pytest.fixture
def home(script: Script, uri: str, tmp_path: Path) -> Iterator[Home]:
    """A home without a mongod of its own."""
    home = Home(tmp_path)
    try:
        yield home
    finally:
        home.close()


def refused(action: Any) -> bool:
    """Whether MongoDB says that this is not for this user."""
    with pytest.raises(OperationFailure) as raised:
        action()
    return raised.value.code == 13  # Unauthorized


def test_the_service_has_all_the_rights_that_it_needs(home: Home, uri: str) -> None:
    settings = {"environment": "production", "secret_key": os.urandom(32).hex(), "mongodb_uri": uri}
    service = home.start("--sample", "20", **settings)
    headers = {"Authorization": f"Bearer {service.token()}"}

    user = service.http.get("/api/v1/users", headers=headers).json()["items"][0]
    address = f"/api/v1/users/{user['id']}"
    assert service.http.patch(address, headers=headers, json={"name": "Ada"}).status_code == 200
    export = service.http.get("/api/v1/users/export/ndjson?snapshot=true", headers=headers)
    assert len(export.text.splitlines()) == 20
    other = {"username": "other", "password": "correct horse battery", "scopes": ["accounts:admin"]}
    account = service.http.post("/api/v1/accounts", headers=headers, json=other).json()
    deleted = service.http.delete(f"/api/v1/accounts/{account['id']}", headers=headers)  # in a transaction
    assert deleted.status_code == 204
    assert service.http.delete(address, headers=headers).status_code == 204
    environment = home.environment(**settings)
    for arguments in (("indexes", "--apply"), ("explain", "users", "name=Ada")):
        done = home.run("database", *arguments, environment=environment)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_service_has_no_rights_beyond_those(script: Script, uri: str) -> None:
    with MongoClient[dict[str, Any]](uri) as client:
        users = client["dossier"]["users"]
        users.insert_one({"email": "a@example.org"})
        assert refused(lambda: client.drop_database("dossier"))
        assert refused(users.drop)
        assert refused(lambda: users.insert_one({}, bypass_document_validation=True))
        assert refused(client["admin"]["system.users"].find_one)
        assert refused(client["other"]["users"].find_one)
        assert refused(lambda: client["dossier"].command("createUser", "x", pwd="x", roles=[]))


def test_the_analyst_reads_views_and_nothing_else(script: Script, uri: str) -> None:
    with MongoClient[dict[str, Any]](uri) as client:
        client["dossier"]["users"].insert_one({"name": "Analysed", "email": "canary", "profile": {"phone": "canary"}})

    with MongoClient[dict[str, Any]](script.uri("analyst")) as client:
        database = client["dossier"]
        [seen] = database["analyst.users"].find({"name": "Analysed"}, {"_id": 0})
        assert seen == {"name": "Analysed", "profile": {}}
        assert not list(database["analyst.users"].find({"email": "canary"}))
        assert set(database.list_collection_names(authorizedCollections=True)) == {"analyst.items", "analyst.users"}
        for name in ("users", "items", "accounts", "sessions", "system.views"):
            assert refused(database[name].find_one)
        assert refused(lambda: database["analyst.users"].insert_one({}))
        assert refused(lambda: database.command("create", "mine", viewOn="users", pipeline=[]))
        joined = [{"$lookup": {"from": "users", "localField": "_id", "foreignField": "_id", "as": "whole"}}]
        assert refused(lambda: database["analyst.users"].aggregate(joined))


def test_backups_have_mongodbs_own_roles(script: Script) -> None:
    with MongoClient[dict[str, Any]](script.uri("backup")) as client:
        roles = client.admin.command("connectionStatus")["authInfo"]["authenticatedUserRoles"]

        assert sorted(role["role"] for role in roles) == ["backup", "restore"]
        assert client["dossier"]["users"].find_one() is not None


def test_without_a_password_nothing_is_answered(script: Script, uri: str) -> None:
    hosts = uri.partition("@")[2]
    with MongoClient[dict[str, Any]](f"mongodb://{hosts}") as client:
        assert refused(client["dossier"]["users"].find_one)
        assert refused(lambda: client["admin"].command("createUser", "x", pwd="x", roles=["root"]))


def test_a_second_start_changes_nothing(script: Script, uri: str) -> None:
    before = script.say("status")

    assert script.say("start") == uri

    assert script.say("status") == before


def test_set_up_again_it_says_so_and_takes_new_passwords_and_types(script: Script, tmp_path: Path) -> None:
    admin = script.uri("admin")
    hosts = re.findall(r"127\.0\.0\.1:\d+", admin)
    views = [{"view": "analyst.more", "viewOn": "items", "pipeline": [{"$project": {"sku": 1}}]}]
    (tmp_path / "views.json").write_text(json.dumps(views))
    changed = script.parameters() | {"VIEWS_FILE": tmp_path / "views.json", "ANALYST_PASSWORD": "another"}
    del changed["ANALYST_PASSWORD_FILE"]
    both = ("init-replica-set.js", "create-users.js")
    for host in hosts:  # whichever is primary
        alone = f"mongodb://{host}/?directConnection=true"

        done = run_scripts(tmp_path, alone, *both, MEMBERS=f"{','.join(hosts)},127.0.0.1:1", **changed)

        assert (done.returncode, done.stderr) == (0, "")
        assert "rs0 is initiated already" in done.stdout
        assert "not in it: 127.0.0.1:1" in done.stdout
        assert "analyst: updated" in done.stdout
    with MongoClient[dict[str, Any]](admin.replace("admin:" + script.password("admin"), "analyst:another")) as client:
        assert client["dossier"].list_collection_names(authorizedCollections=True) == ["analyst.more"]
        assert refused(client["dossier"]["analyst.users"].find_one)
    script.say("start")
    with MongoClient[dict[str, Any]](script.uri("analyst")) as client:
        assert client["dossier"]["analyst.users"].find_one() is not None


def test_a_wrong_password_of_the_admin_is_one_line(script: Script, uri: str, tmp_path: Path) -> None:
    wrong = script.parameters() | {"ADMIN_PASSWORD": "canary"}
    del wrong["ADMIN_PASSWORD_FILE"]

    done = run_scripts(tmp_path, f"mongodb://{uri.partition('@')[2]}", "create-users.js", **wrong)

    assert done.returncode == 1
    assert done.stderr.startswith("Error: the admin cannot sign in with this password")
    assert done.stderr.count("\n") == 1


def test_no_password_is_left_lying_about(script: Script) -> None:
    script.say("start")
    kept = {script.folder / f"{user}_password" for user in USERS}
    passwords = [script.password(user).encode() for user in USERS]
    logs = [path for path in [*script.folder.glob("*"), *script.home.rglob("*")] if path.is_file() and path not in kept]

    assert any(path.suffix == ".log" for path in logs)
    for path in logs:
        assert not [password for password in passwords if password in path.read_bytes()], path
    assert {path.stat().st_mode & 0o777 for path in [*kept, script.folder / "key_file"]} == {0o600}
    assert script.folder.stat().st_mode & 0o777 == 0o700


def test_a_killed_primary_is_brought_back(script: Script, uri: str, tmp_path: Path) -> None:
    with MongoClient[dict[str, Any]](uri) as client:
        client["dossier"].get_collection("kept").insert_one({"_id": 1})

    said = script.say("kill-primary")

    [number] = re.findall(r"killed node (\d)", said)
    until(lambda: "PRIMARY" in (states := script.states()).values() and states[number] == "dead", "another is primary")
    others = ",".join(re.findall(r"127\.0\.0\.1:\d+", uri))
    asked = f"mongodb://admin:{script.password('admin')}@{others}/?replicaSet=rs0"
    status = run_scripts(tmp_path, asked, "status.js")
    assert status.returncode == 1
    verdict = status.stdout.splitlines()[-1]
    assert re.fullmatch(
        r"Verdict: 127\.0\.0\.1:\d+ is \(not reachable/healthy\); one more away, and nothing can be written", verdict
    )
    assert script.say("start") == uri
    assert sorted(script.states().values()) == ["PRIMARY", "SECONDARY", "SECONDARY"]
    with MongoClient[dict[str, Any]](uri) as client:
        assert client["dossier"]["kept"].find_one() == {"_id": 1}
    healed = run_scripts(tmp_path, asked, "status.js", MAX_LAG_SECONDS=60)
    assert (healed.returncode, healed.stdout.splitlines()[-1]) == (0, "Verdict: all is well")
    assert len([row for row in rows(healed.stdout) if "SECONDARY" in row]) == 2


def test_a_primary_hands_over(script: Script, uri: str) -> None:
    said = script.say("step-down")

    [(former, primary)] = re.findall(r"node (\d) handed over to node (\d)", said)
    assert script.states()[primary] == "PRIMARY"
    assert former != primary


def test_a_node_is_paused_for_a_time_or_until_the_start(script: Script, uri: str) -> None:
    script.say("start")
    script.say("pause", "2", "0.2")
    assert script.states()["2"] != "paused"

    script.say("pause", "2")

    assert script.states()["2"] == "paused"
    assert script.say("start") == uri
    assert sorted(script.states().values()) == ["PRIMARY", "SECONDARY", "SECONDARY"]


def test_what_cannot_be_done_is_one_line(script: Script, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    empty = Script(tmp_path / "home")

    for one, arguments, line in [
        (script, ("pause", "4"), "there is no node 4; `scripts/replica-set status` shows them"),
        (empty, ("step-down",), "there is no primary; `scripts/replica-set status` shows what runs"),
        (empty, ("kill-primary",), "there is no primary; `scripts/replica-set status` shows what runs"),
    ]:
        done = one.run(*arguments)

        assert (done.returncode, done.stderr) == (1, f"scripts/replica-set: {line}\n")


def test_stopped_nodes_are_gone_and_keep_their_data(script: Script, uri: str) -> None:
    script.say("stop")

    assert set(script.states().values()) == {"dead"}
    assert "node 1 does not run" in script.run("pause", "1").stderr
    assert script.say("start") == uri
    with MongoClient[dict[str, Any]](uri) as client:
        assert client["dossier"]["users"].find_one() is not None
