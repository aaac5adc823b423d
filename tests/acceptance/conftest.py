"""Homes for the program, and one service for the tests that only look at it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.process import Home, Service


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A directory in which nothing has run yet."""
    home = Home(tmp_path)
    try:
        yield home
    finally:
        home.close()


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """The home of `service`."""
    home = Home(tmp_path_factory.mktemp("home"))
    try:
        yield home
    finally:
        home.close()


@pytest.fixture(scope="session")
def service(shared_home: Home) -> Service:
    """A first start with samples and nothing set, for tests that leave it as it is."""
    service = shared_home.launch("--sample", "50")
    service.wait_until_ready()
    return service


@pytest.fixture(scope="session")
def password(service: Service) -> str:
    """The password that the first start made up."""
    assert service.password is not None
    return service.password


@pytest.fixture(scope="session")
def authorization(service: Service, password: str) -> dict[str, str]:
    """The headers of somebody who may do everything."""
    return {"Authorization": f"Bearer {service.token(password=password)}"}
