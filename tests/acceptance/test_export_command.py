"""`dossier export`, from the database and from a running service."""

import hashlib
import json
import os
import pty
import re
import shlex
import signal
import stat
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import openpyxl
import pyarrow.parquet
import pytest
from pymongo import MongoClient

from tests.acceptance.process import DOSSIER, PASSWORD, TOKEN_PATH, Home, Service, command_line, running_pids, until

README = (Path(__file__).parents[2] / "README.md").read_text()
CLOSING_LINE = re.compile(
    r"(?P<name>\S+): (?P<rows>[\d,]+) rows, [\d.]+ (bytes|kB|MB), [\d.]+ s, SHA-256 (?P<sha256>[0-9a-f]{64})\n"
)
KEPT = b"what was there before\n"

FORMATS = {
    "csv": "sort=name&age__gte=18&fields=name,age&delimiter=semicolon&bom=true",
    "ndjson": "sort=-created_at&name__ne=小中 健%E4%B8%80",
    "json": "explode=profile.addresses&snapshot=true",
    "xlsx": "sort=name",
    "parquet": "sort=name",
}


@contextmanager
def started(
    home: Home, *arguments: str, given: str = "", stderr: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[bytes]]:
    """`dossier export` with these arguments, under way."""
    process = subprocess.Popen(
        [DOSSIER, "export", *arguments],
        cwd=home.directory,
        env=home.environment(export_workers=1) | {"TERM": "xterm"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
    )
    assert process.stdin is not None
    try:
        with process.stdin as stdin:
            stdin.write(given.encode())
        process.stdin = None  # else communicate() would flush it
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@contextmanager
def held(pid: int) -> Iterator[None]:
    """Meanwhile nothing is encoded for this process: its exports have begun and go no further."""

    def workers() -> list[int]:
        return [
            child
            for child in running_pids()
            if b"service.transfer.worker" in command_line(child) and f"\nPPid:\t{pid}\n" in status_of(child)
        ]

    stopped = until(workers, "there are workers")
    for worker in stopped:
        os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in stopped:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGCONT)


def status_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


def wait_for_record(home: Home, **values: Any) -> dict[str, Any]:
    """The record of an export that has these, as soon as there is one."""
    with MongoClient[dict[str, Any]](home.mongodb_uri) as client:
        found = until(lambda: client["dossier"]["exports"].find_one(values), f"a record has {values}")
    assert found is not None
    return found


def drafts(home: Home) -> list[Path]:
    return list(home.directory.glob(".dossier-*"))


def in_turn(home: Home, commands: Iterable[tuple[Iterable[str], str]]) -> list[tuple[int, str, str]]:
    """Status, output and errors of each, from its arguments and its standard input."""
    return home.run_in_turn(((("export", *arguments), given) for arguments, given in commands), export_workers=1)


@pytest.fixture
def kept(shared_home: Home) -> Path:
    """A file that no failure touches."""
    path = shared_home.directory / "kept.csv"
    path.write_bytes(KEPT)
    return path


@pytest.fixture(scope="module")
def files(service: Service, shared_home: Home, password: str) -> dict[str, list[Path]]:
    """By format: a file from the database and one from the service, and what was said of them is true."""
    there = ("--url", service.address, "--username", "admin")
    commands = [
        *((("users", query, "-o", f"here.{name}"), "") for name, query in FORMATS.items()),
        *((("users", query, "-o", f"there.{name}", *there), f"{password}\n") for name, query in FORMATS.items()),
    ]
    ended = in_turn(shared_home, commands)
    return {
        name: [checked(shared_home, *here, account="command line"), checked(shared_home, *over_there, account="admin")]
        for name, here, over_there in zip(FORMATS, ended[:5], ended[5:], strict=True)
    }


