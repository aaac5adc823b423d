"""Refresh tokens between several real services on one database, one of which is killed."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from pymongo import MongoClient
from pymongo.collection import Collection

from tests.acceptance.process import LAST_CHUNK, PASSWORD, TOKEN_PATH, Download, Home, Service, fill, until

AT_ONCE = 50
AT_MOST_SECONDS = 30
ROWS = 20_000
"""80 MB, which no buffer on the way holds."""


@pytest.fixture
def pair(home: Home) -> tuple[Service, Service]:
    """Two services on one database."""
    return home.start(), home.start()


@pytest.fixture
def stored(home: Home, pair: tuple[Service, Service]) -> Iterator[Collection[dict[str, Any]]]:
    """The sessions as MongoDB has them."""
    with MongoClient[dict[str, Any]](home.mongodb_uri) as client:
        yield client["dossier"]["sessions"]


def form(token: str) -> dict[str, str]:
    return {"grant_type": "refresh_token", "refresh_token": token}


def refresh(service: Service, token: str) -> httpx.Response:
    return httpx.post(service.address + TOKEN_PATH, data=form(token), timeout=20)


def send_and_not_listen(service: Service, token: str) -> socket.socket:
    """A refresh whose answer nobody reads."""
    url = httpx.URL(service.address)
    body = urlencode(form(token))
    connection = socket.create_connection((url.host, url.port), timeout=10)
    head = f"POST {TOKEN_PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    return connection


@pytest.mark.slow
def test_an_answer_that_a_killed_service_owes_comes_from_another(
    pair: tuple[Service, Service], stored: Collection[dict[str, Any]]
) -> None:
    survivor, victim = pair
    first = survivor.sign_in().json()["refresh_token"]

    with send_and_not_listen(victim, first):
        until(lambda: stored.find_one({"previous_hash": {"$ne": None}}), "the token was used")
        victim.close()

    second = refresh(survivor, first).json()["refresh_token"]
    assert second == refresh(survivor, first).json()["refresh_token"] != first
    assert refresh(survivor, second).status_code == 200


@pytest.mark.slow
def test_two_services_rotate_once_and_notice_a_thief_together(
    pair: tuple[Service, Service], stored: Collection[dict[str, Any]]
) -> None:
    first = pair[0].sign_in().json()["refresh_token"]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda number: refresh(pair[number % 2], first), range(AT_ONCE)))

    assert [answer.status_code for answer in answers] == [200] * AT_ONCE
    [second] = {answer.json()["refresh_token"] for answer in answers}
    kept = stored.find_one({})
    assert kept
    stored.update_one({"_id": kept["_id"]}, {"$set": {"rotated_at": kept["rotated_at"] - timedelta(seconds=11)}})
    assert refresh(pair[1], first).json()["error"] == "invalid_grant"
    assert [refresh(service, second).json()["error"] for service in pair] == ["invalid_grant"] * 2


@pytest.mark.slow
def test_a_disabled_accounts_open_file_ends_in_time(home: Home) -> None:
    service = home.start()
    fill(home, ROWS)
    created = home.run("accounts", "create", "leaver", "--scope", "*", given=f"{PASSWORD}\n")
    assert created.returncode == 0, created.stderr
    admin = {"Authorization": f"Bearer {service.token()}"}

    def states() -> list[str]:
        return [record["state"] for record in service.http.get("/api/v1/exports", headers=admin).json()["items"]]

    with Download(service, "/api/v1/users/export/ndjson", service.token("leaver")) as download:
        download.read(65_536)
        assert states() == ["running"]
        disabled = home.run("accounts", "disable", "leaver")
        assert disabled.returncode == 0, disabled.stderr

        until(lambda: states() == ["failed"], "the export has failed, though nobody reads it", AT_MOST_SECONDS)
        assert not download.read_to_end().endswith(LAST_CHUNK)
