"""Other people's tokens: an issuer's keys over HTTP, whatever its server does, and what its callers may here."""

import asyncio
import gzip
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from service.api.dependencies import Services
from service.auth.issuers import (
    MAX_JWKS_BYTES,
    RETRY_SECONDS,
    STALE_SECONDS,
    IssuerAuthority,
    IssuerKeys,
    trusted_authorities,
)
from service.auth.keys import Key, generate_key, public_jwk, public_pem
from service.auth.tokens import OwnAuthority, TokenVerifier
from service.errors import AuthenticationError, IssuerUnavailableError, StartupError
from service.settings import TrustedIssuer
from tests.conftest import CALLER_ID, ISSUER, client_of
from tests.unit.test_tokens import json_values, result_of, secretly_signed, signed_by

THEIRS = "https://identity.example/realm"
AUDIENCE = "https://dossier.example"
KNOWN = ("users:read", "users:write", "items:read", "accounts:admin")
PAIR = generate_key("EdDSA")
ES_PAIR = generate_key("ES256")
assert isinstance(PAIR, Ed25519PrivateKey)
PEM = public_pem(PAIR.public_key())


def jwks(*kids: str) -> bytes:
    keys = [public_jwk(Key(kid, "EdDSA", PAIR.public_key())) for kid in kids]
    return json.dumps({"keys": [*keys, public_jwk(Key("es", "ES256", ES_PAIR.public_key())), {"kty": "?"}, 1]}).encode()


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    given = {"iss": THEIRS, "aud": AUDIENCE, "sub": "grace", "scope": "read", "iat": now, "exp": now + 600} | changes
    return {name: value for name, value in given.items() if value is not None}


def token(payload: dict[str, Any] | None = None, **header: Any) -> str:
    named = {"alg": "EdDSA", "typ": "JWT", "kid": "1"} | header
    return signed_by(PAIR, "EdDSA", named, claims() if payload is None else payload)


@cache
def bomb() -> bytes:
    """What would unpack to a hundred times as much as is taken."""
    return gzip.compress(b" " * MAX_JWKS_BYTES * 100, 9)


class KeyServer:
    """The issuer's server, which does what a test wants."""

    def __init__(self) -> None:
        self.content = jwks("1")
        self.requests = 0
        self.answer: Callable[[BaseHTTPRequestHandler], None] = self.send
        self.is_closing = Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N805 - self is the server
                """Answer."""
                self.requests += 1
                try:
                    self.answer(handler)
                except OSError:
                    handler.close_connection = True  # the client had enough

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks.json"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def send(self, handler: BaseHTTPRequestHandler) -> None:
        """The keys."""
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(self.content)

    def close(self) -> None:
        """End it."""
        self.is_closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def say_nothing(self, _handler: BaseHTTPRequestHandler) -> None:
        """Take the request, and no more."""
        self.is_closing.wait(30)

    def drip(self, handler: BaseHTTPRequestHandler) -> None:
        """A byte now and then, for ever, so that no single read takes long."""
        handler.send_response(200)
        handler.end_headers()
        while not self.is_closing.wait(0.02):
            handler.wfile.write(b" ")

    def send_too_much(self, handler: BaseHTTPRequestHandler) -> None:
        """The keys, behind more blanks than anybody should read."""
        handler.send_response(200)
        handler.end_headers()
        for _ in range(200):
            handler.wfile.write(b" " * MAX_JWKS_BYTES)
        handler.wfile.write(self.content)

    def send_a_bomb(self, handler: BaseHTTPRequestHandler) -> None:
        """What is small until it is unpacked."""
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        handler.wfile.write(bomb())

    def redirect(self, handler: BaseHTTPRequestHandler) -> None:
        """To where the keys are."""
        handler.send_response(302)
        handler.send_header("Location", f"{self.url}?again")
        handler.end_headers()
        self.answer = self.send

    def fail(self, handler: BaseHTTPRequestHandler) -> None:
        """A server's own error, with keys in it."""
        handler.send_response(500)
        handler.end_headers()
        handler.wfile.write(self.content)

    def hang_up(self, handler: BaseHTTPRequestHandler) -> None:
        """Half an answer."""
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(self.content)))
        handler.end_headers()
        handler.wfile.write(self.content[:20])
        handler.connection.shutdown(socket.SHUT_RDWR)

    def send_nonsense(self, handler: BaseHTTPRequestHandler) -> None:
        """No HTTP."""
        handler.wfile.write(b"\0" * 100)

    def send_no_keys(self, handler: BaseHTTPRequestHandler) -> None:
        """JSON, but no key that could be used."""
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b'{"keys": [{"kty": "oct", "kid": "1", "k": "AAAA"}]}')

    def send_a_page(self, handler: BaseHTTPRequestHandler) -> None:
        """What a captive portal says."""
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b"<html>Sign in</html>")