def checked(home: Home, status: int, output: str, errors: str, *, account: str) -> Path:
    """The file that a command has said it has made, which agrees with its record."""
    assert (status, errors) == (0, "")
    said = CLOSING_LINE.fullmatch(output)
    assert said is not None, output
    path = home.directory / said["name"]
    record = wait_for_record(home, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), account=account)
    assert (record["state"], record["sha256"]) == ("complete", said["sha256"])
    assert f"{record['rows']:,}" == said["rows"]
    assert record["bytes"] == path.stat().st_size
    assert f".{record['format']}" == path.suffix
    with MongoClient[dict[str, Any]](home.mongodb_uri) as client:
        [event] = client["dossier"]["audit"].find({"target": str(record["_id"])})
    assert (event["action"], event["type"], event["account"]) == ("export", record["type"], account)
    return path


@pytest.mark.parametrize("name", ["csv", "ndjson", "json"])
def test_a_file_is_the_same_from_the_database_and_from_a_service(files: dict[str, list[Path]], name: str) -> None:
    here, there = files[name]

    assert here.read_bytes() == there.read_bytes()
    assert here.read_bytes().count(b"\n") >= 10


def test_a_workbook_has_the_same_in_it(files: dict[str, list[Path]]) -> None:
    here, there = ([*openpyxl.load_workbook(path).worksheets[0].values] for path in files["xlsx"])

    assert here == there
    assert len(here) == 51


def test_a_parquet_file_has_the_same_in_it(files: dict[str, list[Path]]) -> None:
    here, there = (pyarrow.parquet.read_table(path) for path in files["parquet"])

    assert here.equals(there)
    assert here.num_rows == 50


def test_a_file_that_was_there_is_replaced_behind_its_link_and_stays_private(
    service: Service, shared_home: Home
) -> None:
    place, link = shared_home.directory / "place.csv", shared_home.directory / "link"
    place.write_bytes(KEPT)
    place.chmod(0o600)
    link.symlink_to(place)

    done = shared_home.run("export", "users", "fields=email", "-o", "link", "--format", "csv")

    assert done.returncode == 0, done.stderr
    assert link.is_symlink()
    assert place.read_bytes().startswith(b"email\r\n")
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_what_is_refused_is_one_line_and_leaves_no_trace(
    service: Service, shared_home: Home, password: str, kept: Path
) -> None:
    form = {"grant_type": "password", "username": "admin", "password": password, "scope": "users:read"}
    token = service.http.post(TOKEN_PATH, data=form).json()["access_token"]
    (shared_home.directory / "token").write_text(token)
    (shared_home.directory / "no-token").write_text("none at all")
    there = ("--url", service.address, "--username", "admin")
    cases: list[tuple[tuple[str, ...], str, list[str]]] = [
        (("users", "-o", "kept.pdf"), "", ["kept.pdf", "xlsx", "--format"]),
        (("users", "-o", "kept.csv", "--format", "doc"), "", ["'doc'", "parquet"]),
        (("users", "-o", "nowhere/kept.csv"), "", ["nowhere"]),
        (("users", "-o", "data", "--format", "csv"), "", ["data is there already"]),
        (("nothing", "-o", "kept.csv"), "", ["'nothing'"]),
        (("users", "nonsense=1&age=old&explode=name", "-o", "kept.csv"), "", ["nonsense:", "age:", "explode:"]),
        (("users", "name=%zz", "-o", "kept.csv", *there), "", ["name:", "UTF-8"]),
        (("users", "-o", "kept.csv", "--username", "admin"), "", ["--url"]),
        (("users", "-o", "kept.csv", "--url", service.address), "", ["--username", "--token-file"]),
        (("users", "-o", "kept.csv", "--url", "localhost:8000", "--username", "admin"), "", ["http://"]),
        (("users", "-o", "kept.csv", "--url", "http://127.0.0.1:1", "--username", "admin"), "x\n", ["127.0.0.1:1"]),
        (("users", "-o", "kept.csv", *there), "wrong\n", ["400", "password is wrong"]),
        (("nothing", "-o", "kept.csv", *there), f"{password}\n", ["404", "/api/v1/nothing/export/csv"]),
        (("users", "nonsense=1&age=old", "-o", "kept.csv", *there), f"{password}\n", ["400", "nonsense:", "age:"]),
        (("users", "-o", "kept.csv", *there[:2], "--token-file", "token"), "", ["403", "users:export"]),
        (("users", "-o", "kept.csv", *there[:2], "--token-file", "no-token"), "", ["no-token"]),
        (("users", "-o", "kept.csv", *there[:2], "--token-file", "missing"), "", ["missing"]),
    ]

    ended = in_turn(shared_home, [(arguments, given) for arguments, given, _ in cases])

    for (status, output, errors), (arguments, _, words) in zip(ended, cases, strict=True):
        assert (status, output) == (1, ""), arguments
        assert errors.startswith("dossier: ")
        assert errors.count("\n") == 1, errors
        for word in words:
            assert word in errors, errors
    assert kept.read_bytes() == KEPT
    assert drafts(shared_home) == []


