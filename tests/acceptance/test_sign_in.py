"""Signing in to real processes: who is taken for whom, and what many at once do to everybody else."""

from pathlib import Path

import pytest

from tests.acceptance.many_sign_ins import AT_ONCE, LIMIT, add_accounts, percentile_99, run
from tests.acceptance.process import PASSWORD, TOKEN_PATH, Home, Service

MAX_MEBIBYTES = 200
MAX_HEALTH_SECONDS = 1.0
"""For all but one in a hundred, on a machine that has other things to do; `scripts/bench auth` has the
figure, which is to be 0.25."""


def guess(service: Service, username: str, forwarded_for: str | None = None) -> int:
    """The status of a wrong sign-in, from an address of the client's own choosing."""
    form = {"grant_type": "password", "username": username, "password": "wrong horse"}
    headers = {"X-Forwarded-For": forwarded_for} if forwarded_for else {}
    return service.http.post(TOKEN_PATH, data=form, headers=headers).status_code


@pytest.mark.slow
def test_a_client_has_the_address_that_it_comes_from(home: Home) -> None:
    plain = home.start(sign_in_failures_per_address=3, docs=False)
    behind = home.start(sign_in_failures_per_address=3, trusted_proxies="127.0.0.1")

    assert [guess(plain, f"a{number}", f"192.0.2.{number}") for number in range(5)] == [400, 400, 400, 429, 429]
    assert guess(behind, "b") == 429, "services on one database count together"
    assert [guess(behind, f"c{number}", "192.0.2.9") for number in range(4)] == [400, 400, 400, 429]
    assert guess(behind, "d", "192.0.2.9, 192.0.2.10") == 400, "what stands left of what the proxy wrote is a claim"
    assert guess(behind, "e", "192.0.2.10, 192.0.2.9") == 429
    assert [service.http.get("/docs").status_code for service in (plain, behind)] == [404, 200]


def mebibytes(service: Service, line: str) -> float:
    """Memory of the service: VmRSS, what it has, or VmHWM, the most it had."""
    return int(Path(f"/proc/{service.pid}/status").read_text().partition(f"{line}:")[2].split()[0]) / 1024


@pytest.mark.slow
def test_many_sign_ins_at_once_hold_nobody_up(home: Home) -> None:
    service = home.start(trusted_proxies="127.0.0.1", limit_concurrency=LIMIT)
    names = add_accounts(home.mongodb_uri, "dossier")
    service.token()
    idle = mebibytes(service, "VmRSS")

    done = run(service.address, names, PASSWORD)

    assert done.statuses == [200] * AT_ONCE
    assert len(done.watched) > 50
    assert percentile_99(done.watched) <= MAX_HEALTH_SECONDS
    assert mebibytes(service, "VmHWM") - idle <= MAX_MEBIBYTES
