"""Several processes behind one socket: how they start, die, are replaced and end."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from pymongo import MongoClient

from tests.acceptance.process import PASSWORD, Home, Service, parent_of, running_pids, until
from tests.acceptance.replica_set import ReplicaSet

IN_A_WORKER = "import sys\nif '--multiprocessing-fork' in sys.argv:\n    {}"
"""What only workers run first."""

NO_SERVICES = """
import contextlib
from service import app
from service.errors import StartupError

@contextlib.asynccontextmanager
async def fail(*_arguments, **_options):
    raise StartupError("the made-up reason")
    yield

app.open_exporter = fail
"""
NO_END = """
import asyncio, contextlib
from service import app

@contextlib.asynccontextmanager
async def hang(*_arguments, **_options):
    await asyncio.sleep(600)
    yield

app.open_exporter = hang
"""
HANGING_PREPARATION = """
import asyncio
from service.cli import serve

async def hang(*_arguments):
    await asyncio.sleep(600)

serve.prepare = hang
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    """A MongoDB on which services come and go."""
    with ReplicaSet(tmp_path_factory.mktemp("data"), size=1) as replica_set:
        yield replica_set


@pytest.fixture
def empty(data: ReplicaSet) -> ReplicaSet:
    """The same, with nothing in the service's database."""
    with data.primary.client() as client:
        client.drop_database("dossier")
    return data


def process_group(service: Service) -> list[int]:
    """All that it has started, itself included."""
    parents = {pid: parent_of(pid) for pid in running_pids()}
    found = [service.pid]
    for ancestor in found:
        found += [pid for pid, parent in parents.items() if parent == ancestor]
    return found


def assert_all_gone(pids: list[int]) -> None:
    until(lambda: not any(parent_of(pid) is not None for pid in pids), "no process is left behind")


def test_workers_share_a_socket_are_replaced_and_end_together(home: Home) -> None:
    service = home.start("--workers", "2")
    killed, other = service.workers
    headers = {"Authorization": f"Bearer {service.token()}"}

    os.kill(killed, signal.SIGKILL)
    for _ in range(20):
        assert httpx.get(f"{service.address}/api/v1/users", headers=headers).status_code == 200
    until(lambda: killed not in service.workers and len(service.workers) == 2, "the killed one is replaced")
    processes = process_group(service)

    assert other in service.workers
    assert service.end() == 0
    assert_all_gone(processes)
    assert home.mongods == []
    assert "Traceback" not in service.stderr
    assert service.log, "each line is JSON"
    assert service.stdout.count("Dossier listens on") == service.stdout.count("ign in") == 1


@pytest.mark.slow
def test_workers_keep_metrics_in_a_folder_of_their_own_that_goes_with_them(home: Home) -> None:
    service = home.start("--workers", "2")

    folders = {variable(pid, b"PROMETHEUS_MULTIPROC_DIR") for pid in service.workers}

    [folder] = folders
    assert folder is not None
    assert Path(folder).stat().st_mode & 0o777 == 0o700
    assert service.end() == 0
    assert not Path(folder).exists()


def variable(pid: int, name: bytes) -> str | None:
    """Of a process's environment."""
    variables = dict(entry.partition(b"=")[::2] for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    return os.fsdecode(variables[name]) if name in variables else None


@pytest.mark.slow
def test_secrets_reach_workers_by_nothing_that_others_could_read(home: Home) -> None:
    service = home.start("--workers", "2")
    key = (home.data_dir / "secret_key").read_bytes()

    for pid in (service.pid, *service.workers):
        assert key not in Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()

    tokens = [service.token() for _ in range(4)]
    for token in tokens:
        for _ in range(4):  # over new connections, so that each is taken by whichever worker is first
            response = httpx.get(f"{service.address}/api/v1/auth/me", headers={"Authorization": f"Bearer {token}"})
            assert response.status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("startup", "arguments", "reason"),
    [
        (NO_SERVICES, (), "the made-up reason"),
        (IN_A_WORKER.format(f"exec({NO_SERVICES!r})"), ("--workers", "2"), "the made-up reason"),
        (IN_A_WORKER.format("import os; os._exit(7)"), ("--workers", "2"), "a worker ended with status 7"),
    ],
    ids=["one process", "workers that say why", "workers that die"],
)
def test_what_cannot_start_says_so_in_a_line_and_ends_all(
    tmp_path: Path, startup: str, arguments: tuple[str, ...], reason: str
) -> None:
    home = Home(tmp_path, startup=startup)
    try:
        service = home.launch(*arguments, admin_password=PASSWORD, log_level="warning")

        assert service.wait(60) == 1
        (line,) = service.stderr.splitlines()
        assert line.startswith(f"dossier: {reason}")
        assert service.stdout == ""
        assert home.mongods == []
    finally:
        home.close()


