"""A running service whose database is not there, or says nothing."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest
from bson import ObjectId
from pymongo import MongoClient

from tests.acceptance.process import PASSWORD, TOKEN_PATH, Home, Service, until

DEADLINE_SECONDS = 1
PATIENCE_SECONDS = 6
"""Well over the deadline, and far under the 60 s for which a socket may be silent."""

UNKNOWN_ID = "0123456789abcdef01234567"
SIGN_IN = {"grant_type": "password", "username": "admin", "password": PASSWORD}
ADA = {"name": "Ada Lovelace", "email": "ada@example.org"}


@dataclass(frozen=True)
class Running:
    """A service with short deadlines, and two tokens: of somebody whom it has just served, and of somebody new."""

    service: Service
    token: str
    fresh_token: str


@pytest.fixture
def running(home: Home) -> Running:
    """The service, as yet with its database."""
    service = home.start(operation_timeout_seconds=DEADLINE_SECONDS, query_time_limit_seconds=DEADLINE_SECONDS)
    with MongoClient[dict[str, Any]](home.mongodb_uri) as client:
        accounts = client["dossier"]["accounts"]
        (admin,) = accounts.find()
        accounts.insert_one(admin | {"_id": ObjectId(), "username": "grace"})  # somebody with the same password
    running = Running(service, service.token(), service.token("grace"))
    headers = {"Authorization": f"Bearer {running.token}"}
    assert service.http.get("/api/v1/auth/me", headers=headers).status_code == 200
    assert service.http.get("/health/ready").json() == {"status": "ready"}
    return running


def answers(running: Running) -> dict[str, httpx.Response | None]:
    """What each kind of request gets, all sent at once; None: no answer in time."""
    service = running.service
    headers = {"Authorization": f"Bearer {running.token}"}
    fresh = {"Authorization": f"Bearer {running.fresh_token}"}
    requests = {
        "list": httpx.Request("GET", f"{service.address}/api/v1/users", headers=headers),
        "read": httpx.Request("GET", f"{service.address}/api/v1/users/{UNKNOWN_ID}", headers=headers),
        "create": httpx.Request("POST", f"{service.address}/api/v1/users", json=ADA, headers=headers),
        "delete": httpx.Request("DELETE", f"{service.address}/api/v1/users/{UNKNOWN_ID}", headers=headers),
        "export": httpx.Request("GET", f"{service.address}/api/v1/users/export/csv", headers=headers),
        "first request of a token": httpx.Request("GET", f"{service.address}/api/v1/auth/me", headers=fresh),
        "sign in": httpx.Request("POST", f"{service.address}{TOKEN_PATH}", data=SIGN_IN),
    }

    def send(request: httpx.Request) -> httpx.Response | None:
        with httpx.Client(timeout=PATIENCE_SECONDS) as client:
            try:
                return client.send(request)
            except httpx.TimeoutException:
                return None

    with ThreadPoolExecutor(len(requests)) as clients:
        return dict(zip(requests, clients.map(send, requests.values()), strict=True))


def assert_unavailable(answered: dict[str, httpx.Response | None]) -> None:
    statuses = {name: response.status_code if response is not None else None for name, response in answered.items()}
    assert statuses == dict.fromkeys(answered, 503)
    for response in answered.values():
        assert response is not None
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["code"] == "database_unavailable"
        assert int(response.headers["retry-after"]) > 0


def assert_live_but_not_ready(service: Service) -> None:
    assert httpx.get(f"{service.address}/health", timeout=2).status_code == 200
    ready = httpx.get(f"{service.address}/health/ready", timeout=2)  # as long as a load balancer waits
    assert ready.status_code == 503
    assert ready.headers["content-type"] == "application/problem+json"
    assert ready.json()["code"] == "database_unavailable"


@pytest.mark.slow
def test_a_database_that_says_nothing_holds_no_request_up(home: Home, running: Running) -> None:
    with home.hung_mongod():
        assert_live_but_not_ready(running.service)
        assert_unavailable(answers(running))

    service = running.service
    until(lambda: service.http.get("/health/ready").status_code == 200, "it is ready again by itself")
    assert service.sign_in().status_code == 200


@pytest.mark.slow
def test_where_no_connection_to_the_database_is_left_requests_do_not_pile_up(home: Home) -> None:
    home.start()
    few = f"{home.mongodb_uri}&maxPoolSize=2"
    service = home.start("--limit-concurrency", "4", mongodb_uri=few, operation_timeout_seconds=DEADLINE_SECONDS * 4)
    headers = {"Authorization": f"Bearer {service.token()}"}
    assert service.http.get(f"/api/v1/users/{UNKNOWN_ID}", headers=headers).status_code == 404

    def ask(_number: int) -> httpx.Response:
        return httpx.get(f"{service.address}/api/v1/users/{UNKNOWN_ID}", headers=headers, timeout=20)

    with home.hung_mongod(), ThreadPoolExecutor(8) as clients:
        asked = sorted(clients.map(ask, range(8)), key=lambda response: response.elapsed)
        assert_live_but_not_ready(service)

    assert [response.status_code for response in asked] == [503] * 8
    codes = [response.json()["code"] for response in asked]
    assert codes == ["overloaded"] * 4 + ["database_unavailable"] * 4
    assert asked[3].elapsed < timedelta(seconds=2), "at once"
    assert asked[7].elapsed < timedelta(seconds=PATIENCE_SECONDS)
    until(lambda: service.http.get("/health/ready").status_code == 200, "it is ready again by itself")
    until(lambda: ask(0).status_code == 404, "it has connections again")


def test_without_its_database_it_lives_and_says_503(home: Home, running: Running) -> None:
    home.kill_mongod()

    assert_live_but_not_ready(running.service)
    assert_unavailable(answers(running))