class Liar(BaseHTTPRequestHandler):
    """Answers as the service does, but for the fault that is the name of the type."""

    protocol_version = "HTTP/1.1"
    body = b"name\r\nAda\r\n"
    tokens = 0
    """How many were given out."""

    def do_POST(self) -> None:
        """A new token."""
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).tokens += 1
        self._answer({"access_token": f"token-{self.tokens}"})

    def do_GET(self) -> None:
        """A file or its record."""
        fault = self.path.split("/")[3]
        if fault == "exports":
            self._record(self.path.rpartition("/")[2])
        elif fault == "busy":
            problem = {"title": "Enough exports are running already", "detail": "4 run at once.", "status": 429}
            self._answer(problem, 429)
        elif fault == "proxy":
            self._send(502, b"<html>", {"Content-Type": "text/html"})
        elif fault == "stranger":
            self._send(200, self.body)
        else:
            length = {"Content-Length": str(len(self.body) + 1)} if fault == "broken" else {}
            self._send(200, self.body, {"Export-Id": fault} | length)
            self.close_connection = fault == "broken"

    def _record(self, fault: str) -> None:
        if fault == "slow" and self.headers["Authorization"] == "Bearer token-1":
            self._answer({"title": "A valid access token is needed", "detail": "It has expired."}, 401)
            return
        digest = hashlib.sha256(self.body + b"!" * (fault == "other")).hexdigest()
        size = len(self.body) + (fault == "short")
        state = "failed" if fault == "failed" else "complete"
        self._answer({"state": state, "rows": 1, "bytes": size, "sha256": digest, "cut_cells": 0})

    def _answer(self, content: dict[str, Any], status: int = 200) -> None:
        self._send(status, json.dumps(content).encode())

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing to say."""


@contextmanager
def liar() -> Iterator[str]:
    """The address of a Liar."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Liar) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_only_a_file_that_agrees_with_its_record_appears(shared_home: Home, kept: Path) -> None:
    faults = {
        "other": "SHA-256",
        "short": "11 bytes",
        "failed": "failed",
        "broken": "broke off",
        "stranger": "Dossier",
        "busy": "429: Enough exports are running already: 4 run at once.",
        "proxy": "502: Bad Gateway",
    }
    with liar() as address:
        there = ("--url", address, "--username", "ada")
        commands = [(fault, "-o", "kept.csv", *there) for fault in faults]

        slow, *ended = in_turn(
            shared_home, [(command, "x\n") for command in [("slow", "-o", "slow.csv", *there), *commands]]
        )

    for (status, output, errors), (fault, word) in zip(ended, faults.items(), strict=True):
        assert (status, output) == (1, ""), fault
        assert errors.count("\n") == 1, errors
        assert word in errors, fault
    assert kept.read_bytes() == KEPT
    assert drafts(shared_home) == []
    assert slow[0] == 0, "a file that took longer than a token is good for is whole all the same"
    assert (shared_home.directory / "slow.csv").read_bytes() == Liar.body