@pytest.mark.slow
def test_workers_of_a_supervisor_that_was_killed_end_in_order(empty: ReplicaSet, tmp_path: Path) -> None:
    with empty.home(tmp_path) as home:
        service = home.start("--workers", "2")
        service.sign_in()
        processes = process_group(service)

        service.end(signal.SIGKILL)

        assert_all_gone(processes)
        assert service.stderr.count("Finished server process") == 2


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_ends_a_start_that_does_not_get_done(tmp_path: Path, workers: str) -> None:
    home = Home(tmp_path, startup=NO_END)
    try:
        service = home.launch("--workers", workers, admin_password=PASSWORD)
        until(lambda: "Started server process" in service.stderr, "the app is starting", 60)

        service.send(signal.SIGTERM)

        assert service.wait(10) == 0
        assert "Traceback" not in service.stderr
        assert home.mongods == []
    finally:
        home.close()


@pytest.mark.slow
def test_a_signal_while_workers_start_ends_everything(home: Home) -> None:
    service = home.launch("--workers", "2", admin_password=PASSWORD)
    until(lambda: service.workers, "a worker is started", 60)
    processes = process_group(service)

    assert service.end() == 0

    assert_all_gone(processes)
    assert home.mongods == []
    assert "Traceback" not in service.stderr


@pytest.mark.slow
def test_workers_that_all_die_are_all_replaced(home: Home) -> None:
    service = home.start("--workers", "2")
    killed = service.workers

    for pid in killed:
        os.kill(pid, signal.SIGKILL)

    assert httpx.get(f"{service.address}/health", timeout=60).status_code == 200, "the socket was there all the while"
    until(lambda: len(set(service.workers) - set(killed)) == 2, "both are replaced", 60)
    assert service.end() == 0


@pytest.mark.slow
def test_a_replacement_that_cannot_start_is_tried_again_as_long_as_somebody_serves(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    home = Home(tmp_path, startup=IN_A_WORKER.format(f"import os; os.path.exists({str(broken)!r}) and os._exit(7)"))
    try:
        service = home.start("--workers", "2")
        killed, other = service.workers
        broken.touch()

        os.kill(killed, signal.SIGKILL)
        until(lambda: deaths(service)[:3] == [-signal.SIGKILL, 7, 7], "its replacements have died twice", 60)
        assert httpx.get(f"{service.address}/health").status_code == 200
        os.kill(other, signal.SIGKILL)

        assert service.wait(60) == 1
        assert service.stderr.splitlines()[-1] == "dossier: a worker ended with status 7 before it served"
        assert home.mongods == []
    finally:
        home.close()


def deaths(service: Service) -> list[int]:
    """The statuses with which workers have ended."""
    return [line["status"] for line in service.log if line["event"] == "worker died"]


# Starts at the same time


@pytest.mark.slow
def test_services_that_start_at_once_make_one_database_ready_together(empty: ReplicaSet, tmp_path: Path) -> None:
    def start(number: int) -> Service:
        directory = tmp_path / str(number)
        directory.mkdir()
        return homes.enter_context(empty.home(directory)).launch("--sample", "50")

    with ExitStack() as homes:
        services = [start(number) for number in range(3)]
        for service in services:
            service.wait_until_ready()

        assert [service.password is not None for service in services].count(True) == 1
        for service in services:
            assert not [line for line in service.log if line["level"] in {"warning", "error", "critical"}]
        with MongoClient[dict[str, object]](empty.uri) as client:
            database = client["dossier"]
            assert database["accounts"].count_documents({}) == 1
            assert database["users"].count_documents({}) == database["items"].count_documents({}) == 50
            assert database["users"].index_information()["email"]["unique"]


@pytest.mark.slow
def test_a_start_that_was_killed_in_the_middle_holds_the_next_up_for_seconds_only(
    empty: ReplicaSet, tmp_path: Path
) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    with empty.home(tmp_path / "first") as first, empty.home(tmp_path / "second") as second:
        first._startup = HANGING_PREPARATION
        killed = first.launch()
        with MongoClient[dict[str, object]](empty.uri) as client:
            until(lambda: client["dossier"]["locks"].find_one({"_id": "preparation"}), "it is in the middle", 60)
            killed.end(signal.SIGKILL)

            service = second.launch()
            service.wait_until_ready()

            assert service.password is not None
            assert client["dossier"]["users"].index_information()["email"]["unique"]
