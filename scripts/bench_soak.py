"""An hour's requests of every kind in a few minutes, and whether they leave anything behind."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import count
from random import Random

import httpx
from bench_exports import MEBIBYTE, used_bytes
from rich.console import Console
from rich.table import Table

from tests.acceptance.process import PASSWORD, TOKEN_PATH, Service, until
from tests.acceptance.replica_set import ReplicaSet

USUAL_MINUTES = 5
HOURS_ROUNDS = 25_000
"""Seven a second for an hour, which are ten requests, as a round of writing has four."""

CLIENTS = 8
DOCUMENTS = 2_000
IMPORTED_ROWS = 50
FIRST_SECONDS = 60
"""After which caches are full and pools as large as they get; half of the time, where that is less."""

USERS = "/api/v1/users"
EXPECTED = frozenset({200, 201, 204, 304, 412, 429})


@dataclass(frozen=True, slots=True)
class Left:
    """What the service has when nobody asks for anything."""

    mebibytes: float
    """Of memory."""
    cursors: int
    connections: int


MOST_MORE = Left(30, 0, 2)
"""How many are asked at once at most, and so how large the driver's pool is, differs a little."""


@dataclass(slots=True)
class Client:
    """One of those who ask, with a connection and a number of its own."""

    http: httpx.Client
    name: str
    ids: list[str]
    dice: Random
    numbers: Iterator[int] = field(default_factory=count)

    def read(self) -> httpx.Response:
        """One document, again if it has not changed."""
        return self.http.get(f"{USERS}/{self.dice.choice(self.ids)}", headers={"If-None-Match": '"1"'})

    def page(self) -> httpx.Response:
        """A page with a filter and an order."""
        return self.http.get(USERS, params={"age__gte": self.dice.randrange(90), "sort": "name", "limit": 20})

    def search(self) -> httpx.Response:
        """Text anywhere."""
        return self.http.get(USERS, params={"q": str(self.dice.randrange(10_000)), "limit": 10})

    def write(self) -> httpx.Response:
        """A new document, changed and removed: an If-Match that is stale in between."""
        email = f"{self.name}-{next(self.numbers)}@example.org"
        created = self.http.post(USERS, json={"name": "Ada", "email": email}).raise_for_status()
        place = created.headers["location"]
        self.http.patch(place, json={"age": 36}, headers={"If-Match": '"1"'}).raise_for_status()
        stale = self.http.patch(place, json={"age": 37}, headers={"If-Match": '"1"'})
        self.http.delete(place).raise_for_status()
        return stale

    def export(self) -> httpx.Response:
        """All of them in a file; one in three leaves early."""
        file_format = self.dice.choice(["csv", "ndjson", "xlsx"])
        with self.http.stream("GET", f"{USERS}/export/{file_format}") as response:
            leaves = self.dice.randrange(3) == 0
            for _ in response.iter_raw():
                if leaves:
                    break
        return response

    def import_file(self) -> httpx.Response:
        """What changes something in some rows, and is the same in others."""
        rows = [f"{number}@example.org,{self.dice.randrange(90)}" for number in range(IMPORTED_ROWS)]
        content = "\n".join(["email,age", *rows])
        parameters = {"mode": "upsert", "key": "email"}
        return self.http.post(
            f"{USERS}/import", params=parameters, content=content, headers={"Content-Type": "text/csv"}
        )

    def sign_in(self) -> httpx.Response:
        """A session more."""
        return self.http.post(TOKEN_PATH, data={"grant_type": "password", "username": "admin", "password": PASSWORD})


MIX: Mapping[Callable[[Client], httpx.Response], int] = {
    Client.read: 50,
    Client.page: 20,
    Client.search: 12,
    Client.write: 14,
    Client.export: 2,
    Client.import_file: 1,
    Client.sign_in: 1,
}
"""Of a hundred requests."""