FAULTS = [
    KeyServer.say_nothing,
    KeyServer.drip,
    KeyServer.send_too_much,
    KeyServer.send_a_bomb,
    KeyServer.redirect,
    KeyServer.fail,
    KeyServer.hang_up,
    KeyServer.send_nonsense,
    KeyServer.send_no_keys,
    KeyServer.send_a_page,
]


@pytest.fixture
def server() -> Iterator[KeyServer]:
    """One that works, at first."""
    server = KeyServer()
    yield server
    server.close()


class Place:
    """A service that trusts one issuer, and its clock."""

    def __init__(self, jwks_place: str, **changes: Any) -> None:
        scopes = {"read": ["*:read"], "write": ["users:write"], "all": ["*"], "https://x/scope": ["users:read"]}
        self.now = 1000.0
        self.trusted = TrustedIssuer(
            **{"issuer": THEIRS, "audience": AUDIENCE, "jwks": jwks_place, "scopes": scopes} | changes
        )
        self.keys = IssuerKeys(self.trusted, lambda: self.now)
        self.authority = IssuerAuthority(self.trusted, KNOWN, self.keys)
        self.verifier = TokenVerifier([self.authority])

    async def refuses(self, token: str) -> bool:
        """Whether the token is refused as any bad one is."""
        try:
            await self.verifier.verify(token)
        except AuthenticationError as error:
            return error.status == 401
        return False


@pytest.fixture
def place(server: KeyServer) -> Place:
    """One that takes the server's tokens."""
    return Place(server.url)


