"""Clients of a service that insert, count, export, sign in and out without a break, and write down what they hear."""

import hashlib
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import count as numbers
from types import TracebackType
from typing import Any, Self

import httpx

from tests.acceptance.history import (
    CONFLICT,
    CREATED,
    OK,
    UNAUTHORIZED,
    Answer,
    Count,
    Download,
    Found,
    History,
    Insert,
    Look,
    Visit,
)
from tests.acceptance.process import PASSWORD, TOKEN_PATH, Service, until

ITEMS = "/api/v1/items"
EXPORT = f"{ITEMS}/export/ndjson"
CALLER = "/api/v1/auth/me"
REVOCATION = "/api/v1/auth/revoke"
REGISTER = "register"
PREFIX = "key-"
OF_INSERTERS = {"sku__startswith": PREFIX, "fields": "sku"}
PATIENCE_SECONDS = 60
"""Far over what any request may take: what takes longer counts as never answered."""

RETRY_SECONDS = 0.1
"""Between two tries, less than `Retry-After` says, so that there are some in each second of a fault."""


class Workload:
    """As many clients of each kind as asked for, each in a thread, from the context's start to its end."""

    def __init__(  # noqa: PLR0913 - a number for each kind
        self,
        service: Service,
        *,
        inserters: int = 2,
        counters: int = 2,
        exporters: int = 1,
        visitors: int = 1,
        pause: float = 0.2,
    ) -> None:
        """`pause` is how many seconds each client waits between two requests."""
        self.history = History()
        self._address = service.address
        self._headers = {"Authorization": f"Bearer {service.token()}", "Accept-Encoding": "identity"}
        self._pause = pause
        self._is_over = threading.Event()
        self._clients: dict[str, Callable[[httpx.Client], None]] = {
            **{f"inserter-{number}": partial(self._insert, f"{PREFIX}{number}") for number in range(inserters)},
            **{f"counter-{number}": partial(self._count, f"{number}") for number in range(counters)},
            **{f"exporter-{number}": self._export for number in range(exporters)},
            **{f"visitor-{number}": partial(self._visit, f"{number}") for number in range(visitors)},
        }
        self._running: list[Future[None]] = []

    def __enter__(self) -> Self:
        with self._client() as client:
            created = client.post(ITEMS, json=_item(REGISTER)).raise_for_status()
        self._register = created.headers["location"]
        with ExitStack() as stack:
            threads = stack.enter_context(ThreadPoolExecutor(len(self._clients)))
            stack.callback(self._is_over.set)
            self._running = [threads.submit(self._run, client) for client in self._clients.values()]
            self._ending = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ending.close()
        if error is None:
            for client in self._running:
                client.result()

    def wait_for_progress(self) -> None:
        """Wait until each kind of client has begun something from now on that was done."""
        since = time.monotonic()

        def has_gone_on() -> bool:
            for client in self._running:
                if client.done():
                    client.result()
            history = self.history
            done = [
                [one.answer for one in history.inserts if one.answer.status == CREATED],
                [one.answer for one in history.counts if one.answer.status == OK],
                [one.answer for one in history.downloads if one.is_whole],
                [one.answer for one in history.visits if one.answer.status == OK],
            ]
            return all(any(answer.started > since for answer in answers) for answers in done)

        until(has_gone_on, "all clients go on", 60)

    def found(self) -> Found:
        """What the service says is there, once all is over."""
        with self._client() as client:
            file = client.get(EXPORT, params=OF_INSERTERS).raise_for_status()
            register = client.get(self._register).raise_for_status().json()
            ids = [download.export_id for download in self.history.downloads if download.is_whole]
            records = {str(key): client.get(f"/api/v1/exports/{key}").raise_for_status().json() for key in ids}
        return Found(_keys_in(file.content), register["stock"], register["revision"], records)

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=self._address, headers=self._headers, timeout=PATIENCE_SECONDS)

    def _run(self, work: Callable[[httpx.Client], None]) -> None:
        with self._client() as client:
            work(client)

    def _insert(self, prefix: str, client: httpx.Client) -> None:
        for number in numbers():
            key = f"{prefix}-{number}"
            while not self._is_over.wait(RETRY_SECONDS):
                answer, _ = _send(client, "POST", ITEMS, json=_item(key))
                self.history.inserts.append(Insert(key, answer))
                if answer.status in {CREATED, CONFLICT}:
                    break
            if self._is_over.wait(self._pause):
                return

    def _count(self, name: str, client: httpx.Client) -> None:
        for number in numbers():
            answer, item = _send(client, "GET", self._register)
            self.history.looks.append(Look(item.get("stock", 0), item.get("revision", 0), answer, name))
            if answer.status == OK:
                answer = self._count_up(name, client, item, is_whole=bool(number % 2))
            if self._is_over.wait(RETRY_SECONDS if answer.is_unknown else self._pause):
                return

    def _count_up(self, name: str, client: httpx.Client, item: dict[str, Any], *, is_whole: bool) -> Answer:
        """By PUT or by PATCH, which reach MongoDB in different ways."""
        changed = {"stock": item["stock"] + 1}
        method, body = ("PUT", item | changed) if is_whole else ("PATCH", changed)
        headers = {"If-Match": f'"{item["revision"]}"'}
        answer, after = _send(client, method, self._register, json=body, headers=headers)
        shown = (after["stock"], after["revision"]) if answer.status == OK else None
        self.history.counts.append(Count(item["stock"] + 1, item["revision"], answer, shown, name))
        return answer

    def _visit(self, name: str, client: httpx.Client) -> None:
        """Sign in, ask who that is, sign out, and ask again."""
        form = {"grant_type": "password", "username": "admin", "password": PASSWORD}

        def ask(method: str, path: str, expected: int = OK, **options: Any) -> tuple[bool, dict[str, Any]]:
            answer, body = _send(client, method, path, **options)
            self.history.visits.append(Visit(answer, expected, name))
            return answer.status == OK, body

        def visit() -> bool:
            is_in, granted = ask("POST", TOKEN_PATH, data=form)
            if not is_in:
                return False
            headers = {"Authorization": f"Bearer {granted['access_token']}"}
            ask("GET", CALLER, headers=headers)
            is_out, _ = ask("POST", REVOCATION, data={"token": granted["access_token"]})
            if is_out:
                ask("GET", CALLER, UNAUTHORIZED, headers=headers)
            return is_out

        while not self._is_over.wait(self._pause if visit() else RETRY_SECONDS):
            pass

    def _export(self, client: httpx.Client) -> None:
        while not self._is_over.is_set():
            self.history.downloads.append(_download(client))
            self._is_over.wait(self._pause)


