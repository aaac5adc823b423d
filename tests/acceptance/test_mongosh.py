"""What ops ask MongoDB with mongosh, beside a running service."""

from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from tests.acceptance.mongosh import rows, run_scripts
from tests.acceptance.process import Home, Service

EVERYTHING = ("indexes.js", "largest-documents.js", "shard.js", "slow-queries.js", "status.js")
CANARY = "canary-7c1f"


@pytest.fixture(scope="module")
def said(service: Service, shared_home: Home, tmp_path_factory: pytest.TempPathFactory) -> str:
    """All of them about a database with something of everything, in one run."""
    with MongoClient[dict[str, Any]](shared_home.mongodb_uri) as client:
        database = client["ops"]
        database["users"].create_index("email", unique=True, name="email")
        database["users"].create_index("name", name="name")
        database["users"].create_index("until", name="until", expireAfterSeconds=3600)
        database["users"].insert_many(
            {"email": f"{number}-{CANARY}", "bio": "x" * 10 * number} for number in range(100)
        )
        large = database["notes"].insert_one({"text": "x" * 9 * 2**20}).inserted_id
        database["pairs"].create_index([("left", 1), ("right", 1)], unique=True)
        database["pairs"].create_index([("left", 1), ("right", 1), ("more", 1)], unique=True)
        database["torn"].create_index("code", unique=True)
        database["torn"].create_index([("left", 1), ("code", 1)], unique=True)
        database.create_collection("analyst.users", viewOn="users", pipeline=[])
        before = database.command("profile", 0, slowms=0)
        try:
            list(database["users"].find({"email": f"7-{CANARY}"}))
            list(database["users"].find({"email": f"8-{CANARY}"}))
            list(database["users"].find({"bio": {"$regex": CANARY}, "nick": {"$in": [CANARY, 1]}}).sort("bio", -1))
            database["users"].update_one({"email": f"9-{CANARY}"}, {"$set": {"bio": CANARY}})
        finally:
            database.command("profile", 2, slowms=before["slowms"])
        database["users"].find_one_and_delete({"email": f"10-{CANARY}"})
        database.command("profile", 0)
        try:
            home = tmp_path_factory.mktemp("mongosh")
            done = run_scripts(home, shared_home.mongodb_uri, *EVERYTHING, DATABASE="ops", SLOW_MS=0, COUNT=50)
        finally:
            client.drop_database("ops")
    assert (done.returncode, done.stderr) == (0, "")
    assert str(large) in done.stdout
    return done.stdout


def test_indexes_that_nothing_uses_are_marked(said: str) -> None:
    lines = [row for row in rows(said) if len(row) == 6]
    found = {name: (keys, uses, note) for name, keys, _, uses, _, note in lines}

    assert found["users._id_"][2] == ""
    keys, uses, note = found["users.email"]
    assert (keys, note) == ("email", "")
    assert int(uses) >= 4
    assert found["users.name"] == ("name", "0", "UNUSED")
    assert found["users.until"][2] == "removes what has expired"
    assert found["pairs.left_1_right_1"] == ("left, right", "0", "never used, but keeps values unique")


def test_the_largest_documents_are_held_against_mongodbs_limit(said: str) -> None:
    found = [row for row in rows(said) if len(row) == 4 and row[0].startswith(("users ", "notes "))]

    [large] = [row for row in found if row[0].startswith("notes ")]
    assert int(large[1]) > 9 * 2**20
    assert large[2:] == ["56.25 %", "LARGE"]
    sizes = [int(row[1]) for row in found if row[0].startswith("users ")]
    assert sizes == sorted(sizes, reverse=True)


def test_slow_commands_are_counted_by_shape_and_without_values(said: str) -> None:
    assert CANARY not in said
    found = {row[0]: row[1:] for row in rows(said) if len(row) == 7}

    times, *_, plan, seen = found["ops.users find filter {email: ?}"]
    assert (times, plan, seen) == ("2", "IXSCAN { email: 1 }", "log")
    assert "ops.users find filter {bio: {$regex: ?}, nick: {$in: [?]}} sort {bio: ?}" in found
    assert "ops.users update q {email: ?} u {$set: {bio: ?}}" in found
    assert found["ops.users findAndModify query {email: ?}"][-1] == "profiler"


def test_a_shard_key_is_what_all_unique_indexes_begin_with(said: str) -> None:
    found = {row[0]: row[2:] for row in rows(said) if len(row) == 4 and " " not in row[0]}

    assert found["users"] == ["email (hashed)", "email unique"]
    assert found["notes"] == ["_id (hashed)", "no unique index"]
    assert found["pairs"] == ["left, right", "left+right and left+right+more unique"]
    assert found["torn"] == ["none", "code and left+code are unique, and begin with no field in common"]
    assert "Nothing was changed" in said


def test_the_status_ends_in_a_verdict(said: str) -> None:
    [member] = [row for row in rows(said) if "PRIMARY" in row]

    assert member[1:3] == ["PRIMARY", "0"]
    for line in ("Replica set rs0, term ", "Primary: 127.0.0.1:", "Oplog: ", "Connections: ", "Cache: "):
        assert f"\n{line}" in said
    assert said.endswith("Verdict: all is well\n")


@pytest.mark.slow  # a mongosh each
@pytest.mark.parametrize(
    ("name", "parameters", "line"),
    [
        ("init-replica-set.js", {}, "MEMBERS is needed: host:port of each member, between commas"),
        ("init-replica-set.js", {"MEMBERS": "a,b"}, "MEMBERS must be host:port,host:port,…"),
        (
            "init-replica-set.js",
            {"MEMBERS": "a:1,a:1", "WAIT_SECONDS": "soon"},
            "MEMBERS names a member twice; WAIT_SECONDS must be a number above 0",
        ),
        ("init-replica-set.js", {"MEMBERS": "a:1", "REPLICA_SET": "x"}, "this is a member of rs0, not of x"),
        (
            "create-users.js",
            {"ADMIN_PASSWORD": "canary", "SERVICE_PASSWORD_FILE": "/nothing", "ANALYST_PASSWORD": "canary"},
            (
                "VIEWS_FILE is needed: `dossier database views` prints it; "
                "SERVICE_PASSWORD_FILE: ENOENT: no such file or directory, open '/nothing'; "
                "BACKUP_PASSWORD_FILE or BACKUP_PASSWORD is needed; "
                "RESTORE_PASSWORD_FILE or RESTORE_PASSWORD is needed; "
                "MONITOR_PASSWORD_FILE or MONITOR_PASSWORD is needed"
            ),
        ),
        ("indexes.js", {"DATABASE": "nothing"}, "there is no database nothing"),
        ("largest-documents.js", {"COLLECTION": "nothing"}, "dossier has no collection nothing"),
        ("slow-queries.js", {"SLOW_MS": "some"}, "SLOW_MS must be a number from 0 up"),
        (
            "shard.js",
            {"APPLY": "users, nothing"},
            "there is no collection nothing; this is no mongos, so that nothing can be sharded here",
        ),
    ],
)
@pytest.mark.usefixtures("service")
def test_what_a_script_cannot_do_is_one_line(
    shared_home: Home, tmp_path: Path, name: str, parameters: dict[str, str], line: str
) -> None:
    done = run_scripts(tmp_path, shared_home.mongodb_uri, name, **parameters)

    assert done.returncode == 1
    assert done.stderr == f"Error: {line}\n"
