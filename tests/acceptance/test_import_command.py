"""`dossier import`, into the database and into a running service."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from service.documents.base import SERVER_FIELDS
from tests.acceptance.process import DOSSIER, PASSWORD, Home, Service, until

README = (Path(__file__).parents[2] / "README.md").read_text()
CLOSING_LINE = re.compile(
    r"(?P<name>\S+): (?P<rows>[\d,]+) rows, (?P<created>[\d,]+) created, (?P<updated>[\d,]+) updated,"
    r" (?P<unchanged>[\d,]+) unchanged, (?P<failed>[\d,]+) failed,( nothing written, as asked,)?"
    r" [\d.]+ s, import (?P<id>[0-9a-f]{24})\n"
)
FORMATS = ("csv", "ndjson", "xlsx")
SAMPLES = 50
ROWS = 30_000
"""More than anybody waits for who interrupts it."""

MANY_ROWS = 100_000
"""Enough for a record to say on the way how far it is, which it does every two seconds."""

MIXED = """\
name,email,age
Ada,ada@example.org,36
Bob,bob@example.org,unknown
Cy,ada@example.org,7
Dee,not an address,151
"""

Stored = dict[str, Any]
Ended = tuple[int, str, str]


class Place:
    """A database and a service on it, with nothing but an account in both."""

    def __init__(self, home: Home, service: Service) -> None:
        self.home = home
        self.service = service
        self.there = ("--url", service.address, "--username", "admin")
        self._client = MongoClient[Stored](home.mongodb_uri)

    @property
    def database(self) -> Database[Stored]:
        """What is in it."""
        return self._client["dossier"]

    def empty(self) -> None:
        """Leave only the account."""
        for name in ("users", "items", "imports", "audit"):
            self.database[name].delete_many({})

    def write(self, name: str, content: str) -> str:
        """A file in its directory, by its name."""
        (self.home.directory / name).write_text(content)
        return name

    def run(self, *commands: tuple[str, ...]) -> list[Ended]:
        """`dossier` with each of these; the password is given to whoever asks for it."""
        return self.home.run_in_turn([(command, f"{PASSWORD}\n") for command in commands])

    def imported(self, *arguments: str) -> Ended:
        """`dossier import` with these."""
        [ended] = self.run(("import", *arguments))
        return ended

    def bodies(self, name: str) -> list[Stored]:
        """All documents without the server's fields, in a certain order."""
        found = self.database[name].find({}, dict.fromkeys(["_id", *SERVER_FIELDS], 0))
        return sorted(found, key=repr)

    @contextmanager
    def started(self, *arguments: str, stderr: int = subprocess.PIPE) -> Iterator[subprocess.Popen[bytes]]:
        """`dossier import` with these arguments, under way."""
        process = subprocess.Popen(
            [DOSSIER, "import", *arguments],
            cwd=self.home.directory,
            env=self.home.environment() | {"TERM": "xterm"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
        assert process.stdin is not None
        try:
            with process.stdin as stdin:
                stdin.write(f"{PASSWORD}\n".encode())
            process.stdin = None  # else communicate() would flush it
            yield process
        finally:
            process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def close(self) -> None:
        """Let go of the database."""
        self._client.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One for all tests."""
    home = Home(tmp_path_factory.mktemp("home"))
    try:
        place = Place(home, home.start())
        yield place
        place.close()
    finally:
        home.close()


@pytest.fixture
def place(running: Place) -> Place:
    """The same, emptied."""
    running.empty()
    return running


def many(count: int = ROWS) -> str:
    """Users enough to be interrupted."""
    rows = (f"User {number},{number}@example.org" for number in range(count))
    return "\n".join(["name,email", *rows, ""])


def counts(output: str) -> dict[str, int]:
    """What a closing line says."""
    said = CLOSING_LINE.fullmatch(output)
    assert said is not None, output
    return {name: int(said[name].replace(",", "")) for name in ("rows", "created", "updated", "unchanged", "failed")}


def counted(rows: int, **others: int) -> dict[str, int]:
    """The same, where all others are 0."""
    return {"rows": rows, "created": 0, "updated": 0, "unchanged": 0, "failed": 0} | others


@pytest.mark.slow
@pytest.mark.parametrize("is_remote", [False, True], ids=["database", "service"])
def test_what_was_exported_is_taken_back(place: Place, *, is_remote: bool) -> None:
    there = place.there if is_remote else ()
    place.run(
        ("seed", "users", str(SAMPLES)),
        *(("export", "users", "-o", f"users.{name}", *there) for name in FORMATS),
    )
    before = place.bodies("users")
    assert len(before) == SAMPLES
    for name in FORMATS:
        place.empty()

        (created, again) = place.run(
            ("import", "users", f"users.{name}", *there),
            ("import", "users", f"users.{name}", "--mode", "upsert", "--key", "email", *there),
        )

        assert (created[0], created[2]) == (0, "")
        assert counts(created[1]) == counted(SAMPLES, created=SAMPLES)
        assert again[0] == 0
        assert counts(again[1]) == counted(SAMPLES, unchanged=SAMPLES)
        assert again[2].startswith("The same file came before: import ")
        assert place.bodies("users") == before


@pytest.mark.parametrize("is_remote", [pytest.param(False, marks=pytest.mark.slow), True], ids=["database", "service"])
def test_failed_rows_are_told_and_kept_to_be_corrected(place: Place, *, is_remote: bool) -> None:
    there = place.there if is_remote else ()
    name = place.write("mixed.csv", MIXED)

    refused = place.imported("users", name, *there)
    assert place.bodies("users") == []
    skipped = place.imported("users", name, "--on-error", "skip", "--failed", "failed.csv", *there)

    assert refused[0] == 1
    assert counts(refused[1]) == counted(4, failed=3)
    assert refused[2].splitlines() == [
        "row 3, age: an integer is expected (unknown)",
        "row 4, email: row 2 has this value (ada@example.org)",
        *(line for line in refused[2].splitlines() if line.startswith("row 5, ")),
        "dossier: Nothing was imported, as some rows cannot be: 3 of 4 rows cannot be imported.",
    ]
    assert skipped[0] == 1
    assert counts(skipped[1]) == counted(4, created=1, failed=3)
    assert skipped[2].endswith("dossier: 3 of 4 rows have failed\n")
    assert [user["email"] for user in place.bodies("users")] == ["ada@example.org"]
    failed = place.home.directory / "failed.csv"
    assert "_errors" in failed.read_text()
    for wrong, right in (("unknown", "8"), ("ada@", "cy@"), ("not an address", "dee@example.org"), ("151", "15")):
        failed.write_text(failed.read_text().replace(wrong, right, 1))

    corrected = place.imported("users", "failed.csv", *there)

    assert (corrected[0], corrected[2]) == (0, "")
    assert counts(corrected[1]) == counted(3, created=3)
    assert {user["email"] for user in place.bodies("users")} == {
        f"{who}@example.org" for who in ("ada", "bob", "cy", "dee")
    }
    audited = [(event["account"], event["target"]) for event in place.database["audit"].find({"action": "import"})]
    who = "admin" if is_remote else "command line"
    assert audited == [(who, str(record["_id"])) for record in place.database["imports"].find({})]
    assert len(audited) == 3


def test_a_dry_run_says_what_would_be_done_and_does_nothing(place: Place) -> None:
    name = place.write("mixed.csv", MIXED)

    status, output, errors = place.imported("users", name, "--dry-run")

    assert status == 1
    assert counts(output) == counted(4, created=1, failed=3)
    assert "nothing written, as asked" in output
    assert errors.endswith("dossier: 3 of 4 rows have failed\n")
    assert place.bodies("users") == []
    assert place.database["audit"].count_documents({"action": "import", "type": "users"}) == 1


def test_only_the_first_of_many_failed_rows_are_told_and_do_nothing_to_a_terminal(place: Place) -> None:
    name = place.write("bad.csv", "name,email,age\n" + "Ada,a@example.org,\x1b[2J\n" * 1234)

    status, output, errors = place.imported("users", name, "--failed", "failed.csv")

    assert status == 1
    assert counts(output) == counted(1234, failed=1234)
    told = errors.splitlines()
    assert len(told) == 22
    assert told[20] == "and 1,214 failed rows more"
    assert "\x1b" not in errors
    assert (place.home.directory / "failed.csv").read_text().count("\n") == 1001


@pytest.mark.slow  # several commands
def test_what_is_refused_is_one_line_and_leaves_no_trace(place: Place) -> None:
    good = place.write("good.csv", "name,email\nAda,ada@example.org\n")
    place.write("open.csv", 'name,email\nAda,"ada@example.org\n')
    place.write("wrong.csv", "name,mail,sex\n")
    place.write("wrong.xlsx", "name,email\n")
    cases: list[tuple[tuple[str, ...], list[str]]] = [
        (("users", "missing.csv"), ["missing.csv"]),
        (("users", "data"), ["data"]),
        (("users", "wrong.xlsx"), ["XLSX"]),
        (("users", "open.csv"), ["row 2", "quote"]),
        (("users", "wrong.csv"), ["column mail", "column sex", "column email"]),
        (("nothing", good), ["'nothing'"]),
        (("users", good, "--mode", "insert", "--key", "name"), ["mode:", "key:"]),
        (("users", good, "--delimiter", "dot", "--explode", "name"), ["delimiter:", "explode:"]),
        (("users", good, "--sheet", "first"), ["sheet"]),
        (("users", good, "--failed", "nowhere/failed.csv"), ["nowhere"]),
        (("users", good, "--username", "admin"), ["--url"]),
        (("users", good, "--url", place.service.address), ["--username", "--token-file"]),
        (("users", good, "--url", "localhost", "--username", "admin"), ["http://"]),
        (("users", good, "--url", "http://127.0.0.1:1", "--username", "admin"), ["127.0.0.1:1"]),
        (("users", "open.csv", *place.there), ["row 2", "quote"]),
        (("users", "wrong.csv", *place.there), ["column mail", "column sex", "column email"]),
        (("nothing", good, *place.there), ["404", "/api/v1/nothing/import"]),
        (("users", good, "--mode", "insert", *place.there), ["400", "mode:"]),
    ]

    ended = place.run(*(("import", *arguments) for arguments, _ in cases))

    for (status, _, errors), (arguments, words) in zip(ended, cases, strict=True):
        assert status == 1, arguments
        assert errors.startswith(("dossier: ", "The same file came before: ")), errors
        assert errors.splitlines()[-1].startswith("dossier: "), errors
        for word in words:
            assert word in errors.splitlines()[-1], (arguments, errors)
    assert place.bodies("users") == []


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM], ids=lambda sign: sign.name)
def test_an_import_that_is_interrupted_is_taken_up_again(place: Place, sign: signal.Signals) -> None:
    name = place.write("many.csv", many())
    with place.started("users", name) as command:
        until(place.database["users"].estimated_document_count, "something is written", 60)

        command.send_signal(sign)

        output, errors = command.communicate(timeout=10)
    assert (command.returncode, output) == (130, b"")
    assert errors == b"dossier: interrupted; send the file again, and nothing comes twice\n"
    record = place.database["imports"].find_one()
    assert record is not None
    assert record["state"] == "failed"
    before = place.database["users"].count_documents({})
    assert 0 < before < ROWS

    status, output_again, errors_again = place.imported("users", name)

    assert status == 0
    assert counts(output_again) == counted(ROWS, created=ROWS - before, unchanged=before)
    assert errors_again.startswith(f"The same file came before: import {record['_id']}, failed, ")
    assert place.database["users"].count_documents({}) == ROWS


@pytest.mark.slow
def test_whoever_interrupts_an_import_by_a_service_is_told_that_it_goes_on(place: Place) -> None:
    name = place.write("many.csv", many())
    with place.started("users", name, *place.there) as command:
        until(lambda: place.database["imports"].find_one({"rows": {"$gt": 0}}), "it is begun", 60)

        command.send_signal(signal.SIGINT)

        output, errors = command.communicate(timeout=10)
    assert (command.returncode, output) == (130, b"")
    assert errors.startswith(b"dossier: interrupted, and http://")
    assert errors.count(b"\n") == 1
    until(lambda: place.database["imports"].find_one({"state": "complete"}), "the service has done it", 60)
    assert place.database["users"].count_documents({}) == ROWS


@pytest.mark.slow
@pytest.mark.parametrize("is_remote", [False, True], ids=["database", "service"])
def test_a_person_sees_how_far_it_is(place: Place, *, is_remote: bool) -> None:
    name = place.write("many.csv", many(MANY_ROWS))
    screen, terminal = pty.openpty()
    os.set_blocking(screen, False)
    shown = b""

    def shows_how_many() -> bool:
        nonlocal shown
        with suppress(OSError):  # nothing new, or the end
            shown += os.read(screen, 65_536)
        return re.search(rb"[1-9][\d,]* of 100,000 rows", shown) is not None

    there = place.there if is_remote else ()
    with place.started("users", name, "--on-error", "skip", *there, stderr=terminal) as command:
        os.close(terminal)
        until(shows_how_many, "the bar shows how many rows there are", 60)
        command.send_signal(signal.SIGINT)
        until(lambda: [shows_how_many()] and command.poll() is not None, "it ends")
    os.close(screen)
    assert b"many.csv" in shown
    until(lambda: not place.database["imports"].find_one({"state": "running"}), "the service has done it", 60)


class Moody(BaseHTTPRequestHandler):
    """Answers as the service does, but not at once."""

    protocol_version = "HTTP/1.1"
    record_id = "6b02a7e2de17fd8c135b382d"
    keys: list[str] = []
    """That came with each request for an import."""
    bodies: list[bytes] = []

    def do_POST(self) -> None:
        """A token; and for a file: nothing, a refusal, the failed rows of which there are none."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/token"):
            self._answer(200, {"access_token": "token"})
            return
        self.keys.append(self.headers["Idempotency-Key"])
        self.bodies.append(body)
        if len(self.keys) == 1:
            self.close_connection = True
        elif len(self.keys) == 2:
            problem = {"title": "The same file is being imported at this moment", "detail": "Look at its record."}
            self._answer(409, problem, {"Retry-After": "1"})
        else:
            self._send(200, b"name,_errors\r\n", {"Import-Id": self.record_id, "Content-Type": "text/csv"})

    def do_GET(self) -> None:
        """The record, which is not in the list any more."""
        found = counted(1, created=1) | {"id": self.record_id, "state": "complete", "seconds": 0.5, "failed_rows": []}
        found |= dict.fromkeys(["problem", "earlier", "dry_run"])
        self._answer(200, found if self.path.endswith(self.record_id) else {"items": []})

    def _answer(self, status: int, content: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(content).encode(), headers or {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing to say."""


@pytest.mark.slow  # it waits between tries
def test_a_broken_connection_is_asked_again_with_the_same_key(place: Place) -> None:
    name = place.write("one.csv", "name,email\nAda,ada@example.org\n")
    with ThreadingHTTPServer(("127.0.0.1", 0), Moody) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            status, output, errors = place.imported("users", name, "--url", address, "--username", "ada")
        finally:
            server.shutdown()
            thread.join()

    assert status == 0
    assert counts(output) == counted(1, created=1)
    broken, waiting = errors.splitlines()
    assert "broke off" in broken
    assert broken.endswith("; asking again in 2 s")
    assert "409: The same file is being imported" in waiting
    assert waiting.endswith("; asking again in 1 s")
    assert len(set(Moody.keys)) == 1
    assert Moody.bodies == [(place.home.directory / name).read_bytes()] * 3


def test_the_readme_shows_commands_that_run(place: Place) -> None:
    place.run(
        ("seed", "users", "10"),
        *(("export", "users", "-o", f"users.{name}") for name in ("xlsx", "csv", "ndjson")),
    )
    place.empty()
    lines = re.findall(r"^dossier import (.+)$", README, re.MULTILINE)
    commands = [
        [place.service.address if word.startswith("http") else word for word in shlex.split(line)] for line in lines
    ]

    ended = place.run(*(("import", *command) for command in commands[:-1]))
    place.empty()  # the last goes where nobody has these emails under other ids
    ended += place.run(("import", *commands[-1]))

    assert len(lines) == 3
    assert [status for status, _, _ in ended] == [0] * len(lines), ended