def _item(key: str) -> dict[str, Any]:
    return {"sku": key, "title": "Analytical Engine", "price": "1.00"}


def _send(client: httpx.Client, method: str, path: str, **options: Any) -> tuple[Answer, dict[str, Any]]:
    started = time.monotonic()
    try:
        response = client.request(method, path, **options)
    except httpx.TransportError:
        return Answer(started, time.monotonic(), None), {}
    ended = time.monotonic()
    body = response.json() if response.content else {}
    return Answer(started, ended, response.status_code, response.headers.get("retry-after")), body


def _download(client: httpx.Client) -> Download:
    """An export to its end, however it ends: that its connection breaks is one way to say that it is not whole."""
    started = time.monotonic()
    received = bytearray()
    with client.stream("GET", EXPORT, params=OF_INSERTERS) as response:
        is_whole = response.status_code == OK
        try:
            for chunk in response.iter_raw():
                received += chunk
        except httpx.TransportError:
            is_whole = False
    answer = Answer(started, time.monotonic(), response.status_code, response.headers.get("retry-after"))
    if not is_whole:
        return Download(answer)
    return Download(
        answer,
        response.headers["export-id"],
        is_whole=True,
        keys=_keys_in(received),
        size=len(received),
        sha256=hashlib.sha256(received).hexdigest(),
    )


def _keys_in(content: bytes | bytearray) -> list[str]:
    return [json.loads(line)["sku"] for line in content.splitlines()]