class Load:
    """Clients that ask until they are told to stop, or enough was asked; they can be made to pause."""

    def __init__(self, service: Service, requests: int, deadline: float) -> None:
        self.statuses: Counter[tuple[str, int]] = Counter()
        self._service = service
        self._left = iter(range(requests))
        self._deadline = deadline
        self._may_ask = threading.Event()
        self._lock = threading.Lock()
        self._asking = 0

    def run(self, number: int) -> None:
        """Be one of the clients."""
        headers = {"Authorization": f"Bearer {self._service.token()}"}
        with httpx.Client(base_url=self._service.address, headers=headers, timeout=60) as http:
            found = http.get(USERS, params={"limit": 1000, "fields": "id"}).raise_for_status().json()["items"]
            client = Client(http, f"soak-{number}", [item["id"] for item in found], Random(number))
            while time.monotonic() < self._deadline and self._take():
                ask = client.dice.choices([*MIX], [*MIX.values()])[0]
                status = ask(client).status_code
                with self._lock:
                    self.statuses[ask.__name__, status] += 1
                    self._asking -= 1

    def _take(self) -> bool:
        """Whether there is one more to ask, once one may."""
        self._may_ask.wait()
        with self._lock:
            is_left = next(self._left, None) is not None
            self._asking += is_left
        return is_left

    def begin(self) -> None:
        """Ask, or go on."""
        self._may_ask.set()

    def pause(self) -> None:
        """Ask no more, and wait for what was asked."""
        self._may_ask.clear()
        until(lambda: not self._asking, "all have their answers", 60)


def measure(replica_set: ReplicaSet, service: Service, minutes: float) -> None:
    """Run the mix and print the tables."""
    _fill(service)
    began = time.monotonic()
    seconds = minutes * 60
    load = Load(service, round(HOURS_ROUNDS * minutes / USUAL_MINUTES), began + seconds)
    with ThreadPoolExecutor(CLIENTS) as threads:
        clients = [threads.submit(load.run, number) for number in range(CLIENTS)]
        load.begin()
        time.sleep(min(FIRST_SECONDS, seconds / 2))
        load.pause()
        first = _what_is_left(replica_set, service)
        load.begin()
        for client in clients:
            client.result()
    lasted = time.monotonic() - began
    last = _what_is_left(replica_set, service)
    _show(load, lasted, first, last)


def _fill(service: Service) -> None:
    rows = "\n".join(f"User {number},{number}@example.org,{number % 90}" for number in range(DOCUMENTS))
    headers = {"Authorization": f"Bearer {service.token()}", "Content-Type": "text/csv"}
    service.http.post(f"{USERS}/import", content=f"name,email,age\n{rows}", headers=headers).raise_for_status()


def _what_is_left(replica_set: ReplicaSet, service: Service) -> Left:
    """Once exports that were left are given up, and imports have ended."""

    def count_cursors() -> int:
        return len(replica_set.primary.idle_cursors("dossier.users"))

    until(lambda: not count_cursors(), "no cursor is left open", 30)
    with replica_set.primary.client() as client:
        operations = [{"$currentOp": {"allUsers": True, "idleConnections": True}}, {"$match": {"appName": "dossier"}}]
        connections = len(list(client.admin.aggregate(operations)))
    return Left(used_bytes(service.pid) / MEBIBYTE, count_cursors(), connections)


def _show(load: Load, lasted: float, first: Left, last: Left) -> None:
    table = Table("", "minute one", "the end", "more", "at most")
    for name, most in asdict(MOST_MORE).items():
        before, after = getattr(first, name), getattr(last, name)
        table.add_row(name, f"{before:.0f}", f"{after:.0f}", f"{after - before:.0f}", str(most))
    Console(width=100).print(table)
    total = sum(load.statuses.values())
    print(f"{total:,} rounds in {lasted:.0f} s, {total / lasted:.0f} a second:")
    for (name, status), times in sorted(load.statuses.items()):
        print(f"  {name} {status}: {times:,}{'' if status in EXPECTED else ', which is wrong'}")
