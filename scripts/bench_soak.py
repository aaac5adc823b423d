"""An hour's requests of every kind in a few minutes, and whether they leave anything behind."""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import count
from random import Random
from typing import Any

import httpx
from bench_exports import MEBIBYTE, used_bytes
from rich.console import Console
from rich.table import Table

from tests.acceptance.process import PASSWORD, TOKEN_PATH, Service, until
from tests.acceptance.replica_set import ReplicaSet

USUAL_MINUTES = 5
HOURS_ROUNDS = 25_000
"""Seven a second for an hour, which are eleven requests, as a round of writing has five."""

CLIENTS = 8
DOCUMENTS = 2_000
IMPORTED_ROWS = 50
FIRST_SECONDS = 60
"""After which caches are full and pools as large as they get; half of the time, where that is less."""

USERS = "/api/v1/users"
EXPECTED: Mapping[str, Sequence[int]] = {
    "read": [200, 304],
    "page": [200],
    "search": [200],
    "create": [201],
    "replace": [200],
    "patch": [200],
    "stale patch": [412],
    "delete": [204],
    "export": [200, 429],
    "import": [200, 429],
    "sign in": [200],
}
"""How each kind of request may be answered; the first of these has to occur."""

NAMESPACES = re.compile(r"^dossier\.")
"""Those of all collections of the service's database."""

CLOSING_SECONDS = 30
"""How long it may take until exports that clients have left are given up."""


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

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    """How often each kind of request was answered so."""

    def read(self) -> None:
        """One document; every other time only if it is not as it was made."""
        headers = {"If-None-Match": f'"{self.dice.randrange(2)}"'}
        self._ask("read", "GET", f"{USERS}/{self.dice.choice(self.ids)}", headers=headers)

    def page(self) -> None:
        """A page with a filter and an order."""
        self._ask("page", "GET", USERS, params={"age__gte": self.dice.randrange(90), "sort": "name", "limit": 20})

    def search(self) -> None:
        """Text anywhere."""
        self._ask("search", "GET", USERS, params={"q": str(self.dice.randrange(10_000)), "limit": 10})

    def write(self) -> None:
        """A new document, changed in both ways, not changed as an If-Match is stale, and removed."""
        body = {"name": "Ada", "email": f"{self.name}-{next(self.numbers)}@example.org"}
        created = self._ask("create", "POST", USERS, json=body)
        if created.is_success:
            place = created.headers["location"]
            self._ask("replace", "PUT", place, json=body | {"age": 35}, headers={"If-Match": '"1"'})
            self._ask("patch", "PATCH", place, json={"age": 36}, headers={"If-Match": '"2"'})
            self._ask("stale patch", "PATCH", place, json={"age": 37}, headers={"If-Match": '"2"'})
            self._ask("delete", "DELETE", place)

    def export(self) -> None:
        """All of them in a file; one in three leaves early."""
        file_format = self.dice.choice(["csv", "ndjson", "xlsx"])
        with self.http.stream("GET", f"{USERS}/export/{file_format}") as response:
            leaves = self.dice.randrange(3) == 0
            for _ in response.iter_raw():
                if leaves:
                    break
        self.statuses["export", response.status_code] += 1

    def import_file(self) -> None:
        """What changes something in some rows, and is the same in others."""
        rows = [f"{number}@example.org,{self.dice.randrange(90)}" for number in range(IMPORTED_ROWS)]
        content = "\n".join(["email,age", *rows])
        parameters = {"mode": "upsert", "key": "email"}
        headers = {"Content-Type": "text/csv"}
        self._ask("import", "POST", f"{USERS}/import", params=parameters, content=content, headers=headers)

    def sign_in(self) -> None:
        """A session more."""
        form = {"grant_type": "password", "username": "admin", "password": PASSWORD}
        self._ask("sign in", "POST", TOKEN_PATH, data=form)

    def _ask(self, name: str, method: str, path: str, **options: Any) -> httpx.Response:
        response = self.http.request(method, path, **options)
        self.statuses[name, response.status_code] += 1
        return response


