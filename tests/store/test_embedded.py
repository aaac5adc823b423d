"""The embedded mongod: how it is found, started, closed to others, and started again whatever was left."""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from service.errors import StartupError
from service.store.embedded import embedded_server, find_mongod

LOOPBACK = "0100007F"
"""127.0.0.1, as Linux's table of sockets writes it."""

LISTEN = "0A"


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A directory without a server, before and after."""
    yield tmp_path / "data"
    for pid in mongods(tmp_path / "data"):
        os.kill(pid, signal.SIGKILL)


def client(uri: str) -> MongoClient[dict[str, Any]]:
    return MongoClient(uri, serverSelectionTimeoutMS=5000)


def port_of(uri: str) -> int:
    return int(uri.removeprefix("mongodb://127.0.0.1:").partition("/")[0])


def options_of(uri: str) -> dict[str, Any]:
    with client(uri) as connected:
        parsed: dict[str, Any] = connected.admin.command("getCmdLineOpts")["parsed"]
    return parsed


def insert(uri: str, number: int) -> None:
    with client(uri) as connected:
        connected["kept"]["numbers"].insert_one({"number": number})


def numbers(uri: str) -> list[int]:
    with client(uri) as connected:
        return [document["number"] for document in connected["kept"]["numbers"].find().sort("number")]


def mongods(data_dir: Path) -> list[int]:
    """The processes that keep this directory's data."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if os.fsencode(data_dir / "mongodb") in words:
            found.append(int(entry.name))
    return found


def until(check: Callable[[], bool], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)


def local_addresses(port: int) -> set[str]:
    """The addresses at which something listens on this port, IPv6 included."""
    sockets = [
        line.split()
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        if Path(table).exists()
        for line in Path(table).read_text().splitlines()[1:]
    ]
    return {
        fields[1].partition(":")[0]
        for fields in sockets
        if fields[3] == LISTEN and int(fields[1].partition(":")[2], 16) == port
    }


def test_it_is_primary_and_ends_with_its_owner(data_dir: Path) -> None:
    with embedded_server(data_dir) as uri, client(uri) as connected:
        hello = connected.admin.command("hello")
        assert hello["isWritablePrimary"]
        assert hello["setName"] == "rs0"
        assert len(mongods(data_dir)) == 1

    assert mongods(data_dir) == []
    assert local_addresses(port_of(uri)) == set()


def test_it_is_closed_to_everybody_else(mongodb_uri: str) -> None:
    parsed = options_of(mongodb_uri)

    assert local_addresses(port_of(mongodb_uri)) == {LOOPBACK}
    assert parsed["net"]["bindIp"] == "127.0.0.1"
    assert parsed["net"]["unixDomainSocket"] == {"enabled": False}


def test_it_compresses_nothing(mongodb_uri: str) -> None:
    # CVE-2025-14847 reads memory through compressed messages.
    with MongoClient[dict[str, Any]](mongodb_uri, compressors="zlib") as connected:
        hello = connected.admin.command("hello", compression=["zlib", "zstd", "snappy"])

    assert hello.get("compression", []) == []
    assert options_of(mongodb_uri)["net"]["compression"] == {"compressors": "disabled"}


def test_it_runs_no_script(mongodb_uri: str) -> None:
    assert options_of(mongodb_uri)["security"] == {"javascriptEnabled": False}
    with client(mongodb_uri) as connected, pytest.raises(OperationFailure):
        connected["scripts"]["any"].find_one({"$where": "true"})


def test_what_others_could_read_is_closed_to_them(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o755)

    with embedded_server(data_dir):
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700


def test_a_second_user_shares_it_and_leaves_it_running(data_dir: Path) -> None:
    with embedded_server(data_dir) as uri:
        with embedded_server(data_dir) as second:
            assert second == uri

        insert(uri, 1)
        assert numbers(uri) == [1]


