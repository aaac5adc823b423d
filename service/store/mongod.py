"""A mongod that runs on this machine: its options, and how it is started, asked and ended."""

import json
import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from service.errors import StartupError

START_SECONDS = 60
STOP_SECONDS = 20
OPTIONS = (
    *("--bind_ip", "127.0.0.1", "--nounixsocket", "--noscripting"),
    *("--networkMessageCompressors", "disabled"),  # CVE-2025-14847
    *("--setParameter", "diagnosticDataCollectionEnabled=false"),
    *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=0"),
)


def mongod_command(mongod: str, dbpath: Path, port: int, log: Path, *options: str) -> list[str]:
    """What starts it: on loopback only, whatever else it is to do."""
    place = ("--dbpath", str(dbpath), "--port", str(port), "--logpath", str(log), "--logappend")
    return [mongod, *place, *OPTIONS, *options]


def start(command: list[str]) -> subprocess.Popen[bytes]:
    """Start it in a session of its own, so that Ctrl-C in a terminal does not reach it."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_until_it_answers(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait for one that was just started. Raises StartupError with what its log says."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if hello(port):
            return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    if process.poll() is None:
        process.kill()
    raise StartupError(f"mongod did not start; the end of {log} says why: {_last_error(log)}")


def running_pid(dbpath: Path) -> int | None:
    """The process that mongod's own lock names, if that is alive and is a mongod of this directory."""
    try:
        pid = int((dbpath / "mongod.lock").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if os.fsencode(dbpath) in command else None


def end(pid: int) -> None:
    """SIGTERM, and SIGKILL for one that does not heed it."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(pid, sign)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            if not _is_alive(pid):
                return
            time.sleep(0.01)


def uri_of(port: int) -> str:
    """Of the server there alone, whatever it is a member of."""
    return f"mongodb://127.0.0.1:{port}/?directConnection=true"


def client_of(port: int, **options: Any) -> MongoClient[dict[str, Any]]:
    """A client that waits for nothing long."""
    return MongoClient(
        uri_of(port), serverSelectionTimeoutMS=1000, connectTimeoutMS=1000, socketTimeoutMS=10_000, **options
    )


def hello(port: int) -> dict[str, Any]:
    """What the server says of itself; nothing, where none answers."""
    if not listens(port):
        return {}
    try:
        with client_of(port) as client:
            return client.admin.command("hello")
    except PyMongoError:
        return {}


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether anything does; asked first, as the driver would try for its whole timeout."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_alive(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())  # empty for a zombie
    except OSError:
        return False


def _last_error(log: Path) -> str:
    """The last line in mongod's log that is worse than a warning."""
    try:
        lines = [
            json.loads(line) for line in log.read_text(errors="replace").splitlines()[-200:] if line.startswith("{")
        ]
    except (OSError, ValueError):
        return "it wrote no log"
    errors = [f"{line.get('msg')} {line.get('attr', '')}" for line in lines if line.get("s") in {"E", "F"}]
    return errors[0] if errors else "no error in it"
