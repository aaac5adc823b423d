"""Clients that send a little at a time, over connections of their own."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

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
from service.server.protocol import LimitedHttpProtocol
from service.settings import Settings
from tests.conftest import TYPES, client_of

HEADER_SECONDS = 0.2
PATIENCE_SECONDS = 5
USER = {"name": "Ada Lovelace", "email": "ada@example.org"}

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def answer(_request: Request) -> PlainTextResponse:
    """Without a look at the body."""
    return PlainTextResponse("done", headers={"content-length": "4"})


async def answer_late(_request: Request) -> PlainTextResponse:
    """Later than headers may come."""
    await asyncio.sleep(2 * HEADER_SECONDS)
    return PlainTextResponse("done")


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    """One to a server that is in a hurry."""
    app = Starlette(routes=[Route("/", answer, methods=["GET", "POST"]), Route("/late", answer_late)])
    config = uvicorn.Config(app, log_config=None, timeout_keep_alive=1)
    config.load()
    protocol = partial(LimitedHttpProtocol, config, ServerState(), {}, header_timeout_seconds=HEADER_SECONDS)
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    yield reader, writer
    writer.close()
    server.close()


async def trickle(connection: Connection, text: bytes) -> bytes:
    """What is answered to somebody who sends this again and again, a byte at a time, until the connection ends."""
    reader, writer = connection
    answered = asyncio.create_task(reader.read())
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not answered.done():
            for byte in text:
                writer.write(bytes([byte]))
                await asyncio.wait([answered], timeout=HEADER_SECONDS / 10)
                if writer.is_closing() or answered.done():
                    break
        return await answered


async def test_who_says_nothing_is_left(connection: Connection) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await connection[0].read() == b""


async def test_headers_that_trickle_are_answered_408(connection: Connection) -> None:
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
async def test_who_was_answered_cannot_trickle_on(connection: Connection, request_head: bytes, then: bytes) -> None:
    reader, writer = connection
    writer.write(request_head)
    assert (await reader.readuntil(b"done")).startswith(b"HTTP/1.1 200 ")

    assert b"200 OK" not in await trickle(connection, then)


async def test_an_answer_may_take_longer_than_headers(connection: Connection) -> None:
    reader, writer = connection
    async with asyncio.timeout(PATIENCE_SECONDS):
        for _ in range(2):
            writer.write(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await reader.readuntil(b"done")).startswith(b"HTTP/1.1 200 ")


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
