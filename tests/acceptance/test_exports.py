"""Exports whose client, database or service does not last as long as they do."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.acceptance.process import LAST_CHUNK, Download, Home, Service, fill, open_cursors, until

USERS = 6000


@pytest.fixture(scope="module")
def exporting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Service]]:
    """A service with many users, for tests that leave it as it is."""
    home = Home(tmp_path_factory.mktemp("home"))
    try:
        service = home.start(exports_at_once=50)  # fewer than the clients that leave, more than are there at once
        fill(home, USERS)
        yield home, service
    finally:
        home.close()


@pytest.mark.slow  # the driver looks for its server for 5 s, to close its cursor
def test_a_file_that_cannot_be_finished_never_looks_whole(home: Home) -> None:
    service = home.start(operation_timeout_seconds=1)
    fill(home, USERS)
    token = service.token()
    with ExitStack() as stack:
        paths = [f"/api/v1/users/export/{name}" for name in ("csv", "xlsx")]
        downloads = [stack.enter_context(Download(service, path, token)) for path in paths]
        starts = [download.read(1) for download in downloads]
        until(lambda: open_cursors(home) == 2, "both exports are under way")

        home.kill_mongod()

        files = [start + download.read_to_end() for start, download in zip(starts, downloads, strict=True)]
    for received in files:
        assert received.startswith(b"HTTP/1.1 200 ")
        assert b"transfer-encoding: chunked" in received.lower()
        assert not received.endswith(LAST_CHUNK)
    assert service.http.get("/health").status_code == 200


def test_a_whole_file_ends_as_such(exporting: tuple[Home, Service]) -> None:
    _, service = exporting

    with Download(service, "/api/v1/users/export/csv", service.token()) as download:
        received = download.read_to_end()

    assert received.endswith(LAST_CHUNK)
    assert received.count(b"@example.org") == USERS


def test_sigterm_lets_an_export_finish_within_the_grace_time(home: Home) -> None:
    service = home.start(shutdown_grace_seconds=20)
    fill(home, USERS)
    with Download(service, "/api/v1/users/export/csv", service.token()) as download:
        start = download.read(1)
        until(lambda: open_cursors(home) > 0, "the export is under way")

        service.send(signal.SIGTERM)

        received = start + download.read_to_end()
    assert received.endswith(LAST_CHUNK)
    assert received.count(b"@example.org") == USERS
    assert service.wait() == 0


def test_sigterm_breaks_an_export_that_takes_longer_than_the_grace_time(home: Home) -> None:
    service = home.start(shutdown_grace_seconds=1)
    fill(home, USERS)
    with Download(service, "/api/v1/users/export/csv", service.token()) as download:
        start = download.read(1)
        until(lambda: open_cursors(home) > 0, "the export is under way")

        service.send(signal.SIGTERM)

        assert service.wait(10) == 0
        assert home.mongods == []
        received = start + download.read_to_end()
    assert not received.endswith(LAST_CHUNK)


def test_a_stalled_export_holds_its_cursor_until_its_client_leaves(exporting: tuple[Home, Service]) -> None:
    home, service = exporting
    with Download(service, "/api/v1/users/export/csv", service.token()) as download:
        download.read(1)
        until(lambda: open_cursors(home) == 1, "the export is under way")

    until(lambda: open_cursors(home) == 0, "the cursor is closed", 10)


def test_an_export_whose_client_reads_nothing_is_given_up(home: Home) -> None:
    service = home.start(export_stall_seconds=1)
    fill(home, USERS)
    with Download(service, "/api/v1/users/export/csv", service.token()) as download:
        start = download.read(1)
        until(lambda: open_cursors(home) == 1, "the export is under way")

        until(lambda: open_cursors(home) == 0, "the cursor is closed", 10)

        received = start + download.read_to_end()
    assert received.startswith(b"HTTP/1.1 200 ")
    assert not received.endswith(LAST_CHUNK)


@pytest.mark.slow  # a hundred times a megabyte or less
def test_a_hundred_exports_whose_clients_leave_leave_no_cursor(exporting: tuple[Home, Service]) -> None:
    home, service = exporting
    token = service.token()

    def leave_after(size: int) -> int:
        with Download(service, "/api/v1/users/export/csv", token) as download:
            return len(download.read(size))

    sizes = [number * 10_000 + 1 for number in range(100)]  # so that each leaves at another moment
    with ThreadPoolExecutor(8) as clients:
        read = list(clients.map(leave_after, sizes))

    assert all(got >= size for got, size in zip(read, sizes, strict=True))
    until(lambda: open_cursors(home) == 0, "all cursors are closed", 10)
