"""`dossier seed` and `dossier template`."""

import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

import openpyxl
import pytest
from pymongo import MongoClient
from pymongo.database import Database

from service.documents.base import SERVER_FIELDS
from tests.acceptance.process import DOSSIER, Home, until

CLOSING_LINE = re.compile(r"(?P<count>[\d,]+) (?P<name>\w+) in [\d.]+ s\n")

Stored = dict[str, Any]


class Seeded:
    """A database of its own, and the command that fills it."""

    def __init__(self, home: Home, mongodb_uri: str) -> None:
        self._home = home
        self._name = uuid4().hex
        self.environment = home.environment(mongodb_uri=mongodb_uri, mongodb_database=self._name)
        self._client = MongoClient[Stored](mongodb_uri)

    @property
    def database(self) -> Database[Stored]:
        """What is in it."""
        return self._client[self._name]

    def bodies(self, name: str) -> list[Stored]:
        """All documents without the server's fields, in a certain order."""
        found = self.database[name].find({}, dict.fromkeys(["_id", *SERVER_FIELDS], 0))
        return sorted(found, key=repr)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`dossier seed` with these arguments."""
        return self._home.run("seed", *arguments, environment=self.environment)

    def seed(self, *arguments: str) -> None:
        """The same, which must go well."""
        done = self.run(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        said = CLOSING_LINE.fullmatch(done.stdout)
        assert said, done.stdout
        assert [said["name"], said["count"].replace(",", "")] == list(arguments[:2])

    @contextmanager
    def started(self, *arguments: str, stderr: int) -> Iterator[subprocess.Popen[bytes]]:
        """The same, under way."""
        command = [str(DOSSIER), "seed", *arguments]
        environment = self.environment | {"TERM": "xterm"}
        directory = self._home.directory
        with subprocess.Popen(
            command, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=stderr
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def close(self) -> None:
        """Leave nothing."""
        self._client.drop_database(self._name)
        self._client.close()


@pytest.fixture
def seeded(home: Home, mongodb_uri: str) -> Iterator[Seeded]:
    """An empty database."""
    seeded = Seeded(home, mongodb_uri)
    try:
        yield seeded
    finally:
        seeded.close()


@pytest.fixture
def other(home: Home, mongodb_uri: str) -> Iterator[Seeded]:
    """Another one."""
    other = Seeded(home, mongodb_uri)
    try:
        yield other
    finally:
        other.close()


@pytest.mark.slow  # several commands
def test_a_second_run_goes_on_after_the_first(seeded: Seeded, other: Seeded) -> None:
    seeded.seed("users", "1500")
    seeded.seed("users", "700")
    other.seed("users", "2200", "--seed", "1")

    assert len({user["email"] for user in seeded.bodies("users")}) == 2200
    assert seeded.bodies("users") == other.bodies("users")


def test_items_refer_to_the_users_that_there_are(seeded: Seeded) -> None:
    seeded.seed("users", "3")
    seeded.seed("items", "40", "--seed", "5")

    users = {user["_id"] for user in seeded.database["users"].find()}
    assert {item["owner_id"] for item in seeded.database["items"].find()} == {*users, None}
    assert "sku" in seeded.database["items"].index_information()


@pytest.mark.slow  # several commands
def test_what_is_there_already_is_refused_in_one_line_that_says_what_to_do(seeded: Seeded) -> None:
    seeded.seed("items", "20", "--start", "11")

    taken = seeded.run("items", "20", "--start", "11")
    nothing = seeded.run("nothing", "20")

    assert (taken.returncode, taken.stdout) == (1, "")
    assert taken.stderr.count("\n") == 1
    assert all(word in taken.stderr for word in ("/sku", "--start"))
    assert (nothing.returncode, nothing.stderr) == (1, "dossier: there is no type 'nothing'\n")
    assert seeded.database["items"].count_documents({}) == 20
    seeded.seed("items", "20", "--start", "31")


@pytest.mark.parametrize(
    "sign", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)], ids=["SIGINT", "SIGTERM"]
)
def test_whoever_interrupts_it_sees_how_far_it_was(seeded: Seeded, sign: signal.Signals) -> None:
    screen, terminal = pty.openpty()
    os.set_blocking(screen, False)
    shown = b""

    def looks_on() -> bool:
        nonlocal shown
        with suppress(OSError):  # nothing new, or the end
            shown += os.read(screen, 65_536)
        return re.search(rb"[1-9]\d*,000 of 1,000,000 users", shown) is not None

    with seeded.started("users", "1000000", stderr=terminal) as command:
        os.close(terminal)
        until(looks_on, "the bar shows how many users there are")
        command.send_signal(sign)
        until(lambda: looks_on() and command.poll() is not None, "it ends")
        assert (command.returncode, command.stdout and command.stdout.read()) == (130, b"")
    os.close(screen)

    assert 1000 <= seeded.database["users"].count_documents({}) < 1_000_000
    seeded.seed("users", "10")


@pytest.mark.slow  # a mongod of its own
def test_it_brings_its_own_mongod_and_takes_it_away(home: Home) -> None:
    done = home.run("seed", "users", "10")

    assert (done.returncode, done.stderr) == (0, "")
    assert CLOSING_LINE.fullmatch(done.stdout)
    assert home.mongods == []


@pytest.mark.slow  # several commands
def test_a_template_needs_no_database_and_takes_the_place_of_what_was_there(home: Home) -> None:
    kept = home.directory / "users.csv"
    kept.write_text("what was there before")

    commands = [("-o", "users.xlsx"), ("-o", "users.csv"), ("-o", "users", "--format", "csv")]
    ended = [home.run("template", "users", *arguments) for arguments in commands]

    assert [(done.returncode, done.stderr) for done in ended] == [(0, "")] * 3
    assert openpyxl.load_workbook(home.directory / "users.xlsx").sheetnames == ["users", "Columns"]
    assert kept.read_bytes() == (home.directory / "users").read_bytes()
    assert kept.read_text("utf-8-sig").startswith("name,email,")
    assert not home.data_dir.exists()


def test_a_template_that_cannot_be_is_refused_in_one_line(home: Home) -> None:
    for arguments, word in [
        (("users", "-o", "users.parquet"), "csv, xlsx"),
        (("nothing", "-o", "nothing.csv"), "'nothing'"),
        (("users", "-o", "nowhere/users.csv"), "nowhere"),
    ]:
        done = home.run("template", *arguments)

        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.count("\n") == 1
        assert word in done.stderr
