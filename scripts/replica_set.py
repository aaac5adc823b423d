"""A replica set of three on this machine, with key file and users, made by the same scripts as in production."""

import argparse
import base64
import fcntl
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pymongo.errors import PyMongoError
from rich.console import Console
from rich.table import Table

from service.errors import StartupError
from service.store.embedded import REPLICA_SET, find_mongod
from service.store.mongod import (
    client_of,
    end,
    hello,
    listens,
    mongod_command,
    running_pid,
    start,
    uri_of,
    wait_until_it_answers,
)

ROOT = Path(__file__).resolve().parents[1]
MONGOSH = ROOT / ".mongosh" / "node_modules" / ".bin" / "mongosh"
SCRIPTS = ROOT / "scripts" / "mongosh"
FIRST_PORT = 27117
SIZE = 3
USERS = ("admin", "service", "analyst", "backup", "restore", "monitor")
"""As their passwords are named; MongoDB knows the service as `dossier`."""
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ELECTION_MILLISECONDS = 2000
"""Five times as long by default, which whoever tries things out has no patience for."""
WAIT_SECONDS = 60
OPTIONS = ("--replSet", REPLICA_SET, "--oplogSize", "256", "--wiredTigerCacheSizeGB", "0.25")


class Node:
    """One of the three."""

    def __init__(self, folder: Path, number: int, port: int) -> None:
        self.number = number
        self.port = port
        self._dbpath = folder / f"node-{number}"
        self._log = folder / f"node-{number}.log"
        self._key_file = folder / "key_file"

    @property
    def address(self) -> str:
        """As the set names it."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Its process, if it runs: no other that has its number by now."""
        return running_pid(self._dbpath)

    @property
    def state(self) -> str:
        """As MongoDB names it; `paused` and `dead` are ours."""
        if self.pid is None:
            return "dead"
        if self.is_paused:
            return "paused"
        said = hello(self.port)
        return "PRIMARY" if said.get("isWritablePrimary") else "SECONDARY" if said.get("secondary") else "starting"

    @property
    def is_paused(self) -> bool:
        """Whether its process is stopped, while its port still takes connections."""
        try:
            status = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        return status.rpartition(") ")[2].startswith("T")

    def start(self, mongod: str) -> None:
        """Start it, or let it go on."""
        if self.pid is not None:
            self.send(signal.SIGCONT)
            return
        if listens(self.port):
            raise StartupError(f"another program listens on {self.address}, where node {self.number} is to be")
        self._dbpath.mkdir(mode=0o700, exist_ok=True)
        command = mongod_command(mongod, self._dbpath, self.port, self._log, *OPTIONS, "--keyFile", str(self._key_file))
        wait_until_it_answers(start(command), self.port, self._log)

    def stop(self) -> None:
        """End it in order."""
        if (pid := self.pid) is not None:
            self.send(signal.SIGCONT)
            end(pid)

    def send(self, sign: signal.Signals) -> None:
        """Send its process a signal. Raises StartupError where there is none."""
        pid = self.pid
        if pid is None:
            raise StartupError(f"node {self.number} does not run")
        os.kill(pid, sign)


