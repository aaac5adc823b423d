"""Clients that send a little at a time, over connections of their own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import httpx
import orjson
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from uvicorn.server import ServerState

from service.api.dependencies import Services
from service.app import create_app
from service.server import protocol
from service.server.protocol import LimitedHttpProtocol
from service.settings import Settings
from tests.conftest import TYPES, client_of

HEADER_SECONDS = 0.2
STALL_SECONDS = 0.3
PATIENCE_SECONDS = 5
LARGE_BYTES = 30_000_000
READ_BYTES = 65_536
USER = {"name": "Ada Lovelace", "email": "ada@example.org"}

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def answer(_request: Request) -> PlainTextResponse:
    """Without a look at the body."""
    return PlainTextResponse("done", headers={"content-length": "4"})


async def answer_late(_request: Request) -> PlainTextResponse:
    """Later than headers may come."""
    await asyncio.sleep(2 * HEADER_SECONDS)
    return PlainTextResponse("done")


async def answer_at_length(_request: Request) -> PlainTextResponse:
    """More than waits between a client and a server."""
    return PlainTextResponse("x" * LARGE_BYTES)


async def break_off(_request: Request) -> PlainTextResponse:
    """In the middle of such an answer."""
    response = PlainTextResponse("x" * LARGE_BYTES)
    response.headers["content-length"] = str(LARGE_BYTES + 1)
    return response


class Server:
    """One that is in a hurry, and connections to it."""

    def __init__(self) -> None:
        self.limits = {"header_timeout_seconds": HEADER_SECONDS, "stall_seconds": STALL_SECONDS}
        self._state = ServerState()
        self._address = ("", 0)
        self._writers: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def listening(self, config: uvicorn.Config) -> AsyncIterator[None]:
        """For so long."""
        listening = await asyncio.get_running_loop().create_server(
            lambda: LimitedHttpProtocol(config, self._state, {}, **self.limits), "127.0.0.1", 0
        )
        self._address = listening.sockets[0].getsockname()
        yield
        for writer in self._writers:
            writer.transport.abort()
        listening.close()

    @property
    def protocols(self) -> list[LimitedHttpProtocol]:
        """Of those that are connected."""
        return [one for one in self._state.connections if isinstance(one, LimitedHttpProtocol)]

    @property
    def unread(self) -> int:
        """How many bytes wait for them."""
        return sum(one.transport.get_write_buffer_size() for one in self.protocols)

    async def connect(self) -> Connection:
        """In a test and not before it, as time passes from now on. The client takes little that nobody reads."""
        reader, writer = await asyncio.open_connection(*self._address, limit=READ_BYTES)
        self._writers.append(writer)
        return reader, writer


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """It listens as long as a test runs."""
    routes = [
        Route("/", answer, methods=["GET", "POST"]),
        Route("/late", answer_late),
        Route("/large", answer_at_length),
        Route("/broken", break_off),
    ]
    config = uvicorn.Config(Starlette(routes=routes), log_config=None, timeout_keep_alive=1)
    config.load()
    server = Server()
    async with server.listening(config):
        yield server


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not check():  # noqa: ASYNC110 - what is waited for is no event
            await asyncio.sleep(0.01)


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection ends: by a reset, where more was on its way when the server closed it."""
    received = b""
    with suppress(ConnectionResetError):
        while chunk := await reader.read(READ_BYTES):
            received += chunk
    return received


async def trickle(connection: Connection, text: bytes) -> bytes:
    """What is answered to somebody who sends this again and again, a byte at a time, until the connection ends."""
    reader, writer = connection
    answered = asyncio.create_task(read_all(reader))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not answered.done():
            for byte in text:
                writer.write(bytes([byte]))
                await asyncio.wait([answered], timeout=HEADER_SECONDS / 10)
                if writer.is_closing() or answered.done():
                    break
        return await answered


async def test_who_says_nothing_is_left(server: Server) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await (await server.connect())[0].read() == b""


async def test_headers_that_trickle_are_answered_408(server: Server) -> None:
    connection = await server.connect()
    connection[1].write(b"GET / HTTP/1.1\r\n")

    head, _, body = (await trickle(connection, b"X-Slow: 1\r\n")).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    assert orjson.loads(body)["code"] == "request_timeout"


@pytest.mark.parametrize(
    ("request_head", "then"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n", id="blank lines between two requests"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999\r\n\r\n", b"x", id="a body nobody reads"),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\nX: ", id="another request that is never whole"
        ),
    ],
)
async def test_who_was_answered_cannot_trickle_on(server: Server, request_head: bytes, then: bytes) -> None:
    reader, writer = connection = await server.connect()
    writer.write(request_head)
    assert (await reader.readuntil(b"done")).startswith(b"HTTP/1.1 200 ")

    assert b"200 OK" not in await trickle(connection, then)


async def test_an_answer_may_take_longer_than_headers(server: Server) -> None:
    reader, writer = await server.connect()
    async with asyncio.timeout(PATIENCE_SECONDS):
        for _ in range(2):
            writer.write(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await reader.readuntil(b"done")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "requests",
    [
        pytest.param(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n", id="between two requests"),
        pytest.param(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n" * 2, id="with another request to answer"),
        pytest.param(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\nGET /", id="in the middle of the next"),
        pytest.param(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", id="the last request"),
        pytest.param(b"GET /broken HTTP/1.1\r\nHost: a\r\n\r\n", id="an answer that breaks off"),
    ],
)
async def test_who_does_not_read_the_answer_is_cut_off(server: Server, requests: bytes) -> None:
    _, writer = await server.connect()
    writer.write(requests)

    await until(lambda: server.unread > 0)

    await until(lambda: not server.protocols)


async def test_who_reads_an_answer_slowly_gets_all_of_it(server: Server) -> None:
    server.limits["stall_seconds"] = 1
    reader, writer = await server.connect()
    writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")

    for _ in range(15):  # for longer than it may read nothing
        await reader.readexactly(LARGE_BYTES // 15)
        await asyncio.sleep(0.1)


async def test_a_service_that_ends_waits_less_for_who_does_not_read(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "ENDING_STALL_SECONDS", 0.1)
    server.limits["stall_seconds"] = 60
    _, writer = await server.connect()
    writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    await until(lambda: server.unread > 0)

    for connected in server.protocols:
        connected.shutdown()

    await until(lambda: not server.protocols)


async def test_a_body_that_trickles_is_a_problem_with_its_request_id(
    settings: Settings, services: Services, client: httpx.AsyncClient
) -> None:
    hurried = create_app(settings.model_copy(update={"body_stall_seconds": 0.1}), TYPES)

    async def body() -> AsyncIterator[bytes]:
        for byte in orjson.dumps(USER):
            yield bytes([byte])
            await asyncio.sleep(0.05)

    headers = {"Authorization": client.headers["Authorization"], "Content-Type": "application/json"}
    async with client_of(hurried, services) as patient:
        response = await patient.post("/api/v1/users", content=body(), headers=headers)

    assert response.status_code == 408
    assert response.json()["code"] == "request_timeout"
    assert response.json()["request_id"] == response.headers["x-request-id"]
    assert response.headers["connection"] == "close"