MIX: Mapping[Callable[[Client], None], int] = {
    Client.read: 50,
    Client.page: 20,
    Client.search: 12,
    Client.write: 14,
    Client.export: 2,
    Client.import_file: 1,
    Client.sign_in: 1,
}
"""Of a hundred rounds."""


class Load:
    """Clients that ask until they are told to stop, or enough was asked; they can be made to pause."""

    def __init__(self, service: Service, rounds: int, deadline: float) -> None:
        self.rounds = 0
        self.statuses: Counter[tuple[str, int]] = Counter()
        """How often each kind of request was answered so, once all clients have ended."""
        self._service = service
        self._left = iter(range(rounds))
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
                ask(client)
                with self._lock:
                    self.rounds += 1
                    self._asking -= 1
        with self._lock:
            self.statuses += client.statuses

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


def measure(replica_set: ReplicaSet, service: Service, minutes: float) -> list[str]:
    """Run the mix and print the tables; what must not be, in words."""
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
    return excesses(first, last) + wrong_answers(load.statuses)


def _fill(service: Service) -> None:
    rows = "\n".join(f"User {number},{number}@example.org,{number % 90}" for number in range(DOCUMENTS))
    headers = {"Authorization": f"Bearer {service.token()}", "Content-Type": "text/csv"}
    service.http.post(f"{USERS}/import", content=f"name,email,age\n{rows}", headers=headers).raise_for_status()


def _what_is_left(replica_set: ReplicaSet, service: Service) -> Left:
    """Once no cursor is open any more, or those that are had their time."""
    cursors = _cursors(replica_set)
    deadline = time.monotonic() + CLOSING_SECONDS
    while cursors and time.monotonic() < deadline:
        time.sleep(0.1)
        cursors = _cursors(replica_set)
    with replica_set.primary.client() as client:
        operations = [{"$currentOp": {"allUsers": True, "idleConnections": True}}, {"$match": {"appName": "dossier"}}]
        connections = len(list(client.admin.aggregate(operations)))
    return Left(used_bytes(service.pid) / MEBIBYTE, cursors, connections)


def _cursors(replica_set: ReplicaSet) -> int:
    """How many wait for somebody to read on, on any node and in any collection."""
    return sum(len(node.idle_cursors(NAMESPACES)) for node in replica_set.nodes)


def excesses(first: Left, last: Left) -> list[str]:
    """What there is more of at the end than may be; a cursor may not even be there the first time."""
    more = {name: value - getattr(first, name) for name, value in asdict(last).items()}
    found = [
        f"{more[name]:.0f} more {name} are left, {most} are allowed"
        for name, most in asdict(MOST_MORE).items()
        if more[name] > most
    ]
    if first.cursors:
        found.append(f"{first.cursors} cursors were open {CLOSING_SECONDS} s after minute one")
    return found


def wrong_answers(statuses: Mapping[tuple[str, int], int]) -> list[str]:
    """Those that nothing explains, and those that are missed."""
    wrong = [f"{name} was answered {status}" for name, status in sorted(statuses) if status not in EXPECTED[name]]
    return wrong + [
        f"{name} was never answered {usual}"
        for name, (usual, *_) in EXPECTED.items()
        if not statuses.get((name, usual))
    ]


def _show(load: Load, lasted: float, first: Left, last: Left) -> None:
    table = Table("left", "minute one", "the end", "more", "at most")
    for name, most in asdict(MOST_MORE).items():
        before, after = getattr(first, name), getattr(last, name)
        table.add_row(name, f"{before:.0f}", f"{after:.0f}", f"{after - before:.0f}", str(most))
    Console(width=100).print(table)
    requests = sum(load.statuses.values())
    print(f"{load.rounds:,} rounds of {requests:,} requests in {lasted:.0f} s, {requests / lasted:.0f} a second:")
    for (name, status), times in sorted(load.statuses.items()):
        print(f"  {name} {status}: {times:,}{'' if status in EXPECTED[name] else ', which is wrong'}")