@pytest.fixture
async def outsider(
    app: FastAPI, services: Services, _empty_database: None, server: KeyServer
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that trusts the issuer, over an empty database, without a token."""
    trusted = TrustedIssuer(
        issuer=THEIRS, audience=AUDIENCE, jwks=server.url, scopes={"read": ["users:read"], "files": ["users:export"]}
    )
    authorities = [OwnAuthority(services.keys, ISSUER), *trusted_authorities([trusted], ISSUER, services.scopes)]
    async with client_of(app, replace(services, verifier=TokenVerifier(authorities))) as client:
        yield client


async def test_somebody_elses_caller_may_what_their_scopes_are_here(outsider: httpx.AsyncClient) -> None:
    outsider.headers["Authorization"] = f"Bearer {token(claims(scope='read files openid', sub=CALLER_ID))}"

    me = (await outsider.get("/api/v1/auth/me")).json()
    assert me["id"] == f"{THEIRS}|{CALLER_ID}", "no account, even if it is called like one"
    assert me["username"] == f"{CALLER_ID} ({THEIRS})"
    assert me["scopes"] == ["users:export", "users:read"]
    assert (await outsider.get("/api/v1/users")).status_code == 200
    refused = await outsider.get("/api/v1/items")
    assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")
    exported = await outsider.get("/api/v1/users/export/csv")
    assert exported.status_code == 200
    [record] = (await outsider.get("/api/v1/exports")).json()["items"]
    assert record["id"] == exported.headers["Export-Id"]
    assert record["account"] == me["username"]


async def test_their_bad_tokens_are_refused_as_ours_are(outsider: httpx.AsyncClient) -> None:
    for bad in (token(claims(aud="x")), token(claims(exp=1)), token(kid="2"), token(claims(iss=ISSUER)), "x"):
        response = await outsider.get("/api/v1/users", headers={"Authorization": f"Bearer {bad}"})

        assert (response.status_code, response.json()["code"]) == (401, "not_authenticated")
        assert 'error="invalid_token"' in response.headers["www-authenticate"]


async def test_keys_that_could_never_be_had_are_not_the_tokens_fault(
    outsider: httpx.AsyncClient, server: KeyServer
) -> None:
    server.answer = server.fail

    for _ in range(3):
        response = await outsider.get("/api/v1/users", headers={"Authorization": f"Bearer {token()}"})

        assert (response.status_code, response.json()["code"]) == (503, "issuer_unavailable")
        assert 0 < int(response.headers["retry-after"]) <= RETRY_SECONDS
    assert server.requests == 1
    own = await outsider.get("/api/v1/users", headers={"Authorization": "Bearer x"})
    assert own.status_code == 401


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "application/at+jwt"])
async def test_their_tokens_are_of_these_types(place: Place, kind: str) -> None:
    caller = await place.verifier.verify(token(typ=kind))

    assert (caller.account_id, caller.issuer) == (f"{THEIRS}|grace", THEIRS)
    assert caller.session_id is None


@pytest.mark.parametrize(
    ("changes", "scopes"),
    [
        ({"scope": "read"}, "items:read users:read"),
        ({"scope": "read write unknown"}, "items:read users:read users:write"),
        ({"scope": ["write", "https://x/scope"]}, "users:read users:write"),
        ({"scope": "all"}, "accounts:admin items:read users:read users:write"),
        ({"scope": "users:read accounts:admin *"}, ""),
        ({"scope": ""}, ""),
        ({"scope": []}, ""),
        ({"scope": None}, ""),
    ],
    ids=str,
)
async def test_scopes_are_theirs_in_our_words_and_no_others(place: Place, changes: dict[str, Any], scopes: str) -> None:
    caller = await place.verifier.verify(token(claims(**changes)))

    assert " ".join(sorted(caller.scopes)) == scopes


async def test_callers_are_told_apart_and_named(server: KeyServer) -> None:
    place = Place(server.url, scope_claim="permissions", username_claim="email")
    payload = claims(permissions=["write"], email="grace@example.org", azp="their-app", jti="7")

    caller = await place.verifier.verify(token(payload))

    assert caller.username == f"grace@example.org ({THEIRS})"
    assert (caller.client_id, caller.token_id) == ("their-app", "7")
    assert caller.scopes == {"users:write"}
    nameless = [await place.verifier.verify(token(claims(sub=name))) for name in ("a", "b")]
    assert len({caller.token_id for caller in nameless}) == 2
    assert nameless[0].client_id == ""


async def test_a_token_has_to_be_as_they_make_it(place: Place) -> None:
    assert not await place.refuses(token())
    now = int(time.time())
    other_claims: dict[str, list[Any]] = {
        "iss": [None, f"{THEIRS}/", [THEIRS]],
        "aud": [None, "dossier", [THEIRS], []],
        "exp": [None, now - 600, "soon"],
        "iat": [None, now + 600],
        "nbf": [now + 600],
        "sub": [None, "", "a\nb", "\0", "\ud800", "x" * 256, ["grace"]],
        "scope": [{"read": 1}, 1, [["read"]], [1]],
        "preferred_username": ["grace\x1b[2J"],
        "jti": [1],
        "client_id": [{"$ne": 1}],
    }
    other_headers: dict[str, list[Any]] = {
        "typ": ["id+jwt", "", None, ["JWT"]],
        "kid": ["2", "es", "", None, {}, 1],
        "crit": [["exp"], ["b64"], []],
    }
    for name, values in other_claims.items():
        for value in values:
            assert await place.refuses(token(claims(**{name: value}))), (name, value)
    for name, values in other_headers.items():
        for value in values:
            assert await place.refuses(token(None, **{name: value})), (name, value)
    for algorithm in ("HS256", "HS384", "HS512"):
        for secret in (PEM, PEM.strip(), b"\0"):
            assert await place.refuses(secretly_signed(secret, {"alg": algorithm, "typ": "JWT", "kid": "1"}, claims()))
    assert await place.refuses(jwt.encode(claims(), None, "none", headers={"kid": "1"}))  # type: ignore[arg-type]
    assert await place.refuses(jwt.encode(claims(), ES_PAIR, "ES256", headers={"kid": "1"}))
    assert not await place.refuses(jwt.encode(claims(), ES_PAIR, "ES256", headers={"kid": "es"}))


async def test_no_issuer_speaks_for_another(server: KeyServer) -> None:
    two = [Place(server.url).authority, Place(server.url, issuer="urn:other", audience="x").authority]
    two[1]._keys._take(json.dumps({"keys": [public_jwk(Key("1", "ES256", ES_PAIR.public_key()))]}).encode())
    verifier = TokenVerifier(two)
    payload = claims(iss="urn:other", aud="x")

    theirs = await verifier.verify(token())
    others = await verifier.verify(jwt.encode(payload, ES_PAIR, "ES256", headers={"kid": "1"}))

    assert (theirs.account_id, others.account_id) == (f"{THEIRS}|grace", "urn:other|grace")
    for bad in (token(payload), jwt.encode(claims(), ES_PAIR, "ES256", headers={"kid": "1"})):
        with pytest.raises(AuthenticationError):
            await verifier.verify(bad)


async def test_an_issuer_may_be_held_to_one_algorithm(server: KeyServer) -> None:
    place = Place(server.url, algorithms=["EdDSA"])

    assert not await place.refuses(token())
    assert await place.refuses(jwt.encode(claims(), ES_PAIR, "ES256", headers={"kid": "es"}))


@given(st.fixed_dictionaries({}, optional=dict.fromkeys([*claims(), "preferred_username", "azp", "jti"], json_values)))
def test_whatever_they_sign_is_a_caller_of_theirs_or_refused(changes: dict[str, Any]) -> None:
    place = Place("https://unused.example")
    place.keys._take(jwks("1"))
    try:
        caller = result_of(place.verifier.verify(token(claims(**changes))))
    except AuthenticationError:
        return
    assert caller.issuer == THEIRS
    assert caller.account_id.startswith(f"{THEIRS}|")
    assert caller.scopes <= set(KNOWN)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda function: str(function.__name__))
async def test_whatever_their_server_does_known_keys_go_on_and_nothing_hangs(
    server: KeyServer, place: Place, monkeypatch: pytest.MonkeyPatch, fault: Callable[..., None]
) -> None:
    def misbehave(handler: BaseHTTPRequestHandler) -> None:
        fault(server, handler)

    def wait(seconds: float) -> None:
        monkeypatch.setattr("service.auth.issuers.FETCH_SECONDS", seconds)

    limit = 0.3 if fault in {KeyServer.say_nothing, KeyServer.drip} else 10
    server.answer = misbehave
    wait(limit)
    with pytest.raises(IssuerUnavailableError):
        await place.verifier.verify(token())

    server.answer = server.send
    wait(10)
    place.now += RETRY_SECONDS
    assert not await place.refuses(token())

    server.answer = misbehave
    wait(limit)
    place.now += RETRY_SECONDS
    assert await place.refuses(token(kid="2"))
    assert not await place.refuses(token())


async def test_a_dead_server_is_asked_once_a_minute(server: KeyServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = Place(f"http://127.0.0.1:{taken.getsockname()[1]}/")

    for _ in range(3):
        with pytest.raises(IssuerUnavailableError) as caught:
            await place.verifier.verify(token())
        place.now += 10
    assert caught.value.headers["Retry-After"] == "40"


async def test_all_who_wait_share_one_fetch(server: KeyServer, place: Place) -> None:
    go_on = Event()

    def wait(handler: BaseHTTPRequestHandler) -> None:
        go_on.wait(10)
        server.send(handler)

    server.answer = wait
    tasks = [asyncio.create_task(place.verifier.verify(token(claims(sub=str(number))))) for number in range(50)]
    await asyncio.sleep(0)
    tasks[0].cancel()  # whoever asked first leaves; the others are served all the same
    go_on.set()
    callers = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(callers[0], asyncio.CancelledError)
    assert all(not isinstance(caller, BaseException) for caller in callers[1:])
    assert server.requests == 1


async def test_a_new_key_is_found_and_a_key_that_has_gone_is_refused(server: KeyServer, place: Place) -> None:
    assert not await place.refuses(token())
    server.content = jwks("2")

    for number in range(100):
        place.now += 0.5
        assert await place.refuses(token(kid=str(number + 10)))
    assert server.requests == 1, "it was fetched less than a minute ago"
    place.now += RETRY_SECONDS
    assert not await place.refuses(token(kid="2"))
    assert await place.refuses(token()), "a token that had been found good"
    assert server.requests == 2


async def test_old_keys_are_fetched_again_while_they_are_used(server: KeyServer, place: Place) -> None:
    good = token()
    await place.verifier.verify(good)
    server.content = jwks("2")

    place.now += STALE_SECONDS
    assert not await place.refuses(good), "nobody waits for that"
    assert place.keys._fetching is not None
    await place.keys._fetching
    assert await place.refuses(good)
    assert server.requests == 2


async def test_keys_may_lie_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(jwks("1"))
    place = Place(str(path))
    assert not await place.refuses(token())

    path.write_bytes(jwks("2"))
    place.now += RETRY_SECONDS
    assert not await place.refuses(token(kid="2"))
    assert await place.refuses(token())
    path.unlink()
    place.now += STALE_SECONDS
    assert not await place.refuses(token(kid="2"))


def test_a_start_is_refused_with_all_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_bytes(b'{"keys": []}')
    scopes = {"read": ["user:read", "*:read", "*:reed"]}

    with pytest.raises(StartupError) as caught:
        trusted_authorities(
            [
                TrustedIssuer(issuer="a", audience="x", jwks=str(tmp_path / "none.json"), scopes=scopes),
                TrustedIssuer(issuer="b", audience="x", jwks=str(tmp_path / "empty.json"), scopes={"x": ["*"]}),
                TrustedIssuer(issuer="c", audience="x", jwks=str(tmp_path), scopes={"x": ["*"]}),
                TrustedIssuer(issuer=ISSUER, audience="x", jwks="https://x.example", scopes={"x": ["*"]}),
            ],
            ISSUER,
            KNOWN,
        )

    (line,) = str(caught.value).splitlines()
    assert line.startswith("DOSSIER_TRUSTED_ISSUERS: ")
    told = ["a: there is no scope user:read", "a: there is no scope *:reed", "none.json", "b: no key", "c: there is no"]
    assert all(fault in line for fault in [*told, f"{ISSUER}: is this service itself"])
    assert "*:read" not in line.replace("*:reed", "")
