"""How it ends, in order or not, and what the next start finds."""

import json
import signal
import socket
from contextlib import closing
from ctypes import CDLL
from http.client import HTTPConnection

import httpx
import pytest

from tests.acceptance.process import Home, Service, command_line, until

ADA = {"name": "Ada Lovelace", "email": "ada@example.org"}


def create_ada(service: Service) -> str:
    """The address of a new user."""
    headers = {"Authorization": f"Bearer {service.token()}"}
    response = service.http.post("/api/v1/users", json=ADA, headers=headers)
    assert response.status_code == 201, response.text
    return response.headers["location"]


def read_name(service: Service, location: str) -> str:
    response = service.http.get(location, headers={"Authorization": f"Bearer {service.token()}"})
    assert response.status_code == 200, response.text
    name: str = response.json()["name"]
    return name


def readiness_after(service: Service, sign: signal.Signals) -> tuple[int, str]:
    """Status and code of what it answers, on a connection that it has, to a request that comes with a signal.

    It is asleep when both come, and so cannot have closed the connection before. The signal is for its main thread, as
    another might take it, and tell of it later than the request is answered.
    """
    url = httpx.URL(service.address)
    with closing(HTTPConnection(url.host, url.port, timeout=10)) as connection:
        connection.request("GET", "/health")
        connection.getresponse().read()
        service.send(signal.SIGSTOP)
        assert CDLL(None).tgkill(service.pid, service.pid, sign) == 0
        connection.request("GET", "/health/ready")
        service.send(signal.SIGCONT)
        response = connection.getresponse()
        return response.status, json.loads(response.read())["code"]


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_from_a_signal_on_the_service_is_not_ready_and_it_ends_with_its_mongod(
    home: Home, sign: signal.Signals
) -> None:
    service = home.start()
    service.sign_in()  # leaves an idle connection, which must not hold it up

    answered = readiness_after(service, sign)

    assert answered == (503, "shutting_down")
    assert service.wait() == 0
    assert home.mongods == []
    assert "Traceback" not in service.stderr


def test_a_signal_during_the_start_leaves_no_mongod(home: Home) -> None:
    service = home.launch()
    until(lambda: home.mongods, "mongod is started")

    assert service.end() == 0

    assert home.mongods == []


@pytest.mark.slow
def test_a_signal_is_heeded_while_the_database_says_nothing(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        service = home.launch(mongodb_uri=f"mongodb://127.0.0.1:{silent.getsockname()[1]}/")
        silent.settimeout(60)
        connection, _ = silent.accept()
        with connection:
            service.send(signal.SIGTERM)

            assert service.wait(5) == 0
    assert "Traceback" not in service.stderr


@pytest.mark.slow  # two services
def test_a_killed_service_leaves_a_mongod_that_the_next_start_finds_and_ends(home: Home) -> None:
    first = home.start()
    location = create_ada(first)
    mongod = home.mongod

    first.end(signal.SIGKILL)
    assert home.mongod == mongod
    second = home.start()

    assert home.mongod == mongod
    assert read_name(second, location) == "Ada Lovelace"
    assert second.end() == 0
    assert home.mongods == []


@pytest.mark.slow  # two services
def test_nothing_need_be_removed_by_hand_after_service_and_mongod_were_killed(home: Home) -> None:
    first = home.start()
    location = create_ada(first)

    first.end(signal.SIGKILL)
    home.kill_mongod()
    second = home.start()

    assert read_name(second, location) == "Ada Lovelace"


@pytest.mark.slow  # a hung mongod is asked to end, and given 20 s for it
def test_a_hung_mongod_of_a_killed_service_is_replaced(home: Home) -> None:
    first = home.start()
    location = create_ada(first)
    first.end(signal.SIGKILL)

    with home.hung_mongod() as hung:
        second = home.launch()
        until(lambda: home.mongods not in ([hung], []), "another mongod runs", 60)
        second.wait_until_ready()

        assert not any(command_line(hung))
        assert read_name(second, location) == "Ada Lovelace"


def test_a_second_command_shares_the_mongod_and_leaves_it_running(service: Service, shared_home: Home) -> None:
    mongod = shared_home.mongod

    listed = shared_home.run("accounts", "list")

    assert listed.returncode == 0, listed.stderr
    assert "admin" in listed.stdout
    assert shared_home.mongod == mongod
    assert service.http.get("/health/ready").status_code == 200


def test_a_command_without_a_service_ends_the_mongod_that_it_started(home: Home) -> None:
    listed = home.run("accounts", "list")

    assert listed.returncode == 0, listed.stderr
    assert home.mongods == []


@pytest.mark.slow  # the driver looks for its server for 5 s, to say goodbye to it
def test_a_service_whose_mongod_was_killed_still_ends_in_order(home: Home) -> None:
    service = home.start()
    home.kill_mongod()

    assert service.end() == 0