@pytest.mark.parametrize("address", ['{"port": %d}', "[]", ""], ids=lambda address: address or "nothing")
def test_data_outlives_whatever_the_address_file_says(data_dir: Path, address: str) -> None:
    with embedded_server(data_dir) as uri:
        insert(uri, 1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        other_port = probe.getsockname()[1]
    (data_dir / "mongod.json").write_text(address % other_port if "%" in address else address)

    with embedded_server(data_dir) as uri:
        assert numbers(uri) == [1]
        insert(uri, 2)
        with client(uri) as connected:
            (member,) = connected.admin.command("replSetGetConfig")["config"]["members"]
        assert member["host"] == f"127.0.0.1:{port_of(uri)}"
        if "%" in address:
            assert port_of(uri) == other_port


@pytest.mark.slow  # MongoDB looks for itself at the old address for 30 s
def test_a_port_that_another_has_taken_is_given_up(data_dir: Path) -> None:
    with embedded_server(data_dir) as uri:
        insert(uri, 1)

    with socket.create_server(("127.0.0.1", port_of(uri))), embedded_server(data_dir) as second:
        assert port_of(second) != port_of(uri)
        assert numbers(second) == [1]


def test_another_mongod_at_the_old_port_is_not_taken_for_its_own(data_dir: Path, mongodb_uri: str) -> None:
    with embedded_server(data_dir) as uri:
        insert(uri, 1)
    (data_dir / "mongod.json").write_text(json.dumps({"port": port_of(mongodb_uri)}))

    with embedded_server(data_dir) as second:
        assert second != mongodb_uri
        assert numbers(second) == [1]
    with client(mongodb_uri) as connected:
        assert connected.admin.command("ping")["ok"] == 1


def test_a_lock_that_names_somebody_elses_process_harms_nobody(data_dir: Path) -> None:
    with embedded_server(data_dir) as uri:
        insert(uri, 1)
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        # As when the numbers of processes start again at a boot.
        (data_dir / "mongodb" / "mongod.lock").write_text(f"{bystander.pid}\n")

        with embedded_server(data_dir) as uri:
            assert numbers(uri) == [1]

        assert bystander.poll() is None
    finally:
        bystander.communicate(b"\n")


def test_a_start_that_was_cut_off_before_the_replica_set_was_made_is_no_hindrance(data_dir: Path) -> None:
    (data_dir / "mongodb").mkdir(parents=True)
    command = [find_mongod(), "--dbpath", str(data_dir / "mongodb"), "--port", "0", "--bind_ip", "127.0.0.1"]
    log = data_dir / "first.log"
    first = subprocess.Popen([*command, "--replSet", "rs0", "--nounixsocket", "--logpath", str(log)])
    try:
        until(lambda: log.exists() and "Waiting for connections" in log.read_text(), "the first mongod runs")
    finally:
        first.kill()
        first.wait()

    with embedded_server(data_dir) as uri:
        insert(uri, 1)
        assert numbers(uri) == [1]


def test_data_that_it_cannot_read_is_said_in_a_line(data_dir: Path) -> None:
    (data_dir / "mongodb").mkdir(parents=True)
    (data_dir / "mongodb" / "storage.bson").write_bytes(b"not BSON")

    with pytest.raises(StartupError, match="mongod did not start") as raised, embedded_server(data_dir):
        pass

    line = str(raised.value)
    assert "\n" not in line
    assert str(data_dir / "mongod.log") in line
    assert "InvalidBSON" in line
    assert mongods(data_dir) == []


def hide_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(_name: str) -> ModuleSpec | None:
        return None

    monkeypatch.setattr("importlib.util.find_spec", find_spec)


def test_the_packaged_mongod_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_mongod().endswith("fiftyone/db/bin/mongod")


def test_without_the_package_a_mongod_on_the_path_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mongod = tmp_path / "mongod"
    mongod.symlink_to(find_mongod())
    hide_the_package(monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_mongod() == str(mongod)


def test_without_any_mongod_a_line_names_three_ways_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_the_package(monkeypatch)
    monkeypatch.setenv("PATH", "")
    assert shutil.which("mongod") is None

    with pytest.raises(StartupError) as raised:
        find_mongod()

    line = str(raised.value)
    assert "\n" not in line
    assert all(way in line for way in ("pip install", "PATH", "DOSSIER_MONGODB_URI"))


@pytest.mark.parametrize(
    "script",
    ["#!/bin/sh\necho 'libcurl.so.4: not found' >&2\necho 'try again' >&2\nexit 127\n", "no program"],
    ids=["a library is missing", "for another machine"],
)
def test_a_mongod_that_does_not_run_is_named_in_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str
) -> None:
    hide_the_package(monkeypatch)
    mongod = tmp_path / "mongod"
    mongod.write_text(script)
    mongod.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(StartupError) as raised:
        find_mongod()

    line = str(raised.value)
    assert "\n" not in line
    assert str(mongod) in line
    assert "DOSSIER_MONGODB_URI" in line
