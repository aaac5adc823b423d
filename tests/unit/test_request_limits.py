"""How many requests are done at once, and how slowly their bodies may come."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api import limits
from service.api.limits import BodyDeadlineMiddleware, ConcurrencyLimitMiddleware
from service.errors import OverloadedError, RequestTimeoutError


class Gate:
    """An app whose requests wait until they are let through, from their first step on or for their body."""

    def __init__(self) -> None:
        self.running = 0
        self.with_body = 0
        """Those that have got it."""
        self.is_open = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer once the gate is open."""
        self.running += 1
        if scope["method"] == "POST":
            try:
                while (await receive()).get("more_body", False):
                    pass
            except OverloadedError as error:
                await error.response()(scope, receive, send)
                return
            self.with_body += 1
        await self.is_open.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def client_of(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://dossier") as client:
        yield client


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not check():  # noqa: ASYNC110 - what is waited for is no event
            await asyncio.sleep(0)


async def test_more_requests_than_may_be_done_at_once_are_refused_at_once_and_probes_are_not() -> None:
    gate = Gate()
    async with client_of(ConcurrencyLimitMiddleware(gate, limit=2)) as client:
        admitted = [asyncio.create_task(client.get("/api/v1/users")) for _ in range(2)]
        await until(lambda: gate.running == 2)

        refused = await client.get("/api/v1/users")
        probe = asyncio.create_task(client.get("/health/ready"))
        await until(lambda: gate.running == 3)
        gate.is_open.set()

        assert refused.status_code == 503
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["code"] == "overloaded"
        assert int(refused.headers["retry-after"]) > 0
        assert [(await request).status_code for request in (*admitted, probe)] == [204] * 3
        assert (await client.get("/api/v1/users")).status_code == 204


async def test_a_request_that_waits_for_its_body_takes_no_place() -> None:
    gate, body_comes = Gate(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        await body_comes.wait()
        yield b"x"

    gate.is_open.set()
    async with client_of(ConcurrencyLimitMiddleware(gate, limit=1)) as client:
        slow = asyncio.create_task(client.post("/", content=body()))
        await until(lambda: gate.running == 1)

        assert (await client.get("/")).status_code == 204
        body_comes.set()
        assert (await slow).status_code == 204
        assert (await client.get("/")).status_code == 204


async def test_of_requests_whose_bodies_come_at_once_no_more_are_done_than_may_be() -> None:
    gate, bodies_come = Gate(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"x"
        await bodies_come.wait()
        yield b"x"

    async with client_of(ConcurrencyLimitMiddleware(gate, limit=2)) as client:
        posted = [asyncio.create_task(client.post("/", content=body())) for _ in range(20)]
        await until(lambda: gate.running == 20)
        bodies_come.set()
        await until(lambda: sum(request.done() for request in posted) == 18)
        assert gate.with_body == 2
        gate.is_open.set()
        answers = [await request for request in posted]
        gate.is_open.clear()
        admitted = [asyncio.create_task(client.get("/")) for _ in range(2)]
        await until(lambda: gate.running == 22)
        refused = await client.get("/")
        gate.is_open.set()

        assert sorted(answer.status_code for answer in answers) == [204] * 2 + [503] * 18
        assert {answer.json()["code"] for answer in answers if answer.status_code == 503} == {"overloaded"}
        assert [(await request).status_code for request in admitted] == [204] * 2, "all places were given back"
        assert refused.status_code == 503, "and none that there was not"


async def test_a_request_that_waits_for_its_client_to_leave_takes_no_place() -> None:
    is_watching, is_over = asyncio.Event(), asyncio.Event()

    async def export(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/export":
            while (await receive()).get("more_body", False):
                pass
            watching = asyncio.ensure_future(receive())
            is_watching.set()
            await is_over.wait()
            watching.cancel()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with client_of(ConcurrencyLimitMiddleware(export, limit=1)) as client:
        exported = asyncio.create_task(client.get("/export"))
        await is_watching.wait()

        assert [(await client.get("/")).status_code for _ in range(2)] == [204, 204]
        is_over.set()
        assert (await exported).status_code == 204
        assert [(await client.get("/")).status_code for _ in range(2)] == [204, 204]


class Clock:
    """Time that only a test moves, for the event loop too."""

    def __init__(self) -> None:
        self.now = asyncio.get_running_loop().time()

    def __call__(self) -> float:
        """What it shows."""
        return self.now

    async def move(self, seconds: float) -> None:
        """Let it pass, and what is due by then happen."""
        self.now += seconds
        for _ in range(3):
            await asyncio.sleep(0)


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The only one there is."""
    clock = Clock()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", clock)
    monkeypatch.setattr(limits, "monotonic", clock)
    return clock


async def read(
    clock: Clock,
    chunks: list[tuple[float, int]],
    *,
    busy_seconds: float = 0,
    method: str = "POST",
) -> int:
    """How many bytes an app gets that waits for a client 0.2 s at most, which earns 1 s by 1,000 bytes.

    Each chunk comes after so many seconds and has so many bytes; between two, the app is busy for some time.
    """
    coming = iter(chunks)
    received = 0

    async def receive() -> Message:
        seconds, size = next(coming, (0, 0))
        await clock.move(seconds)
        return {"type": "http.request", "body": b"x" * size, "more_body": size > 0}

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        nonlocal received
        message: Any = {"more_body": True}
        while message["more_body"]:
            message = await receive()
            received += len(message["body"])
            await clock.move(busy_seconds)

    async def send(_message: Message) -> None:
        raise AssertionError("nothing is answered here")

    limited = BodyDeadlineMiddleware(app, stall_seconds=0.2, min_bytes_per_second=1000)
    await limited({"type": "http", "method": method}, receive, send)
    return received


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([(60, 1)], id="nothing comes"),
        pytest.param([(0.01, 1)] * 1000, id="a byte comes now and then"),
        pytest.param([(0, 1_000_000), (60, 1)], id="much has come before"),
    ],
)
async def test_a_body_that_comes_too_slowly_is_given_up(clock: Clock, chunks: list[tuple[float, int]]) -> None:
    with pytest.raises(RequestTimeoutError):
        await read(clock, chunks)


async def test_a_body_that_comes_slowly_and_fast_enough_may_take_longer(clock: Clock) -> None:
    assert await read(clock, [(0.02, 100)] * 20) == 2000


async def test_the_time_for_which_nobody_waits_is_not_the_clients(clock: Clock) -> None:
    assert await read(clock, [(0, 1)] * 5, busy_seconds=0.06) == 5


async def test_nobody_hurries_a_client_that_has_sent_all() -> None:
    left = asyncio.Event()
    messages: list[Message] = [{"type": "http.request", "body": b"x", "more_body": False}]

    async def receive() -> Message:
        if not messages:
            await left.wait()
            return {"type": "http.disconnect"}
        return messages.pop()

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        await receive()
        asyncio.get_running_loop().call_later(0.1, left.set)
        assert (await receive())["type"] == "http.disconnect"

    async def send(_message: Message) -> None:
        raise AssertionError("nothing is answered here")

    limited = BodyDeadlineMiddleware(app, stall_seconds=0.02, min_bytes_per_second=1000)
    await limited({"type": "http", "method": "POST"}, receive, send)
