"""`dossier backup` and `dossier restore`, as `scripts/backup` and `scripts/restore` run them."""

import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import count, islice
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import bson
import pytest
from bson import Binary, Decimal128, Int64, ObjectId, Regex
from pymongo import MongoClient
from pymongo.collection import Collection

from service.documents.base import SERVER_FIELDS
from service.documents.batches import documents_of
from tests import everything
from tests.acceptance.process import DOSSIER, Home

ROOT = Path(__file__).parents[2]
TYPES = ("everythings", "items", "users")
SAMPLES = 20
ODD = {
    "_id": ObjectId("0" * 24),
    "code": "written by hand",
    "made_up": {"$date": "a key as in Extended JSON", "many": [Int64(1), 1, 1.0, Decimal128("1.50"), float("-inf")]},
    "bytes": Binary(b"\0\xff", 128),
    "pattern": Regex("^a", "i"),
    "created_at": datetime(2020, 1, 1),  # noqa: DTZ001 - as BSON has it
    "revision": 41,
}

Command = tuple[Iterable[str], str]


class Databases:
    """Several of them on one server, and the command for each."""

    def __init__(self, home: Home, mongodb_uri: str) -> None:
        self.home = home
        self.uri = mongodb_uri
        self._prefix = uuid4().hex
        self.client = MongoClient[dict[str, Any]](mongodb_uri)

    def name(self, of: str) -> str:
        """What it is called on the server."""
        return f"{self._prefix}-{of}"

    def run(self, of: str, *commands: Iterable[str], given: str = "") -> list[tuple[int, str, str]]:
        """Status, output and errors of each."""
        pairs = [(command, given) for command in commands]
        return self.home.run_in_turn(pairs, mongodb_uri=self.uri, mongodb_database=self.name(of))

    def well(self, of: str, *commands: Iterable[str], given: str = "") -> list[str]:
        """What each has to say, which must go well."""
        ended = self.run(of, *commands, given=given)
        assert [status for status, _, _ in ended] == [0] * len(ended), ended
        return [output for _, output, _ in ended]

    def documents(self, of: str) -> dict[str, list[bytes]]:
        """All that is kept, as MongoDB has it to the last bit."""
        database = self.client.get_database(self.name(of))
        names = set(database.list_collection_names()) - {"sessions", "quotas", "locks"}
        return {name: list(raw_documents(database[name])) for name in sorted(names)}

    def events(self, of: str) -> list[str]:
        """What the audit trail has."""
        return [event["action"] for event in self.client[self.name(of)]["audit"].find(sort=[("_id", 1)])]

    def close(self) -> None:
        """Leave none of them behind."""
        for name in self.client.list_database_names():
            if name.startswith(self._prefix):
                self.client.drop_database(name)
        self.client.close()


def raw_documents(collection: Collection[dict[str, Any]]) -> Iterator[bytes]:
    """In the order of their ids."""
    for batch in collection.find_raw_batches(sort=[("_id", 1)]):
        yield from documents_of(cast("bytes", batch))


@pytest.fixture
def databases(tmp_path: Path, mongodb_uri: str) -> Iterator[Databases]:
    """With the tests' own type beside the others."""
    types = tmp_path / "types"
    types.mkdir()
    (types / "everything.py").write_bytes(Path(everything.__file__).read_bytes())
    databases = Databases(Home(tmp_path, types), mongodb_uri)
    yield databases
    databases.close()


def filled(databases: Databases) -> None:
    """Each type's samples, some of which were changed since, an account, and what somebody wrote by hand."""
    seeds = [("seed", name, str(SAMPLES)) for name in ("users", "items", "everythings")]
    databases.well("old", *seeds, ("accounts", "create", "ada", "--role", "admin"), given="correct horse battery\n")
    database = databases.client[databases.name("old")]
    for name in TYPES:
        database[name].update_one({}, {"$inc": {"revision": 7}})
    database["everythings"].insert_one(ODD, bypass_document_validation=True)
    database["sessions"].insert_one({"token_hash": "of somebody who signed in"})


def without_restore(documents: dict[str, list[bytes]]) -> dict[str, list[bytes]]:
    """But for the event that says that it was restored."""
    return documents | {"audit": [event for event in documents["audit"] if bson.decode(event)["action"] != "restore"]}