def test_a_service_that_dies_leaves_what_was_there(home: Home) -> None:
    service = home.start("--sample", "10", export_workers=1)
    kept = home.directory / "kept.csv"
    kept.write_bytes(KEPT)
    there = ("--url", service.address, "--username", "admin")
    with held(service.pid), started(home, "users", "-o", "kept.csv", *there, given=f"{PASSWORD}\n") as command:
        wait_for_record(home, state="running")
        until(lambda: drafts(home), "the file is begun")

        service.end(signal.SIGKILL)

        output, errors = command.communicate(timeout=20)
    assert (command.returncode, output) == (1, b"")
    assert errors.count(b"\n") == 1
    assert service.address.encode() in errors
    assert kept.read_bytes() == KEPT
    assert drafts(home) == []


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM], ids=lambda sign: sign.name)
def test_whoever_interrupts_an_export_from_the_database_leaves_what_was_there(
    service: Service, shared_home: Home, kept: Path, sign: signal.Signals
) -> None:
    with started(shared_home, "users", "-o", "kept.csv") as command:
        with held(command.pid):
            record = wait_for_record(shared_home, state="running")
            assert len(drafts(shared_home)) == 1

            command.send_signal(sign)

        output, errors = command.communicate(timeout=20)
    assert (command.returncode, output, errors) == (130, b"", b"")
    assert kept.read_bytes() == KEPT
    assert drafts(shared_home) == []
    wait_for_record(shared_home, _id=record["_id"], state="abandoned")


def test_whoever_interrupts_an_export_from_a_service_leaves_what_was_there(
    service: Service, shared_home: Home, password: str, kept: Path
) -> None:
    arguments = ("users", "-o", "kept.csv", "--url", service.address, "--username", "admin")
    with held(service.pid), started(shared_home, *arguments, given=f"{password}\n") as command:
        record = wait_for_record(shared_home, state="running")
        assert len(drafts(shared_home)) == 1

        command.send_signal(signal.SIGINT)

        output, errors = command.communicate(timeout=20)  # although nothing comes from the service
    assert (command.returncode, output, errors) == (130, b"", b"")
    assert kept.read_bytes() == KEPT
    assert drafts(shared_home) == []
    wait_for_record(shared_home, _id=record["_id"], state="abandoned")


@pytest.mark.parametrize("is_remote", [False, True], ids=["database", "service"])
def test_a_person_sees_how_far_it_is(service: Service, shared_home: Home, password: str, *, is_remote: bool) -> None:
    there = ("--url", service.address, "--username", "admin") if is_remote else ()
    screen, terminal = pty.openpty()
    shown = b""

    def shows_the_total() -> bool:
        nonlocal shown
        shown += os.read(screen, 4096)
        return b" of 50 rows" in shown

    query = ("name__exists=true&sort=name", "-o", "seen.csv", *there)
    with started(shared_home, "users", *query, given=f"{password}\n", stderr=terminal) as command:
        with held(service.pid if is_remote else command.pid):
            until(shows_the_total, "the bar has a total")
        output, _ = command.communicate(timeout=20)
        os.close(terminal)
    os.close(screen)
    assert command.returncode == 0
    assert CLOSING_LINE.fullmatch(output.decode())
    assert b"seen.csv" in shown
    assert b"0 of 50 rows" in shown


def test_the_readme_shows_commands_that_run(service: Service, shared_home: Home, password: str) -> None:
    lines = re.findall(r"^dossier export (.+)$", README, re.MULTILINE)
    commands = [[service.address if word.startswith("http") else word for word in shlex.split(line)] for line in lines]

    ended = in_turn(shared_home, [(command, f"{password}\n") for command in commands])

    assert [(status, errors) for status, _, errors in ended] == [(0, "")] * len(lines)
    assert len(lines) == 3