class ReplicaSet:
    """The three of a folder, which keeps their data, ports, key and passwords."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._ports = self._folder / "ports.json"
        ports = json.loads(self._ports.read_text()) if self._ports.exists() else []
        self.nodes = [Node(self._folder, number, port) for number, port in enumerate(ports, 1)]

    def uri(self, user: str = "service") -> str:
        """All nodes' address for one of the users. Raises StartupError."""
        if not self.nodes:
            raise StartupError("there is no set yet; `scripts/replica-set start` makes it")
        name = "dossier" if user == "service" else user
        members = ",".join(node.address for node in self.nodes)
        return f"mongodb://{name}:{self._password(user)}@{members}/?replicaSet={REPLICA_SET}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes it meanwhile."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        with (self._folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StartupError("another scripts/replica-set is at work") from None
            yield

    def start(self) -> None:
        """Bring all up, and make them a set with users."""
        self._prepare()
        mongod = find_mongod()
        for node in self.nodes:
            node.start(mongod)
        if hello(self.nodes[0].port).get("setName"):
            self.wait_until_healthy()
        self._run_scripts("init-replica-set.js", "create-users.js")
        self.wait_until_healthy()

    def stop(self) -> None:
        """End all."""
        for node in self.nodes:
            node.stop()

    def kill_primary(self) -> Node:
        """SIGKILL, as when memory runs out or the power fails."""
        primary = self.primary()
        primary.send(signal.SIGKILL)
        return primary

    def step_down(self) -> tuple[Node, Node]:
        """Let the primary hand over, as a rolling upgrade does; who it was, and who is it now."""
        former = self.primary()
        try:
            with client_of(former.port, username="admin", password=self._password("admin")) as client:
                client.admin.command("replSetStepDown", 30, secondaryCatchUpPeriodSecs=10)
        except PyMongoError as error:
            raise StartupError(f"node {former.number} does not step down: {error}") from error
        _wait_for("another is primary", lambda: self._find_primary() not in {None, former})
        return former, self.primary()

    def node(self, number: int) -> Node:
        """One of them by its number. Raises StartupError."""
        for node in self.nodes:
            if node.number == number:
                return node
        raise StartupError(f"there is no node {number}; `scripts/replica-set status` shows them")

    def primary(self) -> Node:
        """The one that takes writes. Raises StartupError."""
        found = self._find_primary()
        if found is None:
            raise StartupError("there is no primary; `scripts/replica-set status` shows what runs")
        return found

    def _find_primary(self) -> Node | None:
        # One that was cut off says so of itself for a moment, too: the newest election counts.
        said = [(hello(node.port), node) for node in self.nodes if node.pid is not None and not node.is_paused]
        elected = [(one["electionId"], node) for one, node in said if one.get("isWritablePrimary")]
        return max(elected, key=lambda pair: pair[0])[1] if elected else None

    def wait_until_healthy(self) -> None:
        """Until one is primary and the others copy it."""
        healthy = sorted(["PRIMARY", *["SECONDARY"] * (SIZE - 1)])
        _wait_for("all three have found each other", lambda: sorted(node.state for node in self.nodes) == healthy)

    def _prepare(self) -> None:
        """What has to be there before the first start; what is there stays."""
        if not self.nodes:
            ports: list[int] = []
            port = FIRST_PORT
            while len(ports) < SIZE:
                ports += [] if listens(port) else [port]
                port += 1
            self._ports.write_text(json.dumps(ports))
            self.nodes = [Node(self._folder, number, port) for number, port in enumerate(ports, 1)]
        self._keep_secret("key_file", base64.b64encode(secrets.token_bytes(756)).decode())
        for user in USERS:
            self._keep_secret(f"{user}_password", secrets.token_hex(16))
        with (self._folder / "views.json").open("wb") as views:
            subprocess.run([sys.executable, "-m", "service", "database", "views"], check=True, cwd=ROOT, stdout=views)

    def _keep_secret(self, name: str, text: str) -> None:
        path = self._folder / name
        if not path.exists():
            path.touch(mode=0o600)
        if not path.read_text():
            path.write_text(text)

    def _password(self, user: str) -> str:
        return (self._folder / f"{user}_password").read_text()

    def _run_scripts(self, *names: str) -> None:
        parameters = {
            "MEMBERS": ",".join(node.address for node in self.nodes),
            "ELECTION_TIMEOUT_MS": str(ELECTION_MILLISECONDS),
            "VIEWS_FILE": str(self._folder / "views.json"),
            **{f"{user.upper()}_PASSWORD_FILE": str(self._folder / f"{user}_password") for user in USERS},
        }
        files = [argument for name in names for argument in ("--file", str(SCRIPTS / name))]
        done = subprocess.run(
            [MONGOSH, "--quiet", "--norc", uri_of(self.nodes[0].port), *files],
            check=False,
            env=os.environ | parameters,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise StartupError(f"mongosh says: {' '.join((done.stderr or done.stdout).split())}")


def _wait_for(what: str, check: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not check():
        if time.monotonic() > deadline:
            raise StartupError(f"not within {WAIT_SECONDS} s: {what}; the logs are beside the nodes' folders")
        time.sleep(0.1)


def run(arguments: argparse.Namespace) -> None:
    """Do what is asked, and say what was done."""
    replica_set = ReplicaSet(arguments.folder)
    match arguments.command:
        case "start":
            with replica_set.locked():
                replica_set.start()
            print(replica_set.uri())
        case "stop":
            with replica_set.locked():
                replica_set.stop()
        case "status":
            table = Table("node", "address", "process", "state")
            for node in replica_set.nodes:
                table.add_row(str(node.number), node.address, str(node.pid or ""), node.state)
            Console().print(table)
        case "uri":
            print(replica_set.uri(arguments.user))
        case "kill-primary":
            print(f"killed node {replica_set.kill_primary().number}, which was primary")
        case "step-down":
            former, primary = replica_set.step_down()
            print(f"node {former.number} handed over to node {primary.number}")
        case "pause":
            pause(replica_set.node(arguments.node), arguments.seconds)


def pause(node: Node, seconds: float | None) -> None:
    """SIGSTOP, after which it answers nothing while its port still takes connections; SIGCONT when the time is over.

    SIGCONT too when this is to end before.
    """
    if seconds is None:
        node.send(signal.SIGSTOP)
        print(f"node {node.number} is paused until `scripts/replica-set start`")
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    node.send(signal.SIGSTOP)
    try:
        print(f"node {node.number} is paused for {seconds:g} s", flush=True)
        came = signal.sigtimedwait(ENDING, seconds)
    finally:
        node.send(signal.SIGCONT)
    if came is not None:
        sys.exit(128 + came.si_signo)


def main(given: Sequence[str] | None = None) -> None:
    """Read the command; whatever can be foreseen ends it with one line and status 1."""
    parser = argparse.ArgumentParser(prog="scripts/replica-set", description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / ".replica-set", help="where the three keep everything")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("start", help="start those that do not run, and print the address for DOSSIER_MONGODB_URI")
    commands.add_parser("stop", help="end all; their data stays")
    commands.add_parser("status", help="show what each is")
    uri_parser = commands.add_parser("uri", help="print the address for one of the users")
    uri_parser.add_argument("user", choices=USERS)
    commands.add_parser("kill-primary", help="SIGKILL it; `start` brings it back")
    commands.add_parser("step-down", help="let the primary hand over to another")
    pause_parser = commands.add_parser("pause", help="SIGSTOP a node, for some seconds or until `start`")
    pause_parser.add_argument("node", type=int, metavar="N")
    pause_parser.add_argument("seconds", type=float, nargs="?")
    try:
        run(parser.parse_args(given))
    except StartupError as error:
        sys.exit(f"scripts/replica-set: {error}")


if __name__ == "__main__":
    main()
