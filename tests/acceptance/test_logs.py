"""What ops read on standard error, and what they must never find there."""

import json
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo import MongoClient

from tests.acceptance.process import PASSWORD, TOKEN_PATH, Home, Service, until
from tests.acceptance.receiver import Receiver, open_receiver


def logged(service: Service, request_id: str) -> list[dict[str, Any]]:
    """The lines of this request, once it is over."""

    def lines() -> list[dict[str, Any]]:
        found = [line for line in service.log if line.get("request_id") == request_id]
        return found if any(line["event"] == "request" for line in found) else []

    return until(lines, f"request {request_id} is logged")


def exchange(service: Service, request: bytes) -> bytes:
    """The answer to these very bytes."""
    url = httpx.URL(service.address)
    with socket.create_connection((url.host, url.port), timeout=10) as connection:
        connection.sendall(request)
        received = b""
        while some := connection.recv(65_536):
            received += some
    return received


def test_each_line_is_a_json_object(service: Service, authorization: dict[str, str]) -> None:
    service.http.get("/api/v1/users", headers=authorization)
    exchange(service, b"this is not HTTP\r\n\r\n")
    last = service.http.get("/health").headers["x-request-id"]
    logged(service, last)

    lines = service.stderr.splitlines()

    assert len(lines) > 3
    assert all(isinstance(json.loads(line), dict) for line in lines)


def test_a_request_is_logged_under_the_id_that_its_answer_has(service: Service, authorization: dict[str, str]) -> None:
    response = service.http.get("/api/v1/users", headers=authorization)

    (line,) = logged(service, response.headers["x-request-id"])
    assert (line["method"], line["route"], line["status"]) == ("GET", "/api/v1/users", 200)
    assert line["account"] == "admin"
    assert line["duration_ms"] > 0
    assert line["time"].endswith("Z")


def test_an_id_that_the_client_gives_is_kept(service: Service) -> None:
    given = f"Client_1.2-{uuid.uuid4().hex}"

    response = service.http.get("/api/v1/users", headers={"X-Request-ID": given})

    assert response.status_code == 401
    assert response.headers["x-request-id"] == given
    assert response.json()["request_id"] == given
    (line,) = logged(service, given)
    assert line["status"] == 401


@pytest.mark.parametrize(
    "given",
    [
        b"x" * 65,
        "小中".encode(),
        "é".encode("latin-1"),
        b"two words",
        b'{"level":"critical"}',
        b"%0d%0aSet-Cookie:%20evil=1",
        b"",
    ],
)
def test_an_id_that_could_do_harm_is_replaced(service: Service, given: bytes) -> None:
    headers = b"Host: 127.0.0.1\r\nConnection: close\r\nX-Request-ID: " + given

    answer = exchange(service, b"GET /health HTTP/1.1\r\n" + headers + b"\r\n\r\n")

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert json.loads(body) == {"status": "ok"}
    (line,) = [line for line in head.split(b"\r\n") if line.lower().startswith(b"x-request-id:")]
    made = line.partition(b": ")[2].decode()
    assert uuid.UUID(made).hex == made
    logged(service, made)


