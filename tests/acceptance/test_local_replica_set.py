"""`scripts/replica-set`: three nodes with key file and users, made by the scripts that make them in production."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from tests.acceptance.mongosh import ROOT, SCRIPTS, rows, run_scripts
from tests.acceptance.process import Home, until
from tests.acceptance.replica_set import Mongod
from tests.readme import commands

pytestmark = pytest.mark.slow  # three nodes, elections

USERS = ("admin", "service", "analyst", "backup", "restore", "monitor")


class Script:
    """`scripts/replica-set` on a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "set"
        self.home = folder / "home"
        self.home.mkdir()

    @property
    def command(self) -> list[str]:
        """What its arguments come after."""
        return [sys.executable, str(ROOT / "scripts" / "replica_set.py"), "--folder", str(self.folder)]

    @property
    def environment(self) -> dict[str, str]:
        """Nobody else's settings."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.home), "PYTHONPATH": str(ROOT)}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One of its commands."""
        return subprocess.run(
            [*self.command, *arguments],
            check=False,
            capture_output=True,
            text=True,
            env=self.environment,
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
        return self.say("uri", user)

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
        notes = client["dossier"]["notes"]
        notes.insert_one({"text": "written"})
        assert refused(lambda: client.drop_database("dossier"))
        assert refused(notes.drop)
        assert refused(lambda: notes.insert_one({}, bypass_document_validation=True))
        assert refused(client["admin"]["system.users"].find_one)
        assert refused(client["other"]["users"].find_one)
        assert refused(lambda: client["dossier"].command("createUser", "x", pwd="x", roles=[]))


def test_the_analyst_reads_views_and_nothing_else(script: Script, uri: str) -> None:
    with MongoClient[dict[str, Any]](script.uri("admin")) as client:
        document = {"name": "Analysed", "email": "canary", "profile": {"phone": "canary"}}
        client["dossier"]["users"].insert_one(document, bypass_document_validation=True)

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


def test_backups_are_made_and_put_back_by_users_who_may_do_that_alone(
    script: Script, home: Home, uri: str, tmp_path: Path
) -> None:
    def run(user: str, *arguments: str, database: str = "dossier") -> None:
        environment = home.environment(mongodb_uri=script.uri(user), mongodb_database=database)
        done = home.run(*arguments, environment=environment)
        assert (done.returncode, done.stderr) == (0, "")

    run("service", "seed", "items", "20")
    with MongoClient[dict[str, Any]](script.uri("admin")) as client:
        before = {name: sorted(client["dossier"][name].distinct("_id")) for name in ("users", "items")}
        file = str(tmp_path / "whole.backup")
        run("backup", "backup", file, "--tool", "driver")
        client["dossier"]["users"].delete_many({})

        run("restore", "restore", file, "--replace", "--bypass-validators")
        run("restore", "restore", file, "--bypass-validators", database="dossier_proof")

        for database in ("dossier", "dossier_proof"):
            assert {name: sorted(client[database][name].distinct("_id")) for name in before} == before
        events = [event["action"] for event in client["dossier"]["audit"].find(sort=[("_id", 1)])]
        assert events[-2:] == ["backup", "restore"]
        client.drop_database("dossier_proof")

    with MongoClient[dict[str, Any]](script.uri("backup")) as client:
        assert refused(lambda: client["dossier"]["users"].insert_one({}))
        assert refused(lambda: client["dossier"]["audit"].delete_many({}))
        assert refused(lambda: client["other"]["audit"].insert_one({}))
        assert refused(lambda: client["admin"].command("createUser", "x", pwd="x", roles=["root"]))
    with MongoClient[dict[str, Any]](script.uri("restore")) as client:
        assert refused(client["other"]["users"].find_one)
        assert refused(lambda: client["admin"].command("createUser", "x", pwd="x", roles=["root"]))
        assert refused(lambda: client["dossier"].command("createUser", "x", pwd="x", roles=[]))


def test_ops_see_how_it_does_and_change_nothing(script: Script, uri: str, tmp_path: Path) -> None:
    names = ("indexes.js", "largest-documents.js", "shard.js", "slow-queries.js", "status.js")

    done = run_scripts(tmp_path, script.uri("monitor"), *names, MAX_LAG_SECONDS=60)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("Verdict: all is well\n")
    with MongoClient[dict[str, Any]](script.uri("monitor")) as client:
        assert refused(lambda: client["dossier"]["notes"].insert_one({}))
        assert refused(client["other"]["users"].find_one)


def test_two_services_on_one_set_have_users_and_rights_of_their_own(script: Script, uri: str, tmp_path: Path) -> None:
    changed = {name: value for name, value in script.parameters().items() if name == "VIEWS_FILE"}
    passwords = {f"{user.upper()}_PASSWORD": "other" for user in USERS} | {"ADMIN_PASSWORD": script.password("admin")}

    done = run_scripts(tmp_path, script.uri("admin"), "create-users.js", DATABASE="other", **changed, **passwords)

    assert (done.returncode, done.stderr) == (0, "")
    assert "other-dossier: created" in done.stdout
    with MongoClient[dict[str, Any]](uri) as client:
        client["dossier"]["notes"].insert_one({"text": "written"})
        assert refused(client["other"]["notes"].find_one)
    with MongoClient[dict[str, Any]](f"mongodb://other-dossier:other@{uri.partition('@')[2]}") as client:
        client["other"]["notes"].insert_one({"text": "written"})
        assert refused(client["dossier"]["notes"].find_one)


def test_members_to_whom_their_operators_gave_no_priority_keep_none(script: Script, uri: str, tmp_path: Path) -> None:
    hosts = re.findall(r"127\.0\.0\.1:\d+", uri)
    both = ("init-replica-set.js", "create-users.js")
    with MongoClient[dict[str, Any]](script.uri("admin")) as client:
        before = configuration(client)
        reconfigure(
            client, [1 if client.primary == ("127.0.0.1", port_of(member)) else 0 for member in before["members"]]
        )
        chosen = configuration(client)
        try:
            for host in hosts:
                alone = f"mongodb://{host}/?directConnection=true"
                done = run_scripts(tmp_path, alone, *both, MEMBERS=",".join(hosts), **script.parameters())

                assert (done.returncode, done.stderr) == (0, "")
                assert configuration(client) == chosen
        finally:
            reconfigure(client, [member["priority"] for member in before["members"]])


def configuration(client: MongoClient[dict[str, Any]]) -> dict[str, Any]:
    """The set's, as its primary has it."""
    return dict(client.admin.command("replSetGetConfig")["config"])


def reconfigure(client: MongoClient[dict[str, Any]], priorities: list[float]) -> None:
    """As operators do."""
    config = configuration(client)
    for member, priority in zip(config["members"], priorities, strict=True):
        member["priority"] = priority
    client.admin.command("replSetReconfig", config | {"version": config["version"] + 1})


def port_of(member: dict[str, Any]) -> int:
    """Where it listens."""
    return int(member["host"].rpartition(":")[2])


def test_nobody_else_is_elected_before_there_are_users(script: Script, tmp_path: Path) -> None:
    with Mongod(tmp_path / "1", "--replSet", "rs0") as first, Mongod(tmp_path / "2", "--replSet", "rs0") as second:
        parameters = {"MEMBERS": f"{first.address},{second.address}"} | script.parameters()

        made = run_scripts(tmp_path, first.uri, "init-replica-set.js", **parameters)

        assert (made.returncode, made.stderr) == (0, "")
        assert made.stdout.endswith("no other can be elected before create-users.js has run\n")
        assert first.hello()["passives"] == [second.address]
        again = run_scripts(tmp_path, first.uri, "init-replica-set.js", "create-users.js", **parameters)
        assert (again.returncode, again.stderr) == (0, "")
        assert again.stdout.endswith("all members can be elected\n")
        hello = first.hello()
        assert (hello["hosts"], "tags" in hello) == ([first.address, second.address], False)


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


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_pause_that_is_ended_before_its_time_lets_the_node_go_on(
    script: Script, uri: str, sign: signal.Signals
) -> None:
    with subprocess.Popen(
        [*script.command, "pause", "2", "600"], stdout=subprocess.PIPE, env=script.environment
    ) as pause:
        assert pause.stdout is not None
        assert pause.stdout.readline() == b"node 2 is paused for 600 s\n"
        assert script.states()["2"] == "paused"

        pause.send_signal(sign)

        assert pause.wait(10) == 128 + sign
    assert script.states()["2"] != "paused"


@pytest.fixture
def checkout(script: Script, tmp_path: Path) -> Path:
    """What the README's commands name, with this set for the set, and a `serve` that says where its database is."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "replica-set").write_text(f'#!/bin/sh\nexec {shlex.join(script.command)} "$@"\n')
    (tmp_path / "scripts" / "serve").write_text('#!/bin/sh\necho "serves $DOSSIER_MONGODB_URI"\n')
    for path in (tmp_path / "scripts").iterdir():
        path.chmod(0o755)
    (tmp_path / "scripts" / "mongosh").symlink_to(SCRIPTS)
    (tmp_path / ".mongosh").symlink_to(ROOT / ".mongosh")
    return tmp_path


def test_the_readmes_commands_run_as_they_stand(script: Script, uri: str, checkout: Path) -> None:
    said = []
    ops = [line for line in commands("mongosh for ops") if "docker" not in line]
    for line in [*commands("A replica set"), *ops]:
        done = subprocess.run(
            ["bash", "-c", line], cwd=checkout, env=script.environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), line
        said.append(done.stdout)
        script.say("start")

    assert len(said) == 9
    assert said[-2] == f"serves {uri}\n"
    assert said[-1].endswith("Verdict: all is well\n")


def test_the_readmes_service_does_not_start_without_its_set(checkout: Path) -> None:
    (checkout / "scripts" / "replica-set").write_text("#!/bin/sh\nexit 1\n")
    [line] = [line for line in commands("A replica set") if "scripts/serve" in line]

    done = subprocess.run(["bash", "-c", line], cwd=checkout, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (1, "")


def test_what_cannot_be_done_is_one_line(script: Script, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    empty = Script(tmp_path / "home")

    for one, arguments, line in [
        (script, ("pause", "4"), "there is no node 4; `scripts/replica-set status` shows them"),
        (empty, ("uri", "backup"), "there is no set yet; `scripts/replica-set start` makes it"),
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