@pytest.mark.slow  # several commands
def test_a_database_comes_back_to_the_last_bit_or_not_at_all_and_never_twice(databases: Databases) -> None:
    filled(databases)
    new = databases.client[databases.name("new")]
    restore = ("restore", "nightly.zip", "--bypass-validators")

    [made] = databases.well("old", ("backup", "nightly.zip", "--tool", "driver"))
    old = databases.documents("old")
    bad = damaged(databases.home.directory, "nightly.zip")
    ended = databases.run("new", *[("restore", name, "--replace") for name in bad])
    written_by_bad = databases.documents("new")
    [checked] = databases.well("new", (*restore, "--check"))
    written_by_check = databases.documents("new")
    [(refused_odd, _, reason)] = databases.run("new", restore[:2])
    written_against_validator = databases.documents("new")
    [restored] = databases.well("new", restore)

    line = r"nightly\.zip: \d+ documents of \d collections, [\d.]+ kB, [\d.]+ s, SHA-256 [0-9a-f]{64}\n"
    assert re.fullmatch(line, made)
    assert (databases.home.directory / "nightly.zip").stat().st_mode & 0o777 == 0o600
    for name, (status, output, errors) in zip(bad, ended, strict=True):
        assert (status, output, errors[:9], errors.count("\n")) == (1, "", "dossier: ", 1), name
    assert "whole, " in checked
    assert (refused_odd, reason.count("\n")) == (1, 1)
    assert "everythings" in reason
    assert written_by_bad == written_by_check == {}
    assert not any(written_against_validator.get(name) for name in (*TYPES, "accounts"))
    assert "restored, " in restored
    assert {name: len(old[name]) for name in (*TYPES, "accounts")} == dict.fromkeys(TYPES, SAMPLES) | {
        "everythings": SAMPLES + 1,
        "accounts": 1,
    }
    assert without_restore(databases.documents("new")) == databases.documents("new") | old
    assert databases.events("new")[-2:] == ["backup", "restore"]
    for name in TYPES:
        first, second = (databases.client[databases.name(of)][name].index_information() for of in ("old", "new"))
        assert first == second
        assert len(first) > 1

    new["users"].delete_one({})
    new["users"].insert_one({"email": "since@example.org"}, bypass_document_validation=True)
    new["sessions"].insert_one({"token_hash": "of somebody whose password was another since"})
    [(refused, _, said), (replaced, _, _)] = databases.run("new", restore, (*restore, "--replace"))

    assert (refused, replaced) == (1, 0)
    assert said.count("\n") == 1
    assert re.search(r"users.*--replace", said)
    assert without_restore(databases.documents("new")) == databases.documents("new") | old
    assert new["sessions"].count_documents({}) == 0
    assert databases.events("new").count("restore") == 1  # the trail is that of the backup, too


@pytest.mark.slow
def test_a_restoration_goes_where_it_is_needed_and_finishes_what_was_broken_off(databases: Databases) -> None:
    databases.well("old", ("seed", "users", "3"), ("backup", "nightly.zip", "--tool", "driver"))
    databases.well("new", ("seed", "users", "1"))
    old, new = (databases.client[databases.name(of)] for of in ("old", "new"))
    for name in new["users"].index_information():
        if name != "_id_":
            new["users"].drop_index(name)
    new.command("collMod", "users", validationLevel="off")
    new["users"].insert_many([{"email": "twice@example.org"}, {"email": "twice@example.org"}])
    new["migrations_log"].insert_one({"name": "20990101_made_since.py", "is_current": True})
    databases.client[databases.name("view")].command("create", "users", viewOn="items", pipeline=[])

    [replaced] = databases.well("new", ("restore", "nightly.zip", "--replace"))
    [(broken, _, said)] = databases.run("view", ("restore", "nightly.zip"))
    view = databases.client[databases.name("view")]
    has_begun = view["audit"].count_documents({})
    view["users"].drop()
    [finished] = databases.well("view", ("restore", "nightly.zip"))
    [(refused, _, _)] = databases.run("view", ("restore", "nightly.zip"))

    assert "restored, " in replaced
    assert new["users"].index_information() == old["users"].index_information()
    assert new["users"].options() == old["users"].options()
    assert "migrations_log" not in new.list_collection_names()
    assert broken == 1
    assert said.startswith("dossier: partly restored: run it again; MongoDB says: ")
    assert (said.count("\n"), len(said) < 200) == (1, True)
    assert has_begun
    assert "restored, " in finished
    assert refused == 1
    for name in ("new", "view"):
        assert without_restore(databases.documents(name)) == databases.documents(name) | databases.documents("old")


