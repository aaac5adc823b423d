"""Many clients that send a byte now and then hold nobody up, and are cut off."""

import httpx
import pytest

from tests.acceptance.process import Service, until
from tests.acceptance.slow_clients import BODIES, CONNECTIONS, HEADERS, latencies, percentile, trickling

SECONDS = 5
ROUNDS = 4
MOST = 2
"""How many times as long as alone a request may take beside them, at the 99th percentile."""


@pytest.mark.slow
@pytest.mark.parametrize("begin", [HEADERS, BODIES], ids=["headers", "bodies"])
def test_a_thousand_that_trickle_hold_nobody_up(service: Service, authorization: dict[str, str], begin: str) -> None:
    with httpx.Client(base_url=service.address, headers=authorization, timeout=30) as client:
        [one] = client.get("/api/v1/users", params={"limit": 1}).json()["items"]
        path = f"/api/v1/users/{one['id']}"

        def ratio() -> float:
            alone = percentile(latencies(client, path, SECONDS), 0.99)
            with trickling(service.address, begin.format(authorization=authorization["Authorization"])):
                return percentile(latencies(client, path, SECONDS), 0.99) / alone

        ratios = []
        for _ in range(ROUNDS):  # what else the machine does hits some of them
            ratios.append(ratio())
            if ratios[-1] <= MOST:
                break

    assert min(ratios) <= MOST, ratios
    until(lambda: httpx.get(f"{service.address}/health/ready").status_code == 200, "it is ready still")


@pytest.mark.slow
def test_a_thousand_that_trickle_are_cut_off_though_they_go_on(service: Service, authorization: dict[str, str]) -> None:
    refused = len(timeouts(service))

    with trickling(service.address, BODIES.format(authorization=authorization["Authorization"])):
        until(lambda: len(timeouts(service)) >= refused + CONNECTIONS, "each was answered 408", 90)


def timeouts(service: Service) -> list[object]:
    """The requests that were given up."""
    return [line for line in service.log if line.get("status") == 408]