@pytest.mark.parametrize("ending", [b"\r", b"\n", b"\r\n "], ids=["CR", "LF", "a folded line"])
def test_an_id_cannot_bring_a_header_along(service: Service, ending: bytes) -> None:
    headers = b"Host: 127.0.0.1\r\nConnection: close\r\nX-Request-ID: a" + ending + b"Set-Cookie: evil=1"

    answer = exchange(service, b"GET /health HTTP/1.1\r\n" + headers + b"\r\n\r\n")

    assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 400 "))
    assert b"evil" not in answer
    assert "evil" not in service.stderr


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Where spans and reports of failures go."""
    with open_receiver() as receiver:
        yield receiver


def test_no_secret_is_written_anywhere(tmp_path: Path, receiver: Receiver) -> None:
    endpoint = f"http://{receiver.authority}"
    home = Home(tmp_path, startup=f"import os; os.environ['OTEL_EXPORTER_OTLP_ENDPOINT'] = {endpoint!r}")
    try:
        assert_no_secret_is_written(home, receiver)
    finally:
        home.close()


def assert_no_secret_is_written(home: Home, receiver: Receiver) -> None:
    metrics_token = "a canary in the token of the metrics"
    service = home.launch(
        log_level="debug",
        slow_command_seconds=0,
        metrics_token=metrics_token,
        metrics_port=0,
        traces="true",
        sentry_dsn=f"http://key@{receiver.authority}/7",
    )
    service.wait_until_ready()
    password = service.password
    assert password is not None
    token = service.token(password=password)
    forged = token[:-4] + "AAAA"
    wrong = "a wrong password, canary"

    answers = [
        service.sign_in("admin", wrong),
        service.sign_in(wrong, wrong),
        service.http.post(TOKEN_PATH, params={"password": wrong}, data={"grant_type": "password"}),
        service.http.post(TOKEN_PATH, json={"username": "admin", "password": wrong}),
        service.http.get("/api/v1/users", headers={"Authorization": f"Bearer {token}"}),
        service.http.get("/api/v1/users", headers={"Authorization": f"Bearer {forged}"}),
        service.http.get("/api/v1/users", params={"access_token": token}),
        service.http.post("/api/v1/users", json={"password": wrong}, headers={"Authorization": f"Bearer {token}"}),
        service.http.post(
            "/api/v1/users",
            json={"name": wrong, "email": "ada@example.org"},
            headers={"Authorization": f"Bearer {token}"},
        ),
        service.http.post(TOKEN_PATH, data={"grant_type": "refresh_token", "refresh_token": wrong, "username": wrong}),
        service.http.post(
            TOKEN_PATH, data={"grant_type": "client_credentials", "client_secret": wrong}, auth=("a client", wrong)
        ),
        service.http.get("/api/v1/users", headers={"Authorization": wrong, "Cookie": f"session={wrong}"}),
        service.http.get("/api/v1/users", params={wrong: token}, headers={"Authorization": f"Bearer {token}"}),
        service.http.delete(f"/api/v1/users/{token}", headers={"Authorization": f"Bearer {token}"}),
        service.http.get("/api/v1/users/export/csv", headers={"Authorization": f"Bearer {token}", "X-Api-Key": wrong}),
        service.http.get(f"/nowhere/{token}"),
    ]
    metrics = service.http.get("/metrics", headers={"Authorization": f"Bearer {metrics_token}"})
    assert metrics.status_code == 200
    assert service.http.get("/metrics", headers={"Authorization": f"Bearer {wrong}"}).status_code == 401
    changed = home.run("accounts", "password", "admin", given=f"{PASSWORD}\n")
    assert changed.returncode == 0, changed.stderr
    with MongoClient[dict[str, Any]](home.mongodb_uri) as client:
        account = client["dossier"]["accounts"].find_one({"username": "admin"})
        noted = str([list(client["dossier"][name].find()) for name in ("audit", "quotas")])
    logged(service, answers[-1].headers["x-request-id"])
    assert service.end() == 0
    assert "slow command" in service.stderr
    assert receiver.bodies("/v1/traces")

    statuses = [answer.status_code for answer in answers]
    assert statuses[:9] == [400, 400, 400, 400, 200, 401, 401, 422, 201]
    assert all(400 <= status < 500 for status in statuses[9:-2])
    assert statuses[-2:] == [200, 404]
    assert account is not None
    secrets = {
        "the token": token,
        "the token's signature": token.rpartition(".")[2],
        "a forged token": forged,
        "a wrong password": wrong,
        "the new password": PASSWORD,
        "the token for metrics": metrics_token,
        "the secret key": (home.data_dir / "secret_key").read_text().strip(),
        "the password's hash": account["password_hash"],
        "the MongoDB log's copy": "$argon2id$",
    }
    assert "'export'" in noted
    assert "sign-in" in noted
    written = service.stdout + service.stderr + changed.stdout + changed.stderr + noted + metrics.text + receiver.text
    assert [name for name, secret in secrets.items() if secret in written] == []
    assert written.count(password) == 1, "once, on the line that says how to sign in"