def test_where_no_database_is_none_is_made_and_what_the_trail_does_not_take_is_said(databases: Databases) -> None:
    databases.client[databases.name("old")].create_collection("audit", validator={"never": {"$exists": True}})

    [(status, _, errors)] = databases.run("old", ("backup", "nightly.zip", "--tool", "driver"))
    nowhere = databases.home.run_in_turn([(("backup", "other.zip"), ""), (("restore", "nightly.zip"), "")])

    assert (status, errors.count("\n")) == (0, 1)
    assert errors.startswith("dossier: the audit trail has no event of this backup: ")
    for ended, output, said in nowhere:
        assert (ended, output, said.count("\n")) == (1, "", 1)
        assert said.startswith(f"dossier: DOSSIER_MONGODB_URI is not set, and {databases.home.data_dir} has no MongoDB")
    assert not (databases.home.data_dir / "mongodb").exists()
    assert not (databases.home.directory / "other.zip").exists()


def damaged(directory: Path, name: str) -> list[str]:
    """Names of files that are not this one any more, or never were one."""
    whole = (directory / name).read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 1
    (directory / "short.zip").write_bytes(whole[:-100])
    (directory / "half.zip").write_bytes(whole[: len(whole) // 2])
    (directory / "changed.zip").write_bytes(changed)
    (directory / "table.zip").write_text("name,email\n")
    (directory / "empty").touch()
    return ["short.zip", "half.zip", "changed.zip", "table.zip", "empty", "missing.zip", "types"]


EVERYTHING = ["--oplogReplay", "--drop", "--bypassDocumentValidation"]

RECORDER = """#!{python}
import json, os, sys
from pathlib import Path
[config] = [word.removeprefix("--config=") for word in sys.argv if word.startswith("--config=")]
seen = {{"arguments": sys.argv[1:], "config": Path(config).read_text(), "mode": os.stat(config).st_mode & 0o777}}
if {reads}:
    from pymongo import MongoClient
    seen["read"] = sys.stdin.buffer.read().hex()
    options = dict(word[2:].split("=", 1) for word in sys.argv[1:] if "=" in word)
    with MongoClient(json.loads(seen["config"].removeprefix("uri: "))) as client:
        users = client[options.get("nsTo", options.get("nsInclude", {database!r})).removesuffix(".*")]["users"]
        if "--drop" in sys.argv:
            users.drop()
        users.insert_one({{"restored": True}})
Path({record!r}).write_text(json.dumps(seen))
sys.stdout.buffer.write(bytes.fromhex({written!r}))
print("a progress line\\nFailed: {said}", file=sys.stderr)
sys.exit({status})
"""


class Program:
    """Stands in for mongodump or mongorestore, which cannot be had here: it notes how it was called.

    As mongorestore, it makes the users of the database anew.
    """

    def __init__(  # noqa: PLR0913 - all that differs
        self, folder: Path, name: str, *, written: bytes = b"", status: int = 0, said: str = "", database: str = ""
    ) -> None:
        self._record = folder / f"{name}.json"
        program = folder / name
        program.write_text(
            RECORDER.format(
                python=sys.executable,
                record=str(self._record),
                written=written.hex(),
                status=status,
                said=said,
                reads=name == "mongorestore",
                database=database,
            )
        )
        program.chmod(0o755)

    @property
    def seen(self) -> dict[str, Any]:
        """How it was called last."""
        found: dict[str, Any] = json.loads(self._record.read_text())
        return found


@pytest.mark.slow  # starts Python eight times
def test_mongodump_and_mongorestore_are_called_where_they_are(databases: Databases, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    dumped = gzip.compress(b"an archive")
    name, proof = databases.name("old"), databases.name("proof")
    dump, restore = Program(programs, "mongodump", written=dumped), Program(programs, "mongorestore", database=name)
    databases.well("old", ("seed", "users", "1"))
    old = databases.client[name]
    secret = "appName=as-secret-as-a-password"
    settings = {"mongodb_uri": f"{databases.uri}&{secret}", "mongodb_database": name}
    environment = databases.home.environment(**settings) | {"PATH": f"{programs}:{os.environ['PATH']}"}

    def script(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ROOT / "scripts" / script, *arguments],
            check=False,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    done = script("backup", "nightly.archive")

    assert done.returncode == 0, done.stderr
    assert "nightly.archive: by mongodump, " in done.stdout
    assert (tmp_path / "nightly.archive").read_bytes() == dumped
    assert dump.seen["arguments"][1:] == ["--archive", "--gzip", f"--db={name}"]
    assert secret not in " ".join(dump.seen["arguments"])
    assert dump.seen["config"] == f'uri: "{settings["mongodb_uri"]}"'
    assert dump.seen["mode"] == 0o600
    assert not Path(dump.seen["arguments"][0].removeprefix("--config=")).exists()
    subprocess.run(["sha256sum", "--check", "--quiet", "nightly.archive.sha256"], cwd=tmp_path, check=True)
    assert script("backup", "set.archive", "--whole-set").returncode == 0
    assert dump.seen["arguments"][1:] == ["--archive", "--gzip", "--oplog"]

    (tmp_path / "alone.archive.sha256").mkdir()
    assert script("backup", "alone.archive").returncode == 1
    assert not (tmp_path / "alone.archive").exists()

    assert "users" in script("restore", "nightly.archive").stderr  # has documents
    old["migrations_log"].insert_one({"name": "since then"})
    assert script("restore", "nightly.archive", "--replace").returncode == 0
    assert old["users"].find_one({}, {"_id": 0}) == {"restored": True}
    assert len(old["users"].index_information()) > 1
    assert "migrations_log" not in old.list_collection_names()
    assert restore.seen["arguments"][1:] == ["--archive", "--gzip", "--stopOnError", f"--nsInclude={name}.*", "--drop"]
    assert restore.seen["read"] == dumped.hex()
    assert restore.seen["mode"] == 0o600
    assert script("restore", "set.archive", "--whole-set", "--bypass-validators", "--replace").returncode == 0
    assert restore.seen["arguments"][1:] == ["--archive", "--gzip", "--stopOnError", *EVERYTHING]

    environment["DOSSIER_MONGODB_DATABASE"] = proof
    assert script("restore", "nightly.archive").returncode == 0
    renamed = [f"--nsInclude={name}.*", f"--nsFrom={name}.*", f"--nsTo={proof}.*"]
    assert restore.seen["arguments"][1:] == ["--archive", "--gzip", "--stopOnError", *renamed]
    assert databases.client[proof]["users"].count_documents({}) == 1

    (tmp_path / "nightly.archive").write_bytes(dumped[:-1])
    assert "not what was written" in script("restore", "nightly.archive", "--replace").stderr
    Program(programs, "mongodump", written=b"half", status=1, said="no reachable servers")
    failed = script("backup", "set.archive")
    assert script("restore", "set.archive", "--check").returncode == 0  # the pair is as it was
    assert (failed.returncode, failed.stderr) == (1, "dossier: mongodump ended with 1: Failed: no reachable servers\n")
    assert (tmp_path / "set.archive").read_bytes() == dumped


@pytest.mark.slow
def test_types_go_out_as_ndjson_and_come_back_under_their_ids(databases: Databases) -> None:
    filled(databases)
    old, new = (databases.client[databases.name(of)] for of in ("old", "new"))
    old["everythings"].delete_one({"_id": ODD["_id"]})
    databases.well("old", *[("export", name, "-o", f"{name}.ndjson", "snapshot=true") for name in TYPES])

    said = databases.well("new", *[("import", name, f"{name}.ndjson", "--mode", "upsert") for name in TYPES])

    kept = dict.fromkeys(set(SERVER_FIELDS) - {"id"}, 0)
    for name, line in zip(TYPES, said, strict=True):
        assert f"{SAMPLES} created, 0 updated, 0 unchanged, 0 failed" in line
        whole, back = (list(database[name].find({}, kept).sort("_id", 1)) for database in (old, new))
        assert back == whole


PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""
"""The most memory that a command had at once, in MiB."""


@pytest.mark.slow
def test_a_large_database_takes_no_more_memory_than_a_small_one(databases: Databases, tmp_path: Path) -> None:
    environment = databases.home.environment(mongodb_uri=databases.uri, mongodb_database=databases.name("old"))
    collection = databases.client[databases.name("old")]["large"]
    documents = ({"_id": number, "bytes": os.urandom(4000)} for number in count())

    def peak(*arguments: str) -> int:
        command: list[str | Path] = [sys.executable, "-c", PEAK, DOSSIER, *arguments]
        return int(subprocess.check_output(command, cwd=tmp_path, env=environment))

    def peaks(more: int) -> tuple[int, int]:
        collection.insert_many(islice(documents, more))
        return peak("backup", "large.zip", "--tool", "driver"), peak("restore", "large.zip", "--replace")

    small, large = peaks(10_000), peaks(40_000)

    assert (tmp_path / "large.zip").stat().st_size > 200_000_000
    for before, after in zip(small, large, strict=True):
        assert after < before + 30, (small, large)
