"""The program as a process of its own: started, waited for, and ended whatever becomes of the test."""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pymongo import MongoClient

DOSSIER = Path(sys.executable).parent / "dossier"
TOKEN_PATH = "/api/v1/auth/token"
PASSWORD = "correct horse battery"
LAST_CHUNK = b"0\r\n\r\n"
"""What ends a whole chunked answer (RFC 9112 §7.1)."""

MORE_TYPES = "import service.documents; service.documents.__path__.append({!r})"
"""As if the files of another folder lay in `service/documents/` too."""

IN_TURN = """
import contextlib, io, json, sys
from service.cli import main
ended = []
for arguments, given in json.load(sys.stdin):
    sys.argv = ["dossier", *arguments]
    sys.stdin = io.StringIO(given)
    output, errors = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO())
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            main()
        except SystemExit as end:
            for stream in (output, errors):
                stream.flush()
            ended.append([end.code, output.buffer.getvalue().decode(), errors.buffer.getvalue().decode()])
json.dump(ended, sys.stdout)
"""
"""`dossier` with one list of arguments after the other, as to start Python for each takes a second."""

T = TypeVar("T")


def until(check: Callable[[], T], what: str, seconds: float = 30) -> T:
    """What `check` finds, as soon as it finds something."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)
    return found


class Service:
    """A running `dossier serve`."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self._process = process
        self._output = output
        self._client: httpx.Client | None = None

    @property
    def pid(self) -> int:
        """Of the service itself, not of its mongod."""
        return self._process.pid

    @property
    def stdout(self) -> str:
        """What it has said so far."""
        return self._output.with_suffix(".stdout").read_text()

    @property
    def stderr(self) -> str:
        """What it has logged so far."""
        return self._output.with_suffix(".stderr").read_text()

    @property
    def log(self) -> list[dict[str, Any]]:
        """Its whole lines; the last one may still be on its way."""
        return [json.loads(line) for line in self.stderr.splitlines(keepends=True) if line.endswith("\n")]

    @property
    def password(self) -> str | None:
        """The one that it made up, if it did."""
        found = re.search(r"with the password (\S+)", self.stdout)
        return found[1] if found else None

    def wait_until_ready(self) -> None:
        """Wait until it serves."""

        def has_said_how_to_sign_in() -> bool:
            assert self._process.poll() is None, f"it ended with {self._process.returncode}: {self.stderr}"
            return "ign in" in self.stdout

        until(has_said_how_to_sign_in, "the service says how to sign in")
        httpx.get(f"{self.address}/health", timeout=30)  # it listens before it serves

    @property
    def address(self) -> str:
        """Where it listens, in its own words."""
        found = re.search(r"Dossier listens on (http://\S+),", self.stdout)
        assert found, self.stdout
        return found[1]

    @property
    def http(self) -> httpx.Client:
        """A client that keeps its connections open, as programs do."""
        if self._client is None:
            self._client = httpx.Client(base_url=self.address, timeout=20)
        return self._client

    def sign_in(self, username: str = "admin", password: str = PASSWORD) -> httpx.Response:
        """The answer to the password grant."""
        form = {"grant_type": "password", "username": username, "password": password}
        return self.http.post(TOKEN_PATH, data=form)

    def token(self, username: str = "admin", password: str = PASSWORD) -> str:
        """An access token for all that the account may do."""
        response = self.sign_in(username, password)
        assert response.status_code == 200, response.text
        token: str = response.json()["access_token"]
        return token

    def send(self, sign: signal.Signals) -> None:
        """Send it a signal, and do not wait."""
        self._process.send_signal(sign)

    def wait(self, seconds: float = 20) -> int:
        """Its exit status."""
        return self._process.wait(seconds)

    def end(self, sign: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status, after this signal."""
        self.send(sign)
        return self.wait()

    def close(self) -> None:
        """End it, whatever state it is in."""
        if self._client is not None:
            self._client.close()
        self._process.kill()
        self._process.wait()


class Home:
    """A directory in which services run one after the other, with its data directory and nobody else's settings.

    `types` is a folder with more document types than the registered ones; `startup` is what each process runs first.
    """

    def __init__(self, directory: Path, types: Path | None = None, startup: str = "") -> None:
        self.directory = directory
        self.data_dir = directory / "data"
        self._program = [str(DOSSIER)]
        self._startup = "\n".join([MORE_TYPES.format(str(types)) if types else "", startup]).strip()
        self._services: list[Service] = []

    def environment(self, **settings: object) -> dict[str, str]:
        """A newcomer's, with these settings."""
        given = {f"DOSSIER_{name.upper()}": str(value) for name, value in settings.items()}
        base = {"PATH": os.environ["PATH"], "HOME": str(self.directory), "DOSSIER_DATA_DIR": str(self.data_dir)}
        return base | given | self._python_path()

    def _python_path(self) -> dict[str, str]:
        """What lets each Python run `startup`, as its child processes are started anew."""
        if not self._startup:
            return {}
        folder = self.directory / "startup"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(self._startup)
        return {"PYTHONPATH": str(folder)}

    def launch(self, *arguments: str, **settings: object) -> Service:
        """`dossier serve` on a free port, not waited for."""
        output = self.directory / f"service-{len(self._services)}"
        with output.with_suffix(".stdout").open("wb") as stdout, output.with_suffix(".stderr").open("wb") as stderr:
            process = subprocess.Popen(
                [*self._program, "serve", "--port", "0", *arguments],
                cwd=self.directory,
                env=self.environment(**settings),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        self._services.append(Service(process, output))
        return self._services[-1]

    def start(self, *arguments: str, **settings: object) -> Service:
        """`dossier serve` on a free port, once it can be used; the first account has `PASSWORD`."""
        service = self.launch(*arguments, **{"admin_password": PASSWORD} | settings)
        service.wait_until_ready()
        return service

    def run(
        self, *arguments: str, given: str = "", environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Another command of `dossier` in this home, with its standard input."""
        return subprocess.run(
            [*self._program, *arguments],
            check=False,
            cwd=self.directory,
            env=environment or self.environment(),
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def run_in_turn(
        self, commands: Iterable[tuple[Iterable[str], str]], **settings: object
    ) -> list[tuple[int, str, str]]:
        """Status, output and errors of each, from its arguments and its standard input."""
        done = subprocess.run(
            [sys.executable, "-c", IN_TURN],
            check=True,
            cwd=self.directory,
            env=self.environment(**settings),
            input=json.dumps([(list(arguments), given) for arguments, given in commands]),
            stdout=subprocess.PIPE,
            text=True,
            timeout=100,
        )
        return [(status, output, errors) for status, output, errors in json.loads(done.stdout)]

    @property
    def mongods(self) -> list[int]:
        """The processes that keep this home's data; a dead one that nobody has waited for does not count."""
        return [pid for pid in running_pids() if self._is_mongod(pid)]

    def _is_mongod(self, pid: int) -> bool:
        return os.fsencode(self.data_dir / "mongodb") in command_line(pid)

    @property
    def mongod(self) -> int:
        """The one mongod of this home."""
        (pid,) = self.mongods
        return pid

    @property
    def mongodb_uri(self) -> str:
        """Where its mongod listens."""
        port = json.loads((self.data_dir / "mongod.json").read_text())["port"]
        return f"mongodb://127.0.0.1:{port}/?directConnection=true"

    def kill_mongod(self) -> None:
        """As the system does when memory runs out."""
        os.kill(self.mongod, signal.SIGKILL)
        until(lambda: not self.mongods, "the killed mongod is gone")

    @contextmanager
    def hung_mongod(self) -> Iterator[int]:
        """Its mongod, stopped so that it answers nothing while its port still takes connections."""
        pid = self.mongod
        os.kill(pid, signal.SIGSTOP)
        try:
            yield pid
        finally:
            if self._is_mongod(pid):
                os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """End all that was started here."""
        for service in self._services:
            service.close()
        for pid in self.mongods:
            os.kill(pid, signal.SIGKILL)
        until(lambda: not self.mongods, "what was killed is gone")


def running_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def command_line(pid: int) -> list[bytes]:
    """Its words; none for a process that is not, or is a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


class Download:
    """A client that asks for a file and reads it no faster than the test does."""

    def __init__(self, service: Service, path: str, token: str) -> None:
        url = httpx.URL(service.address)
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)  # so that the system reads little ahead
        self._socket.settimeout(30)
        self._socket.connect((url.host, url.port))
        request = f"GET {path} HTTP/1.1\r\nHost: {url.host}\r\nAuthorization: Bearer {token}\r\n\r\n"
        self._socket.sendall(request.encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    def read(self, size: int) -> bytes:
        """At least so many bytes, unless it ends before."""
        received = b""
        while len(received) < size and (some := self._receive()):
            received += some
        return received

    def read_to_end(self) -> bytes:
        """What comes until the connection ends, however it does."""
        received = bytearray()
        while some := self._receive():
            received += some
            if received.endswith(LAST_CHUNK):
                break
        return bytes(received)

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(65_536)
        except ConnectionError:
            return b""


def fill(home: Home, count: int) -> None:
    """Users of 4 kB that no format makes much smaller, so that no buffer on the way holds them all."""

    def user(number: int) -> dict[str, Any]:
        streets = [base64.b64encode(os.urandom(150)).decode() for _ in range(20)]
        addresses = [{"street": street, "city": "-", "country": "GB"} for street in streets]
        profile = {"bio": None, "addresses": addresses}
        return {"name": "Ada", "email": f"{number}@example.org", "tags": [], "profile": profile, "revision": 1}

    with MongoClient[dict[str, Any]](home.mongodb_uri) as client:
        client["dossier"]["users"].insert_many(user(number) for number in range(count))


def open_cursors(home: Home) -> int:
    with MongoClient[dict[str, Any]](home.mongodb_uri) as client:
        status = client.admin.command("serverStatus")
    total: int = status["metrics"]["cursor"]["open"]["total"]
    return total
