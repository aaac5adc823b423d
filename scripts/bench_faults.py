"""Kills the primary of three nodes again and again under a steady load, and says what clients saw of it."""

import math
import tempfile
import time
from collections import Counter
from itertools import chain
from pathlib import Path

import bench_slow_clients
import bench_soak
import httpx
from rich.console import Console
from rich.table import Table

from tests.acceptance.history import CREATED, OK, longest_pause, violations
from tests.acceptance.process import Service, until
from tests.acceptance.replica_set import ReplicaSet
from tests.acceptance.workload import Workload

KILLS = 10
INSERTERS, COUNTERS = 45, 5
PAUSE_SECONDS = 0.3
LEAST_WRITES = 50
"""Acknowledged in a second by all of them together, in all the time there is, pauses included."""

MOST_ABOVE_ELECTION_SECONDS = 2.0
OPERATION_SECONDS = 10
LATEST_SECONDS = 2 * OPERATION_SECONDS + 2
"""For any answer: a request asks who calls, then does what is asked for, each within the time of an operation."""

READY = 200


def measure(minutes: float) -> list[str]:
    """Run the kills; on three other nodes the slow clients, then the soak; and print the tables.

    What must not be, in words.
    """
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        with ReplicaSet(_folder(place / "killed")) as replica_set, replica_set.home(place) as home:
            faults = show_kills(replica_set, home.start(operation_timeout_seconds=OPERATION_SECONDS))
        with ReplicaSet(_folder(place / "soaked")) as replica_set, replica_set.home(place) as home:
            service = home.start()
            faults += show_slow_clients(service)
            faults += bench_soak.measure(replica_set, service, minutes)
    return faults


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def show_slow_clients(service: Service) -> list[str]:
    """Have a thousand of them, beside a client that reads one user."""
    with httpx.Client(base_url=service.address, headers={"Authorization": f"Bearer {service.token()}"}) as client:
        client.post("/api/v1/users", json={"name": "Ada", "email": "ada@example.org"}).raise_for_status()
        return bench_slow_clients.measure(client)


def show_kills(replica_set: ReplicaSet, service: Service) -> list[str]:
    """Kill, wait for another primary, bring the killed one back; ten times."""
    kills = []
    began = time.monotonic()
    with Workload(service, inserters=INSERTERS, counters=COUNTERS, pause=PAUSE_SECONDS) as workload:
        for _ in range(KILLS):
            workload.wait_for_progress()
            kills.append(_kill_primary(replica_set))
            workload.wait_for_progress()
            replica_set.heal()
            until(lambda: service.http.get("/health/ready").status_code == READY, "it is ready without a restart")
            workload.wait_for_progress()
        seconds = time.monotonic() - began
    history = workload.history
    faults = violations(history, workload.found(), LATEST_SECONDS)
    writes = chain(history.inserts, history.counts)
    rate = sum(write.answer.status in {CREATED, OK} for write in writes) / seconds
    if rate < LEAST_WRITES:
        faults.append(f"{rate:.0f} writes a second were acknowledged, at least {LEAST_WRITES} are wanted")
    table = Table("primary killed", "election", "longest pause of a client", "at most")
    ends = [killed_at for _, killed_at in kills[1:]] + [math.inf]
    for number, ((election, killed_at), end) in enumerate(zip(kills, ends, strict=True), 1):
        pause, most = longest_pause(history, killed_at, end), election + MOST_ABOVE_ELECTION_SECONDS
        table.add_row(str(number), f"{election:.1f} s", f"{pause:.1f} s", f"{most:.1f} s")
        if pause > most:
            faults.append(f"kill {number} made a client wait {pause:.1f} s")
    Console(width=100).print(table)
    statuses = Counter(answer.status for answer in history.answers)
    print(f"{rate:.0f} writes a second were acknowledged, pauses included; answers by status: {dict(statuses)}")
    print(f"lost, doubled or otherwise wrong, late or too few (0): {len(faults)}")
    return faults


def _kill_primary(replica_set: ReplicaSet) -> tuple[float, float]:
    """How long it took until there was another, in seconds, and the moment of the kill."""
    primary = replica_set.primary
    killed_at = time.monotonic()
    primary.kill()
    assert replica_set.primary is not primary
    return time.monotonic() - killed_at, killed_at
