"""A running service, as commands ask it."""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from service.api.dependencies import TOKEN_PATH
from service.cli.terminal import CommandError, ask_password, in_one_line

ASK_SECONDS = 1.0
"""How often a service is asked how far it is."""

CONNECT_SECONDS = 10
ANSWER_SECONDS = 130
"""A service may wait for MongoDB for two minutes before it gives up."""

BEARER_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750 §2.1."""

SignIn = Callable[[httpx.AsyncClient], Awaitable[str]]
"""Gets an access token."""


@asynccontextmanager
async def open_client(url: httpx.URL, sign_in: SignIn) -> AsyncGenerator[httpx.AsyncClient]:
    """A client that has signed in. Raises CommandError for all that the service or the network refuses."""
    timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
    try:
        async with httpx.AsyncClient(base_url=url, timeout=timeout) as client:
            await authorize(client, sign_in)
            yield client
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise CommandError(f"{url} cannot be reached: {text_of(error)}") from error
    except httpx.HTTPError as error:
        raise CommandError(f"{url} broke off: {text_of(error)}") from error
    except KeyError as error:
        raise CommandError(f"{url} does not answer as Dossier does, without {error}") from error


async def authorize(client: httpx.AsyncClient, sign_in: SignIn) -> None:
    """Sign in, again where a token was good for less time than was needed."""
    client.headers["Authorization"] = f"Bearer {await sign_in(client)}"


async def read_record(client: httpx.AsyncClient, sign_in: SignIn, path: str) -> dict[str, Any]:
    """What a service says of a file, after which a token may not be good any more. Raises CommandError."""
    response = await client.get(path)
    if response.status_code == httpx.codes.UNAUTHORIZED:
        await authorize(client, sign_in)
        response = await client.get(path)
    await check_answer(response)
    return json_object(response)


async def check_answer(response: httpx.Response) -> None:
    """Raise CommandError with all that a service says is wrong."""
    if response.status_code == httpx.codes.OK:
        return
    await response.aread()
    raise CommandError(refusal_of(response))


def refusal_of(response: httpx.Response) -> str:
    """What a service says is wrong."""
    problem = json_object(response)
    try:
        said = problem.get("error_description") or in_one_line(problem)
    except KeyError:
        said = response.reason_phrase
    return f"{response.url.copy_with(query=None)} answers {response.status_code}: {said}"


def json_object(response: httpx.Response) -> dict[str, Any]:
    """What an answer has in it; nothing, where that is no JSON object."""
    try:
        found = response.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def text_of(error: httpx.HTTPError) -> str:
    """What it says, or at least what it is."""
    return str(error) or type(error).__name__


def address_of(text: str) -> httpx.URL:
    """What `--url` says. Raises CommandError."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in {"http", "https"} or not url.host or url.userinfo or url.query or url.fragment:
        raise CommandError("--url is expected to be like http://127.0.0.1:8000")
    return url


def sign_in_with(username: str | None, token_file: Path | None) -> SignIn:
    """By what `--username` or `--token-file` says, one of which is needed. Raises CommandError."""
    if token_file is not None and username is None:
        return _with_token(token_file)
    if username is not None and token_file is None:
        return _with_password(username, ask_password())
    raise CommandError("--url needs either --username or --token-file")


def refuse_sign_in(username: str | None, token_file: Path | None) -> None:
    """Raise CommandError if there is somebody to sign in, and no service."""
    if username is not None or token_file is not None:
        raise CommandError("--username and --token-file need --url: the database has accounts of its own")


def _with_password(username: str, password: str) -> SignIn:
    """The password grant (RFC 6749 §4.3)."""

    async def sign_in(client: httpx.AsyncClient) -> str:
        form = {"grant_type": "password", "username": username, "password": password}
        response = await client.post(TOKEN_PATH, data=form)
        await check_answer(response)
        token: str = json_object(response)["access_token"]
        return token

    return sign_in


def _with_token(path: Path) -> SignIn:
    """A token that somebody else puts into a file, and renews there."""

    async def sign_in(_client: httpx.AsyncClient) -> str:
        return _read_token(path)

    return sign_in


def _read_token(path: Path) -> str:
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"no token can be read from {path}: {error}") from error
    if not BEARER_TOKEN.fullmatch(token):
        raise CommandError(f"there is no access token in {path}")
    return token
