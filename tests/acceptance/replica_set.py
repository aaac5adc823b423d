"""Real mongods on this machine, alone or three together, that tests may kill and start again.

with ReplicaSet(directory) as replica_set, replica_set.home(directory) as home:
    service = home.start()
    replica_set.primary.kill()
    ...
    replica_set.heal()
"""

import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bson import Timestamp
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from service.store.embedded import find_mongod
from service.store.mongod import mongod_command
from tests.acceptance.process import Home, Service, until

NAME = "rs0"
ELECTION_MILLISECONDS = 2000
"""How long the others wait for a silent primary; five times as long by default."""

EXCEEDED_TIME_LIMIT = 262
MEMBER_OPTIONS = [
    *("--replSet", NAME, "--oplogSize", "512"),
    # How much longer than usual a secondary waits for one that says nothing, before it copies from another.
    *("--setParameter", "oplogNetworkTimeoutBufferSeconds=1"),
]
Client = MongoClient[dict[str, Any]]


class Mongod:
    """One mongod with a directory and a port of its own, which it keeps when it is started again."""

    def __init__(self, directory: Path, *options: str) -> None:
        directory.mkdir()
        self._directory = directory
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def address(self) -> str:
        """As a replica set names it."""
        return f"127.0.0.1:{self.port}"

    @property
    def uri(self) -> str:
        """Of this one alone, whatever it is a member of."""
        return f"mongodb://{self.address}/?directConnection=true"

    def client(self) -> Client:
        """A client of this one alone."""
        return MongoClient(self.uri, serverSelectionTimeoutMS=1000, connectTimeoutMS=1000)

    @property
    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, if it does not run, and wait until it answers."""
        if not self.is_running:
            options = ("--wiredTigerCacheSizeGB", "0.25", *self._options)
            self._process = subprocess.Popen(
                mongod_command(find_mongod(), self._directory, self.port, self._directory / "log", *options),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        until(self.hello, f"mongod answers, see {self._directory}")

    def kill(self) -> None:
        """SIGKILL, as the system does when memory runs out, or when its power fails."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """SIGSTOP: it says nothing, while its port still takes connections."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on, as if no time had passed."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def hello(self) -> dict[str, Any]:
        """What it says of itself; nothing while it does not answer."""
        if not self.is_running:
            return {}
        try:
            with self.client() as client:
                return client.admin.command("hello")
        except PyMongoError:
            return {}

    def idle_cursors(self, namespace: str | re.Pattern[str]) -> list[dict[str, Any]]:
        """The cursors that wait for somebody to read on."""
        return idle_cursors(self.uri, namespace)

    def queries(self, namespace: str) -> int:
        """How many times the documents of a collection were asked for here, since it was started."""
        with self.client() as client:
            counts = client.admin.command("top")["totals"].get(namespace, {})
        return sum(counts[kind]["count"] for kind in ("queries", "getmore")) if counts else 0


def idle_cursors(uri: str, namespace: str | re.Pattern[str]) -> list[dict[str, Any]]:
    """A server's cursors that wait for somebody to read on."""
    with Client(uri) as client:
        found = client.admin.aggregate(
            [
                {"$currentOp": {"idleCursors": True, "allUsers": True, "localOps": True}},
                {"$match": {"type": "idleCursor", "ns": namespace}},
            ]
        )
        return [operation["cursor"] for operation in found]


def _steps_down(primary: Mongod) -> bool:
    with primary.client() as client:
        try:
            client.admin.command("replSetStepDown", 10, secondaryCatchUpPeriodSecs=8)
        except OperationFailure as error:
            if error.code != EXCEEDED_TIME_LIMIT:
                raise
            return False
    return True


class ReplicaSet:
    """Three of them. A fault is followed by `heal`, so that one set can serve many tests."""

    def __init__(self, directory: Path, size: int = 3) -> None:
        self.nodes = tuple(Mongod(directory / f"node-{number}", *MEMBER_OPTIONS) for number in range(size))

    def __enter__(self) -> Self:
        with ExitStack() as started:
            for node in self.nodes:
                started.enter_context(node)
            self._initiate()
            self._nodes_to_end = started.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._nodes_to_end.close()

    def _initiate(self) -> None:
        with self.nodes[0].client() as client:
            client.admin.command(
                "replSetInitiate",
                {
                    "_id": NAME,
                    "members": [{"_id": number, "host": node.address} for number, node in enumerate(self.nodes)],
                    "settings": {"electionTimeoutMillis": ELECTION_MILLISECONDS, "heartbeatIntervalMillis": 500},
                },
            )
        self.heal()

    @property
    def uri(self) -> str:
        """Of all of them."""
        return f"mongodb://{','.join(node.address for node in self.nodes)}/?replicaSet={NAME}"

    @property
    def primary(self) -> Mongod:
        """The one that takes writes, as soon as there is one."""
        found = until(self._find_primary, "there is a primary")
        assert found is not None
        return found

    def _find_primary(self) -> Mongod | None:
        # One that was cut off says so of itself for a moment, too: the newest election counts.
        said = [(node.hello(), node) for node in self.nodes]
        elected = [(hello["electionId"], node) for hello, node in said if hello.get("isWritablePrimary")]
        return max(elected, key=lambda pair: pair[0])[1] if elected else None

    @property
    def secondaries(self) -> list[Mongod]:
        """Those that copy the primary."""
        return [node for node in self.nodes if node.hello().get("secondary")]

    def step_down(self) -> None:
        """Let the primary hand over to another, as a rolling upgrade does."""
        former = self.primary
        # Who has stepped down or is behind cannot be elected for a while, and with all others so the primary refuses.
        until(lambda: _steps_down(former), "the primary steps down", every_seconds=1)
        until(lambda: self._find_primary() not in {None, former}, "another is primary")

    def heal(self) -> None:
        """Start those that do not run, and wait until all have found each other and have what the primary had then."""
        for node in self.nodes:
            node.start()
        patiently = partial(until, seconds=60, every_seconds=0.1)  # each look at three nodes makes three clients
        patiently(lambda: len(self.secondaries) == len(self.nodes) - 1, "all others are secondaries")
        patiently(lambda: self._find_primary() is not None, "there is a primary")
        reached = max(patiently(self._optimes, "the primary knows how far all are"))
        patiently(lambda: (optimes := self._optimes()) and min(optimes) >= reached, "all have what it had")

    def _optimes(self) -> list[Timestamp]:
        """How far each has come, as the primary knows; nothing while there is none."""
        try:
            with self.primary.client() as client:
                members = client.admin.command("replSetGetStatus")["members"]
        except PyMongoError:
            return []
        return [member["optime"]["ts"] for member in members]

    @contextmanager
    def home(self, directory: Path, types: Path | None = None, **patches: float) -> Iterator[Home]:
        """A home whose services keep their documents here; with these types more."""
        home = _Home(directory, self.uri, types, patches)
        try:
            yield home
        finally:
            home.close()


class _Home(Home):
    """Has no mongod of its own. `patches` are constants of `service.store.stream` that tests have no time for."""

    def __init__(self, directory: Path, uri: str, types: Path | None, patches: dict[str, float]) -> None:
        assignments = [f"stream.{name} = {value!r}" for name, value in patches.items()]
        startup = "; ".join(["from service.store import stream", *assignments]) if patches else ""
        super().__init__(directory, types, startup)
        self._uri = uri

    @property
    def mongodb_uri(self) -> str:
        """Where the set listens."""
        return self._uri

    def launch(self, *arguments: str, **settings: object) -> Service:
        """`dossier serve` on the set."""
        return super().launch(*arguments, **{"mongodb_uri": self._uri} | settings)
